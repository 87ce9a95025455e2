"""Time, as the appliance sees it: one clock that never goes back, and one that people read.

Deadlines use :meth:`Clock.monotonic_ns`, which counts through suspend (``CLOCK_BOOTTIME``), so that
setting the wall clock or closing the lid cannot lengthen a biometric's life. Everything that is
written down for people uses :meth:`Clock.now`, always in UTC.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """What the appliance asks of a clock; tests pass one that they turn by hand."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary point; never goes back; counts time asleep."""
        ...

    def now(self) -> datetime:
        """The wall clock, timezone-aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def monotonic_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now(self) -> datetime:
        return datetime.now(UTC)


def uuid7(clock: Clock) -> uuid.UUID:
    """A UUID version 7 (RFC 9562, 5.7): sorts by its millisecond, the rest is random."""
    milliseconds = int(clock.now().timestamp() * 1000) & ((1 << 48) - 1)
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds << 80) | random_bits
    value = (value & ~(0xF << 76)) | (0x7 << 76)  # version
    value = (value & ~(0x3 << 62)) | (0x2 << 62)  # variant
    return uuid.UUID(int=value)
