"""The demo's scene: what it shows is what its ground truth says, and nobody passes who should not."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import StoreUnavailable
from provisioning.demo.clothes import Outfit, dress
from provisioning.demo.people import PER_METRE, cut_out
from provisioning.demo.scene import main, render, truth_path
from provisioning.demo.script import ENROL, PORTRAITS, SceneTruth, load_script, tell_truth

SOURCES = (PORTRAITS / "SOURCES.md").read_text(encoding="utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole() -> SceneTruth:
    script = load_script()
    return tell_truth(script, seed=2019, frames=script.frames, scale=1.0)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SceneTruth]:
    """The first four seconds at a quarter of the size."""
    path = tmp_path_factory.mktemp("scene") / "street.mp4"
    return path, render(path, scale=0.25, frames=60)


def frames_of(path: Path) -> list[NDArray[Any]]:
    film = cv2.VideoCapture(str(path))
    found: list[NDArray[Any]] = []
    while True:
        more, picture = film.read()
        if not more:
            film.release()
            return found
        found.append(picture)


def test_every_photograph_has_a_source_and_is_the_file_named_there() -> None:
    for folder, prefix in ((PORTRAITS, ""), (ENROL / "SUBJECT-001", "../enrol/SUBJECT-001/")):
        for photo in folder.glob("*.jpg"):
            name = prefix + photo.name
            assert len(re.findall(rf"^\| `{re.escape(name)}` \|", SOURCES, re.MULTILINE)) == 2, (
                f"{name}: source and check sum rows"
            )
            row = rf"^\| `{re.escape(name)}` \| `[0-9a-f]{{64}}` \| `{sha256(photo)}` \|$"
            assert re.search(row, SOURCES, re.MULTILINE), f"{name} is not the file that SOURCES.md describes"


def test_the_photographs_stay_within_a_megabyte() -> None:
    assert sum(photo.stat().st_size for folder in (PORTRAITS, ENROL) for photo in folder.rglob("*.jpg")) < 1_000_000


def test_an_enrolled_photograph_never_walks_by() -> None:
    enrolled = {sha256(photo) for photo in ENROL.rglob("*.jpg")}
    passing = {sha256(PORTRAITS / portrait.file) for portrait in load_script().portraits}
    assert len(enrolled) == 1
    assert len(passing) == 5
    assert not enrolled & passing


def test_whoever_is_on_the_list_is_expected_at_every_pass_and_nobody_else_is() -> None:
    script = load_script()
    listed = {script.by_file[p.portrait].person for p in script.passages if p.reference}
    assert {p.reference for p in script.passages if p.reference} == {folder.name for folder in ENROL.iterdir()}
    for passage in script.passages:
        if passage.portrait:
            assert (script.by_file[passage.portrait].person in listed) == (passage.reference is not None)
        else:
            assert passage.reference is None


def test_two_alerts_are_expected_from_two_photographs_among_at_least_five_strangers(whole: SceneTruth) -> None:
    mated = [p for p in whole.passages if p.reference]
    assert whole.alerts_expected == len(mated) == 2
    assert len({p.portrait for p in mated}) == 2
    assert len(whole.passages) - len(mated) >= 5


def test_faces_grow_from_30_to_about_200_pixels(whole: SceneTruth) -> None:
    heights = [face.box[3] - face.box[1] for face in whole.faces]
    assert 25 <= min(heights) <= 32
    assert 180 <= max(heights) <= 230
    for passage in whole.passages:
        assert passage.face_px[1] >= 100, f"passage {passage.number} never comes near"


def test_several_people_are_in_the_picture_at_once(whole: SceneTruth) -> None:
    together = np.bincount([face.frame for face in whole.faces], minlength=whole.frames)
    assert together.max() >= 3
    assert np.mean(together >= 2) > 0.6


def test_everybody_has_left_before_the_film_ends(whole: SceneTruth) -> None:
    assert max(p.last_frame for p in whole.passages) < whole.frames - whole.fps


def test_every_frame_of_the_video_can_be_read_at_its_size(short: tuple[Path, SceneTruth]) -> None:
    path, truth = short
    pictures = frames_of(path)
    assert len(pictures) == truth.frames == 60
    assert {picture.shape for picture in pictures} == {(truth.height, truth.width, 3)} == {(270, 480, 3)}
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == truth.fps


def test_the_truth_beside_the_video_is_the_one_returned(short: tuple[Path, SceneTruth]) -> None:
    path, truth = short
    assert SceneTruth.read(truth_path(path)) == truth


def test_a_face_is_where_the_truth_says(short: tuple[Path, SceneTruth]) -> None:
    path, truth = short
    pictures = frames_of(path)
    film = np.median(np.stack(pictures), axis=0)
    for face in truth.faces[:: len(truth.faces) // 12]:
        left, top, right, foot = (round(side) for side in face.box)
        change = np.abs(pictures[face.frame].astype(float) - film)[top:foot, left:right].mean()
        away = np.abs(pictures[face.frame].astype(float) - film)[:60, 200:280].mean()
        assert change > 2 * away, f"nothing stands at {face}"


def test_one_seed_gives_one_scene_and_another_seed_another(short: tuple[Path, SceneTruth], tmp_path: Path) -> None:
    path, truth = short
    again, other = tmp_path / "again.mp4", tmp_path / "other.mp4"
    assert render(again, scale=0.25, frames=3) != truth
    assert render(other, scale=0.25, frames=3, seed=7).seed == 7
    first, second, third = frames_of(path)[:3], frames_of(again), frames_of(other)
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(second[0], third[0])


def test_progress_is_told_frame_by_frame(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    render(tmp_path / "street.mp4", scale=0.125, frames=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["street.mp4", "street.truth.json"]


def test_an_interrupted_rendering_leaves_no_video_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "street.mp4", scale=0.125, frames=4, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "nowhere" / "street.mp4"
    with pytest.raises(StoreUnavailable, match=re.escape(str(target))):
        render(target, scale=0.125, frames=1)
    assert main([str(target), "--scale", "0.125"]) == 5
    assert "Traceback" not in capfd.readouterr().err


def test_a_cut_out_keeps_the_face_and_drops_what_is_behind_it() -> None:
    for portrait in load_script().portraits:
        _, cover = cut_out(portrait, PORTRAITS)
        chin, middle = round(0.40 * PER_METRE), cover.shape[1] // 2
        assert cover[chin - 130 : chin - 40, middle - 35 : middle + 35].min() > 0.95, (
            f"{portrait.file}: a hole in the face"
        )
        assert max(cover[:40].max(), cover[:, :40].max(), cover[:, -40:].max()) < 0.05, f"{portrait.file}: background"


def test_somebody_seen_from_behind_has_no_face() -> None:
    figure = dress(None, Outfit(coat=(60, 60, 60)), PORTRAITS, np.random.default_rng(1))
    assert figure.face is None


def test_an_unknown_key_in_the_scene_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scene.toml"
    path.write_text("seconds = 1.0\nfps = 15\nportraits = []\npassages = []\nrain = true\n", encoding="utf-8")
    with pytest.raises(msgspec.ValidationError, match="rain"):
        load_script(path)
