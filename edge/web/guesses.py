"""How often somebody may guess a password. Rules only: no store, no page.

Every attempt is counted as a wrong one before its password is looked at, so that many at once are no more than many one
after the other; the right one is taken back. What is counted:

===========================  =====================================================  ====================
attempt from                 counted together                                       then refused
===========================  =====================================================  ====================
a browser that the officer   this number at this browser                            5, for a minute
signed in at before
anywhere else                this number from this address                          5, for a minute
anywhere else                this number from everywhere, known browsers excepted   30, for an hour
===========================  =====================================================  ====================

Nobody locks an officer out of a browser that the officer has used before: what others do does not count there. The
tables forget what is over, and hold :data:`MOST` entries at most.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from edge.clock import NS_PER_S, Clock
from edge.errors import PolicyRefusal

__all__ = ["Attempt", "Guesses", "TooManyGuesses"]

MOST = 100_000
"""Entries of one table. One password is looked at at a time, so an hour sees fewer."""


class TooManyGuesses(PolicyRefusal):
    """A number was tried with too many wrong passwords."""


@dataclass(slots=True)
class _Count:
    wrong: int
    last_ns: int


@dataclass(slots=True)
class _Table:
    most: int
    span_s: int
    counts: OrderedDict[tuple[str, ...], _Count] = field(default_factory=OrderedDict)

    def forget(self, now_ns: int) -> None:
        """Drop what is over; the oldest stands first."""
        while self.counts:
            key, oldest = next(iter(self.counts.items()))
            if now_ns - oldest.last_ns < self.span_s * NS_PER_S and len(self.counts) <= MOST:
                return
            del self.counts[key]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that has been counted.

    Attributes:
        number: of the officer that somebody says they are.
        place: the address that it comes from.
        browser: what names the browser, if the officer has signed in there before; else empty.
    """

    number: str
    place: str
    browser: str = ""


class Guesses:
    """See the module. For one thread.

    Args:
        clock: only its monotonic half is asked.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._near = _Table(5, 60)
        self._far = _Table(30, 3600)

    def __len__(self) -> int:
        """How many entries are held."""
        return len(self._near.counts) + len(self._far.counts)

    def begin(self, attempt: Attempt) -> None:
        """Count an attempt, before its password is looked at.

        Raises:
            TooManyGuesses: it may not be made now; it was not counted.
        """
        now = self._clock.monotonic_ns()
        for table, key in self._counted(attempt):
            table.forget(now)
            found = table.counts.get(key)
            if found is not None and found.wrong >= table.most:
                minutes = max(1, -(-(table.span_s * NS_PER_S - now + found.last_ns) // (60 * NS_PER_S)))
                raise TooManyGuesses(
                    f"officer {attempt.number}",
                    "was tried with too many wrong passwords",
                    f"Wait {minutes} minute{'' if minutes == 1 else 's'}"
                    + ("" if table is self._near else ", or use a computer on which you have signed in before"),
                )
        for table, key in self._counted(attempt):
            found = table.counts.setdefault(key, _Count(0, now))
            found.wrong, found.last_ns = found.wrong + 1, now
            table.counts.move_to_end(key)
            table.forget(now)

    def undo(self, attempt: Attempt) -> None:
        """Its password was never looked at."""
        for table, key in self._counted(attempt):
            if (found := table.counts.get(key)) is not None:
                found.wrong -= 1
                if found.wrong <= 0:
                    del table.counts[key]

    def right(self, attempt: Attempt) -> None:
        """Its password was the right one: whoever is there is no guesser."""
        self.undo(attempt)
        table, key = self._counted(attempt)[0]
        table.counts.pop(key, None)

    def _counted(self, attempt: Attempt) -> list[tuple[_Table, tuple[str, ...]]]:
        if attempt.browser:
            return [(self._near, ("browser", attempt.number, attempt.browser))]
        return [(self._near, ("place", attempt.number, attempt.place)), (self._far, (attempt.number,))]
