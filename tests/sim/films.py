"""Films as people hand them in: lying on their side, trimmed, cut off, damaged. Made here, from nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (160, 120)
FPS = 25
CODECS = {"avi": "MJPG", "mp4": "mp4v", "mov": "mp4v", "mkv": "XVID", "webm": "VP80", "ts": "mp4v"}
"""A codec for each container that OpenCV's own FFmpeg can write."""


def film(path: Path, frames: int = 40, fps: float = FPS) -> Path:
    """A bright corner at the top left, and a pattern that moves, so that every frame costs bytes."""
    pattern = cv2.resize(np.random.default_rng(0).integers(0, 120, (12, 16, 3), np.uint8), SIZE)
    images = [np.roll(pattern, number * 5, 1) for number in range(frames)]
    for image in images:
        image[:30, :40] = 255
    return write(path, images, fps)


def write(path: Path, frames: Sequence[NDArray[np.uint8]], fps: float = FPS) -> Path:
    """A film of these frames."""
    height, width = frames[0].shape[:2]
    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix[1:]])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    """Every frame as it is stored."""
    video = cv2.VideoCapture(str(path))
    frames: list[NDArray[np.uint8]] = []
    while (read := video.read())[0]:
        frames.append(np.asarray(read[1], np.uint8))
    video.release()
    return frames


def corner(image: NDArray[np.uint8]) -> str:
    """Where the bright corner is."""
    rows, columns = image.shape[0] // 4, image.shape[1] // 4
    corners = {
        "top left": image[:rows, :columns],
        "top right": image[:rows, -columns:],
        "bottom left": image[-rows:, :columns],
        "bottom right": image[-rows:, -columns:],
    }
    return max(corners, key=lambda name: float(corners[name].mean()))


def turned(path: Path, degrees: int) -> Path:
    """Have an MP4's header say that the film is to be shown turned clockwise (ISO/IEC 14496-12, tkhd)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    width, height = (round(v / 65536) for v in struct.unpack(">II", data[at + 36 : at + 44]))
    a, b, c, d, x, y = {
        90: (0, 1, -1, 0, height, 0),
        180: (-1, 0, 0, -1, width, height),
        270: (0, -1, 1, 0, 0, width),
    }[degrees]
    one = 0x10000
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, x * one, y * one, 1 << 30)
    path.write_bytes(data)
    return path


def trimmed(path: Path, first: int, frames: int, fps: int = FPS) -> Path:
    """Have an MP4's edit list show only some frames, as a telephone does when somebody trims a film."""
    data = bytearray(path.read_bytes())
    scale = int.from_bytes(data[(at := data.index(b"mdhd") + 16) : at + 4], "big")
    movie = int.from_bytes(data[(at := data.index(b"mvhd") + 16) : at + 4], "big")
    at = data.index(b"elst") + 12
    data[at : at + 8] = struct.pack(">Ii", frames * movie // fps, first * scale // fps)
    path.write_bytes(data)
    return path


def index_first(path: Path) -> Path:
    """Move an MP4's index to its start, as for the web, so that a film that is cut off still opens."""
    data = path.read_bytes()
    boxes, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        boxes.append((data[at + 4 : at + 8], data[at : at + length]))
        at += length
    kept = dict(boxes)
    moov = bytearray(kept.pop(b"moov"))
    table = moov.index(b"stco") + 8
    for number in range(int.from_bytes(moov[table : table + 4], "big")):
        place = slice(table + 4 + 4 * number, table + 8 + 4 * number)
        moov[place] = (int.from_bytes(moov[place], "big") + len(moov)).to_bytes(4, "big")
    path.write_bytes(kept.pop(b"ftyp") + bytes(moov) + b"".join(kept.values()))
    return path


def cut_off(path: Path, share: float = 0.6) -> Path:
    """Only the first part of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def zeroed(path: Path, start: float = 0.5, share: float = 0.1) -> Path:
    """Part of the file overwritten with zeros, as a bad card gives it."""
    data = bytearray(path.read_bytes())
    begin, length = int(len(data) * start), int(len(data) * share)
    data[begin : begin + length] = bytes(length)
    path.write_bytes(data)
    return path
