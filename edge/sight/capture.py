"""Frames from a camera, a stream, a video file or a folder of pictures: the newest wins, the rest is counted.

A reader takes frames as they come, in a worker of its own, and keeps exactly one. When the next one arrives before the
pipeline asked, the waiting one is overwritten and counted as dropped: the van looks at the street as it
is, not as it was. Decoded pixels lie behind custody handles, one at a time, never in a queue.

A live source is lost when no frame has come for ``stall_s``, whatever the reader does meanwhile: it may hang in a
driver. It is back with its first frame, not when it opens, and the waits between attempts grow until a frame comes. A
live source never ends by itself.

Files are played at their own speed (``pace = "live"``), as a camera would deliver them, or frame by
frame without drops (``pace = "every-frame"``) for tests and measurements. A film is turned as its container says, and
what of a film or a folder could not be read is counted and said at the end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_S, Clock
from edge.config import CameraSection, hide_password
from edge.custody.erase import Kind
from edge.custody.retention import Custodian
from edge.errors import CameraUnavailable, EdgeError, ImageUnreadable, VideoUnreadable
from edge.records import Frame
from edge.sight.film import frames_missing
from edge.sight.picture import PICTURES, read_image
from edge.worker import Supervisor, Worker

__all__ = ["Capture", "CaptureCounts", "SourceKind", "source_kind"]

SILENT_S = 90.0
"""A reader that hangs for so long is given up with the whole service: no driver waits as long (V4L2: 10 s a frame)."""
STOP_S = 8.0
"""How long a reader may take to come back from a driver when it is asked to stop."""
OPEN_S = 10
"""A network camera may take seconds to say what it sends, however short its silences may be afterwards."""
START_S = 30.0
"""A source that takes longer to open at the start hangs in its driver."""
FIRST_WAIT_S = 0.5
"""First wait before a lost source is opened again; doubles up to ``reconnect_s``."""


class SourceKind(StrEnum):
    """What ``camera.source`` names."""

    FILE = "video file"
    FOLDER = "folder of pictures"
    DEVICE = "camera"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class CaptureCounts:
    """Frames since the start.

    Attributes:
        delivered: frames that the source gave.
        dropped: frames that were overwritten before the pipeline asked.
        unreadable: pictures, packets or frames of a film that could not be decoded.
        reconnects: how often a lost source came back.
    """

    delivered: int
    dropped: int
    unreadable: int
    reconnects: int


def source_kind(source: str) -> SourceKind:
    """Tell a camera from a stream, a folder and a file; by its name alone if nothing is there."""
    if "://" in source:
        return SourceKind.STREAM
    if source.isdigit() or source.startswith("/dev/"):
        return SourceKind.DEVICE
    return SourceKind.FOLDER if Path(source).is_dir() else SourceKind.FILE


class _Source:
    """One opened source."""

    def __init__(self, source: str, kind: SourceKind, settings: CameraSection) -> None:
        self.unreadable = 0
        self.first_unread = ""
        self._name = hide_password(source)
        self._film = Path(source) if kind is SourceKind.FILE else None
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
        video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
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
                return _in_colour(np.asarray(image))
            except cv2.error:
                self.unreadable += 1
                return None
        for path in self._pictures:
            try:
                return read_image(path)
            except ImageUnreadable as error:
                self.unreadable += 1
                self.first_unread = self.first_unread or f"{path.name} {error.cause}"
        return None

    def count_missing(self, alive: Callable[[], object]) -> None:
        """At a film's end: count the frames that the decoder passed over."""
        if self._film is not None and self._video is not None:
            missing = frames_missing(self._film, self._video, self._times_ms, alive=alive)
            self.unreadable = max(self.unreadable, missing)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            self._video = None


def _in_colour(image: NDArray[Any]) -> NDArray[np.uint8]:
    """H×W×3, BGR, 0 to 255. Thermal and night cameras deliver one channel, some of them 16 bits deep.

    Raises:
        cv2.error: it is no picture of one, three or four channels.
    """
    if image.dtype == np.uint16:
        wide, image = image, (image >> 8).astype(np.uint8)
        wide.fill(0)
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        return image
    one = image.ndim == 2 or image.shape[2] == 1
    turned = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if one else cv2.COLOR_BGRA2BGR)
    image.fill(0)
    return np.asarray(turned, np.uint8)


