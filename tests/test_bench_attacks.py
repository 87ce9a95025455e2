"""What scripts/bench-attacks puts before the camera: each way changes what it says, no more, and runs repeat."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge.records import Candidate, Limits
from tests.faces import ROOT as FACES
from tests.faces import needs_faces

SCRIPTS = Path(__file__).parent.parent / "scripts"
FACE = 100.0


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPTS))
    loader = SourceFileLoader("bench_attacks_script", str(SCRIPTS / "bench-attacks"))
    spec = importlib.util.spec_from_loader("bench_attacks_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    module.scenes.street = cache(module.scenes.street)  # frames are copies of it
    yield module
    sys.path.remove(str(SCRIPTS))


@pytest.fixture
def scenes(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The renderer with a camera that has no noise, so that what it changes can be seen."""
    monkeypatch.setattr(bench.scenes, "NOISE", 0.0)
    return bench.scenes


def drawn(scenes: ModuleType, grey: int = 150) -> object:
    """No face: a flat square of 250 pixels, with landmarks where a face of 100 pixels of height would have them."""
    image = np.full((250, 250, 3), grey, np.uint8)
    return scenes.Shown(image, scenes.CANONICAL * 0.8 + np.float32([80, 80]), 100.0)


def render(bench: ModuleType, way: str, seed: int = 1, grey: int = 150) -> np.ndarray:
    scenes = bench.scenes
    _, made = bench.WAYS[way]
    bearer = drawn(scenes, 90)
    return made(scenes.street(0), drawn(scenes, grey), FACE, np.random.default_rng(seed), bearer)


def landmarks(scenes: ModuleType) -> np.ndarray:
    """Where the drawn picture's landmarks lie in the frame."""
    corner = np.array([scenes.WIDTH, scenes.HEIGHT]) / 2 - 125
    return np.rint(scenes.CANONICAL * 0.8 + np.float32([80, 80]) + corner).astype(int)


def changed(bench: ModuleType, way: str) -> np.ndarray:
    """Which pixels of the frame differ from the person without it, by more than a resize can do."""
    return np.abs(render(bench, way).astype(int) - render(bench, "bona fide")).max(2) > 6


def test_every_way_repeats_with_its_seed_and_differs_with_another(bench: ModuleType) -> None:
    for way in bench.WAYS:
        frame = render(bench, way, seed=3)
        assert (frame == render(bench, way, seed=3)).all(), way
        assert (frame != render(bench, way, seed=4)).any(), way


def test_nothing_beyond_the_middle_of_the_frame_is_touched(bench: ModuleType) -> None:
    empty = bench.scenes.street(0)
    for way in bench.WAYS:
        frame = render(bench, way)
        bench.scenes.middle(frame)[:] = bench.scenes.middle(empty)
        assert (frame == empty).all(), way


