"""Power cuts during an update and its commit: record every write once, then rebuild the medium as a cut left it.

The emulator logs each write and each flush of the van's disk, in order (its ``blklogwrites`` driver, in the format of
Linux' dm-log-writes). From that log the medium of any moment can be rebuilt without running the update again, and more
than a killed emulator could show: a killed emulator loses nothing that the van had handed over, while a card or an SSD
whose power is cut may also lose, or half finish, what was written since the last flush. Three kinds of cut:

* ``kept``: all that was written until then is there, as after a SIGKILL of the emulator;
* ``lost``: everything since the last flush is gone;
* ``some``: of what came after the last flush, each write is there, missing, or torn at a sector, at random.

What stays outside: a medium that lies about its flushes, or loses blocks it had not been asked to write.
"""

from __future__ import annotations

import bisect
import random
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["CUTS", "Clock", "Cut", "Entry", "copy", "draw", "entries", "rebuild"]

MAGIC = 0x6A736677736872
"""dm-log-writes' own, ``WRITE_LOG_MAGIC``."""
FLUSH, FUA, DISCARD = 1, 2, 4
CUTS = ("kept", "lost", "some")
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log.

    Attributes:
        offset: where on the disk, bytes.
        length: how much, bytes; 0 for a flush alone.
        at: where its data stand in the log, bytes.
        flush: everything before it is on the medium when it is done.
        zeros: it carries no data: the range becomes zeros.
    """

    offset: int
    length: int
    at: int
    flush: bool
    zeros: bool


def entries(log: Path) -> list[Entry]:
    """Read a log to its last whole entry.

    Raises:
        ValueError: it is no such log.
    """
    size = log.stat().st_size
    with log.open("rb") as stream:
        magic, version, _count, sector = struct.unpack("<QQQI", stream.read(28))
        if magic != MAGIC or version != 1:
            raise ValueError(f"{log} is no log of writes")
        found, position = [], sector
        while position + sector <= size:
            stream.seek(position)
            place, sectors, flags, _ = struct.unpack("<QQQQ", stream.read(32))
            if not sectors and not flags:
                break
            data = 0 if flags & DISCARD else sectors * sector
            if position + sector + data > size:
                break
            zeros = bool(flags & DISCARD)
            found.append(Entry(place * sector, sectors * sector, position + sector, bool(flags & (FLUSH | FUA)), zeros))
            position += sector + data
    return found


def log_end(entry: Entry) -> int:
    """Where an entry ends in the log, bytes."""
    return entry.at + (0 if entry.zeros else entry.length)


class Clock:
    """Notes while the emulator runs how far its log had come at which moment.

    Args:
        log: the emulator's log.
        every: seconds between looks.
    """

    def __init__(self, log: Path, every: float = 0.05) -> None:
        self._log = log
        self._every = every
        self._stop = threading.Event()
        self.sizes: list[int] = []
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.sizes.append(self._log.stat().st_size)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def now(self) -> int:
        """The number of looks until now."""
        return len(self.sizes)


@dataclass(frozen=True, slots=True)
class Cut:
    """One power cut.

    Attributes:
        after: how many entries of the log had been handed over.
        kind: one of :data:`CUTS`.
        seed: decides what ``some`` keeps.
        drawn: how the moment was drawn: over the time, or over the flushes.
    """

    after: int
    kind: str
    seed: int
    drawn: str


def draw(log: Sequence[Entry], sizes: Sequence[int], count: int, seed: int) -> list[Cut]:
    """Draw moments: half of them over the time that installing and committing took, half over its flushes.

    Most of the time goes into the one large copy, most of the danger lies in the few small writes that are flushed at
    once (slot order, tries left, floor, status). Each half is drawn once from each of equal parts, so that no part of
    the whole is left out.

    Args:
        log: all entries.
        sizes: size of the log at equal steps of time, from the start of the installation to the end of the commit.
        count: how many.
        seed: same seed, same cuts.
    """
    rng = random.Random(seed)
    ends = [log_end(entry) for entry in log]
    first, last = (bisect.bisect_right(ends, size) for size in (sizes[0], sizes[-1]))
    flushes = [number for number in range(first, last) if log[number].flush]
    cuts = []
    for number in range(count):
        part, parts = number // 2, (count + 1 - number % 2) // 2
        share = (part + rng.random()) / parts
        if number % 2:
            # around the flush: up to four entries to either side
            after = flushes[int(share * len(flushes))] + rng.randint(-4, 4)
            drawn = "flushes"
        else:
            after, drawn = bisect.bisect_right(ends, sizes[int(share * len(sizes))]), "time"
        cuts.append(Cut(min(max(after, first), last), rng.choice(CUTS), rng.randrange(1 << 30), drawn))
    return cuts


def survivors(log: Sequence[Entry], cut: Cut) -> Iterator[tuple[Entry, int]]:
    """The writes that a medium holds after a cut, in order, each with how many of its bytes."""
    until = log[: cut.after]
    flushed = max((number for number, entry in enumerate(until) if entry.flush), default=-1)
    rng = random.Random(cut.seed)
    for number, entry in enumerate(until):
        if not entry.length:
            continue
        if number <= flushed or cut.kind == "kept":
            yield entry, entry.length
        elif cut.kind == "some":
            fate = rng.random()
            if fate < 0.5:
                yield entry, entry.length
            elif fate < 0.7:
                yield entry, rng.randrange(0, entry.length // SECTOR + 1) * SECTOR


def copy(disk: Path, out: Path) -> None:
    """Copy a medium, holes and all."""
    subprocess.run(["cp", "--sparse=always", str(disk), str(out)], check=True)


def rebuild(before: Path, log: Path, cut: Cut, out: Path) -> int:
    """Write the medium as the cut left it; returns how many writes were handed over and did not arrive whole.

    Args:
        before: the medium when recording began.
        log: what was recorded.
        cut: when and how.
        out: file to write.
    """
    copy(before, out)
    log_entries = entries(log)
    handed = sum(1 for entry in log_entries[: cut.after] if entry.length)
    whole = 0
    with log.open("rb") as source, out.open("r+b") as target:
        for entry, length in survivors(log_entries, cut):
            target.seek(entry.offset)
            if entry.zeros:
                target.write(bytes(length))
            else:
                source.seek(entry.at)
                target.write(source.read(length))
            whole += length == entry.length
    return handed - whole
