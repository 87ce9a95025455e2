"""Frames from real files: in order, at their pace, and with a plain reason when there are none."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import pytest

from edge.clock import SystemClock
from edge.config import CameraSection, hide_password
from edge.custody.retention import Custodian
from edge.errors import CameraUnavailable, VideoUnreadable
from edge.sight.capture import Capture
from edge.sight.source import SourceKind, source_kind
from edge.worker import Supervisor
from tests.sim.rtsp import RtspCamera


@pytest.fixture
def custodian() -> Iterator[Custodian]:
    keeper = Custodian(SystemClock())
    yield keeper
    assert keeper.totals().live == 0, "capture left a frame behind"


def a_video(path: Path, frames: int = 20, fps: float = 50.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    for n in range(frames):
        writer.write(np.full((48, 64, 3), min(10 * n, 255), np.uint8))
    writer.release()
    return path


def capture_of(source: Path | str, custodian: Custodian, pace: str = "every-frame") -> Capture:
    settings = CameraSection(source=str(source), pace=pace, max_fps=100)  # type: ignore[arg-type]
    return Capture(settings, custodian, SystemClock())


def grey_levels(capture: Capture) -> list[int]:
    levels = []
    capture.start(Supervisor())
    try:
        while not capture.ended:
            frame = capture.next(2.0)
            if frame is not None:
                levels.append(round(float(frame.pixels.array.mean())))
                frame.pixels.erase()
    finally:
        capture.stop()
    return levels


def test_every_frame_of_a_video_comes_in_order(tmp_path: Path, custodian: Custodian) -> None:
    levels = grey_levels(capture_of(a_video(tmp_path / "v.avi"), custodian))
    assert len(levels) == 20
    assert levels == sorted(levels)


def test_a_slow_pipeline_sees_the_newest_frame_and_the_overtaken_ones_are_counted(
    tmp_path: Path, custodian: Custodian
) -> None:
    capture = capture_of(a_video(tmp_path / "v.avi"), custodian, pace="live")
    capture.start(Supervisor())
    while not capture._ended:  # nobody asks until the whole video has been played
        with capture._condition:
            capture._condition.wait(0.05)
    last = capture.next(1.0)
    assert last is not None
    assert float(last.pixels.array.mean()) > 180
    last.pixels.erase()
    capture.stop()
    assert capture.counts().dropped == 19


def test_a_folder_of_pictures_is_played_in_the_order_of_its_names(tmp_path: Path, custodian: Custodian) -> None:
    for n in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((8, 8, 3), 50 * n, np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    assert grey_levels(capture_of(tmp_path, custodian)) == [0, 50, 100]


def test_an_unreadable_picture_in_a_folder_is_counted_and_passed_over(tmp_path: Path, custodian: Custodian) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((8, 8, 3), 50, np.uint8))
    (tmp_path / "0.jpg").write_text("this is text")
    capture = capture_of(tmp_path, custodian)
    assert grey_levels(capture) == [50]
    assert capture.counts().unreadable == 1


def test_stopping_early_leaves_no_frame(tmp_path: Path, custodian: Custodian) -> None:
    capture = capture_of(a_video(tmp_path / "v.avi"), custodian)
    capture.start(Supervisor())
    frame = capture.next(2.0)
    assert frame is not None
    frame.pixels.erase()
    capture.stop()


def test_a_video_cut_off_in_the_middle_plays_what_is_there(tmp_path: Path, custodian: Custodian) -> None:
    whole = a_video(tmp_path / "v.avi", frames=40).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 2 // 3])
    levels = grey_levels(capture_of(tmp_path / "cut.avi", custodian))
    assert 5 < len(levels) < 40


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("none.avi", None, VideoUnreadable, "no such file"),
        ("empty.avi", b"", VideoUnreadable, "empty"),
        ("text.mp4", b"this is text\n" * 50, VideoUnreadable, "not a video"),
        ("/dev/video77", None, CameraUnavailable, "no such camera"),
        ("rtsp://127.0.0.1:9/street", None, CameraUnavailable, "does not answer"),
    ],
)
def test_a_source_that_cannot_be_opened_says_so(
    tmp_path: Path, custodian: Custodian, name: str, content: bytes | None, error: type[Exception], words: str
) -> None:
    source = name if "/" in name else str(tmp_path / name)
    if content is not None:
        Path(source).write_bytes(content)
    with pytest.raises(error, match=words):
        capture_of(source, custodian).start(Supervisor())


def test_a_camera_whose_driver_hangs_while_it_opens_is_an_error_and_holds_up_nobody(
    custodian: Custodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.sight.capture.START_S", 0.3)
    pipe = Path(f"/dev/shm/lfr-hangs-{os.getpid()}")  # a device that lets nobody past open()
    os.mkfifo(pipe)
    try:
        supervisor = Supervisor()
        with pytest.raises(CameraUnavailable, match="its driver hangs"):
            capture_of(str(pipe), custodian).start(supervisor)
        (hangs,) = supervisor.workers
        deadline = time.monotonic() + 20
        while not hangs.stop(0.02) and time.monotonic() < deadline:  # each of the readers that are tried
            with contextlib.suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        assert not hangs.alive
        assert supervisor.failure is None
    finally:
        pipe.unlink()


def test_a_picture_that_a_hanging_driver_gives_out_after_the_end_is_not_held(
    custodian: Custodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, let_go = threading.Event(), threading.Event()
    picture = np.full((60, 80, 3), 130, np.uint8)

    class Camera:
        def read(self) -> tuple[bool, Any]:
            asked.set()
            let_go.wait(20)
            return True, picture

        def release(self) -> None:
            pass

        def get(self, _: int) -> float:
            return 25.0

    monkeypatch.setattr("edge.sight.source.Source._open", lambda *_: Camera())
    monkeypatch.setattr("edge.sight.capture.STOP_S", 0.1)
    settings = CameraSection(source="/dev/video0", stall_s=60)
    capture = Capture(settings, custodian, SystemClock())
    capture.start(supervisor := Supervisor())
    (reader,) = supervisor.workers
    assert asked.wait(5)
    capture.stop()
    let_go.set()
    assert reader.stop(5)
    assert custodian.totals().live == 0
    assert not picture.any(), "its pixels are gone"


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 1), (60, 80, 4)])
@pytest.mark.parametrize("deep", [np.uint8, np.uint16])
def test_a_camera_without_colour_or_with_one_channel_more_is_watched_like_any_other(
    custodian: Custodian, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], deep: type[Any]
) -> None:
    class Camera:
        def read(self) -> tuple[bool, Any]:
            return True, np.full(shape, 130 if deep is np.uint8 else 130 * 256 + 7, deep)

        def release(self) -> None:
            pass

        def get(self, _: int) -> float:
            return 25.0

    monkeypatch.setattr("edge.sight.source.Source._open", lambda *_: Camera())
    capture = capture_of("/dev/video0", custodian)
    capture.start(supervisor := Supervisor())
    frame = capture.next(5)
    capture.stop()
    assert supervisor.failure is None
    assert frame is not None
    with frame.pixels as handle:
        assert handle.array.shape == (60, 80, 3)
        assert handle.array.dtype == np.uint8
        assert (handle.array == 130).all()


def test_a_video_header_without_a_frame_is_an_error_and_no_quiet_end(tmp_path: Path, custodian: Custodian) -> None:
    whole = a_video(tmp_path / "v.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[:600])
    capture = capture_of(tmp_path / "cut.avi", custodian)
    with pytest.raises(VideoUnreadable, match=r"cut off|no frame"):
        raise capture.error if grey_levels(capture) == [] and capture.error else AssertionError


def test_an_empty_folder_is_refused(tmp_path: Path, custodian: Custodian) -> None:
    with pytest.raises(VideoUnreadable, match="without a picture"):
        capture_of(tmp_path, custodian).start(Supervisor())


@pytest.mark.parametrize(
    ("source", "kind"),
    [("rtsp://a/b", SourceKind.STREAM), ("/dev/video0", SourceKind.DEVICE), ("1", SourceKind.DEVICE)],
)
def test_sources_are_told_apart_by_name(source: str, kind: SourceKind) -> None:
    assert source_kind(source) is kind


STALL_S = 0.5


class Watcher:
    """A live camera's frames, and what is told of it, as the service sees them."""

    def __init__(self, source: str, custodian: Custodian, **settings: float) -> None:
        self.events: list[tuple[str, float]] = []
        self.said: list[str] = []
        self.frames = 0
        settings = {"stall_s": STALL_S, "reconnect_s": 4, "max_fps": 50, **settings}
        self.capture = Capture(
            CameraSection(source=source, **settings),  # type: ignore[arg-type]
            custodian,
            SystemClock(),
            on_event=self._told,
        )
        self.workers = Supervisor()

    def _told(self, what: str, why: str) -> None:
        self.events.append((what, time.monotonic()))
        self.said.append(why)

    def until(self, done: Callable[[], bool], timeout: float = 20.0) -> float:
        """Take frames and look after the camera until ``done``; returns when that was."""
        deadline = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < deadline, f"it never came about; {self.events}"
            frame = self.capture.next(0.02)
            self.capture.watch()
            if frame is not None:
                self.frames += 1
                frame.pixels.erase()
        return time.monotonic()

    @property
    def told(self) -> list[str]:
        return [what for what, _ in self.events]

    def __enter__(self) -> Self:
        self.capture.start(self.workers)
        return self

    def __exit__(self, *_: object) -> None:
        self.capture.stop()
        assert self.workers.failure is None, self.workers.failure


