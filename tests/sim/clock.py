"""The clock that tests turn by hand; the only one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START_NS = 1_000_000_000


class HandClock:
    """Stands still until it is turned.

    Args:
        at: the date and time that it shows. A test may set :attr:`at` alone, as somebody sets a van's clock: the
            monotonic clock does not notice.
        tick: by so much every question for the date and time turns both on.
    """

    def __init__(
        self, at: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC), *, tick: timedelta = timedelta(0)
    ) -> None:
        self.at = at
        self._tick_s = tick.total_seconds()
        self._ns = START_NS

    def advance(self, seconds: float) -> None:
        """Let time pass, for both clocks."""
        self._ns += round(seconds * 1e9)
        self.at += timedelta(seconds=seconds)

    def monotonic_ns(self) -> int:
        return self._ns

    def now(self) -> datetime:
        if self._tick_s:
            self.advance(self._tick_s)
        return self.at
