"""A film that lies on its side or on its head is watched upright, whatever its header says; a camera as it is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import provisioning.demo
from edge.clock import SystemClock
from edge.config import CameraSection, ModelsSection
from edge.custody.retention import Custodian
from edge.errors import VideoUnreadable
from edge.records import Detections
from edge.sight.capture import Capture
from edge.sight.detect import Detector
from edge.sight.runtime import load
from edge.sight.source import Source, SourceKind
from edge.sight.upright import SAMPLES, upright_turn
from edge.worker import Supervisor
from tests.sim import films

PORTRAITS = Path(provisioning.demo.__file__).parent / "portraits"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(load(ModelsSection().detector, kind="detector"))


def somebody(name: str, quarters: int) -> NDArray[np.uint8]:
    """A portrait on a grey wall, turned to the left by so many quarters."""
    portrait = cv2.imread(str(PORTRAITS / f"{name}.jpg"))
    assert portrait is not None
    small = cv2.resize(portrait, (240, round(240 * portrait.shape[0] / portrait.shape[1])))
    wall = np.full((480, 640, 3), 120, np.uint8)
    wall[40 : 40 + min(small.shape[0], 400), 60:300] = small[:400]
    return np.ascontiguousarray(np.rot90(wall, quarters))


def film(path: Path, picture: NDArray[np.uint8]) -> Callable[[int], Iterator[NDArray[np.uint8]]]:
    films.write(path, [picture] * 6)

    def sampled(turn: int) -> Iterator[NDArray[np.uint8]]:
        source = Source(str(path), SourceKind.FILE, CameraSection(source=str(path)), turn)
        try:
            yield from source.sample(SAMPLES)
        finally:
            source.close()

    return sampled


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["obama2", "collins", "hopper"])
def test_a_film_is_turned_until_its_faces_stand_upright(
    tmp_path: Path, detector: Detector, name: str, quarters: int
) -> None:
    custodian = Custodian(SystemClock())
    sampled = film(tmp_path / "film.mp4", somebody(name, quarters))
    assert upright_turn(sampled, detector, custodian) == 90 * quarters
    assert custodian.totals().live == 0, "what was looked at is gone"
    assert custodian.totals().overdue == 0


def test_a_film_in_which_nobody_is_seen_stays_as_it_is(tmp_path: Path, detector: Detector) -> None:
    wall = np.random.default_rng(1).integers(90, 160, (240, 320, 3), np.uint8)
    assert upright_turn(film(tmp_path / "film.mp4", wall), detector, Custodian(SystemClock())) == 0


def test_a_film_that_stands_upright_is_looked_at_once(tmp_path: Path, detector: Detector) -> None:
    looked: list[int] = []

    class Counting:
        def detect(self, image: NDArray[np.uint8]) -> Detections:
            looked.append(1)
            return detector.detect(image)

    upright_turn(film(tmp_path / "film.mp4", somebody("obama2", 0)), Counting(), Custodian(SystemClock()))
    assert len(looked) == 1


def test_what_is_no_film_is_said_where_films_are_opened(tmp_path: Path, detector: Detector) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film at all")
    source = str(tmp_path / "film.mp4")
    with pytest.raises(VideoUnreadable):
        upright_turn(
            lambda turn: Source(source, SourceKind.FILE, CameraSection(source=source), turn).sample(SAMPLES),
            detector,
            Custodian(SystemClock()),
        )


@pytest.mark.parametrize(
    ("turn", "corner"), [(0, "top left"), (90, "top right"), (180, "bottom right"), (270, "bottom left")]
)
@pytest.mark.parametrize("folder", [False, True])
def test_every_picture_is_turned_as_it_is_configured(tmp_path: Path, turn: int, corner: str, folder: bool) -> None:
    source = films.film(tmp_path / "film.mp4", 3)
    if folder:
        (tmp_path / "pictures").mkdir()
        for number, frame in enumerate(films.frames_of(source)):
            cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), frame)
        source = tmp_path / "pictures"
    settings: Any = CameraSection(source=str(source), pace="every-frame", max_fps=100)
    capture = Capture(settings, Custodian(SystemClock()), SystemClock(), turn=turn)
    capture.start(Supervisor())
    frame = capture.next(5.0)
    assert frame is not None
    assert films.corner(frame.pixels.array) == corner
    frame.pixels.erase()
    capture.stop()