def test_a_camera_that_falls_silent_is_lost_after_its_time_and_back_with_its_first_picture(
    custodian: Custodian,
) -> None:
    with RtspCamera() as camera, Watcher(camera.address, custodian) as watcher:
        watcher.until(lambda: watcher.frames >= 5)
        assert watcher.told == ["delivers"]
        camera.mute()
        muted = time.monotonic()
        watcher.until(lambda: "lost" in watcher.told)
        after = watcher.events[-1][1] - muted
        assert STALL_S * 0.9 <= after <= STALL_S + 0.4, "lost after its time, not after twice its time"
        # It opens again and again meanwhile, and gives nothing: that is not back.
        quiet = time.monotonic() + 3 * STALL_S
        watcher.until(lambda: time.monotonic() > quiet)
        assert watcher.told == ["delivers", "lost"]
        frames = watcher.frames
        camera.speak()
        watcher.until(lambda: watcher.frames > frames)
        assert watcher.told == ["delivers", "lost", "back"]
        assert watcher.capture.counts().reconnects == 1


def test_a_camera_that_hangs_up_for_a_moment_is_opened_again_and_was_never_lost(custodian: Custodian) -> None:
    with RtspCamera() as camera, Watcher(camera.address, custodian, stall_s=5) as watcher:
        watcher.until(lambda: watcher.frames >= 3)
        for _ in range(2):
            frames = watcher.frames
            camera.hang_up()
            watcher.until(lambda: watcher.frames > frames + 2)  # noqa: B023
        assert watcher.told == ["delivers"]


