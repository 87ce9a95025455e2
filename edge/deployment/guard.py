"""Asks every second whether the van may still match, and acts on the answer within that second.

Refusals of two kinds: some pass by themselves (not yet, outside the place, a clock that is not set) and
suspend matching until they do; the others end it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from edge.errors import (
    AuthorityNotYet,
    ClockUntrusted,
    EdgeError,
    OutsidePlace,
    PlaceUnknown,
    PolicyRefusal,
)
from edge.system.journal import get_logger

__all__ = ["MAY_PASS", "Guard"]

log = get_logger("guard")
EVERY_S = 0.5
MAY_PASS = (AuthorityNotYet, ClockUntrusted, OutsidePlace, PlaceUnknown)
"""Refusals that may pass while the van waits."""


class Asked(Protocol):
    """What the guard asks: :class:`edge.deployment.mandate.Mandate`."""

    def check(self) -> object: ...


class Matching(Protocol):
    """What the guard asks of the pipeline."""

    def suspend(self) -> None: ...
    def resume(self) -> None: ...


class Guard:
    """See the module.

    Args:
        mandate: is asked.
        matching: is suspended and resumed.
        on_change: told of each new refusal, and of None when matching is allowed again.
        on_over: told once, when matching must end for good.
    """

    def __init__(
        self,
        mandate: Asked,
        matching: Matching,
        *,
        on_change: Callable[[PolicyRefusal | None], None],
        on_over: Callable[[PolicyRefusal], None],
    ) -> None:
        self._mandate = mandate
        self._matching = matching
        self._on_change = on_change
        self._on_over = on_over
        self._refused: type[PolicyRefusal] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self.over: PolicyRefusal | None = None
        """Why matching ended for good; None while it has not."""

    def ask(self) -> None:
        """Ask once and act on the answer."""
        try:
            self._mandate.check()
        except PolicyRefusal as error:
            self._matching.suspend()
            if not isinstance(error, MAY_PASS):
                self.over = error
                self._on_over(error)
            elif self._refused is not type(error):
                self._refused = type(error)
                self._on_change(error)
            return
        if self._refused is not None:
            self._refused = None
            self._on_change(None)
        self._matching.resume()

    def start(self) -> None:
        """Ask from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S) and self.over is None:
            try:
                self.ask()
            except EdgeError as error:
                # What cannot be answered is a no.
                self._matching.suspend()
                log.error("guard", why=str(error))
