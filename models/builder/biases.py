"""Bias correction (Nagel et al., Data-Free Quantization, 2019, section 4.2, the empirical form).

Rounding weights moves the mean of a convolution's output; what came before moves it, too. Layer by layer, in order, the
bias is changed by the difference of the two means, over calibration inputs, of float graph and quantised graph. A
convolution is linear, so the mean of its input at each tap of the kernel is all that it takes. Only full convolutions
that end in no activation are corrected: every block here ends in one, and it makes up for what came before it.
"""

from __future__ import annotations

import copy
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffer import Op, schema

Corrections = dict[str, list[float]]
DIGITS = 4  # of a stored correction; a hundredth of a per cent of it is far below a step


def read(path: Path) -> Corrections:
    """Convolution, by the name of its output → what is added to the bias of each channel."""
    return tomllib.loads(path.read_text())["biases"]


def to_toml(found: Corrections) -> list[str]:
    """The lines of the table that `read` reads."""
    return ["[biases]", *(f'"{name}" = [{", ".join(map(str, row))}]' for name, row in found.items())]


def apply(source: Path, found: Corrections, target: Path) -> None:
    """Writes the float graph with the corrections added to its biases."""
    model = flatbuffer_utils.read_model(str(source))
    _add(model, found)
    target.parent.mkdir(parents=True, exist_ok=True)
    flatbuffer_utils.write_model(model, str(target))


def measure(
    source: Path,
    quantise: Callable[[Path, Path], None],
    inputs: Callable[[], Iterable[np.ndarray]],
    start: Path | None = None,
    leave: Iterable[str] = (),
) -> Corrections:
    """The correction of each convolution of the float graph, in order, with those before it already made.

    `quantise` writes the quantised form of a float file; `inputs` gives the same float inputs each time it is called.
    `start` is the graph that is corrected, if its weights are not those of `source`, which says what is right.
    Convolutions whose output is named in `leave` are left as they are.
    """
    reference = flatbuffer_utils.read_model(str(source))
    graph = reference.subgraphs[0]
    left = set(leave)
    found: Corrections = {}
    with tempfile.TemporaryDirectory() as folder:
        corrected, quantised = Path(folder) / "float.tflite", Path(folder) / "int8.tflite"
        for operator in graph.operators:
            if _code(reference, operator) != Op.CONV_2D:
                continue
            if operator.builtinOptions.fusedActivationFunction != schema.ActivationFunctionType.NONE:
                continue
            name = _name(graph, operator.outputs[0])
            if name in left:
                continue
            apply(start or source, found, corrected)
            quantise(corrected, quantised)
            low = flatbuffer_utils.read_model(str(quantised))
            difference = _mean_output(reference, name, inputs, Path(folder)) - _mean_output(
                low, name, inputs, Path(folder)
            )
            found[name] = [float(f"{value:.{DIGITS}g}") for value in difference]
            print(f"{name}: mean moved by {np.abs(difference).max():.2g} at most", flush=True)
    return found


def _mean_output(
    model: schema.ModelT, name: str, inputs: Callable[[], Iterable[np.ndarray]], folder: Path
) -> np.ndarray:
    """Mean of each output channel of the convolution whose output is `name`, without its bias."""
    graph = model.subgraphs[0]
    place = next(i for i, o in enumerate(graph.operators) if _name(graph, o.outputs[0]) == name)
    operator = graph.operators[place]
    weights = _real(model, operator.inputs[1])
    entry = operator.inputs[0]
    size, stride = weights.shape[1], operator.builtinOptions.strideH
    out = list(graph.tensors[operator.outputs[0]].shape[1:3])
    same = operator.builtinOptions.padding == schema.Padding.SAME
    total, count = np.zeros((size, size, graph.tensors[entry].shape[-1])), 0
    for values in _run_to(model, place, inputs, folder / "cut.tflite"):
        total += _taps(values, size, stride, out, same=same)
        count += 1
    mean = total / count
    return np.einsum("yxc,oyxc->o", mean, weights)  # weights are (outputs, y, x, inputs)


