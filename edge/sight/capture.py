"""Frames from a camera, a stream, a video file or a folder of pictures: the newest wins, the rest is counted.

A reader takes frames as they come, in a worker of its own, and keeps exactly one. When the next one arrives before the
pipeline asked, the waiting one is overwritten and counted as dropped: the van looks at the street as it
is, not as it was. Decoded pixels lie behind custody handles, one at a time, never in a queue.

A live source is lost when no frame has come for ``stall_s``, whatever the reader does meanwhile: it may hang in a
driver. It is back with its first frame, not when it opens, and the waits between attempts grow until a frame comes. A
live source never ends by itself.

A live picture in which nobody could be matched (:mod:`edge.sight.faults`: frozen, black, covered, blinded) is named and
held back until it is over; what makes it worse is named. So is a picture of another size than before.

Files are played at their own speed (``pace = "live"``), as a camera would deliver them, or frame by
frame without drops (``pace = "every-frame"``) for tests and measurements. A film is turned as its container says, and
what of a film or a folder could not be read is counted and said at the end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_S, Clock
from edge.config import CameraSection, hide_password
from edge.custody.erase import Kind
from edge.custody.retention import Custodian
from edge.errors import CameraUnavailable, EdgeError, VideoUnreadable
from edge.records import Frame
from edge.sight.faults import Fault, PictureWatch
from edge.sight.source import Source, SourceKind, owned, source_kind
from edge.worker import Supervisor, Worker

__all__ = ["Capture", "CaptureCounts"]

SILENT_S = 90.0
"""A reader that hangs for so long is given up with the whole service: no driver waits as long (V4L2: 10 s a frame)."""
STOP_S = 8.0
"""How long a reader may take to come back from a driver when it is asked to stop."""
START_S = 30.0
"""A source that takes longer to open at the start hangs in its driver."""
FIRST_WAIT_S = 0.5
"""First wait before a lost source is opened again; doubles up to ``reconnect_s``."""


@dataclass(frozen=True, slots=True)
class CaptureCounts:
    """Frames since the start.

    Attributes:
        delivered: frames that the source gave.
        dropped: frames that were overwritten before the pipeline asked, or in which nobody could be matched.
        unreadable: pictures, packets or frames of a film that could not be decoded.
        reconnects: how often a lost source came back.
    """

    delivered: int
    dropped: int
    unreadable: int
    reconnects: int


class Capture:
    """Delivers frames, one at a time, as custody handles.

    Args:
        settings: source and pace.
        custodian: gives out the handles.
        clock: stamps the frames.
        turn: degrees to the right by which every picture is turned.
        on_event: told of ``delivers`` with the first frame, of ``lost``, and of ``back`` with the first frame after it;
            of pictures that are ``unusable`` or ``poor``, and ``clear`` when they are neither any more; of a camera
            that gives ``less`` than was asked for, or than before, and ``as-asked`` when it does not any more.

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
        turn: int = 0,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._source_name = settings.source if source is None else source
        self._kind = source_kind(self._source_name)
        self._turn = turn
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
        self._source: Source | None = None
        self._tried = threading.Event()
        self._refused: EdgeError | None = None
        self._last_frame_ns = 0
        self._lost = False
        self._watch = PictureWatch()
        self._fault: Fault | None = None
        self._size: tuple[int, int] | None = None
        self._less = ""

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

    @property
    def shortfall(self) -> str:
        """What the camera gives in place of what was asked for, or of what it gave before; empty where it does not."""
        return self._less

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

    def _opened(self) -> Source:
        return Source(self._source_name, self._kind, self._settings, self._turn)

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

    def _judge(self, source: Source, worker: Worker) -> None:
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

    def _reopen(self, worker: Worker, attempts: int) -> tuple[Source | None, int]:
        """Open a lost source again; waits grow from attempt to attempt until a frame comes."""
        while not worker.wait(min(self._settings.reconnect_s, FIRST_WAIT_S * 2 ** min(attempts, 16))):
            attempts += 1
            with contextlib.suppress(CameraUnavailable, VideoUnreadable, cv2.error):
                opened = self._opened()
                self._watch = PictureWatch()  # what it showed before says nothing of what it shows now
                return opened, attempts
        return None, attempts

    def _usable(self, source: Source, image: NDArray[np.uint8], now: float) -> bool:
        """Whether anybody could be matched in a picture; what is wrong with it is said when that changes."""
        if not self.is_live:
            return True
        fault = self._watch.look(image, now)
        if fault is not self._fault:
            self._fault = fault
            if fault is None:
                self._event("clear", f"{self._name} shows a good picture again")
            else:
                self._event("unusable" if fault.blocks else "poor", f"{self._name} {fault.words}")
        less = source.shortfall
        size = (image.shape[1], image.shape[0])
        if self._size is None or size[0] * size[1] > self._size[0] * self._size[1]:
            self._size = size
        if size != self._size:
            less = "gives {}x{} now, and {}x{} before".format(*size, *self._size)
        if less != self._less:
            self._less = less
            said = f"{self._name} {less}. The engineer can set its size and rate." if less else ""
            self._event("less" if less else "as-asked", said or f"{self._name} gives what was asked for")
        return fault is None or not fault.blocks

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

    def _read_until_end(self, source: Source, worker: Worker) -> None:
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
                if not self._usable(source, image, now):
                    image.fill(0)
                    self._dropped += 1
                    continue
                if not every and now < next_kept - shortest / 4:
                    image.fill(0)
                    self._dropped += 1
                    continue
            next_kept = max(next_kept, now - shortest) + shortest
            self._offer(image, worker, wait=every)

    def _offer(self, image: NDArray[np.uint8], worker: Worker, *, wait: bool) -> None:
        """Put a frame where the pipeline finds it, in place of the one that waits."""
        pixels = owned(image)
        with self._condition:
            while wait and self._waiting is not None and not worker.stopping:
                self._condition.wait(0.5)
                worker.beat()
            if worker.stopping:  # nobody takes it any more, and what is held has been erased, or is about to be
                pixels.fill(0)
                return
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
        if self._on_event is not None and not (self._worker is not None and self._worker.stopping):
            self._on_event(what, why)
