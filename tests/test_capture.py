"""Frames from real files: in order, at their pace, and with a plain reason when there are none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.clock import SystemClock
from edge.config import CameraSection
from edge.custody.retention import Custodian
from edge.errors import CameraUnavailable, ImageUnreadable, VideoUnreadable
from edge.sight.capture import Capture, SourceKind, source_kind
from edge.sight.picture import read_image


@pytest.fixture
def custodian() -> Iterator[Custodian]:
    keeper = Custodian(SystemClock())
    yield keeper
    assert keeper.totals().live == 0, "capture left a frame behind"


def a_video(path: Path, frames: int = 20, fps: float = 50.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    for n in range(frames):
        writer.write(np.full((48, 64, 3), 10 * n, np.uint8))
    writer.release()
    return path


def capture_of(source: Path | str, custodian: Custodian, pace: str = "every-frame") -> Capture:
    settings = CameraSection(source=str(source), pace=pace, max_fps=100)  # type: ignore[arg-type]
    return Capture(settings, custodian, SystemClock())


def grey_levels(capture: Capture) -> list[int]:
    levels = []
    capture.start()
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
    capture.start()
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
    capture.start()
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
        ("text.mp4", b"this is text\n" * 50, VideoUnreadable, "no video"),
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
        capture_of(source, custodian).start()


def test_a_video_header_without_a_frame_is_an_error_and_no_quiet_end(tmp_path: Path, custodian: Custodian) -> None:
    whole = a_video(tmp_path / "v.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[:600])
    capture = capture_of(tmp_path / "cut.avi", custodian)
    with pytest.raises(VideoUnreadable, match=r"cut off|no frame"):
        raise capture.error if grey_levels(capture) == [] and capture.error else AssertionError


def test_an_empty_folder_is_refused(tmp_path: Path, custodian: Custodian) -> None:
    with pytest.raises(VideoUnreadable, match="without a picture"):
        capture_of(tmp_path, custodian).start()


@pytest.mark.parametrize(
    ("source", "kind"),
    [("rtsp://a/b", SourceKind.STREAM), ("/dev/video0", SourceKind.DEVICE), ("1", SourceKind.DEVICE)],
)
def test_sources_are_told_apart_by_name(source: str, kind: SourceKind) -> None:
    assert source_kind(source) is kind


class Camera(ThreadingHTTPServer):
    """A network camera on loopback: motion JPEG over HTTP, which hangs up after so many frames."""

    def __init__(self, frames: int) -> None:
        picture = cv2.imencode(".jpg", np.full((48, 64, 3), 120, np.uint8))[1].tobytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for _ in range(frames):
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/street.mjpg"


def test_a_lost_stream_is_opened_again_and_both_are_told(custodian: Custodian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.sight.capture.FIRST_WAIT_S", 0.01)
    events: list[str] = []
    frames = 0
    with closing_server(Camera(frames=30)) as camera:
        settings = CameraSection(source=camera.address, max_fps=120, stall_s=2, reconnect_s=0.2)
        capture = Capture(settings, custodian, SystemClock(), on_event=lambda what, _: events.append(what))
        capture.start()
        while events.count("back") < 2:
            frame = capture.next(5.0)
            assert frame is not None, f"no frame came; {events}"
            assert frame.pixels.array.shape == (48, 64, 3)
            frame.pixels.erase()
            frames += 1
        capture.stop()
    assert events[:4] == ["lost", "back", "lost", "back"]
    assert capture.counts().reconnects >= 2
    assert frames >= 2


@contextmanager
def closing_server(server: Camera) -> Iterator[Camera]:
    yield server
    server.shutdown()
    server.server_close()


# -- single pictures --------------------------------------------------------------------------------


def test_a_picture_is_turned_upright_by_its_exif(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :30] = 255
    good, data = cv2.imencode(".jpg", wide)
    assert good
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    body = data.tobytes()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(body[:2] + segment + body[2:])
    upright = read_image(tmp_path / "turned.jpg")
    assert upright.shape == (60, 20, 3)
    assert upright[:20].mean() > 200 > upright[-20:].mean()


def test_transparency_is_laid_on_grey(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[:2, :, 3] = 255
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    read = read_image(tmp_path / "a.png")
    assert read[0].max() == 0
    assert read[3].min() == 127


def test_a_grey_picture_gets_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "g.png"), np.full((4, 4), 9, np.uint8))
    assert read_image(tmp_path / "g.png").shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"this is text", "not a picture"), (None, "cannot be read")],
    ids=["empty", "text", "missing"],
)
def test_an_unreadable_picture_says_why(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageUnreadable, match=words):
        read_image(tmp_path / "x.jpg")


def test_a_jpeg_that_is_cut_off_is_refused_and_not_filled_with_grey(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageUnreadable, match="cut off"):
        read_image(tmp_path / "cut.jpg")
