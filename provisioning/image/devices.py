"""Which medium may be overwritten: what ``lsblk`` says, judged by rules that touch nothing.

Rules, in this order; the first that is broken is the refusal. There is no switch against any but the last:

1. it is there, and is a whole disk (or a file, or a loop device: for tests and for making copies)
2. nothing on it is mounted, is swap, or is held by another layer
3. the running system is not on it
4. it is large enough
5. it is writable
6. it is removable (USB, SD); one that is not must be forced, by naming its serial number
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioning.image.tools import ImageRefused, ImageUnusable, run

__all__ = ["Device", "candidates", "judge", "look_up", "parse_lsblk"]

_COLUMNS = "NAME,PATH,TYPE,SIZE,RO,RM,HOTPLUG,TRAN,SERIAL,MODEL,MOUNTPOINTS,FSTYPE"


@dataclass(frozen=True, slots=True)
class Device:
    """A medium as the operating system describes it.

    Attributes:
        path: device node or file.
        kind: ``disk``, ``part``, ``loop``, ``file``, ``rom``, …
        size: bytes; a file grows to what is written, and has none.
        removable: can be taken out while the machine runs.
        read_only: refuses writing.
        serial: the maker's serial number; a file's is its name.
        model: the maker's name for it.
        in_use: mount points, swap and holders on it or on any of its partitions.
        root: the running system is on it.
    """

    path: Path
    kind: str
    size: int
    removable: bool
    read_only: bool
    serial: str
    model: str = ""
    in_use: tuple[str, ...] = field(default=())
    root: bool = False


def _uses(entry: dict[str, Any]) -> list[str]:
    found = [str(m) for m in entry.get("mountpoints") or [] if m]
    for child in entry.get("children") or []:
        if child.get("type") not in {"part", "rom"}:
            found.append(f"held by {child.get('name')}")
        found += _uses(child)
    return found


def parse_lsblk(text: str) -> list[Device]:
    """Devices from ``lsblk --json --bytes``; partitions only as uses of their disk."""
    devices = []
    for entry in json.loads(text)["blockdevices"]:
        uses = tuple(dict.fromkeys(_uses(entry)))
        devices.append(
            Device(
                path=Path(entry["path"]),
                kind=str(entry["type"]),
                size=int(entry["size"] or 0),
                removable=bool(entry.get("rm")) or bool(entry.get("hotplug")) or entry.get("tran") in {"usb", "mmc"},
                read_only=bool(entry.get("ro")),
                serial=str(entry.get("serial") or "").strip(),
                model=str(entry.get("model") or "").strip(),
                in_use=uses,
                root=any(use in {"/", "/boot", "/boot/efi", "/usr"} for use in uses),
            )
        )
    return devices


def _listing(*paths: Path) -> list[Device]:
    return parse_lsblk(run(["lsblk", "--json", "--bytes", f"--output={_COLUMNS}", *paths], thing="list of disks"))


def look_up(target: Path) -> Device:
    """Describe one target: a device node, or a file that exists or may be made.

    Raises:
        ImageUnusable: there is no such thing, or it is neither.
    """
    if target.is_block_device():
        found = _listing(target)[0]
        backing = Path(f"/sys/class/block/{target.resolve().name}/loop/backing_file")
        if found.kind == "loop" and backing.exists():
            return Device(
                found.path, "loop", found.size, removable=True, read_only=found.read_only,
                serial=Path(backing.read_text().strip()).name, in_use=found.in_use,
            )  # fmt: skip
        return found
    if target.is_dir() or not target.parent.is_dir():
        raise ImageUnusable(
            str(target), "is not a disk and not a file that can be written", "Name a disk: image flash --list"
        )
    if str(target.resolve()).startswith("/dev/"):
        raise ImageUnusable(str(target), "is not there", "Put the medium in, then: image flash --list")
    writable = os.access(target if target.exists() else target.parent, os.W_OK)
    return Device(target, "file", 0, removable=True, read_only=not writable, serial=target.name)


def judge(device: Device, needed: int, forced_serial: str = "") -> None:
    """Refuse a target that must not be overwritten; the rules stand above.

    Args:
        device: what would be overwritten.
        needed: bytes of the image.
        forced_serial: serial number of a disk that is not removable and is meant all the same.

    Raises:
        ImageRefused: names the rule.
    """
    thing = f"{device.path} ({device.model or device.kind}, serial {device.serial or 'unknown'})"
    listing = "Choose another: image flash --list"
    if device.kind not in {"disk", "loop", "file"}:
        raise ImageRefused(thing, f"is a {device.kind} and not a whole disk", listing)
    if device.root:
        raise ImageRefused(thing, "holds the system you are working on", listing)
    if device.in_use:
        raise ImageRefused(thing, f"is in use ({', '.join(device.in_use)})", "Unmount it first, if it is the right one")
    if device.kind != "file" and device.size < needed:
        raise ImageRefused(thing, f"holds {device.size} bytes and the image needs {needed}", "Take a larger medium")
    if device.read_only:
        raise ImageRefused(thing, "is write-protected", "Move its lock switch, or choose another")
    if not device.removable and (not forced_serial or forced_serial != device.serial):
        raise ImageRefused(
            thing,
            "is built in, not removable",
            "If it is meant all the same, say --force-serial with its serial number",
        )


def candidates(needed: int) -> list[tuple[Device, str]]:
    """Every whole disk here, with the reason why it may not be overwritten; empty where it may."""
    found = []
    for device in _listing():
        if device.kind != "disk":
            continue
        try:
            judge(device, needed)
        except ImageRefused as error:
            found.append((device, error.cause))
        else:
            found.append((device, ""))
    return found
