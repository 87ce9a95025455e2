"""What the converter of ONNX embedders writes for each operator, and how it keeps account of where numbers lie.

ONNX thinks in (batch, channel, row, column), TensorFlow Lite in (batch, row, column, channel). Of each value is kept,
beside its ONNX shape, which of its numbers lies where in the written tensor. So transposing, flattening and reshaping
write nothing, and a dense layer after a flattening has its weights put in the order in which the numbers really lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
from flatbuffer import Graph, Op, add_options, conv_options, depthwise_options, pool_options, schema
from onnx_source import Source, refuse

ADVICE = "Export a plain network for inference in float32, or extend models/builder/onnx_layers.py"
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
POOLING = schema.BuiltinOptions.Pool2DOptions


class What(NamedTuple):
    """An operator of TensorFlow Lite, the number of its options' type, and the options."""

    code: int
    kind: int = 0
    options: Any = None


BINARY = {
    "Add": What(Op.ADD, schema.BuiltinOptions.AddOptions, schema.AddOptionsT()),
    "Sub": What(Op.SUB, schema.BuiltinOptions.SubOptions, schema.SubOptionsT()),
    "Mul": What(Op.MUL, schema.BuiltinOptions.MulOptions, schema.MulOptionsT()),
    "Div": What(Op.DIV, schema.BuiltinOptions.DivOptions, schema.DivOptionsT()),
}
UNARY = {"Relu": Op.RELU, "Sigmoid": Op.LOGISTIC, "Abs": Op.ABS, "Neg": Op.NEG, "Tanh": Op.TANH}


@dataclass(frozen=True, slots=True)
class Value:
    """A value that depends on the picture.

    Attributes:
        tensor: its number in the written graph.
        shape: in ONNX.
        order: of the written tensor's shape: the place of each number in the ONNX value, flat.
    """

    tensor: int
    shape: tuple[int, ...]
    order: np.ndarray


def laid_out(shape: tuple[int, ...]) -> np.ndarray:
    """The order in which a value of that ONNX shape is written: four dimensions as (batch, row, column, channel)."""
    order = np.arange(int(np.prod(shape))).reshape(shape)
    return np.ascontiguousarray(order.transpose(0, 2, 3, 1)) if len(shape) == 4 else order


