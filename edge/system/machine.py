"""What the machine says of itself: temperature, throttling, power and disk. None of it is guessed."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["free_share", "powered", "temperature_c", "throttled"]

THERMAL = Path("/sys/class/thermal")
POWER = Path("/sys/class/power_supply")
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
"""Raspberry Pi: bits 0 to 3 say what is the case now (documentation of vcgencmd get_throttled)."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def temperature_c(folder: Path = THERMAL) -> float | None:
    """Degrees of the warmest sensor; None where there is none."""
    found = []
    for zone in sorted(folder.glob("thermal_zone*/temp")):
        try:
            found.append(int(_text(zone)) / 1000)
        except ValueError:
            continue
    return max(found, default=None)


def throttled(path: Path = THROTTLED) -> bool | None:
    """Whether the processor is slowed down now, by heat or by weak power; None where the board does not say."""
    try:
        return bool(int(_text(path), 16) & 0b1111)
    except ValueError:
        return None


def powered(folder: Path = POWER) -> bool | None:
    """Whether it is fed from outside; None where nothing says so."""
    online = [_text(supply / "online") for supply in sorted(folder.glob("*")) if (supply / "online").exists()]
    return "1" in online if online else None


def free_share(folder: Path) -> tuple[float, float] | None:
    """Gigabytes that are free on the folder's disk, and which share of it; None where it cannot be asked."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free / 1e9, usage.free / max(usage.total, 1)
