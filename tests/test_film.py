"""Films as people hand them in are shown upright, and what cannot be read of them is counted and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.clock import SystemClock
from edge.config import CameraSection
from edge.custody.retention import Custodian
from edge.sight.capture import Capture
from edge.worker import Supervisor
from tests.sim import films

CONTAINERS = sorted(films.CODECS)


def watched(source: Path, pace: str = "every-frame") -> tuple[list[NDArray[np.uint8]], Capture]:
    settings = CameraSection(source=str(source), pace=pace, max_fps=100)  # type: ignore[arg-type]
    capture = Capture(settings, Custodian(SystemClock()), SystemClock())
    capture.start(Supervisor())
    frames = []
    while not capture.ended:
        frame = capture.next(2.0)
        if frame is not None:
            frames.append(frame.pixels.array.copy())
            frame.pixels.erase()
    capture.stop()
    return frames, capture


@pytest.mark.parametrize(
    ("degrees", "corner"), [(90, "top right"), (180, "bottom right"), (270, "bottom left")], ids=["90", "180", "270"]
)
def test_a_film_that_lies_on_its_side_is_turned_as_its_header_says(tmp_path: Path, degrees: int, corner: str) -> None:
    frames, _ = watched(films.turned(films.film(tmp_path / "film.mp4", 4), degrees))
    width, height = films.SIZE
    assert frames[0].shape[:2] == ((width, height) if degrees != 180 else (height, width))
    assert films.corner(frames[0]) == corner


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_whole_film_is_read_whole(tmp_path: Path, container: str) -> None:
    frames, capture = watched(films.film(tmp_path / f"film.{container}"))
    assert (len(frames), capture.counts().unreadable, capture.incomplete) == (40, 0, None)
    assert films.corner(frames[0]) == "top left"


@pytest.mark.parametrize(
    ("container", "break_it"),
    [
        ("avi", films.cut_off),
        ("mkv", films.cut_off),
        ("webm", films.cut_off),
        ("mp4", lambda path: films.cut_off(films.index_first(path))),
        ("mov", lambda path: films.cut_off(films.index_first(path))),
        ("avi", films.zeroed),
        ("mkv", films.zeroed),
        ("webm", films.zeroed),
        ("mp4", films.zeroed),
        ("mov", films.zeroed),
        ("ts", films.zeroed),
    ],
)
def test_a_film_that_is_cut_off_or_damaged_is_said_with_how_much_of_it_is_missing(
    tmp_path: Path, container: str, break_it: Callable[[Path], Path]
) -> None:
    frames, capture = watched(break_it(films.film(tmp_path / f"film.{container}")))
    assert 5 < len(frames) < 40
    assert capture.counts().unreadable == 40 - len(frames)
    assert f"{40 - len(frames)} of its 40 frames cannot be read: it is cut off or damaged" in str(capture.incomplete)


def test_a_damaged_film_that_is_played_at_its_own_speed_is_said_as_well(tmp_path: Path) -> None:
    _, capture = watched(films.zeroed(films.film(tmp_path / "film.mp4")), pace="live")
    assert capture.counts().unreadable > 0
    assert capture.incomplete is not None


def test_a_film_that_somebody_trimmed_on_the_telephone_is_whole(tmp_path: Path) -> None:
    frames, capture = watched(films.trimmed(films.film(tmp_path / "film.mp4"), first=10, frames=20))
    assert (len(frames), capture.counts().unreadable) == (20, 0)
    assert capture.incomplete is None


def test_a_film_that_is_stopped_by_hand_is_not_called_damaged(tmp_path: Path) -> None:
    settings = CameraSection(source=str(films.zeroed(films.film(tmp_path / "film.mp4"))), pace="every-frame")
    capture = Capture(settings, Custodian(SystemClock()), SystemClock())
    capture.start(Supervisor())
    frame = capture.next(5.0)
    assert frame is not None
    frame.pixels.erase()
    capture.stop()
    assert capture.incomplete is None


def test_a_folder_with_a_picture_that_cannot_be_read_names_the_first(tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), 50, np.uint8))
    (tmp_path / "2.png").write_bytes(b"")
    _, capture = watched(tmp_path)
    assert "1 of its 3 pictures cannot be read; the first: 2.png is empty" in str(capture.incomplete)
