"""Whether the clock can be believed. Everything with a date rests on it, and a Pi has no clock of its own.

Two questions: is it behind something that certainly lies in the past, and has anything set it since the van
was switched on? A machine with a battery-backed clock answers the second by having one.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import edge

__all__ = ["built_at", "clock_confirmed", "clock_floor", "kernel_says_synchronised", "last_audit_time"]

TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised to a reliable source."""
TIMEX_BYTES = 256
"""More than struct timex takes on any Linux."""
SATELLITE_AGREEMENT = timedelta(seconds=5)
RTC = Path("/dev/rtc0")


def built_at() -> datetime:
    """When this software was put together: the time of its own file, which a reproducible image fixes."""
    return datetime.fromtimestamp(Path(edge.__file__).stat().st_mtime, UTC)


def last_audit_time(log: Path) -> datetime | None:
    """The time of the last whole entry of an audit log; None without one. The chain is checked elsewhere."""
    try:
        lines = log.read_bytes().split(b"\n")[:-1]
        return datetime.fromisoformat(json.loads(lines[-1])["at"]).astimezone(UTC)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def clock_floor(*, built: datetime, log: Path | None = None, published: datetime | None = None) -> datetime:
    """The latest moment that certainly lies in the past.

    Args:
        built: when the software was put together.
        log: the audit log: its last entry has happened.
        published: when the repository's newest state was published.
    """
    known = [built, published, last_audit_time(log) if log is not None else None]
    return max(moment for moment in known if moment is not None)


def kernel_says_synchronised() -> bool:
    """Whether a time server has set this clock since the start, as the kernel has been told (adjtimex(2))."""
    name = ctypes.util.find_library("c") or "libc.so.6"
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    return int(ctypes.CDLL(name, use_errno=True).adjtimex(buffer)) not in {-1, TIME_ERROR}


def clock_confirmed(now: datetime, *, satellite_time: datetime | None = None, rtc: Path = RTC) -> bool:
    """Whether anything vouches for the clock: a battery, a time server, or the satellites.

    Args:
        now: what the clock shows.
        satellite_time: from :meth:`edge.deployment.position.Gpsd.satellite_time`, of this very moment.
        rtc: the device of a battery-backed clock.
    """
    if rtc.exists() or kernel_says_synchronised():
        return True
    return satellite_time is not None and abs(now - satellite_time) <= SATELLITE_AGREEMENT
