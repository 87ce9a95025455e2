"""MobileFaceNet: its published float TensorFlow Lite file, with PReLU put back together and one face at a time.

The published graph spells PReLU out as RELU, ABS, SUB, MUL, ADD: relu(x) + c·(x − |x|) with c = a/2. Both
rewrites are exact: x − |x| is 2x or 0, so PRELU with slope a = 2c gives the same bits. What is quantised is that graph
with two pairs of convolutions merged.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffer import Op, schema

BLOCK = "MobileFaceNet/MobileFaceNet/Conv2d_{}/BatchNorm/FusedBatchNorm"
KEPT_FLOAT = (
    BLOCK.format("0"),
    BLOCK.format("5_InvResBlock_0/Conv_1"),
    "MobileFaceNet/Logits/LinearConv1x1/BatchNorm/FusedBatchNorm",
)
"""Convolutions that stay float, by their outputs: the first, the last, and the one whose error costs most for the time
it takes. Chosen on faces of calibration people: docs/models.md."""

SPELT_OUT = [Op.RELU, Op.ABS, Op.SUB, Op.MUL, Op.ADD]


DESCRIPTION = "MobileFaceNet 112x112, RGB (x-127.5)/128, PRELU fused, batch 1"


def write_float(source: Path, target: Path, description: str = DESCRIPTION) -> None:
    """Writes the float32 graph with PRELU operators and one face at a time.

    MobileFaceNet then has input (1,112,112,3) RGB (x − 127.5) / 128 and output (1,192).
    """
    model = flatbuffer_utils.read_model(str(source))
    graph = model.subgraphs[0]
    for code in model.operatorCodes:  # a file from before 2021 fills only the deprecated byte, which today's tools skip
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    codes = [code.builtinCode for code in model.operatorCodes]
    prelu = schema.OperatorCodeT()
    prelu.builtinCode = prelu.deprecatedBuiltinCode = Op.PRELU
    prelu.version = 1
    model.operatorCodes.append(prelu)

    kept, i = [], 0
    while i < len(graph.operators):
        run = graph.operators[i : i + len(SPELT_OUT)]
        if [codes[o.opcodeIndex] for o in run] != SPELT_OUT:
            kept.append(graph.operators[i])
            i += 1
            continue
        relu, absolute, difference, product, total = run
        x = relu.inputs[0]
        slope = next(t for t in product.inputs if t != difference.outputs[0])
        wired = (
            absolute.inputs[0] == x
            and list(difference.inputs) == [x, absolute.outputs[0]]
            and sorted(total.inputs) == sorted([relu.outputs[0], product.outputs[0]])
        )
        if not wired:
            raise SystemExit(f"MobileFaceNet: operator {i} is no PReLU after all. The source file has changed.")
        tensor = graph.tensors[slope]
        values = 2 * np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
        model.buffers[tensor.buffer].data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
        tensor.shape = [1, 1, len(values)]
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [x, slope], [total.outputs[0]]
        kept.append(operator)
        i += len(SPELT_OUT)
    graph.operators = kept

    _one_face_at_a_time(model)
    _drop_unused(model)
    model.description = description
    target.parent.mkdir(parents=True, exist_ok=True)
    flatbuffer_utils.write_model(model, str(target))


def merge(source: Path, target: Path) -> None:
    """Writes the float graph with each pair of 1×1 convolutions that has nothing in between made into one.

    The same function; results differ by float rounding only. Sums are exact before they are rounded (math.fsum of
    products that float64 holds exactly), so every machine writes the same bytes.
    """
    model = flatbuffer_utils.read_model(str(source))
    graph = model.subgraphs[0]
    readers = Counter(t for o in graph.operators for t in o.inputs)
    kept: list[schema.OperatorT] = []
    for operator in graph.operators:
        first = kept[-1] if kept else None
        if (
            first is not None
            and is_pointwise(model, first)
            and is_pointwise(model, operator)
            and operator.inputs[0] == first.outputs[0]
            and readers[first.outputs[0]] == 1
            and first.builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.NONE
        ):
            inner, shift, outer, bias = (values_of(model, t) for t in (*first.inputs[1:], *operator.inputs[1:]))
            columns = [*inner.reshape(inner.shape[0], -1).T, shift]  # what each of the inner outputs is made of
            rows = outer.reshape(outer.shape[0], -1)
            product = np.array([[math.fsum(row * column) for column in columns] for row in rows])
            replace(model, operator.inputs[1], product[:, None, None, :-1])
            replace(model, operator.inputs[2], product[:, -1] + bias)
            operator.inputs = [first.inputs[0], *operator.inputs[1:]]
            kept.pop()
        kept.append(operator)
    graph.operators = kept
    _drop_unused(model)
    flatbuffer_utils.write_model(model, str(target))


def is_pointwise(model: schema.ModelT, operator: schema.OperatorT) -> bool:
    """Whether it is a full 1×1 convolution of stride 1."""
    if model.operatorCodes[operator.opcodeIndex].builtinCode != Op.CONV_2D:
        return False
    _, height, width, _ = model.subgraphs[0].tensors[operator.inputs[1]].shape
    options = operator.builtinOptions
    return height == width == options.strideH == options.strideW == 1


def values_of(model: schema.ModelT, tensor: int) -> np.ndarray:
    """A float constant, as float64."""
    held = model.subgraphs[0].tensors[tensor]
    return np.frombuffer(bytes(model.buffers[held.buffer].data), np.float32).reshape(held.shape).astype(np.float64)


def replace(model: schema.ModelT, tensor: int, values: np.ndarray) -> None:
    """Gives a constant other values, and their shape."""
    held = model.subgraphs[0].tensors[tensor]
    buffer = schema.BufferT()  # of its own: a buffer may be shared
    buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    held.buffer, held.shape = len(model.buffers) - 1, list(values.shape)


def _one_face_at_a_time(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    made = {t for o in graph.operators for t in o.outputs} | set(graph.inputs)
    for index in made:
        shape = list(graph.tensors[index].shape)
        if shape and shape[0] == 2:
            graph.tensors[index].shape = [1, *shape[1:]]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code == Op.RESHAPE and len(graph.tensors[operator.outputs[0]].shape) == 2:
            features = graph.tensors[operator.outputs[0]].shape[-1]
            shape = np.array([1, features], np.int32)
            model.buffers[graph.tensors[operator.inputs[1]].buffer].data = np.frombuffer(shape.tobytes(), np.uint8)
            if operator.builtinOptions is not None:
                operator.builtinOptions.newShape = shape.tolist()


def _drop_unused(model: schema.ModelT) -> None:
    """Removes the tensors and buffers of the operators that were fused, and names one signature."""
    graph = model.subgraphs[0]
    used = sorted(
        set(graph.inputs) | set(graph.outputs) | {t for o in graph.operators for t in [*o.inputs, *o.outputs]}
    )
    place = {old: new for new, old in enumerate(used)}
    graph.tensors = [graph.tensors[old] for old in used]
    for operator in graph.operators:
        operator.inputs = [place[t] for t in operator.inputs]
        operator.outputs = [place[t] for t in operator.outputs]
    graph.inputs, graph.outputs = [place[t] for t in graph.inputs], [place[t] for t in graph.outputs]
    buffers, moved = [schema.BufferT()], {}
    for tensor in graph.tensors:
        if model.buffers[tensor.buffer].data is None:
            tensor.buffer = 0
            continue
        if tensor.buffer not in moved:
            moved[tensor.buffer] = len(buffers)
            buffers.append(model.buffers[tensor.buffer])
        tensor.buffer = moved[tensor.buffer]
    model.buffers, model.metadata = buffers, []
    codes = sorted({operator.opcodeIndex for operator in graph.operators})
    model.operatorCodes = [model.operatorCodes[old] for old in codes]
    for operator in graph.operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    signature.inputs[0].name, signature.inputs[0].tensorIndex = "chip", graph.inputs[0]
    signature.outputs[0].name, signature.outputs[0].tensorIndex = "embedding", graph.outputs[0]
    model.signatureDefs = [signature]
