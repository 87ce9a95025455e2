"""Asks twice a second whether the van may still match, and acts on the answer within that second.

Every yes grants the permit for two seconds (:mod:`edge.deployment.permit`); every no withdraws it. Refusals of two
kinds: some pass by themselves (not yet, outside the place, a clock that is not set) and are asked again; the others
end it for good. A question that cannot be answered, because the list cannot be read or the disk refuses, is a no that
may pass. An exception that nobody expected ends the guard, and with it the service: see :mod:`edge.worker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.deployment.permit import Permit
from edge.errors import (
    AuthorityNotYet,
    ClockUntrusted,
    EdgeError,
    OutsidePlace,
    PlaceUnknown,
    PolicyRefusal,
)
from edge.worker import Supervisor, Worker

__all__ = ["MAY_PASS", "Guard"]

EVERY_S = 0.5
SILENT_S = 10.0
"""An answer that takes longer is a guard that hangs; the permit has lapsed long before."""
MAY_PASS = (AuthorityNotYet, ClockUntrusted, OutsidePlace, PlaceUnknown)
"""Refusals that may pass while the van waits."""


class Asked(Protocol):
    """What the guard asks: :class:`edge.deployment.mandate.Mandate`."""

    def check(self) -> object: ...


class Guard:
    """See the module.

    Args:
        mandate: is asked.
        permit: is granted and withdrawn.
        on_answer: told of every answer: None for a yes, else why not.
        on_over: told once, when matching must end for good.
    """

    def __init__(
        self,
        mandate: Asked,
        permit: Permit,
        *,
        on_answer: Callable[[EdgeError | None], None],
        on_over: Callable[[PolicyRefusal], None],
    ) -> None:
        self._mandate = mandate
        self._permit = permit
        self._on_answer = on_answer
        self._on_over = on_over
        self._worker: Worker | None = None
        self.over: PolicyRefusal | None = None
        """Why matching ended for good; None while it has not."""

    def ask(self) -> None:
        """Ask once and act on the answer."""
        asked_ns = self._permit.moment_ns()
        try:
            self._mandate.check()
        except EdgeError as error:
            self._permit.withdraw()
            if isinstance(error, PolicyRefusal) and not isinstance(error, MAY_PASS):
                self._permit.close()
                self.over = error
                self._on_over(error)
            else:
                self._on_answer(error)
            return
        except BaseException:
            self._permit.close()
            raise
        self._permit.grant(asked_ns)
        self._on_answer(None)

    def start(self, workers: Supervisor) -> None:
        """Ask from now on."""
        self._worker = workers.start("guard", self._run, silent_s=SILENT_S)

    def stop(self) -> None:
        """Ask no more; nobody is matched without a guard."""
        if self._worker is not None:
            self._worker.stop()
        self._permit.close()

    def _run(self, worker: Worker) -> None:
        while not worker.wait(EVERY_S):
            if self.over is None:
                self.ask()