def test_a_camera_that_opens_and_gives_nothing_is_lost_once_and_never_back(custodian: Custodian) -> None:
    with RtspCamera() as camera:
        camera.mute()
        with contextlib.suppress(CameraUnavailable), Watcher(camera.address, custodian) as watcher:
            watcher.until(lambda: "lost" in watcher.told)
            quiet = time.monotonic() + 4 * STALL_S
            watcher.until(lambda: time.monotonic() > quiet)
            assert watcher.told == ["lost"]
            assert watcher.frames == 0


def test_waits_between_attempts_grow_until_a_picture_comes(
    custodian: Custodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.sight.capture.FIRST_WAIT_S", 0.1)
    attempts: list[float] = []
    with RtspCamera() as camera, Watcher(camera.address, custodian) as watcher:
        watcher.until(lambda: watcher.frames >= 2)
        opened = watcher.capture._opened

        def counted() -> object:
            attempts.append(time.monotonic())
            return opened()

        monkeypatch.setattr(watcher.capture, "_opened", counted)
        camera.gone()
        watcher.until(lambda: len(attempts) >= 5)
    waits = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]


@pytest.mark.parametrize("error", [cv2.error("broken packet"), None])
def test_a_decoder_that_fails_is_a_lost_frame_and_not_the_end(
    custodian: Custodian, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    with RtspCamera() as camera, Watcher(camera.address, custodian, stall_s=5) as watcher:
        watcher.until(lambda: watcher.frames >= 2)
        source = watcher.capture._source
        assert source is not None

        class Broken:
            def read(self) -> tuple[bool, None]:
                if error is not None:
                    raise error
                return False, None

            def release(self) -> None:
                pass

        monkeypatch.setattr(source, "_video", Broken())
        frames = watcher.frames
        watcher.until(lambda: watcher.frames > frames + 2)
        assert not watcher.capture.ended
        assert watcher.capture.counts().unreadable == int(error is not None)


def test_an_exception_that_nobody_expected_ends_the_reader_loudly_and_never_as_an_end_of_the_film(
    custodian: Custodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = threading.Event()
    with RtspCamera() as camera:
        watcher = Watcher(camera.address, custodian)
        watcher.workers = Supervisor(lambda _: died.set())
        watcher.capture.start(watcher.workers)
        watcher.until(lambda: watcher.frames >= 2)
        monkeypatch.setattr(watcher.capture, "_delivers", lambda: 1 / 0)
        assert died.wait(5)
        assert not watcher.capture.ended
        watcher.capture.stop()
    assert "camera" in str(watcher.workers.failure)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:pass@10.0.0.5:554/street", "rtsp://10.0.0.5:554/street"),
        ("rtsp://user:p%40ss@cam/street?token=abc#x", "rtsp://cam/street"),
        ("rtsp://user:pa/ss@cam/street", "rtsp://cam/street"),
        ("http://cam/street.mjpg?user=a&password=b", "http://cam/street.mjpg"),
        ("rtsp://cam/street", "rtsp://cam/street"),
        ("/dev/video0", "/dev/video0"),
        ("street@night.mp4", "street@night.mp4"),
    ],
)
def test_no_password_of_a_camera_is_shown(address: str, shown: str) -> None:
    assert hide_password(address) == shown


def test_a_camera_that_asks_for_a_password_gets_it_and_nobody_else_does(
    custodian: Custodian, capfd: pytest.CaptureFixture[str]
) -> None:
    with RtspCamera("crew:s3cret-word") as camera:
        with Watcher(camera.address, custodian) as watcher:
            watcher.until(lambda: watcher.frames >= 2)
            camera.mute()
            watcher.until(lambda: "lost" in watcher.told)
        wrong = camera.address.replace("s3cret-word", "0ther-word")
        with pytest.raises(CameraUnavailable) as refused:
            Capture(CameraSection(source=wrong, stall_s=1), custodian, SystemClock()).start(Supervisor())
    said = " ".join([*watcher.said, str(refused.value), *capfd.readouterr()])
    assert f"127.0.0.1:{camera.port}" in said
    assert "s3cret" not in said
    assert "0ther" not in said
    assert "crew" not in said