class Layers:
    """The graph as far as it has been written; each method named after an operator writes one."""

    def __init__(self, source: Source, side: int, description: str) -> None:
        self.source = source
        self.graph = Graph(description)
        self.chip = self.graph.activation("chip", [1, side, side, 3])
        shape = (1, 3, side, side) if source.channels_first else (1, side, side, 3)
        order = laid_out(shape) if source.channels_first else np.arange(int(np.prod(shape))).reshape(shape)
        self.values = {source.input: Value(self.chip, shape, order)}
        self.scaled = ""  # the node that scales to length 1; nothing may come after it
        self.done: set[str] = set()  # outputs of nodes that were folded into the one before

    # Values

    def value(self, node: onnx.NodeProto, place: int = 0) -> Value:
        """What a node reads at that place."""
        found = self.values.get(node.input[place])
        if found is None:
            raise self.source.unfit(node, f"takes '{node.input[place]}', which is no value of the picture", ADVICE)
        return found

    def emit(self, node: onnx.NodeProto, what: What, inputs: list[int], shape: tuple[int, ...]) -> None:
        """Writes one operator, whose result has that ONNX shape and is laid out as usual."""
        self._keep(node, what, inputs, shape, laid_out(shape))

    def _keep(
        self, node: onnx.NodeProto, what: What, inputs: list[int], shape: tuple[int, ...], order: np.ndarray
    ) -> None:
        """Writes one operator and keeps account of where the numbers of its result lie."""
        name = node.output[0]
        self.values[name] = Value(self._write(name, what, inputs, list(order.shape)), shape, order)

    def _write(self, name: str, what: What, inputs: list[int], shape: list[int]) -> int:
        if self.scaled:
            raise refuse(
                self.source.path,
                f"the node '{name}' works on a vector that the node '{self.scaled}' has scaled to length 1",
                "Export the embedder up to its embedding",
            )
        out = self.graph.activation(name, shape)
        return self.graph.operator(what.code, inputs, out, what.kind, what.options)

    def plain(self, value: Value, name: str) -> int:
        """The tensor with its numbers laid out as usual for its ONNX shape; written only where they are not."""
        order = laid_out(value.shape)
        if value.order.shape == order.shape and np.array_equal(value.order, order):
            return value.tensor
        scaled, self.scaled = self.scaled, ""  # moving numbers about is no working on them
        tensor = value.tensor
        if not np.array_equal(value.order.ravel(), order.ravel()):
            tensor = self._reshape(tensor, name + "/flat", [order.size])
            place = np.empty(order.size, np.int32)
            place[value.order.ravel()] = np.arange(order.size)  # where each number of the ONNX value lies
            wanted = self.graph.constant(name + "/places", np.ascontiguousarray(place[order.ravel()]))
            what = What(Op.GATHER, schema.BuiltinOptions.GatherOptions, schema.GatherOptionsT())
            tensor = self._write(name + "/moved", what, [tensor, wanted], [order.size])
        tensor = self._reshape(tensor, name + "/shaped", list(order.shape))
        self.scaled = scaled
        return tensor

    def _reshape(self, tensor: int, name: str, shape: list[int]) -> int:
        options = schema.ReshapeOptionsT()
        options.newShape = shape
        wanted = self.graph.constant(name + "/shape", np.array(shape, np.int32))
        what = What(Op.RESHAPE, schema.BuiltinOptions.ReshapeOptions, options)
        return self._write(name, what, [tensor, wanted], shape)

    def picture(self, node: onnx.NodeProto) -> tuple[int, tuple[int, ...]]:
        """What a node reads, as (batch, row, column, channel), and its ONNX shape."""
        value = self.value(node)
        if len(value.shape) != 4:
            raise self.source.unfit(node, f"takes {list(value.shape)}, which is no picture", ADVICE)
        return self.plain(value, node.output[0] + "/in"), value.shape

    def _constant(self, node: onnx.NodeProto, name: str, values: np.ndarray) -> int:
        return self.graph.constant(f"{node.output[0]}/{name}", np.ascontiguousarray(values, np.float32))

    def _like(self, node: onnx.NodeProto, value: Value, constant: np.ndarray) -> np.ndarray:
        """A constant laid out as the value that it meets, no larger than it must be."""
        try:
            whole = np.broadcast_to(constant, value.shape).ravel()[value.order]
        except ValueError:
            raise self.source.unfit(
                node, f"makes {list(value.shape)} larger by a constant of {list(constant.shape)}", ADVICE
            ) from None
        for axis in range(whole.ndim):
            first = whole.take([0], axis)
            if (whole == first).all():
                whole = first
        return whole

    def follower(self, node: onnx.NodeProto, *kinds: str) -> onnx.NodeProto | None:
        """The next node, if it alone reads this one's result and is of such a kind."""
        reader = self.source.sole_reader(node.output[0])
        return reader if reader is not None and reader.op_type in kinds else None

    # Layers with weights

    def _absorb(self, node: onnx.NodeProto, weights: np.ndarray, bias: np.ndarray) -> tuple[Any, ...]:
        """Weights (first axis: outputs) and bias with what follows folded in, the last node that was, and if a ReLU was."""
        follower = self.follower(node, "BatchNormalization")
        if follower is not None:
            factor, shift = self._normalisation(follower)
            weights = weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
            bias, node = bias * factor + shift, follower
            self.done.add(node.output[0])
        relu = self.follower(node, "Relu")
        if relu is not None:
            node = relu
            self.done.add(node.output[0])
        return weights, bias, node, relu is not None

    def _normalisation(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
        """What a batch normalisation multiplies by and adds, per channel."""
        attributes = self.source.attributes(node)
        if attributes.get("training_mode") or any(self.source.is_read(name) for name in node.output[1:]):
            raise self.source.unfit(node, "is set for training", "Export it for inference: model.eval() in PyTorch")
        gain, shift, mean, variance = (np.asarray(self.source.constant(node, i), np.float64) for i in range(1, 5))
        factor = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return factor, shift - mean * factor

    def conv(self, node: onnx.NodeProto) -> None:
        source, (_, channels, rows, columns) = self.picture(node)
        attributes = self.source.attributes(node)
        weights = np.asarray(self.source.constant(node, 1), np.float64)
        if weights.ndim != 4:
            raise self.source.unfit(node, f"has a kernel of {weights.ndim - 2} dimensions, not two", ADVICE)
        given = self.source.constant(node, 2)
        bias = np.zeros(len(weights)) if given is None else given.astype(np.float64)
        groups, dilations = attributes.get("group", 1), attributes.get("dilations", [1, 1])
        if weights.shape[1] * groups != channels:
            raise self.source.unfit(
                node, f"takes {weights.shape[1] * groups} channels and is given {channels}", "Check the export"
            )
        window = weights.shape[2:]
        source, padding, size = self._padded(node, source, (rows, columns), window, dilations, counted=False)
        weights, bias, last, relu = self._absorb(node, weights, bias)
        if groups == channels and groups > 1:
            options = depthwise_options(1, padding, relu=relu)
            options.depthMultiplier = len(weights) // groups
            what = What(Op.DEPTHWISE_CONV_2D, schema.BuiltinOptions.DepthwiseConv2DOptions, options)
            weights = weights.transpose(1, 2, 3, 0)
        else:
            options = conv_options(1, padding, relu=relu)
            what = What(Op.CONV_2D, schema.BuiltinOptions.Conv2DOptions, options)
            weights = weights.transpose(0, 2, 3, 1)
        options.strideH, options.strideW = attributes.get("strides", [1, 1])
        options.dilationHFactor, options.dilationWFactor = dilations
        inputs = [source, self._constant(last, "w", weights), self._constant(last, "b", bias)]
        self.emit(last, what, inputs, (1, len(bias), *size))

    def _padded(
        self,
        node: onnx.NodeProto,
        source: int,
        size: tuple[int, int],
        kernel: tuple[int, ...],
        dilations: list[int],
        *,
        outside: float = 0.0,
        counted: bool = True,
    ) -> tuple[int, int, tuple[int, int]]:
        """The input of a sliding window with what its pads add, TensorFlow Lite's padding, and the size of the result.

        ONNX says how much is added on each side. TensorFlow Lite knows none, or as much as keeps the size, the odd one
        at the bottom right; anything else is a PAD of its own. `outside` is what is added there; `counted` says whether a
        window counts it, which a mean of TensorFlow Lite's own padding does not.
        """
        attributes = self.source.attributes(node)
        if attributes.get("ceil_mode"):
            raise self.source.unfit(node, "rounds sizes up (ceil_mode)", "Export it with ceil_mode=False")
        strides = attributes.get("strides", [1, 1])
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        whole = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(size, strides, reach, strict=True)]
        same = [n // 2 for n in whole] + [n - n // 2 for n in whole]
        wanted = {b"SAME_UPPER": same, b"SAME_LOWER": same[2:] + same[:2], b"VALID": [0] * 4}.get(
            attributes.get("auto_pad", b"NOTSET"), list(attributes.get("pads", [0] * 4))
        )
        self.source.spell_out_pads(node, wanted)
        result = [(n + wanted[i] + wanted[i + 2] - reach[i]) // strides[i] + 1 for i, n in enumerate(size)]
        if min(result) < 1 or min(wanted) < 0:
            raise self.source.unfit(node, f"has a window of {reach} on a picture of {list(size)}", "Check the export")
        if not any(wanted):
            return source, VALID, (result[0], result[1])
        if wanted == same and not counted:
            return source, SAME, (result[0], result[1])
        more = np.array([[0, 0], [wanted[0], wanted[2]], [wanted[1], wanted[3]], [0, 0]], np.int32)
        _, rows, columns, channels = self.graph.shape(source)
        shape = [1, rows + int(more[1].sum()), columns + int(more[2].sum()), channels]
        inputs = [source, self.graph.constant(node.output[0] + "/pads", more)]
        what = What(Op.PAD, schema.BuiltinOptions.PadOptions, schema.PadOptionsT())
        if outside:
            inputs.append(self._constant(node, "outside", np.array([outside])))
            what = What(Op.PADV2, schema.BuiltinOptions.PadV2Options, schema.PadV2OptionsT())
        return self._write(node.output[0] + "/padded", what, inputs, shape), VALID, (result[0], result[1])

    def gemm(self, node: onnx.NodeProto) -> None:
        attributes = self.source.attributes(node)
        weights = np.asarray(self.source.constant(node, 1), np.float64) * attributes.get("alpha", 1.0)
        if attributes.get("transA"):
            raise self.source.unfit(node, "turns its input (transA)", ADVICE)
        given = self.source.constant(node, 2)
        bias = np.zeros(1) if given is None else given.astype(np.float64) * attributes.get("beta", 1.0)
        self._dense(node, weights if attributes.get("transB") else weights.T, bias)

    def matmul(self, node: onnx.NodeProto) -> None:
        weights = np.asarray(self.source.constant(node, 1), np.float64)
        bias, follower = np.zeros(1), self.follower(node, "Add")
        if follower is not None:
            given = [self.source.constants[name] for name in follower.input if name in self.source.constants]
            if given and given[0].size in (1, weights.shape[-1]):
                bias, node = given[0].astype(np.float64).ravel(), self._renamed(node, follower)
        self._dense(node, weights.T, bias)

    def _renamed(self, node: onnx.NodeProto, last: onnx.NodeProto) -> onnx.NodeProto:
        """The node with the result of one that was folded into it."""
        self.done.add(last.output[0])
        merged = onnx.NodeProto()
        merged.CopyFrom(node)
        merged.output[0] = last.output[0]
        return merged

    def _dense(self, node: onnx.NodeProto, weights: np.ndarray, bias: np.ndarray) -> None:
        value = self.value(node)
        if weights.ndim != 2 or value.shape != (1, weights.shape[1]):
            raise self.source.unfit(
                node, f"multiplies {list(value.shape)} by {list(weights.T.shape)}, which is no dense layer", ADVICE
            )
        bias = np.broadcast_to(bias.ravel(), (len(weights),))
        source = value.tensor
        if value.order.shape != value.shape:
            source = self._reshape(source, node.output[0] + "/flat", list(value.shape))
        weights = weights[:, value.order.ravel()]  # the flattening wrote nothing: columns go to where their numbers lie
        weights, bias, last, relu = self._absorb(node, weights, bias)
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = add_options(relu=relu).fusedActivationFunction
        inputs = [source, self._constant(last, "w", weights), self._constant(last, "b", bias)]
        what = What(Op.FULLY_CONNECTED, schema.BuiltinOptions.FullyConnectedOptions, options)
        self.emit(last, what, inputs, (1, len(bias)))

    def batch_normalization(self, node: onnx.NodeProto) -> None:
        """One that follows no layer with weights: a multiplication and an addition."""
        value = self.value(node)
        factor, shift = (v.reshape(-1, *[1] * (len(value.shape) - 2)) for v in self._normalisation(node))
        by, plus = (self._constant(node, n, self._like(node, value, v)) for n, v in (("by", factor), ("plus", shift)))
        inner = self._write(node.output[0] + "/scaled", BINARY["Mul"], [value.tensor, by], list(value.order.shape))
        self._keep(node, BINARY["Add"], [inner, plus], value.shape, value.order)

    def prelu(self, node: onnx.NodeProto) -> None:
        self._slope(node, np.asarray(self.source.constant(node, 1)))

    def leaky_relu(self, node: onnx.NodeProto) -> None:
        self._slope(node, np.array(self.source.attributes(node).get("alpha", 0.01)))

    def _slope(self, node: onnx.NodeProto, slope: np.ndarray) -> None:
        value = self.value(node)
        slope = self._like(node, value, slope)[0]  # one picture: the batch is left out
        if slope.size == 1:
            slope = np.full((*[1] * (slope.ndim - 1), value.order.shape[-1]), slope.item())
        inputs = [value.tensor, self._constant(node, "slope", slope)]
        self._keep(node, What(Op.PRELU), inputs, value.shape, value.order)

    # Layers without weights

    def binary(self, node: onnx.NodeProto) -> None:
        fixed = [self.source.constants.get(name) for name in node.input]
        if fixed[0] is None and fixed[1] is None:
            left, right = self.value(node, 0), self.value(node, 1)
            if left.shape == right.shape and np.array_equal(left.order, right.order):
                shape, order, inputs = left.shape, left.order, [left.tensor, right.tensor]
            elif len(left.shape) == len(right.shape):
                shape = np.broadcast_shapes(left.shape, right.shape)
                order, name = laid_out(shape), node.output[0]
                inputs = [self.plain(left, name + "/left"), self.plain(right, name + "/right")]
            else:
                raise self.source.unfit(node, f"takes {list(left.shape)} and {list(right.shape)}", ADVICE)
        else:
            value = self.value(node, 0 if fixed[0] is None else 1)
            shape, order = value.shape, value.order
            inputs = [
                value.tensor if c is None else self._constant(node, "constant", self._like(node, value, c))
                for c in fixed
            ]
        self._keep(node, BINARY[node.op_type], inputs, shape, order)

    def unary(self, node: onnx.NodeProto) -> None:
        value = self.value(node)
        self._keep(node, What(UNARY[node.op_type]), [value.tensor], value.shape, value.order)

    def clip(self, node: onnx.NodeProto) -> None:
        attributes, value = self.source.attributes(node), self.value(node)
        given = (attributes.get(name, self.source.constant(node, at)) for at, name in ((1, "min"), (2, "max")))
        low, high = (
            # An exporter that means no limit may write the largest number that there is.
            none if limit is None or abs(limit) >= np.finfo(np.float32).max else float(limit)
            for limit, none in zip(given, (-np.inf, np.inf), strict=True)
        )
        code = {(0.0, 6.0): Op.RELU6, (0.0, np.inf): Op.RELU}.get((low, high))
        if code is None:
            raise self.source.unfit(
                node, f"keeps values from {low} to {high}, and only ReLU and ReLU6 are known", ADVICE
            )
        self._keep(node, What(code), [value.tensor], value.shape, value.order)

    def _pool(self, node: onnx.NodeProto, code: int, outside: float) -> None:
        source, (_, channels, rows, columns) = self.picture(node)
        attributes = self.source.attributes(node)
        if list(attributes.get("dilations", [1, 1])) != [1, 1] or any(self.source.is_read(n) for n in node.output[1:]):
            raise self.source.unfit(node, "has dilations or gives places besides values", ADVICE)
        side, before = attributes["kernel_shape"], source
        mean = code == Op.AVERAGE_POOL_2D
        counted = mean and bool(attributes.get("count_include_pad"))
        source, padding, size = self._padded(
            node, source, (rows, columns), tuple(side), [1, 1], outside=outside, counted=counted
        )
        if mean and not counted and source != before:
            raise self.source.unfit(node, "leaves its padding out of the mean", "Export it with count_include_pad=True")
        options = pool_options(1, 1)
        options.padding = padding
        options.filterHeight, options.filterWidth = side
        options.strideH, options.strideW = attributes.get("strides", [1, 1])
        self.emit(node, What(code, POOLING, options), [source], (1, channels, *size))

    def max_pool(self, node: onnx.NodeProto) -> None:
        self._pool(node, Op.MAX_POOL_2D, float(np.finfo(np.float32).min))

    def average_pool(self, node: onnx.NodeProto) -> None:
        self._pool(node, Op.AVERAGE_POOL_2D, 0.0)

    def global_average_pool(self, node: onnx.NodeProto) -> None:
        source, (_, channels, rows, columns) = self.picture(node)
        options = pool_options(1, 1)
        options.filterHeight, options.filterWidth = rows, columns
        self.emit(node, What(Op.AVERAGE_POOL_2D, POOLING, options), [source], (1, channels, 1, 1))

    def reduce_mean(self, node: onnx.NodeProto) -> None:
        axes = self._axes(node)
        if axes != [2, 3] or len(self.value(node).shape) != 4:
            raise self.source.unfit(
                node, f"takes the mean over axes {axes}, not over a picture's rows and columns", ADVICE
            )
        self.global_average_pool(node)
        if not self.source.attributes(node).get("keepdims", 1):
            value = self.values[node.output[0]]
            self.values[node.output[0]] = Value(value.tensor, value.shape[:2], value.order)

    def _axes(self, node: onnx.NodeProto) -> list[int]:
        given = self.source.attributes(node).get("axes")
        given = self.source.constant(node, 1) if given is None else given
        count = len(self.value(node).shape)
        return sorted(int(a) % count for a in (range(count) if given is None else given))

    def concat(self, node: onnx.NodeProto) -> None:
        values = [self.value(node, i) for i in range(len(node.input))]
        count = len(values[0].shape)
        axis = int(self.source.attributes(node)["axis"]) % count
        inputs = [self.plain(v, f"{node.output[0]}/in{i}") for i, v in enumerate(values)]
        shape = list(values[0].shape)
        shape[axis] = sum(v.shape[axis] for v in values)
        options = schema.ConcatenationOptionsT()
        options.axis = {1: 3, 2: 1, 3: 2}.get(axis, axis) if count == 4 else axis
        what = What(Op.CONCATENATION, schema.BuiltinOptions.ConcatenationOptions, options)
        self.emit(node, what, inputs, tuple(shape))
