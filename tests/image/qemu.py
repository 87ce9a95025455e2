"""A van in an emulator: its disk, its sticks, its serial line. Everything is learned from what it prints."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIRMWARE = Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
UEFI_FIRMWARE = Path("/usr/share/AAVMF/AAVMF_CODE.fd")
PROCESSOR = "cortex-a76"
"""The Raspberry Pi 5's. Its dot-product instructions matter here, too: emulated, the int8 detector takes a quarter of
the time that it takes on a cortex-a72."""
NS_PER_INSTRUCTION = 1
"""The van's own clock counts its instructions, one a nanosecond (QEMU's -icount). So the van lives by its own limits,
two seconds for a frame among them, however slow or busy the machine is that emulates it: one second of the van's takes
three to five of the machine's, and nothing in it had to be relaxed."""
NEVER = re.compile(r"Kernel panic|Oops:|You are in emergency mode")


SECTOR = 512
SECTORS_OF_A_BLOCK = 2
"""The encrypted volumes are small, and so are the blocks of their file systems."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a partition lies on a disk.

    Attributes:
        start, size: bytes.
    """

    start: int
    size: int


class VanSilent(AssertionError):
    """The van did not print what was waited for."""


@dataclass
class Van:
    """A running emulator. Use :func:`van`."""

    process: subprocess.Popen[bytes]
    monitor: Path
    log: Path
    name: str = "van"
    text: str = ""
    seen: int = 0
    began: float = field(default_factory=time.monotonic)

    def _read(self, timeout: float) -> bool:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not ready:
            return True
        chunk = os.read(self.process.stdout.fileno(), 65536)
        new = chunk.decode(errors="replace")
        self.text += new
        with self.log.open("a") as stream:
            stream.write(new)
        return bool(chunk)

    def wait(self, pattern: str, timeout: float = 300, *, unless: str = "") -> re.Match[str]:
        """Until the van prints what matches; from where the last match ended. Fails at once on ``unless``."""
        wanted = re.compile(pattern)
        never = re.compile(f"{NEVER.pattern}|{unless}") if unless else NEVER
        deadline = time.monotonic() + timeout
        while True:
            if found := wanted.search(self.text, self.seen):
                self.seen = found.end()
                age = time.monotonic() - self.began
                print(f"{self.name}, {age:.0f} s: {found[0].strip()}", file=sys.stderr, flush=True)
                return found
            if trouble := never.search(self.text, self.seen):
                raise VanSilent(f"van printed {trouble[0]!r}; its log is {self.log}\n{self.text[-2000:]}")
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(min(left, 5)):
                raise VanSilent(f"no {pattern!r} within {timeout} s; the log is {self.log}\n{self.text[-2500:]}")

    def lines(self, start: str) -> list[str]:
        """Every line the van printed that holds ``start``, from there on."""
        clean = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).replace("\r", "")
        return [line[line.index(start) :] for line in clean.splitlines() if start in line]

    def command(self, name: str, **arguments: Any) -> Any:
        """One command to the emulator's monitor."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.monitor))
            stream = link.makefile("rw")
            stream.readline()
            for words in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                stream.write(json.dumps(words) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    assert "error" not in answer, answer
            return answer["return"]

    def medium_fails(self, part: Part) -> None:
        """From now on its disk answers whatever is read from one partition with an input/output error."""
        rule = f'[inject-error]\nevent = "none"\niotype = "read"\nerrno = "{errno.EIO}"\nsector = "%d"\n'
        blocks = range(part.start // SECTOR, (part.start + part.size) // SECTOR, SECTORS_OF_A_BLOCK)
        rules = self.monitor.with_name("rules")  # a file: as arguments so many take minutes
        rules.write_text("".join(rule % sector for sector in blocks), encoding="ascii")
        fault = {"driver": "blkdebug", "node-name": "faulty", "image": "medium-file", "config": str(rules)}
        self.command("blockdev-add", **fault)
        self._medium_on("faulty")

    def medium_hangs(self) -> None:
        """From now on its disk answers nothing: what is asked of it waits."""
        self._throttle(bytes_per_s=1)  # one request for free, and an hour for the next

    def medium_answers(self) -> None:
        """Its disk works again; what waited is done now."""
        self._throttle(bytes_per_s=0)
        if any(node["node-name"] == "faulty" for node in self.command("query-named-block-nodes")):
            self._medium_on("medium-file")
            self.command("blockdev-del", **{"node-name": "faulty"})

    def _medium_on(self, node: str) -> None:
        self.command("blockdev-reopen", options=[{"driver": "raw", "node-name": "medium", "file": node}])

    def _throttle(self, bytes_per_s: int) -> None:
        others = dict.fromkeys(("bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        self.command("block_set_io_throttle", device="d0", bps=bytes_per_s, **others)

    def power_off(self) -> None:
        """Ask it to shut down, as its button does, and wait until it has."""
        self.command("system_powerdown")
        deadline = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < deadline:
            if not self._read(1):
                break
        self.process.wait(30)

    def cut(self) -> None:
        """Take its power away."""
        self.process.kill()
        self.process.wait(30)


def _plain(number: int, image: Path) -> str:
    """A disk or stick; the nodes of the first have names, so that a fault can be put between them."""
    names = ("node-name=medium", "file.node-name=medium-file") if number == 0 else ()
    return ",".join([f"if=none,id=d{number},driver=raw,file.driver=file,file.filename={image}", *names])


def _recorded(disk: Path, record: Path) -> list[str]:
    """The van's disk, with every write and flush noted in ``record`` before it is done."""
    record.unlink(missing_ok=True)
    record.touch()
    layers = (
        {"driver": "file", "filename": str(disk), "node-name": "medium-file"},
        {"driver": "raw", "file": "medium-file", "node-name": "medium"},
        {"driver": "file", "filename": str(record), "node-name": "record"},
        {"driver": "blklogwrites", "file": "medium", "log": "record", "log-sector-size": 512, "node-name": "d0"},
    )
    return [word for layer in layers for word in ("-blockdev", json.dumps(layer))]