class Capture:
    """Delivers frames, one at a time, as custody handles.

    Args:
        settings: source and pace.
        custodian: gives out the handles.
        clock: stamps the frames.
        on_event: told of ``delivers`` with the first frame, of ``lost``, and of ``back`` with the first frame after it.

    Raises:
        VideoUnreadable, CameraUnavailable: at :meth:`start`, when the source cannot be opened at all.
    """

    def __init__(
        self,
        settings: CameraSection,
        custodian: Custodian,
        clock: Clock,
        *,
        source: str | None = None,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._source_name = settings.source if source is None else source
        self._kind = source_kind(self._source_name)
        self._custodian = custodian
        self._clock = clock
        self._on_event = on_event
        self._condition = threading.Condition()
        self._waiting: Frame | None = None
        self._ended = False
        self._error: CameraUnavailable | VideoUnreadable | None = None
        self._incomplete: VideoUnreadable | None = None
        self._delivered = 0
        self._dropped = 0
        self._unreadable = 0
        self._reconnects = 0
        self._name = hide_password(self._source_name)
        self._worker: Worker | None = None
        self._source: _Source | None = None
        self._tried = threading.Event()
        self._refused: EdgeError | None = None
        self._last_frame_ns = 0
        self._lost = False

    @property
    def is_live(self) -> bool:
        """Whether the source is a camera or a stream, which is opened again when it is lost."""
        return self._kind in {SourceKind.DEVICE, SourceKind.STREAM}

    def counts(self) -> CaptureCounts:
        with self._condition:
            return CaptureCounts(self._delivered, self._dropped, self._unreadable, self._reconnects)

    @property
    def name(self) -> str:
        """The source as people may see it: without a password."""
        return self._name

    def start(self, workers: Supervisor) -> None:
        """Open the source and begin to read.

        Raises:
            VideoUnreadable, CameraUnavailable: it cannot be opened, or its driver hangs.
            WorkerFailed: of an exception that nobody expected.
        """
        self._last_frame_ns = self._clock.monotonic_ns()
        self._worker = workers.start("camera", self._run, silent_s=max(SILENT_S, 4 * self._settings.stall_s))
        if not self._tried.wait(START_S):
            self._refused = CameraUnavailable(
                self._name,
                f"has not opened within {START_S:.0f} s: its driver hangs",
                "Pull its plug and put it in again, then start again; if it comes back, call the engineer",
            )
        if self._refused is not None:
            self._worker.ask_to_stop()
            raise self._refused
        if workers.failure is not None:
            raise workers.failure

    def _opened(self) -> _Source:
        return _Source(self._source_name, self._kind, self._settings)

    def watch(self) -> None:
        """Say that a live source is lost once no frame has come for ``stall_s``; called several times a second."""
        with self._condition:
            if not self.is_live or self._lost or self._worker is None or self._worker.stopping:
                return
            silent_s = (self._clock.monotonic_ns() - self._last_frame_ns) / NS_PER_S
            if silent_s < self._settings.stall_s:
                return
            self._lost = True
            self._event(
                "lost", f"{self._name} has delivered no picture for {silent_s:.0f} s. Check its cable and its power."
            )

    def stop(self) -> None:
        """Stop reading; the frame that waits is erased."""
        if self._worker is not None:
            self._worker.ask_to_stop()
        with self._condition:
            self._condition.notify_all()
        if self._worker is not None:
            self._worker.stop(STOP_S)
        with self._condition:
            if self._waiting is not None:
                self._waiting.pixels.erase()
                self._waiting = None

    def next(self, timeout: float) -> Frame | None:
        """Wait for the newest frame; None when none came within ``timeout`` seconds or the source ended.

        The caller erases ``frame.pixels``.
        """
        with self._condition:
            if self._waiting is None and not self._ended:
                self._condition.wait(timeout)
            frame, self._waiting = self._waiting, None
            self._condition.notify_all()
            return frame

    @property
    def ended(self) -> bool:
        """Whether the source has no more frames and none waits."""
        with self._condition:
            return self._ended and self._waiting is None

    @property
    def error(self) -> CameraUnavailable | VideoUnreadable | None:
        """Why the source ended, if not by its regular end."""
        return self._error

    @property
    def incomplete(self) -> VideoUnreadable | None:
        """What of a film or a folder that has ended could not be read; None when all of it was."""
        return self._incomplete

    # -- on the reader's thread ------------------------------------------------------------------

    def _run(self, worker: Worker) -> None:
        try:
            self._source = self._opened()
            self._last_frame_ns = self._clock.monotonic_ns()
        except (CameraUnavailable, VideoUnreadable) as error:
            self._refused = error
            worker.ask_to_stop()
            return
        finally:
            self._tried.set()
        try:
            attempts = 0
            while self._source is not None and not worker.stopping:
                delivered = self._delivered
                self._read_until_end(self._source, worker)
                if not self.is_live and not worker.stopping:
                    self._judge(self._source, worker)
                self._unreadable += self._source.unreadable
                self._source.close()
                self._source = None
                if not self.is_live:
                    break
                attempts = 0 if self._delivered > delivered else attempts
                self._source, attempts = self._reopen(worker, attempts)
        finally:
            if self._source is not None:
                self._source.close()
        if self._delivered == 0 and not worker.stopping:
            self._error = VideoUnreadable(
                self._name, "has no frame that can be decoded", "Check the file; convert it to MP4 (H.264)"
            )
        with self._condition:
            self._ended = True
            self._condition.notify_all()
        while not worker.wait(1.0):  # a file has ended: whoever asks for frames is told so, and ends this worker
            pass

    def _judge(self, source: _Source, worker: Worker) -> None:
        """At the end of a file or a folder: was it read whole?"""
        source.count_missing(worker.beat)
        missing = source.unreadable
        if not missing or not self._delivered:
            return
        if self._kind is SourceKind.FOLDER:
            total = self._delivered + missing
            cause = f"{missing} of its {total} pictures cannot be read; the first: {source.first_unread}"
            advice = "Copy these pictures again"
        else:
            cause = f"{missing} of its {self._delivered + missing} frames cannot be read: it is cut off or damaged"
            advice = "Copy the film again from where it was made; what can be read of it has been watched"
        self._incomplete = VideoUnreadable(self._name, cause, advice)

    def _reopen(self, worker: Worker, attempts: int) -> tuple[_Source | None, int]:
        """Open a lost source again; waits grow from attempt to attempt until a frame comes."""
        while not worker.wait(min(self._settings.reconnect_s, FIRST_WAIT_S * 2 ** min(attempts, 16))):
            attempts += 1
            with contextlib.suppress(CameraUnavailable, VideoUnreadable, cv2.error):
                return self._opened(), attempts
        return None, attempts

    def _delivers(self) -> None:
        """A frame has come."""
        self._last_frame_ns = self._clock.monotonic_ns()
        first, back = self._delivered == 0, self._lost
        self._delivered += 1
        self._lost = False
        if back:
            self._reconnects += 1
        if first or back:
            self._event("back" if back else "delivers", f"{self._name} delivers pictures{' again' if back else ''}")

    def _read_until_end(self, source: _Source, worker: Worker) -> None:
        every = self._settings.pace == "every-frame" and not self.is_live
        played = not self.is_live and not every
        shortest = 1.0 / self._settings.max_fps
        interval = 1.0 / source.fps if source.fps else shortest
        begun = time.monotonic()
        next_kept = begun
        count = 0
        while not worker.stopping:
            worker.beat()
            due = begun + count * interval
            if played and worker.wait(max(0.0, due - time.monotonic())):
                break
            asked = time.monotonic()
            image = source.read()
            now = time.monotonic()
            if image is None:
                break
            if self.is_live and now - asked >= self._settings.stall_s:
                image.fill(0)  # a decoder gives out what it had kept when it gives up waiting: nobody is there now
                break
            count += 1
            with self._condition:
                self._delivers()
                if not every and now < next_kept - shortest / 4:
                    image.fill(0)
                    self._dropped += 1
                    continue
            next_kept = max(next_kept, now - shortest) + shortest
            self._offer(image, worker, wait=every)

    def _offer(self, image: NDArray[np.uint8], worker: Worker, *, wait: bool) -> None:
        """Put a frame where the pipeline finds it, in place of the one that waits."""
        pixels = image
        if not (image.flags.owndata and image.flags.c_contiguous and image.flags.writeable):
            pixels = image.copy()
            if image.flags.writeable:
                image.fill(0)
        with self._condition:
            while wait and self._waiting is not None and not worker.stopping:
                self._condition.wait(0.5)
                worker.beat()
            if self._waiting is not None:
                self._waiting.pixels.erase()
                self._dropped += 1
            self._waiting = Frame(
                index=self._delivered - 1,
                captured_ns=self._clock.monotonic_ns(),
                captured_at=self._clock.now(),
                pixels=self._custodian.hold(Kind.FRAME, pixels),
            )
            self._condition.notify_all()

    def _event(self, what: str, why: str) -> None:
        if self._on_event is not None:
            self._on_event(what, why)
