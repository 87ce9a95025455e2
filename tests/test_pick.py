"""The faces of a group picture get numbers; one is cut out so that it can be enrolled and shows nobody else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edge.sight.picture import read_image
from provisioning.cli import watchlist as app
from provisioning.encoder import ModelEncoder, make_encoder
from tests.test_enrolment import Picture, portrait


@pytest.fixture(scope="module")
def encoder() -> ModelEncoder:
    """What was cut out is upright."""
    return make_encoder(turns=(0,))


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """Obama on the left, Biden on the right, lying on its side."""
    one, other = portrait("obama2"), portrait("biden")
    other = np.asarray(cv2.resize(other, (one.shape[1], one.shape[0])), np.uint8)
    path = tmp_path / "group.png"
    cv2.imwrite(str(path), cv2.rotate(np.hstack([one, other]), cv2.ROTATE_90_CLOCKWISE))
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["face", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def likeness(encoder: ModelEncoder, one: Picture, other: Picture) -> float:
    return float(encoder.encode(one, "one").template @ encoder.encode(other, "other").template)


def test_the_numbered_picture_is_upright_and_marks_every_face(group: Path, tmp_path: Path) -> None:
    said = run(group, "--out", tmp_path / "numbered.png")
    assert "2 faces, numbered from the left" in " ".join(said.split())
    made = read_image(tmp_path / "numbered.png")
    lying = read_image(group)
    assert made.shape[1] > made.shape[0], "upright"
    blue = np.all(made == (200, 80, 0), axis=2)
    columns = np.flatnonzero(blue.any(axis=0))
    assert columns.min() < made.shape[1] / 2 < columns.max(), "a frame on each side"
    assert not np.all(lying == (200, 80, 0), axis=2).any()
    assert (tmp_path / "numbered.png").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("number", "name", "not_this"), [(1, "obama2", "biden"), (2, "biden", "obama2")])
def test_the_face_that_was_cut_out_is_enrolled_as_that_person(
    number: int, name: str, not_this: str, group: Path, encoder: ModelEncoder, tmp_path: Path
) -> None:
    out = tmp_path / "one.png"
    run(group, "--face", number, "--out", out)
    made = read_image(out)
    assert likeness(encoder, made, portrait(name)) > 0.85
    assert likeness(encoder, made, portrait(not_this)) < 0.4
    _, found = encoder.faces(made, "made")
    assert len(found) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--face", 3, "--out", "one.png"), "has 2 faces, and no number 3"),
        (("--out", "one.gif"), "does not end in .jpg or .png"),
        (("--out", "taken.png"), "exists"),
    ],
    ids=["a number that is none", "another format", "a file that is there"],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[object, ...], words: str, group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.png").write_bytes(b"kept")
    done = CliRunner().invoke(app, ["face", str(group), *map(str, arguments)])
    assert done.exit_code != 0
    assert words in str(done.exception) + done.output
    assert Path("taken.png").read_bytes() == b"kept"
