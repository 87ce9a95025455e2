"""A clock that is turned by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class HandClock:
    def __init__(self, start: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._ns = 1_000_000_000

    def advance(self, seconds: float) -> None:
        self._ns += int(seconds * 1e9)

    def monotonic_ns(self) -> int:
        return self._ns

    def now(self) -> datetime:
        return self._start + timedelta(microseconds=self._ns / 1000)
