"""Templates: of length one, the same for the same chip, near for the same person and far for another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import BiometricErased, ModelRejected, RecordInvalid
from edge.sight import runtime
from edge.sight.align import align
from edge.sight.card import default_directory
from edge.sight.detect import Detector
from edge.sight.embed import Embedder

FACES = Path(os.environ.get("LFR_EVAL_DIR", Path(__file__).resolve().parents[2] / "shared/eval"))
needs_faces = pytest.mark.skipif(
    not (FACES / "portraits/obama.jpg").exists(), reason="needs the evaluation faces (LFR_EVAL_DIR)"
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(runtime.load("mobilefacenet:dynamic-int8", kind="embedder"))


@pytest.fixture
def chip() -> NDArray[Any]:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)


def test_a_template_has_length_one_and_the_models_dimension(embedder: Embedder, chip: NDArray[Any]) -> None:
    template = embedder.embed(chip)
    assert template.shape == (embedder.dimension,) == (192,)
    assert template.dtype == np.float32
    assert np.linalg.norm(template) == pytest.approx(1, abs=1e-5)


def test_the_same_chip_gives_the_same_template(embedder: Embedder, chip: NDArray[Any]) -> None:
    assert np.array_equal(embedder.embed(chip), embedder.embed(chip))


def test_flip_averaging_gives_a_chip_and_its_mirror_image_the_same_template(
    embedder: Embedder, chip: NDArray[Any]
) -> None:
    mirrored = np.ascontiguousarray(chip[:, ::-1])
    assert np.allclose(embedder.embed_mean([chip]), embedder.embed_mean([mirrored]), atol=1e-5)
    assert np.linalg.norm(embedder.embed_mean([chip])) == pytest.approx(1, abs=1e-5)


def test_the_mean_of_several_chips_weighs_each_of_them_and_its_mirror_image_alike(
    embedder: Embedder, chip: NDArray[Any]
) -> None:
    other = np.ascontiguousarray(np.roll(chip, 5, axis=0))
    sides = [np.ascontiguousarray(side) for one in (chip, other) for side in (one, one[:, ::-1])]
    expected = np.sum([embedder.embed(side) for side in sides], axis=0)
    assert embedder.embed_mean([chip, other]) == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_colours_are_taken_as_blue_green_red(embedder: Embedder) -> None:
    """The same chip run by hand, with the published normalisation, gives the same template."""
    chip = np.random.default_rng(5).integers(0, 256, (112, 112, 3), np.uint8)
    interpreter = embedder.model._interpreter
    values = (chip[..., ::-1].astype(np.float32) - 127.5) / 128
    interpreter.set_tensor(embedder.model.input.index, values[None])
    interpreter.invoke()
    raw = interpreter.get_tensor(embedder.model.outputs[0].index)[0]
    assert np.allclose(embedder.embed(chip), raw / np.linalg.norm(raw), atol=1e-5)


def test_a_template_survives_the_flush_that_follows(embedder: Embedder, chip: NDArray[Any]) -> None:
    template = embedder.embed(chip)
    kept = template.copy()
    embedder.flush()
    assert np.array_equal(template, kept), "the template must be a copy, not a view of the runtime's memory"


def test_the_digest_is_that_of_the_file_that_runs(embedder: Embedder) -> None:
    assert embedder.digest == embedder.model.variant.sha256


@pytest.mark.parametrize("wrong", [np.zeros((112, 112), np.uint8), np.zeros((112, 112, 3), np.float32)])
def test_what_is_no_chip_is_refused(embedder: Embedder, wrong: NDArray[Any]) -> None:
    with pytest.raises(RecordInvalid, match="chip"):
        embedder.embed(wrong)


def test_a_card_whose_alignment_is_of_another_size_than_the_model_is_refused(tmp_path: Path) -> None:
    shutil.copytree(default_directory() / "mobilefacenet", tmp_path / "mobilefacenet")
    card = tmp_path / "mobilefacenet/card.toml"
    card.write_text(card.read_text().replace('"arcface-112"', '"dlib-150"'))
    with pytest.raises(ModelRejected, match="names its alignment"):
        Embedder(runtime.load("mobilefacenet:dynamic-int8", directory=tmp_path))


def test_a_detector_is_no_embedder() -> None:
    with pytest.raises(ModelRejected, match="names its alignment"):
        Embedder(runtime.load("centerface:640x384-int8"))


@needs_faces
@pytest.mark.faces
def test_two_pictures_of_a_person_resemble_each_other_more_than_another_person(embedder: Embedder) -> None:
    detector = Detector(runtime.load("centerface:640x384-int8"), score=0.5)

    def template(name: str) -> NDArray[Any]:
        picture = np.asarray(cv2.imread(str(FACES / "portraits" / name)), np.uint8)
        return embedder.embed_mean([align(picture, detector.detect(picture).landmarks[0])])

    one, same, other = template("obama.jpg"), template("obama2.jpg"), template("biden.jpg")
    assert one @ same > 0.6
    assert one @ other < 0.3


def test_nothing_of_a_mean_stays_when_the_next_chip_cannot_be_had(
    embedder: Embedder, chip: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[NDArray[Any]] = []
    zeros = np.zeros
    monkeypatch.setattr(np, "zeros", lambda *of: sums.append(zeros(*of)) or sums[-1])

    def chips() -> Iterator[NDArray[Any]]:
        yield chip
        assert sums[0].any()
        raise BiometricErased("this picture", "has been erased", "Report this")

    with pytest.raises(BiometricErased):
        embedder.embed_mean(chips())
    assert not sums[0].any()
