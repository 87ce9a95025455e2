"""A model file is run only if it is what its card says, and leaves nothing behind when flushed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import ModelRejected, RecordInvalid, RuntimeUnavailable
from edge.sight import card as cards
from edge.sight import runtime
from tests.other_runtime import outputs

MODELS = cards.default_directory()
EMBEDDER, SECOND = "mobilefacenet:dynamic-int8", "dlib-resnet:dynamic-int8"
DETECTOR = "centerface:640x384-int8"


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    """A copy of the embedder's pack that a test may spoil."""
    shutil.copytree(MODELS / "mobilefacenet", tmp_path / "mobilefacenet", ignore=shutil.ignore_patterns("build"))
    return tmp_path


def _noise(model: runtime.Model, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, model.input.shape[1:], np.uint8)


def _edit(packs: Path, old: str, new: str) -> None:
    path = packs / "mobilefacenet/card.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("pack", sorted(p.parent.name for p in MODELS.glob("*/card.toml")))
def test_every_shipped_file_is_what_its_card_says(pack: str) -> None:
    card = cards.read(MODELS / pack)
    shipped = [name for name, variant in card.variants.items() if variant.shipped]
    assert shipped
    for name in shipped:
        model = runtime.load(f"{pack}:{name}", kind=card.kind)
        file = MODELS / pack / card.variants[name].file
        assert model.digest == hashlib.sha256(file.read_bytes()).hexdigest()
        assert all(len(output) for output in model.run(_noise(model)))


@pytest.mark.parametrize(
    "reference",
    [EMBEDDER, SECOND, *(f"centerface:{size}-int8" for size in ("96x96", "640x384", "960x544", "1280x736"))],
)
def test_a_shipped_model_runs_as_one_partition(reference: str) -> None:
    model = runtime.load(reference)
    plan = [o["op_name"] for o in model._interpreter._get_ops_details()]
    assert plan.count("DELEGATE") == 1
    # What the delegate took over stays listed before it: nothing may come after it.
    assert plan[-1] == "DELEGATE"


def test_both_runtimes_give_nearly_the_same_template() -> None:
    model = runtime.load(EMBEDDER)
    picture = _noise(model)
    a, b = model.run(picture)[0], outputs(EMBEDDER, picture)[0]
    assert float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) > 0.995


def test_both_runtimes_see_nearly_the_same_heat() -> None:
    model = runtime.load(DETECTOR)
    picture = _noise(model)
    a, b = (model.outputs[0].real(found) for found in (model.run(picture)[0], outputs(DETECTOR, picture)[0]))
    assert np.abs(a - b).max() < 0.1


def test_beside_todays_numpy_the_other_runtime_is_refused_in_plain_words() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"its last release was built for numpy 1.*environment of its own"):
        runtime.load(EMBEDDER, runtime="tflite-runtime")


def test_the_number_of_threads_does_not_change_the_answer() -> None:
    one, two = (runtime.load(EMBEDDER, threads=n) for n in (1, 2))
    picture = _noise(one)
    assert np.allclose(one.run(picture)[0], two.run(picture)[0], atol=1e-4)


def test_a_changed_file_is_refused_by_name(packs: Path) -> None:
    path = packs / "mobilefacenet/mobilefacenet-dynamic-int8.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelRejected, match=r"mobilefacenet-dynamic-int8\.tflite: its SHA-256"):
        runtime.load(EMBEDDER, directory=packs)


def test_a_missing_file_is_refused_by_name(packs: Path) -> None:
    (packs / "mobilefacenet/mobilefacenet-dynamic-int8.tflite").unlink()
    with pytest.raises(ModelRejected, match=r"mobilefacenet-dynamic-int8\.tflite: the model file does not exist"):
        runtime.load(EMBEDDER, directory=packs)


def test_a_file_that_is_no_model_is_refused_even_if_the_card_names_its_digest(packs: Path) -> None:
    path = packs / "mobilefacenet/mobilefacenet-dynamic-int8.tflite"
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"not a flatbuffer" * 100)
    _edit(packs, old, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ModelRejected, match="cannot load it"):
        runtime.load(EMBEDDER, directory=packs)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[1, 112, 112, 3]", "[1, 96, 96, 3]", r"shape of input 'chip' is \(1, 112, 112, 3\)"),
        ("[1, 192]", "[1, 512]", "shape of output 'embedding'"),
        ('dtype = "float32"', 'dtype = "int8"', "type of input 'chip' is float32"),
        ("3], dtype", "3], scale = 0.5, dtype", "scale of input 'chip' is 0, the card says 0.5"),
    ],
)
def test_a_card_that_says_otherwise_than_the_file_is_refused(packs: Path, old: str, new: str, says: str) -> None:
    _edit(packs, old, new)
    with pytest.raises(ModelRejected, match=says):
        runtime.load(EMBEDDER, directory=packs)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('licence = "', 'license = "', "license"),
        ('kind = "embedder"', 'kind = "oracle"', "oracle"),
        ('name = "mobilefacenet"', 'name = "facenet"', "the card is for the model 'facenet'"),
        ("[source]", "[source", "the card is wrong"),
    ],
)
def test_a_wrong_card_is_refused(packs: Path, old: str, new: str, says: str) -> None:
    _edit(packs, old, new)
    with pytest.raises(ModelRejected, match=says):
        runtime.load(EMBEDDER, directory=packs)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("mobilefacenet", "pack:variant"),
        ("../mobilefacenet:float", "pack:variant"),
        ("nobody:int8", "the packs there are centerface"),
        ("mobilefacenet:int4", "no such variant; it has dynamic-int8"),
    ],
)
def test_a_model_that_does_not_exist_is_refused_with_those_that_do(reference: str, says: str) -> None:
    with pytest.raises(ModelRejected, match=says):
        runtime.load(reference)


def test_a_detector_is_refused_as_an_embedder() -> None:
    with pytest.raises(ModelRejected, match="its card says that it is a detector"):
        runtime.load(DETECTOR, kind="embedder")


def test_a_delegate_that_is_missing_is_named() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"/nowhere/libnpu\.so"):
        runtime.load(EMBEDDER, delegate=Path("/nowhere/libnpu.so"))


def test_a_picture_of_another_size_is_refused() -> None:
    model = runtime.load(EMBEDDER)
    with pytest.raises(RecordInvalid, match=r"uint8\[112, 112, 3\]"):
        model.run(np.zeros((96, 96, 3), np.uint8))


@pytest.mark.parametrize("reference", [EMBEDDER, DETECTOR])
def test_nothing_of_a_picture_stays_in_the_input_after_a_flush(reference: str) -> None:
    model = runtime.load(reference)
    before = [model._interpreter.get_tensor(t.index).copy() for t in model.outputs]
    model.run(_noise(model))
    after_run = model._interpreter.get_tensor(model.input.index)
    assert len(np.unique(after_run)) > 100, "the planted picture must be there before"
    model.flush()
    assert (model._interpreter.get_tensor(model.input.index) == model.input.zero_point).all()
    flushed = [model._interpreter.get_tensor(t.index).copy() for t in model.outputs]
    model.run(_noise(model, seed=1))
    model.flush()
    for first, second in zip(flushed, before, strict=True):
        assert first.shape == second.shape
    again = [model._interpreter.get_tensor(t.index) for t in model.outputs]
    assert all(np.array_equal(a, b) for a, b in zip(flushed, again, strict=True)), "the flush depends on the picture"
