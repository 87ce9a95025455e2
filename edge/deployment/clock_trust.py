"""Whether the clock can be believed. Everything with a date rests on it, and a Pi has no clock of its own.

Two questions: is it behind something that certainly lies in the past, and has anything set it since the van
was switched on? A machine with a battery-backed clock answers the second when that clock kept the time
(:mod:`edge.deployment.battery_clock`); to have one is no answer.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import edge
from edge.clock import Clock
from edge.deployment.battery_clock import kept_time
from edge.trust.events import Event

__all__ = [
    "ClockTrust",
    "built_at",
    "clock_floor",
    "ends_unconfirmed",
    "kernel_says_synchronised",
    "last_confirmed_time",
]

TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised to a reliable source."""
TIMEX_BYTES = 256
"""More than struct timex takes on any Linux."""
SATELLITE_AGREEMENT = timedelta(seconds=5)
RTC = Path("/sys/class/rtc/rtc0")
TIMESYNC = Path("/run/systemd/timesync/synchronized")
"""There once systemd-timesyncd has set the clock. The van's service may not ask the kernel: its unit forbids it."""


def built_at() -> datetime:
    """When this software was put together: the time of its own file, which a reproducible image fixes."""
    return datetime.fromtimestamp(Path(edge.__file__).stat().st_mtime, UTC)


def last_confirmed_time(log: Path) -> datetime | None:
    """The latest time in an audit log that a confirmed clock has written; None without one.

    What was written while nothing vouched for the clock says nothing about the time: the log marks where such a stretch
    begins and where it ends. The latest counts and not the last, so that a clock that was set back leaves no trace that
    could be built on. The chain is checked elsewhere.
    """
    known = [at for event, at, confirmed in _times(log) if confirmed and event != Event.LOG_REPAIRED]
    return max(known, default=None)  # a repair is noted before anybody could ask the clock


def ends_unconfirmed(log: Path) -> bool:
    """Whether the last that a log says of its clock is that nothing vouches for it."""
    return not [True, *(confirmed for _, _, confirmed in _times(log))][-1]


def _times(log: Path) -> Iterator[tuple[str, datetime, bool]]:
    """Each entry's event and time, and whether the clock was confirmed when it was written."""
    confirmed = True
    try:
        lines = log.read_bytes().split(b"\n")[:-1]
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
            event, at = str(entry["event"]), datetime.fromisoformat(entry["at"]).astimezone(UTC)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if event in {Event.CLOCK_UNCONFIRMED, Event.CLOCK_CONFIRMED}:
            confirmed = event == Event.CLOCK_CONFIRMED
        yield event, at, confirmed


def clock_floor(*, built: datetime, log: Path | None = None, published: datetime | None = None) -> datetime:
    """The latest moment that certainly lies in the past.

    Args:
        built: when the software was put together.
        log: the audit log: what a confirmed clock has written there has happened.
        published: when the repository's newest state was published.
    """
    known = [built, published, last_confirmed_time(log) if log is not None else None]
    return max(moment for moment in known if moment is not None)


def kernel_says_synchronised() -> bool:
    """Whether a time server has set this clock since the start, as the kernel has been told (adjtimex(2))."""
    name = ctypes.util.find_library("c") or "libc.so.6"
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    return int(ctypes.CDLL(name, use_errno=True).adjtimex(buffer)) not in {-1, TIME_ERROR}


class ClockTrust:
    """Whether the clock may be believed: asked again and again until the answer is yes once.

    Nothing is destroyed, expired or counted as past on the word of a clock that nothing vouches for.

    Args:
        clock: the machine's.
        required: whether anything must vouch for it; without that it is believed from the start.
        satellite_time: what the satellites say the time is at this moment; None when they say nothing.
        rtc: the folder of a battery-backed clock in sysfs.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        required: bool = True,
        satellite_time: Callable[[], datetime | None] = lambda: None,
        rtc: Path = RTC,
    ) -> None:
        self._clock = clock
        self._satellite_time = satellite_time
        self._rtc = rtc
        self._lock = threading.Lock()
        self._by = "" if required else "the configuration"
        self._on_confirmed: Callable[[str], None] | None = None

    @property
    def by(self) -> str:
        """What vouches for the clock; empty while nothing does."""
        return self._by

    def on_confirmed(self, tell: Callable[[str], None]) -> None:
        """Be told, once, what vouches for the clock; not when something does already."""
        self._on_confirmed = None if self.confirmed() else tell

    def confirmed(self) -> bool:
        """Whether anything vouches for the clock: a battery, a time server, or the satellites."""
        with self._lock:
            if self._by:
                return True
            self._by = self._voucher()
            tell, self._on_confirmed = (self._on_confirmed, None) if self._by else (None, self._on_confirmed)
        if tell is not None:
            tell(self._by)
        return bool(self._by)

    def _voucher(self) -> str:
        if kept_time(self._rtc, now=self._clock.now(), past=built_at()):
            return "a battery-backed clock"
        if kernel_says_synchronised() or TIMESYNC.exists():
            return "a time server"
        satellites = self._satellite_time()
        if satellites is not None and abs(self._clock.now() - satellites) <= SATELLITE_AGREEMENT:
            return "the satellites"
        return ""