def test_a_face_has_the_height_that_was_asked_for(scenes: ModuleType) -> None:
    image = np.full((250, 250, 3), 10, np.uint8)
    image[70:120] = 250  # a bar of 50 of 125 pixels of "face": 40 of 100
    shown = scenes.Shown(image, scenes.CANONICAL, 125.0)
    frame = scenes.in_person(scenes.street(0), shown, 100.0, np.random.default_rng(0))
    assert abs(int((frame[:, scenes.WIDTH // 2, 0] > 230).sum()) - 40) <= 1


@pytest.mark.parametrize(
    ("way", "hidden", "seen"),
    [
        ("surgical mask", (2, 3, 4), (0, 1)),
        ("sunglasses", (0, 1), (2, 3, 4)),
        ("cap and its shadow", (0, 1), (3, 4)),
        ("surgical mask and cap", (0, 1, 2, 3, 4), ()),
        ("surgical mask and sunglasses", (0, 1, 2, 3, 4), ()),
    ],
)
def test_what_is_worn_changes_the_features_it_hides_and_no_other(
    bench: ModuleType, scenes: ModuleType, way: str, hidden: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    differs, at = changed(bench, way), landmarks(scenes)
    assert [bool(differs[at[i, 1], at[i, 0]]) for i in hidden] == [True] * len(hidden)
    assert [bool(differs[at[i, 1], at[i, 0]]) for i in seen] == [False] * len(seen)


def test_a_print_has_the_tones_of_paper_and_ink_and_a_screen_those_of_glass(scenes: ModuleType) -> None:
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    for way, darkest, brightest in ((scenes.printed, 35, 230), (scenes.displayed, 20, 245)):
        dark, bright = (way(image, np.random.default_rng(0)) for image in (black, white))
        assert dark.mean() > darkest
        assert bright.mean() < brightest
    # Dots: a flat tone is none in print, and its mean is kept but for a cast of a twentieth.
    grey = scenes.printed(np.full((64, 64, 3), 128, np.uint8), np.random.default_rng(0))
    assert grey.std(axis=(0, 1)).min() > 5
    assert abs(grey[..., 2].mean() - (48 + 180 * 128 / 255)) < 8


@pytest.mark.parametrize("shrunk", [1.0, 0.99, 0.97])
def test_stripes_that_are_finer_than_the_cameras_pixels_are_seen_as_one_tone(scenes: ModuleType, shrunk: float) -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255  # two to each pixel of the camera
    scale = shrunk / scenes.FINE
    onto = np.array([[scale, 0, 230.1], [0, scale, 230.0], [0, 0, 1]])
    seen = scenes._laid(np.zeros((scenes.WINDOW, scenes.WINDOW, 3), np.uint8), stripes, None, onto)[250:310, 250:310]
    assert abs(seen.mean() - 127.5) < 2
    assert seen.std() < 6


def test_a_sheet_stands_in_the_frame_with_its_margin_round_the_picture(bench: ModuleType, scenes: ModuleType) -> None:
    seen = scenes.middle(render(bench, "print held up", grey=60)).astype(int)
    middle = scenes.WINDOW // 2
    row = seen[middle, :, 1]
    assert row[middle] < 120  # the picture
    paper = np.flatnonzero(row > 200)
    assert paper.min() < middle - 90
    assert paper.max() > middle + 90
    assert len(paper) < 40  # a margin of a twentieth on each side, no more


def test_a_paper_mask_shows_the_other_face_and_its_holes_the_eyes_of_whoever_wears_it(
    bench: ModuleType, scenes: ModuleType
) -> None:
    at = landmarks(scenes)
    closed, holes = (render(bench, way).astype(int)[..., 1] for way in ("paper mask", "paper mask, eyes cut out"))
    for frame in (closed, holes):
        assert abs(frame[at[2, 1], at[2, 0]] - 90) > 30  # the nose is the print's
        assert abs(frame[scenes.HEIGHT // 2 - 110, scenes.WIDTH // 2 - 110] - 90) <= 2  # round it the wearer
    for eye in at[:2]:
        assert abs(closed[eye[1], eye[0]] - 90) > 30
        assert abs(holes[eye[1], eye[0]] - 90) <= 8


def test_only_an_alert_in_the_name_of_the_person_shown_counts_and_a_refusal_hides(bench: ModuleType) -> None:
    limits = Limits(score=0.5, similarity=0.6)
    answers = [
        (None, Candidate("a", 0.7, 0.6)),  # found
        (None, Candidate("x", 0.7, 0.6)),  # somebody else is named
        (None, Candidate("c", 0.5, 0.6)),  # not alike enough
        ("too_blurred", None),
    ]
    shown = bench.summary("impostor", ["a", "b", "c", "d"], answers, limits)
    assert (shown["identified"], shown["in_another_name"], shown["not_searched"]) == (1, 1, {"too_blurred": 1})
    assert shown["iapir"]["per_cent"] == 25.0
    assert shown["iapir"]["bounds"] == [0.6, 80.6]  # Clopper-Pearson of 1 in 4
    assert bench.summary("concealer", ["a", "b", "c", "d"], answers, limits)["capnir"]["per_cent"] == 75.0


@needs_faces
@pytest.mark.timeout(300)
def test_the_command_answers_for_every_way_with_the_vans_own_limits(bench: ModuleType) -> None:
    root = SCRIPTS.parent
    command = [sys.executable, SCRIPTS / "bench-attacks", "--manifest", FACES / "lfw" / "manifest.csv"]
    told = subprocess.run(
        [*command, "--people", "2", "--entries", "3"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    first, *ways = (json.loads(line) for line in told.stdout.splitlines())
    assert (first["entries"], first["subjects"]) == (3, 2)
    assert first["score_in_force"] > 0.3
    assert [line["way"] for line in ways] == list(bench.WAYS)
    assert all(line["presentations"] == 2 for line in ways)
