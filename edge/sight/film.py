"""How much of a film was not read: by what its container says of itself, and by when its frames were due.

A decoder passes over what it cannot read and says that the film is over. So the frames that came are held against
the container: MP4 and MOV count theirs exactly (ISO/IEC 14496-12: ``stsz``, ``elst``), AVI nearly so. The others only
estimate, by their length and their rate, and a film whose rate varies would seem to lack some: there a second sign is
asked for, which is packets that gave no frame, a gap in time, or a file that is shorter than its header says.

What cannot be known: a frame that the decoder mended from its neighbours counts as read, and a transport stream that
was cut at its end has no sign of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

__all__ = ["frames_missing", "is_cut_off"]

GAP = 2.5
"""Intervals without a frame from which some are missing: a phone that slows down in the dark skips one or two."""
RATES = (1.0, 240.0)
"""Frames per second between which a container's rate is believed."""
TRIMMED = 0.05
"""Share of a trimmed film's frames by which its count may be off: its edit list gives times, not frames."""
PACKED = 1
"""Frames that a whole AVI may count and not show: two may lie in one packet. A gap in time is a frame left empty."""
LONGEST_WALK = 10_000
"""Boxes that are looked at, at most."""
EBML, SEGMENT = 0x1A45DFA3, 0x18538067
"""Element identifiers of Matroska and WebM (RFC 8794 and RFC 9559)."""


def frames_missing(
    path: Path, video: cv2.VideoCapture, times_ms: Sequence[float], *, alive: Callable[[], object] = bool
) -> int:
    """How many frames of a film were not read.

    Args:
        path: the film.
        video: the capture that read it to its end.
        times_ms: position of each frame that came, in milliseconds, in the order in which they came.
        alive: called again and again while a long file is gone through.

    Returns:
        0 for a film that was read whole; at least 1 for one that is cut off.
    """
    rate = float(video.get(cv2.CAP_PROP_FPS))
    counted = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if RATES[0] <= rate <= RATES[1] else 0
    came = len(times_ms)
    cut = is_cut_off(path)
    exact = _exact_count(path, counted, rate)
    if exact is not None:
        return max(exact - came, int(cut))
    if counted <= came and not cut:
        return 0
    if _counts_in_its_header(path) and counted - came - _in_gaps(times_ms) > PACKED:
        return counted - came
    lost = _without_a_frame(path, times_ms, alive) + _in_gaps(times_ms)
    if not lost and not cut:
        return 0
    return max(counted - came, lost, 1)


def is_cut_off(path: Path) -> bool:
    """Whether the file is shorter than its header says; False where the header does not say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] == b"RIFF":
            return int.from_bytes(start[4:8], "little") + 8 > size
        if start[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"}:
            return any(at + length > size for _, at, length, _ in _boxes(file, 0, size))
        if int.from_bytes(start[:4], "big") == EBML:
            file.seek(0)
            return _segment_end(file) > size
    return False


def _counts_in_its_header(path: Path) -> bool:
    """Whether it is an AVI whose header was completed when the recording ended."""
    with path.open("rb") as file:
        start = file.read(12)
    return start[:4] == b"RIFF" and start[8:] == b"AVI " and start[4:8] != b"\0\0\0\0"


def _without_a_frame(path: Path, times_ms: Sequence[float], alive: Callable[[], object]) -> int:
    """Packets of the film's time that gave no frame."""
    packets = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    try:
        count = 0
        while packets.grab():
            count += 1
            alive()
    finally:
        packets.release()
    return max(0, count - len(times_ms))


def _in_gaps(times_ms: Sequence[float]) -> int:
    """Frames that were due where none came."""
    if len(times_ms) < 3:
        return 0
    steps = np.diff(np.sort(np.asarray(times_ms, np.float64)))
    interval = float(np.median(steps))
    if interval <= 0:
        return 0
    return int(np.sum(np.round(steps[steps > GAP * interval] / interval) - 1))


# -- MP4 and MOV -------------------------------------------------------------------------------------


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Kind, place, length and place of the content of each box between two places."""
    at = start
    for _ in range(LONGEST_WALK):
        if at + 8 > end:
            return
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        content = at + 8
        if length == 1 and len(head) == 16:
            length, content = int.from_bytes(head[8:], "big"), at + 16
        elif length == 0:  # to the end of the file
            length = end - at
        if length < content - at:
            return
        yield kind, at, length, content
        at += length


def _inside(file: BinaryIO, places: list[tuple[int, int]], kind: bytes) -> list[tuple[int, int]]:
    """Where the content of the boxes of one kind begins and ends, within others."""
    return [
        (content, at + length)
        for start, end in places
        for found, at, length, content in _boxes(file, start, end)
        if found == kind
    ]


def _exact_count(path: Path, counted: int, rate: float) -> int | None:
    """Frames that an MP4 or MOV shows; None for another container, and where its count is only an estimate."""
    if counted <= 0:
        return None
    with path.open("rb") as file:
        if file.read(8)[4:] not in {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"}:
            return None
        movie = _inside(file, [(0, path.stat().st_size)], b"moov")
        if not movie or _inside(file, movie, b"mvex"):  # in fragments: counted by length and rate
            return None
        shown_s = _shown(file, movie)
    if shown_s is None or shown_s * rate >= counted - 1:
        return counted
    return int(shown_s * rate * (1 - TRIMMED)) - 1


def _shown(file: BinaryIO, movie: list[tuple[int, int]]) -> float | None:
    """Seconds of the film that its edit list shows; None without one."""
    scale = 0
    for start, _ in _inside(file, movie, b"mvhd"):
        file.seek(start)
        head = file.read(24)
        scale = int.from_bytes(head[20:24] if head[:1] == b"\x01" else head[12:16], "big")
    for track in _inside(file, movie, b"trak"):
        handlers = _inside(file, _inside(file, [track], b"mdia"), b"hdlr")
        if not any(_at(file, start + 8, 4) == b"vide" for start, _ in handlers):
            continue
        for start, end in _inside(file, _inside(file, [track], b"edts"), b"elst"):
            content = _at(file, start, min(end - start, 20 * LONGEST_WALK))
            form = ">Qq4x" if content[:1] == b"\x01" else ">Ii4x"
            edits = content[8:]
            whole = edits[: len(edits) // struct.calcsize(form) * struct.calcsize(form)]
            shown = [length for length, begins in struct.iter_unpack(form, whole) if begins >= 0]
            return sum(shown) / scale if scale else None
    return None


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


# -- Matroska and WebM -------------------------------------------------------------------------------


def _segment_end(file: BinaryIO) -> int:
    """Where the segment ends by its own word; 0 where it does not say, as in a film that was sent while it was made."""
    for _ in range(LONGEST_WALK):
        kind, length = _number(file, marked=True), _number(file, marked=False)
        if kind is None or length is None:
            return 0
        if kind == SEGMENT:
            return file.tell() + length
        file.seek(length, 1)
    return 0


def _number(file: BinaryIO, *, marked: bool) -> int | None:
    """A variable-length number, with its mark for an identifier; None where all its bits are set, and at the end."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(extra), "big")
    if marked:
        return value
    value &= (1 << (7 * (extra + 1))) - 1
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
