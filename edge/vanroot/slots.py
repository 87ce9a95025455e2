"""Which slot runs, and, where firmware chooses it (UEFI), the two entries that firmware chooses from.

Firmware keeps its choice in its own memory: ``BootOrder`` is the slot that was committed last, ``BootNext`` a slot to
try once. It deletes ``BootNext`` before it starts what that names, so a start that fails, hangs or loses its power is
followed by the committed slot, and nothing has to be written for that. A freshly flashed medium has no entries:
firmware then starts what it finds on the disk, which is slot A, and this helper makes the entries.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["NAMES", "booted", "entries", "main", "order"]

SLOT = Path("/run/lfr-slot")
"""Written by the first root on a board whose firmware chooses."""
NAMES = ("A", "B")
LOADER = r"\EFI\BOOT\BOOTAA64.EFI"


def booted(slot: Path = SLOT, command_line: Path = Path("/proc/cmdline")) -> str:
    """The slot that runs: as the first root found it, or as the boot loader says on the command line; else ``?``."""
    text = command_line.read_text(encoding="ascii", errors="replace")
    if slot.exists():
        text = slot.read_text(encoding="ascii").replace("SLOT=", "rauc.slot=")
    found = re.search(r"(?:^|\s)rauc\.slot=(\S+)", text)
    return found[1] if found else "?"


def entries(listing: str) -> dict[str, str]:
    """Name of each of our slots → number of its entry, from what ``efibootmgr`` prints."""
    found = re.findall(r"(?m)^Boot([0-9A-F]{4})\*? +([AB])\s*$", listing)
    return {name: number for number, name in found}


def order(listing: str, running: str) -> list[str]:
    """The order with the running slot first, then what stood there before; the other slot does not stand in it.

    Args:
        listing: what ``efibootmgr`` prints.
        running: ``A`` or ``B``.
    """
    own = entries(listing)
    former = re.search(r"(?m)^BootOrder: ([0-9A-F,]+)", listing)
    rest = former[1].split(",") if former else []
    return [own[running], *(number for number in rest if number not in own.values())]


def _efibootmgr(*words: str) -> str:
    done = subprocess.run(["efibootmgr", *words], capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(f"efibootmgr {' '.join(words)}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout.decode(errors="replace")


def _place(name: str) -> tuple[str, str]:
    """Disk and number of a slot's boot partition."""
    partition = Path(f"/dev/lfr/boot{name}").resolve().name
    sys_folder = Path("/sys/class/block", partition).resolve()
    return f"/dev/{sys_folder.parent.name}", (sys_folder / "partition").read_text().strip()


def _make() -> None:
    listing = _efibootmgr()
    lacking = [name for name in NAMES if name not in entries(listing)]
    if not lacking:
        return
    for name in lacking:
        disk, number = _place(name)
        _efibootmgr("--create-only", "--disk", disk, "--part", number, "--label", name, "--loader", LOADER)
    running = booted()
    _efibootmgr("--bootorder", ",".join(order(_efibootmgr(), running)))
    sys.stdout.write(f"LFR-SLOTS firmware knows both slots now, and starts {running}\n")
    os.sync()


def main() -> int:
    """Make what is lacking."""
    try:
        _make()
    except OSError as error:
        sys.stdout.write(f"LFR-SLOTS failed: {error}\n")
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