def _u_boot() -> list[str]:
    # its battery-backed clock runs as fast as everything else in it, and not as the machine outside
    counted = ["-smp", "1", "-icount", f"shift={NS_PER_INSTRUCTION.bit_length() - 1}", "-rtc", "base=utc,clock=vm"]
    return [*counted, "-bios", str(FIRMWARE)]


def uefi(variables: Path) -> list[str]:
    """What gives an emulator UEFI firmware with this memory."""
    flash = "if=pflash,format=raw"
    code = f"{flash},unit=0,readonly=on,file={UEFI_FIRMWARE}"
    return ["-smp", "2", "-drive", code, "-drive", f"{flash},unit=1,file={variables}"]


@contextlib.contextmanager
def van(
    disk: Path,
    log: Path,
    sticks: Sequence[Path] = (),
    *,
    memory: int = 1536,
    record: Path | None = None,
    name: str = "van",
    variables: Path | None = None,
    in_front: Path | None = None,
) -> Iterator[Van]:
    """Start a van from a disk image; it is cut off at the end if it still runs.

    Args:
        disk: its medium.
        log: file that gets what it says.
        sticks: media put into it.
        memory: MiB.
        record: file that gets every write to its disk, see :mod:`tests.image.power_cuts`.
        name: what it is called in what is printed.
        variables: the memory of its UEFI firmware; without, its firmware is U-Boot. Such a van lives by the clock on
            the wall and has two cores, because nothing in its tests is about what it sees.
        in_front: a USB medium that firmware is told to start before the van's own.
    """
    with tempfile.TemporaryDirectory(prefix="lfr-van-") as folder:
        monitor = Path(folder) / "monitor"
        command = [
            *("setpriv", "--pdeathsig", "KILL"),  # a test run that is killed leaves no van behind
            *("qemu-system-aarch64", "-machine", "virt", "-cpu", PROCESSOR, "-accel", "tcg,tb-size=512"),
            *(uefi(variables) if variables else _u_boot()),
            *("-m", str(memory), "-display", "none", "-serial", "stdio"),
            *("-qmp", f"unix:{monitor},server=on,wait=off", "-nodefaults"),
            *("-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"),
            *("-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="),
        ]
        for number, image in enumerate([disk, *sticks]):
            if number == 0 and record is not None:
                command += _recorded(image, record)
            else:
                command += ["-drive", _plain(number, image)]
            command += ["-device", f"virtio-blk-pci,drive=d{number},addr={hex(8 + number)}"]
        if in_front is not None:
            command += ["-drive", f"if=none,id=front,format=raw,file={in_front}", "-device", "qemu-xhci"]
            command += ["-device", "usb-storage,drive=front,bootindex=0"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        machine = Van(process, monitor, log, name)
        try:
            yield machine
        finally:
            if process.poll() is None:
                machine.cut()
            if process.stdout is not None:
                process.stdout.close()


def stick(path: Path, label: str, files: Sequence[Path], *, mib: int = 0) -> Path:
    """A FAT medium with files and folders at its top."""
    size = sum(f.stat().st_size for top in files for f in ([top] if top.is_file() else top.rglob("*")))
    mib = mib or (size >> 20) + 24
    path.unlink(missing_ok=True)
    with path.open("wb") as stream:
        stream.truncate(mib << 20)
    subprocess.run(["mkfs.vfat", "-n", label, str(path)], check=True, capture_output=True)
    for name in files:
        subprocess.run(["mcopy", "-s", "-i", str(path), str(name), "::"], check=True)
    return path


def part(disk: Path, name: str) -> Part:
    """A partition of a disk."""
    table = json.loads(subprocess.run(["sfdisk", "--json", str(disk)], check=True, capture_output=True).stdout)
    found = next(each for each in table["partitiontable"]["partitions"] if each["name"] == name)
    return Part(int(found["start"]) * SECTOR, int(found["size"]) * SECTOR)
