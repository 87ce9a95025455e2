"""Pictures in which nobody could be matched: named in five seconds, over without a hand, never a night or a crowd."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.clock import SystemClock
from edge.custody.retention import Custodian
from edge.sight.faults import Fault, PictureWatch
from tests.faces import ROOT, needs_faces
from tests.sim.rtsp import SIZE, RtspCamera, street
from tests.test_capture import Watcher

Picture = NDArray[np.uint8]
LONGEST_S = 5.0
FPS = 10


@pytest.fixture
def custodian() -> Iterator[Custodian]:
    keeper = Custodian(SystemClock())
    yield keeper
    assert keeper.totals().live == 0, "capture left a frame behind"


def plain(level: int, number: int = 0) -> Picture:
    noise = np.random.default_rng(number).normal(0, 2, (SIZE[1], SIZE[0], 3))
    return np.asarray(np.clip(level + noise, 0, 255), np.uint8)


def a_hand(number: int) -> Picture:
    """Something right before the lens, through which some light falls: dim, uneven, without an edge."""
    uneven = np.linspace(30, 110, SIZE[0])[None, :, None] * np.ones((SIZE[1], 1, 3))
    return np.asarray(np.clip(uneven + np.random.default_rng(number).normal(0, 2, uneven.shape), 0, 255), np.uint8)


def towards_the_sun(number: int) -> Picture:
    picture = street(number)
    picture[:, : SIZE[0] * 3 // 4] = 255
    return picture


def blurred(number: int) -> Picture:
    large = cv2.resize(street(number), (640, 480), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(large, (0, 0), 8), np.uint8)


FAULTS: dict[Fault, Callable[[int], Picture]] = {
    Fault.FROZEN: lambda _: street(0),
    Fault.BLACK: lambda number: plain(6, number),
    Fault.COVERED: a_hand,
    Fault.BLINDED: lambda number: plain(253, number),
    Fault.GLARE: towards_the_sun,
    Fault.BLURRED: blurred,
}


def named(watch: PictureWatch, pictures: Callable[[int], Picture], begin: float, seconds: float) -> list[Fault | None]:
    """What is named after each picture."""
    return [watch.look(pictures(n), begin + n / FPS) for n in range(round(seconds * FPS))]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_in_time_and_is_over_within_a_second_and_a_half(fault: Fault) -> None:
    watch = PictureWatch()
    assert set(named(watch, street, 0.0, 6)) == {None}
    said = named(watch, FAULTS[fault], 10.0, LONGEST_S)
    assert said[0] is None, "a moment is no fault"
    assert said[-1] is fault
    assert set(said) == {None, fault}
    assert set(named(watch, street, 20.0, 4)[round(1.5 * FPS) :]) == {None}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_second_and_a_half_is_not_named(fault: Fault) -> None:
    watch = PictureWatch()
    for begin in (0.0, 10.0, 20.0):
        assert set(named(watch, FAULTS[fault], begin, 1.5)) == {None}
        assert set(named(watch, street, begin + 1.5, 4)) == {None}


def test_a_frozen_picture_is_over_with_the_first_that_differs() -> None:
    watch = PictureWatch()
    assert named(watch, FAULTS[Fault.FROZEN], 0.0, 5)[-1] is Fault.FROZEN
    assert watch.look(street(1), 5.0) is None


def test_at_dusk_a_picture_at_the_limit_of_black_does_not_come_and_go() -> None:
    def dusk(level: int) -> Callable[[int], Picture]:
        return lambda n: np.asarray(street(n) * (level / 255), np.uint8)

    watch = PictureWatch()
    assert named(watch, dusk(26), 0.0, 4)[-1] is Fault.BLACK
    for begin in (4.0, 8.0, 12.0):
        assert set(named(watch, dusk(34), begin, 2)) == {Fault.BLACK}
        assert set(named(watch, dusk(26), begin + 2, 2)) == {Fault.BLACK}
    assert named(watch, dusk(60), 16.0, 2)[-1] is None
    assert set(named(watch, dusk(34), 18.0, 4)) == {None}


def test_one_fault_after_another_is_named_anew() -> None:
    watch = PictureWatch()
    named(watch, FAULTS[Fault.BLACK], 0.0, 4)
    assert named(watch, FAULTS[Fault.BLINDED], 4.0, 4)[-1] is Fault.BLINDED


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("light", [1.0, 0.2], ids=["day", "night"])
@pytest.mark.parametrize("codec", ["MJPG", "mp4v"])
def test_a_quiet_street_with_no_more_than_a_sensors_noise_is_not_frozen(
    codec: str, light: float, sigma: float, tmp_path
) -> None:
    path = tmp_path / ("street.avi" if codec == "MJPG" else "street.mp4")
    still = cv2.resize(street(0), (640, 480), interpolation=cv2.INTER_NEAREST).astype(np.float64) * light
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, (640, 480))
    rng = np.random.default_rng(5)
    for _ in range(7 * FPS):
        writer.write(np.clip(still + rng.normal(0, sigma, still.shape), 0, 255).astype(np.uint8))
    writer.release()
    watch, film, count = PictureWatch(), cv2.VideoCapture(str(path)), itertools.count()
    said = set()
    while (got := film.read())[0]:
        said.add(watch.look(np.asarray(got[1], np.uint8), next(count) / FPS))
    assert next(count) == 7 * FPS
    assert said == {None}


@needs_faces
def test_no_photograph_and_no_film_of_people_is_a_fault_also_in_a_fifth_of_the_light() -> None:
    rng = np.random.default_rng(1)
    for path in sorted((ROOT / "wider/images").iterdir()):
        picture = np.asarray(cv2.imread(str(path)), np.uint8)
        dark = np.clip(picture * 0.2 + rng.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)
        for shown in (picture, dark):
            watch = PictureWatch()
            assert [watch.look(np.roll(shown, n, axis=1), n / 2) for n in range(6)] == [None] * 6, path.name
    films = sorted((ROOT / "video").glob("*/*"))
    assert len(films) >= 20
    for path in films:
        film, watch = cv2.VideoCapture(str(path)), PictureWatch()
        rate, count = film.get(cv2.CAP_PROP_FPS) or 25.0, 0
        while (got := film.read())[0]:
            assert watch.look(np.asarray(got[1], np.uint8), count / rate) is None, path.name
            count += 1
        assert count


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 2), (7, 640), (16, 16), (91, 161)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_any_shape_is_judged_and_ends_nothing(shape: tuple[int, int], level: int) -> None:
    watch = PictureWatch()
    for n in range(3):
        watch.look(np.full((*shape, 3), max(0, level - n), np.uint8), n / 2)


# -- a real network camera -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_cameras_bad_picture_is_named_within_five_seconds_and_recovers_without_a_hand(
    fault: Fault, custodian: Custodian
) -> None:
    what = "unusable" if fault.blocks else "poor"
    with RtspCamera() as camera, Watcher(camera.address, custodian, stall_s=5) as watcher:
        watcher.until(lambda: watcher.frames >= 5)
        camera.shows([FAULTS[fault](n) for n in range(5)])
        since = time.monotonic()
        watcher.until(lambda: what in watcher.told)
        assert watcher.events[-1][1] - since <= LONGEST_S
        assert watcher.said[-1] == f"{watcher.capture.name} {fault.words}"
        frames, dropped = watcher.frames, watcher.capture.counts().dropped
        quiet = time.monotonic() + 1.0
        watcher.until(lambda: time.monotonic() > quiet)
        if fault.blocks:
            assert watcher.frames <= frames + 1, "nobody is matched in it"
            assert watcher.capture.counts().dropped > dropped
        else:
            assert watcher.frames > frames + 3, "it is watched all the same"
        camera.shows()
        frames = watcher.frames
        watcher.until(lambda: "clear" in watcher.told and watcher.frames > frames, timeout=LONGEST_S)
        assert "lost" not in watcher.told


def test_a_network_camera_that_sends_a_smaller_picture_is_named_and_so_is_its_return(custodian: Custodian) -> None:
    with RtspCamera() as camera, Watcher(camera.address, custodian, stall_s=5, reconnect_s=1) as watcher:
        watcher.until(lambda: watcher.frames >= 5)
        camera.shows([street(n, (160, 128)) for n in range(5)])
        camera.hang_up()
        watcher.until(lambda: "less" in watcher.told, timeout=LONGEST_S)
        assert "gives 160x128 now, and 320x240 before" in watcher.said[-1]
        assert watcher.capture.shortfall
        camera.shows()
        camera.hang_up()
        watcher.until(lambda: "as-asked" in watcher.told, timeout=LONGEST_S)
        assert not watcher.capture.shortfall


@pytest.mark.parametrize("size", [(240, 426), (3840, 2160)], ids=["portrait", "4K"])
def test_a_portrait_and_a_4k_picture_are_watched_as_they_are(size: tuple[int, int], custodian: Custodian) -> None:
    size = (size[0] // 16 * 16, size[1] // 16 * 16)
    with RtspCamera() as camera:
        camera.shows([street(n, size) for n in range(2)])
        with Watcher(camera.address, custodian, stall_s=10) as watcher:
            watcher.until(lambda: watcher.frames >= 2)
            assert watcher.capture._size == size
            assert watcher.told == ["delivers"]