def _taps(values: np.ndarray, size: int, stride: int, out: list[int], *, same: bool) -> np.ndarray:
    """(size, size, channels): mean of what each tap of the kernel meets; values is (rows, columns, channels)."""
    if size == 1 and stride == 1:
        return values.mean((0, 1), dtype=np.float64)[None, None]
    if same:  # TensorFlow: the odd pixel goes to the bottom right
        pads = [max((n - 1) * stride + size - have, 0) for n, have in zip(out, values.shape[:2], strict=True)]
        values = np.pad(values, [(p // 2, p - p // 2) for p in pads] + [(0, 0)])
    reach = [(n - 1) * stride + 1 for n in out]
    return np.stack(
        [
            [
                values[y : y + reach[0] : stride, x : x + reach[1] : stride].mean((0, 1), dtype=np.float64)
                for x in range(size)
            ]
            for y in range(size)
        ]
    )


def _run_to(
    model: schema.ModelT, place: int, inputs: Callable[[], Iterable[np.ndarray]], path: Path
) -> Iterable[np.ndarray]:
    """What operator number `place` is given for each input, as real numbers."""
    entry = model.subgraphs[0].operators[place].inputs[0]
    if entry in list(model.subgraphs[0].inputs):
        detail = model.subgraphs[0].tensors[entry]
        for values in inputs():
            yield _dequantise(_stored(values[0], detail), detail)
        return
    cut, graph = copy.copy(model), copy.copy(model.subgraphs[0])
    cut.subgraphs = [graph]
    graph.operators, graph.outputs, cut.signatureDefs = graph.operators[:place], [entry], []
    flatbuffer_utils.write_model(cut, str(path))
    interpreter = Interpreter(model_path=str(path), num_threads=2)
    interpreter.allocate_tensors()
    first, last = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    for values in inputs():
        interpreter.set_tensor(first, _stored(values, graph.tensors[graph.inputs[0]]))
        interpreter.invoke()
        yield _dequantise(interpreter.get_tensor(last)[0], graph.tensors[entry])


def _stored(values: np.ndarray, tensor: schema.TensorT) -> np.ndarray:
    if tensor.type == schema.TensorType.FLOAT32:
        return values
    q = tensor.quantization
    return np.clip(np.rint(values / q.scale[0]) + q.zeroPoint[0], -128, 127).astype(np.int8)


def _dequantise(values: np.ndarray, tensor: schema.TensorT) -> np.ndarray:
    if tensor.type == schema.TensorType.FLOAT32:
        return values
    q = tensor.quantization
    return (values.astype(np.float32) - np.float32(q.zeroPoint[0])) * np.float32(q.scale[0])


def _real(model: schema.ModelT, tensor: int) -> np.ndarray:
    """Weights as real numbers, whether they are stored as such or as int8 with a scale per channel."""
    held = model.subgraphs[0].tensors[tensor]
    raw = bytes(model.buffers[held.buffer].data)
    if held.type == schema.TensorType.FLOAT32:
        return np.frombuffer(raw, np.float32).reshape(held.shape).astype(np.float64)
    q = held.quantization
    along = [1] * len(held.shape)
    along[q.quantizedDimension] = -1
    return np.frombuffer(raw, np.int8).reshape(held.shape) * np.array(q.scale, np.float64).reshape(along)


def _add(model: schema.ModelT, found: Corrections) -> None:
    graph = model.subgraphs[0]
    left = dict(found)
    for operator in graph.operators:
        change = left.pop(_name(graph, operator.outputs[0]), None)
        if change is None:
            continue
        held = graph.tensors[operator.inputs[2]]
        values = np.frombuffer(bytes(model.buffers[held.buffer].data), np.float32)
        buffer = schema.BufferT()  # of its own: graphs may share a buffer of zeros
        buffer.data = np.frombuffer((values + np.array(change, np.float32)).tobytes(), np.uint8)
        model.buffers.append(buffer)
        held.buffer = len(model.buffers) - 1
    if left:
        raise SystemExit(f"{', '.join(left)}: no such convolution in the graph. Calibrate again.")


def _name(graph: schema.SubGraphT, tensor: int) -> str:
    raw = graph.tensors[tensor].name
    return raw.decode() if isinstance(raw, bytes) else raw


def _code(model: schema.ModelT, operator: schema.OperatorT) -> int:
    return model.operatorCodes[operator.opcodeIndex].builtinCode
