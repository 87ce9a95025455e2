"""Whether a battery-backed clock kept the time while the machine was off. That there is one says nothing.

A Raspberry Pi 5 has such a clock and comes without its battery: after a power cut it counts from 1970. So three things
are asked: did the kernel set its own clock by it at the start; does it admit that its voltage failed; and does it show
what the machine's clock shows, later than this software was built.
"""

from __future__ import annotations

import fcntl
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["kept_time", "tells_of_failure"]

AGREEMENT = timedelta(seconds=60)
"""A cheap clock loses a second or two a day, and it is asked within minutes of the start."""
_RTC_VL_READ = 0x80047013
"""``linux/rtc.h``: _IOR('p', 0x13, unsigned int)."""
_INVALID, _EMPTY = 1 << 0, 1 << 2
"""RTC_VL_DATA_INVALID: its voltage failed and its time is worth nothing. RTC_VL_BACKUP_EMPTY: it has no battery."""


def kept_time(clock: Path, *, now: datetime, past: datetime) -> bool:
    """Whether the machine's time comes from a battery-backed clock that never stopped.

    Args:
        clock: its folder in sysfs, ``/sys/class/rtc/rtc0``.
        now: what the machine's clock shows.
        past: a moment that certainly lies in the past.
    """
    try:
        set_by_it = (clock / "hctosys").read_text(encoding="ascii").strip() == "1"
        shows = datetime.fromtimestamp(int((clock / "since_epoch").read_text(encoding="ascii")), UTC)
    except (OSError, ValueError, OverflowError):
        return False
    return set_by_it and shows >= past and abs(shows - now) <= AGREEMENT and not _stopped(Path("/dev", clock.name))


def _stopped(device: Path) -> bool:
    """Whether the clock itself says that it stopped; False when it says nothing."""
    try:
        handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return tells_of_failure(fcntl.ioctl(handle, _RTC_VL_READ, bytes(4)))
    except OSError:
        return False
    finally:
        os.close(handle)


def tells_of_failure(answer: bytes) -> bool:
    """Read the answer to RTC_VL_READ."""
    return bool(struct.unpack("=I", answer)[0] & (_INVALID | _EMPTY))
