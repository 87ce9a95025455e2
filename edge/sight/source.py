"""One opened camera, stream, video file or folder of pictures, which gives its frames one after the other.

It is asked for what it may be asked for, opened with limits of time where its driver has any, and read until it gives
nothing more. What it cannot decode is counted. :mod:`edge.sight.capture` opens it, and opens it again.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import CameraSection, hide_password
from edge.errors import CameraUnavailable, ImageUnreadable, VideoUnreadable
from edge.sight.film import frames_missing
from edge.sight.picture import PICTURES, read_image

__all__ = ["Source", "SourceKind", "owned", "source_kind"]

NEAR = 0.9
"""Share of the pictures a second that were asked for at which a camera gives what it should."""
OPEN_S = 10
"""A network camera may take seconds to say what it sends, however short its silences may be afterwards."""


class SourceKind(StrEnum):
    """What ``camera.source`` names."""

    FILE = "video file"
    FOLDER = "folder of pictures"
    DEVICE = "camera"
    STREAM = "stream"


def source_kind(source: str) -> SourceKind:
    """Tell a camera from a stream, a folder and a file; by its name alone if nothing is there."""
    if "://" in source:
        return SourceKind.STREAM
    if source.isdigit() or source.startswith("/dev/"):
        return SourceKind.DEVICE
    return SourceKind.FOLDER if Path(source).is_dir() else SourceKind.FILE


def owned(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same picture in memory of its own, as custody asks; what it was borrowed from is overwritten."""
    if image.flags.owndata and image.flags.c_contiguous and image.flags.writeable:
        return image
    copy = image.copy()
    if image.flags.writeable:
        image.fill(0)
    return copy


class Source:
    """One opened source.

    Args:
        source: what it is, by name.
        kind: of which kind that is.
        settings: how it is read.
        turn: degrees to the right by which every picture is turned, after what its own header says: a multiple of 90.
    """

    def __init__(self, source: str, kind: SourceKind, settings: CameraSection, turn: int = 0) -> None:
        self._quarters = turn // 90 % 4
        self.unreadable = 0
        self.first_unread = ""
        self._name = hide_password(source)
        self._film = Path(source) if kind is SourceKind.FILE else None
        self.shortfall = ""
        """What a camera gives in place of what was asked for, in words; empty where it gives that."""
        self._times_ms = array("d")
        self._video: cv2.VideoCapture | None = None
        self._pictures: Iterator[Path] = iter(())
        if kind is SourceKind.FOLDER:
            found = sorted(p for p in Path(source).iterdir() if p.suffix.lower() in PICTURES)
            if not found:
                raise VideoUnreadable(
                    source, "is a folder without a picture in it", "Give a folder of JPEG or PNG files"
                )
            self._pictures = iter(found)
            self.fps = 0.0
            return
        self._video = self._open(source, kind, settings)
        if kind is SourceKind.DEVICE:
            self.shortfall = _shortfall(self._video, settings)
        rate = float(self._video.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 1.0 <= rate <= 240.0 else 25.0

    def _open(self, source: str, kind: SourceKind, settings: CameraSection) -> cv2.VideoCapture:
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
        if kind is SourceKind.FILE:
            path = Path(source)
            if not path.is_file():
                raise VideoUnreadable(source, "there is no such file", "Check the path in camera.source")
            if path.stat().st_size == 0:
                raise VideoUnreadable(source, "is empty", "Copy the video again")
        if kind is SourceKind.DEVICE:
            video = self._open_device(source, settings)
        else:
            stall_ms = int(settings.stall_s * 1000)
            open_ms = max(stall_ms, OPEN_S * 1000)
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, stall_ms]
            video = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # a telephone's film lies on its side, and says so
        if not video.isOpened():
            video.release()
            if kind is SourceKind.FILE:
                raise VideoUnreadable(source, "is not a video, or is cut off", "Convert it to MP4 (H.264)")
            what = "does not open" if kind is SourceKind.DEVICE else "does not answer"
            raise CameraUnavailable(
                self._name, what, "Check its cable; if that does not help, the engineer checks its address and password"
            )
        return video

    @staticmethod
    def _open_device(source: str, settings: CameraSection) -> cv2.VideoCapture:
        if source.startswith("/dev/") and not Path(source).exists():
            raise CameraUnavailable(
                source,
                "there is no such camera",
                "Check its cable; the engineer can list the cameras with: ls /dev/video*",
            )
        number = source.removeprefix("/dev/video")
        video = cv2.VideoCapture(int(number), cv2.CAP_V4L2) if number.isdigit() else cv2.VideoCapture(source)
        # Asked for, not demanded: left alone, a camera sends a small uncompressed picture, or a large one too slowly.
        video.set(cv2.CAP_PROP_FOURCC, _code(settings))
        video.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        video.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
        video.set(cv2.CAP_PROP_FPS, settings.max_fps)
        video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return video

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame; None at the end, and where the decoder fails."""
        if self._video is not None:
            try:
                good, image = self._video.read()
                if not good or image is None:
                    return None
                if self._film is not None:
                    self._times_ms.append(self._video.get(cv2.CAP_PROP_POS_MSEC))
                return self._turned(_in_colour(np.asarray(image)))
            except cv2.error:
                self.unreadable += 1
                return None
        for path in self._pictures:
            try:
                return self._turned(read_image(path))
            except ImageUnreadable as error:
                self.unreadable += 1
                self.first_unread = self.first_unread or f"{path.name} {error.cause}"
        return None

    def _turned(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not self._quarters:
            return image
        turned = np.array(np.rot90(image, -self._quarters), order="C")
        image.fill(0)
        return turned

    def sample(self, shares: Sequence[float]) -> Iterator[NDArray[np.uint8]]:
        """Pictures at these shares of a film; fewer where some cannot be read. Read nothing else from it afterwards."""
        if self._film is None or self._video is None:
            return
        frames = self._video.get(cv2.CAP_PROP_FRAME_COUNT)
        for share in shares:
            self._video.set(cv2.CAP_PROP_POS_FRAMES, int(share * max(0.0, frames - 1)))
            image = self.read()
            if image is not None:
                yield owned(image)

    def count_missing(self, alive: Callable[[], object]) -> None:
        """At a film's end: count the frames that the decoder passed over."""
        if self._film is not None and self._video is not None:
            missing = frames_missing(self._film, self._video, self._times_ms, alive=alive)
            self.unreadable = max(self.unreadable, missing)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            self._video = None


