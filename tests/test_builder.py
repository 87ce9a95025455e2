"""How the shipped models are made: merging and correcting change a graph as they say, and nothing else."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.sight import card as cards

MODELS = Path(__file__).resolve().parents[1] / "models"
NAMES = ("flatbuffer", "mobilefacenet", "biases")
litert = pytest.importorskip("ai_edge_litert.interpreter")
SIDE, CHANNELS = 6, (3, 8, 5, 4)


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ai_edge_litert.tools.flatbuffer_utils")
    monkeypatch.syspath_prepend(str(MODELS / "builder"))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        sys.modules.pop(name, None)


def _run(model: Path, picture: NDArray[Any]) -> NDArray[Any]:
    interpreter = litert.Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    result: NDArray[Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def _pictures(count: int = 8) -> list[NDArray[Any]]:
    random = np.random.default_rng(3)
    return [random.normal(0.5, 1, (1, SIDE, SIDE, CHANNELS[0])).astype(np.float32) for _ in range(count)]


def _write(flatbuffer: ModuleType, path: Path, *, sides: tuple[int, ...] = (1, 1, 1), relu: bool = False) -> None:
    """Three convolutions in a row; with `relu` the first ends in one."""
    random = np.random.default_rng(5)
    graph = flatbuffer.Graph("a test")
    entry = at = graph.activation("in", [1, SIDE, SIDE, CHANNELS[0]])
    for number, (before, after, side) in enumerate(zip(CHANNELS, CHANNELS[1:], sides, strict=False)):
        weights = random.normal(0, 0.5, (after, side, side, before)).astype(np.float32)
        bias = random.normal(0, 0.5, after).astype(np.float32)
        at = graph.operator(
            flatbuffer.Op.CONV_2D,
            [at, graph.constant(f"w{number}", weights), graph.constant(f"b{number}", bias)],
            graph.activation(f"conv{number}", [1, SIDE, SIDE, after]),
            flatbuffer.schema.BuiltinOptions.Conv2DOptions,
            flatbuffer.conv_options(1, flatbuffer.schema.Padding.SAME, relu=relu and number == 0),
        )
    graph.finish({"in": entry}, {"out": at}, path)


def _convolutions(builder: Any, path: Path) -> int:
    return len(builder.mobilefacenet.flatbuffer_utils.read_model(str(path)).subgraphs[0].operators)


@pytest.mark.parametrize(("relu", "left"), [(False, 1), (True, 2)])
def test_only_convolutions_with_nothing_in_between_are_merged_and_the_result_stays(
    builder: Any, tmp_path: Path, relu: bool, left: int
) -> None:
    _write(builder.flatbuffer, tmp_path / "three.tflite", relu=relu)
    builder.mobilefacenet.merge(tmp_path / "three.tflite", tmp_path / "merged.tflite")
    assert _convolutions(builder, tmp_path / "merged.tflite") == left
    for picture in _pictures():
        expected = _run(tmp_path / "three.tflite", picture)
        assert _run(tmp_path / "merged.tflite", picture) == pytest.approx(expected, abs=2e-5)


def test_a_convolution_that_looks_around_is_not_merged(builder: Any, tmp_path: Path) -> None:
    _write(builder.flatbuffer, tmp_path / "three.tflite", sides=(1, 3, 1))
    builder.mobilefacenet.merge(tmp_path / "three.tflite", tmp_path / "merged.tflite")
    assert _convolutions(builder, tmp_path / "merged.tflite") == 3


def test_corrected_biases_bring_the_means_back_that_rounding_moved(builder: Any, tmp_path: Path) -> None:
    def coarse(source: Path, target: Path) -> None:
        """Weights in steps of a quarter, always downwards, as a quantiser that is far off."""
        model = builder.mobilefacenet.flatbuffer_utils.read_model(str(source))
        for operator in model.subgraphs[0].operators:
            values = builder.mobilefacenet.values_of(model, operator.inputs[1])
            builder.mobilefacenet.replace(model, operator.inputs[1], np.floor(values * 4) / 4)
        builder.mobilefacenet.flatbuffer_utils.write_model(model, str(target))

    source = tmp_path / "three.tflite"
    _write(builder.flatbuffer, source, sides=(3, 1, 3), relu=True)
    pictures = _pictures()
    found = builder.biases.measure(source, coarse, lambda: pictures)
    builder.biases.apply(source, found, tmp_path / "corrected.tflite")
    coarse(tmp_path / "corrected.tflite", tmp_path / "better.tflite")
    coarse(source, tmp_path / "worse.tflite")

    def moved(model: Path) -> float:
        means = [np.mean([_run(m, p)[0].mean((0, 1)) for p in pictures], 0) for m in (source, model)]
        return float(np.abs(means[0] - means[1]).max())

    assert moved(tmp_path / "worse.tflite") > 0.1
    assert moved(tmp_path / "better.tflite") < 1e-3


def test_corrections_for_another_graph_are_refused(builder: Any, tmp_path: Path) -> None:
    _write(builder.flatbuffer, tmp_path / "three.tflite")
    with pytest.raises(SystemExit, match="conv9"):
        builder.biases.apply(tmp_path / "three.tflite", {"conv9": [0.0]}, tmp_path / "never.tflite")


@pytest.mark.parametrize("pack", sorted(p.parent.name for p in MODELS.glob("*/card.toml")))
def test_what_calibration_found_is_kept_with_the_hash_of_the_pictures(pack: str) -> None:
    card = cards.read(MODELS / pack)
    shipped = [variant for variant in card.variants.values() if variant.shipped]
    for variant in shipped:
        # What is quantised while it runs, and not corrected, took no picture.
        assert variant.calibration or variant.quantisation.endswith("as they run")
    for name in {variant.calibration for variant in shipped if variant.calibration}:
        said = tomllib.loads((MODELS / pack / str(name)).read_text())
        assert any(key.endswith("sha256") and len(str(said[key])) == 64 for key in said)
