"""A force's own embedder in dlib's format: what the file says is what the converted graph computes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

BUILDER = Path(__file__).resolve().parents[1] / "models/builder"
litert = pytest.importorskip("ai_edge_litert.interpreter")
RANDOM = np.random.default_rng(19)


@pytest.fixture
def dlib_resnet(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("ai_edge_litert.tools.flatbuffer_utils")
    monkeypatch.syspath_prepend(str(BUILDER))
    yield importlib.import_module("dlib_resnet")
    for name in ("dlib_resnet", "flatbuffer"):
        sys.modules.pop(name, None)


def _integer(value: int) -> bytes:
    data = abs(value).to_bytes(max(1, (abs(value).bit_length() + 7) // 8), "little")
    return bytes([len(data) | (0x80 if value < 0 else 0)]) + data


def _layer(name: str, values: NDArray[Any] | None = None, *before: int) -> bytes:
    """As dlib writes it: the name, whole numbers, a tensor."""
    text = _integer(len(name)) + name.encode() + b"".join(map(_integer, before))
    if values is None:
        return text + b"\x01\x00"
    shape = b"".join(map(_integer, (2, 1, values.size, 1, 1)))
    return text + shape + values.astype("<f4").tobytes()


def _windows(x: NDArray[Any], side: int) -> NDArray[Any]:
    """(h, w, c, side, side): what a kernel of that side sees at each place."""
    seen: NDArray[Any] = sliding_window_view(x, (side, side), axis=(0, 1))  # type: ignore[call-overload]
    return seen


class _Network:
    """Layers made up one by one: their bytes as dlib has them, and what they do to an (h, w, c) array."""

    def __init__(self) -> None:
        self.bytes = b"\x01\x01\x01\rloss_metric_2"
        self.steps: list[Callable[[NDArray[Any]], NDArray[Any]]] = []

    def convolution(self, inputs: int, filters: int, side: int, stride: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
        weights = RANDOM.normal(0, 1 / (side * np.sqrt(inputs)), (filters, inputs, side, side)).astype(np.float32)
        bias, gamma, beta = RANDOM.normal(0, 0.5, (3, filters)).astype(np.float32)
        self.bytes += _layer("con_4", np.concatenate([weights.ravel(), bias]))
        self.bytes += _layer("affine_", np.concatenate([gamma, beta]))
        pad = side // 2 if stride == 1 else 0

        def run(x: NDArray[Any]) -> NDArray[Any]:
            windows = _windows(np.pad(x, ((pad, pad), (pad, pad), (0, 0))), side)
            sums: NDArray[Any] = np.einsum("hwcij,fcij->hwf", windows[::stride, ::stride], weights)
            done: NDArray[Any] = (sums + bias) * gamma + beta
            return done

        return run

    def block(self, inputs: int, filters: int, *, halved: bool) -> None:
        first = self.convolution(inputs, filters, 3, 2 if halved else 1)
        self.bytes += _layer("relu_")
        second = self.convolution(filters, filters, 3, 1)
        self.bytes += (_layer("avg_pool_2") if halved else b"") + _layer("add_prev_") + _layer("relu_")

        def run(x: NDArray[Any]) -> NDArray[Any]:
            inner = second(np.maximum(first(x), 0))
            way = _windows(x, 2)[::2, ::2].mean((3, 4)) if halved else x
            total = np.zeros(np.maximum(inner.shape, way.shape), np.float64)  # what is missing counts as zero
            for part in (inner, way):
                total[tuple(slice(n) for n in part.shape)] += part
            return np.maximum(total, 0)

        self.steps.append(run)


def _a_network() -> _Network:
    network = _Network()
    first = network.convolution(3, 4, 7, 2)
    network.bytes += _layer("relu_") + _layer("max_pool_2")
    mean = np.array([122.782, 117.001, 104.298])
    network.steps += [
        lambda x: np.maximum(first((x - mean) / 256), 0),
        lambda x: _windows(x, 3)[::2, ::2].max((3, 4)),
    ]
    network.block(4, 4, halved=False)
    for inputs, filters in ((4, 6), (6, 6), (6, 9)):  # 35, 17, 8, and then 3 beside 4: the ways differ in size
        network.block(inputs, filters, halved=True)
    weights = RANDOM.normal(0, 1, (9, 5)).astype(np.float32)
    network.bytes += _layer("avg_pool_2") + _layer("fc_2", weights.ravel(), 5, 9)
    network.steps.append(lambda x: x.mean((0, 1)) @ weights)
    return network


def test_the_converted_graph_computes_what_the_layers_of_the_file_say(dlib_resnet: Any, tmp_path: Path) -> None:
    network = _a_network()
    (tmp_path / "net.dat").write_bytes(network.bytes)
    dlib_resnet.convert(tmp_path / "net.dat", tmp_path / "net.tflite")
    chip = RANDOM.integers(0, 256, (150, 150, 3)).astype(np.float32)
    expected: NDArray[Any] = chip.astype(np.float64)
    for step in network.steps:
        expected = step(expected)
    graph = litert.Interpreter(model_path=str(tmp_path / "net.tflite"))
    graph.allocate_tensors()
    graph.set_tensor(graph.get_input_details()[0]["index"], chip[None])
    graph.invoke()
    found = graph.get_tensor(graph.get_output_details()[0]["index"])[0]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()  # float32 leaves about 1e-6


@pytest.mark.parametrize("cut", [50, 1000, -30], ids=["no layer", "inside a layer", "inside the last layer"])
def test_a_file_that_is_cut_off_is_refused(dlib_resnet: Any, tmp_path: Path, cut: int) -> None:
    (tmp_path / "net.dat").write_bytes(_a_network().bytes[:cut])
    with pytest.raises(SystemExit, match=r"dlib|weights"):
        dlib_resnet.convert(tmp_path / "net.dat", tmp_path / "net.tflite")
