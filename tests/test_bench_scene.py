"""The labelled street: the same seed gives the same street, and a run on it counts what is true of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.evaluate.networks import Networks, multiply_adds
from edge.evaluate.street import Street, StreetPlan, render
from edge.sight.runtime import Model, load
from tests.faces import ROOT as FACES
from tests.faces import needs_faces

LFW = FACES / "lfw" / "images"
PLAN = StreetPlan(seconds=4.0, fps=5.0, people_per_minute=60.0, listed=1, width=640, height=384, walk_s=2.0, blur=0.0)


def middle(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where these made-up pictures have their face."""
    height, width = picture.shape[:2]
    return np.array([width * 0.3, height * 0.3, width * 0.7, height * 0.7], np.float32)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people in plain colours; two of them have a second picture."""
    folder = tmp_path_factory.mktemp("album")
    for person in range(6):
        (folder / f"person {person}").mkdir()
        for picture in range(2 if person < 2 else 1):
            colour = np.full((100, 100, 3), 150 + 10 * person, np.uint8)
            cv2.imwrite(str(folder / f"person {person}" / f"{picture}.png"), colour)
    return folder


@pytest.fixture(scope="module")
def street(album: Path) -> Street:
    return render(album, PLAN, middle)


def test_the_same_seed_gives_the_same_street_and_another_seed_another(album: Path, street: Street) -> None:
    again, other = (render(album, replace(PLAN, seed=seed), middle) for seed in (2019, 4))
    assert again.passages == street.passages
    assert all((again.frame(n) == street.frame(n)).all() for n in range(street.frames))
    assert other.passages != street.passages


def test_a_label_stands_where_its_face_is(street: Street) -> None:
    looked = 0
    for passage in street.passages:
        for number, (x1, y1, x2, y2) in passage.boxes.items():
            alone = sum(number in other.boxes for other in street.passages) == 1
            x, y = round((x1 + x2) / 2), round((y1 + y2) / 2)
            if alone:
                face = street.frame(number)[y - 3 : y + 3, x - 3 : x + 3]
                assert face.std() == 0, "a plain colour, and no noise of the ground"
                looked += 1
    assert looked > 0


def test_everybody_is_another_person_and_only_somebody_with_two_pictures_is_on_the_list(street: Street) -> None:
    assert len({passage.person for passage in street.passages}) == len(street.passages) == 4
    (listed,) = (passage for passage in street.passages if passage.listed)
    assert listed.person in {"person 0", "person 1"}
    assert listed.enrolled is not None
    assert listed.enrolled.name == "0.png"
    assert all(passage.enrolled is None for passage in street.passages if not passage.listed)


def test_every_walk_is_whole(street: Street) -> None:
    assert {len(passage.boxes) for passage in street.passages} == {10}


@pytest.mark.parametrize("plan", [replace(PLAN, people_per_minute=200.0), replace(PLAN, listed=3)])
def test_too_few_people_are_said_with_how_many_are_needed(album: Path, plan: StreetPlan) -> None:
    with pytest.raises(BadInput, match="people that can be used"):
        render(album, plan, middle)


def test_multiply_adds_are_those_of_the_model_files() -> None:
    wide, small = (multiply_adds(load(f"centerface:{size}-int8")) for size in ("960x544", "640x384"))
    assert wide / small == pytest.approx(960 * 544 / (640 * 384), rel=0.01)


def test_each_kind_of_layer_costs_what_its_shapes_say() -> None:
    shapes = [[1, 8, 8, 4], [6, 3, 3, 4], [1, 8, 8, 6], [1, 3, 3, 4], [5, 2, 2, 4], [1, 16, 16, 5], [10, 256], [1, 10]]
    layers = [
        ("CONV_2D", [0, 1], 2),
        ("DEPTHWISE_CONV_2D", [0, 3], 0),
        ("TRANSPOSE_CONV", [7, 4, 0], 5),
        ("FULLY_CONNECTED", [0, 6], 7),
        ("ADD", [0, 0], 0),
    ]
    interpreter = SimpleNamespace(
        get_tensor_details=lambda: [{"index": at, "shape": shape} for at, shape in enumerate(shapes)],
        _get_ops_details=lambda: [{"op_name": n, "inputs": i, "outputs": [o]} for n, i, o in layers],
    )
    counted = multiply_adds(cast("Model", SimpleNamespace(_interpreter=interpreter)))
    convolution, depthwise, transposed, connected = (
        8 * 8 * 6 * 3 * 3 * 4,
        8 * 8 * 4 * 3 * 3,
        8 * 8 * 4 * 5 * 2 * 2,
        10 * 256,
    )
    assert counted == convolution + depthwise + transposed + connected


def test_runs_of_a_network_are_counted_only_while_they_are_watched() -> None:
    model, networks = load("mobilefacenet:dynamic-int8"), Networks()
    picture = np.zeros((112, 112, 3), np.uint8)
    model.run(picture)
    with networks.watched():
        model.run(picture)
        model.flush()
    model.run(picture)
    assert networks.runs == {"mobilefacenet:dynamic-int8": 2}
    assert networks.seconds > 0


@needs_faces
def test_on_a_street_of_real_faces_those_on_the_list_are_found_and_nobody_else() -> None:
    command = [str(Path(sys.executable).parent / "lfr-edge"), "bench", "--scene", "--faces", str(LFW)]
    options = ["--seconds", "5", "--fps", "5", "--people", "36", "--listed", "2", "--size", "100", "160", "--json"]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["frames"], report["people"], report["detected"]) == (25, 3, 3)
    assert (report["listed"], report["found"], report["false_alerts"], report["overdue"]) == (2, 2, 0, 0)
    assert report["network_runs"]["centerface:960x544-int8"] >= 25
    assert 0 < report["network_share"] < 1


def test_a_scene_without_faces_says_what_to_give() -> None:
    command = [str(Path(sys.executable).parent / "lfr-edge"), "bench", "--scene"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--faces" in done.stderr
