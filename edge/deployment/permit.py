"""Leave to match, for two seconds at a time.

The gate's answers end up here: the guard grants with every yes and withdraws with every no. Whoever matches asks for
every frame, and again inside the transaction that commits an alert. A guard that is silent, for whatever reason, is a
no by itself: the permit lapses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edge.clock import NS_PER_S, Clock
from edge.errors import PermitLapsed

__all__ = ["LEASE_S", "Permit"]

LEASE_S = 2.0
"""How long one yes holds; the guard asks four times in that time."""
_WAIT_S = 1.0
"""How long a withdrawal waits for an alert that is being committed at this moment."""


class Permit:
    """See the module. Begins as a no. Its methods may be called from any thread.

    Args:
        clock: its monotonic time counts through suspend: a permit does not sleep.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._use = threading.RLock()
        self._change = threading.Lock()
        self._until_ns = 0
        self._closed = False

    def moment_ns(self) -> int:
        """Now, by the permit's own clock: what :meth:`grant` counts from."""
        return self._clock.monotonic_ns()

    def grant(self, asked_ns: int | None = None) -> None:
        """Match until two seconds after the question was asked; without effect once the permit is closed.

        Args:
            asked_ns: when the facts of the answer were read, of :meth:`moment_ns`; None for this moment. A yes that
                took long to come is worth so much less.
        """
        since = self._clock.monotonic_ns() if asked_ns is None else asked_ns
        with self._change:
            if not self._closed:
                self._until_ns = since + round(LEASE_S * NS_PER_S)

    def withdraw(self) -> None:
        """Match nobody from now on. An alert that is being committed at this moment is waited for, or is refused.

        It is waited for a second at most: one that takes longer is refused by :meth:`require`, which is called last
        before it is committed.
        """
        with self._change:
            self._until_ns = 0
        if self._use.acquire(timeout=_WAIT_S):
            self._use.release()

    def close(self) -> None:
        """Withdraw for good: no later yes counts."""
        with self._change:
            self._closed = True
        self.withdraw()

    @property
    def valid(self) -> bool:
        """Whether matching is allowed at this moment."""
        return self._clock.monotonic_ns() < self._until_ns

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Do something that must not happen without the permit: it is not withdrawn before the block has ended.

        Raises:
            PermitLapsed: matching is not allowed at this moment; the block is not entered.
        """
        with self._use:
            self.require()
            yield

    def require(self) -> None:
        """Refuse when matching is not allowed at this moment.

        Raises:
            PermitLapsed: it is not.
        """
        if not self.valid:
            raise PermitLapsed(
                "the permission to match",
                "has been withdrawn or has run out",
                "Nobody is matched until it is given again",
            )