def _code(settings: CameraSection) -> int:
    """The pixel format that is asked of a camera, as V4L2 numbers it."""
    return cv2.VideoWriter.fourcc(*("MJPG" if settings.pixel_format == "auto" else settings.pixel_format))


def _shortfall(video: cv2.VideoCapture, settings: CameraSection) -> str:
    """What an open camera gives in place of what was asked for: a smaller picture, fewer of them, another format."""
    width, height = (int(video.get(each)) for each in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    rate, code = float(video.get(cv2.CAP_PROP_FPS)), int(video.get(cv2.CAP_PROP_FOURCC))
    letters = "".join(chr(code >> shift & 0x7F) for shift in (0, 8, 16, 24)).strip() if code > 0 else ""
    named = letters if letters.isprintable() else ""
    smaller = 0 < width * height < settings.width * settings.height
    slower = 1.0 <= rate < settings.max_fps * NEAR
    other = settings.pixel_format != "auto" and bool(named) and named != settings.pixel_format
    if not (smaller or slower or other):
        return ""
    asked = f"{settings.width}x{settings.height} at {settings.max_fps:g} a second"
    if settings.pixel_format != "auto":
        asked += f" as {settings.pixel_format}"
    as_what = f" as {named}" if named else ""
    at_what = f" at {rate:g} a second" if rate >= 1.0 else ""
    return f"gives {width}x{height}{at_what}{as_what}, and {asked} was asked for"


def _in_colour(image: NDArray[Any]) -> NDArray[np.uint8]:
    """H×W×3, BGR, 0 to 255. Thermal and night cameras deliver one channel, some of them 16 bits deep.

    Raises:
        cv2.error: it is no picture of one, three or four channels.
    """
    if image.dtype == np.uint16:
        wide, image = image, np.empty(image.shape, np.uint8)
        np.right_shift(wide, 8, out=image, casting="unsafe")
        wide.fill(0)
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        return image
    one = image.ndim == 2 or image.shape[2] == 1
    try:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if one else cv2.COLOR_BGRA2BGR), np.uint8)
    finally:
        image.fill(0)
