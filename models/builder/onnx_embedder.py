"""A force's own embedder from ONNX to a float TensorFlow Lite graph: `scripts/pack-model add FOLDER MODEL.onnx …`.

What changes no result beyond rounding is folded: batch normalisation after a convolution or a dense layer, and a ReLU
after either. A scaling to length 1 at the end is left out, since a van scales every template itself. Whether the graph
that was written is the one that was read is then tried on chips of noise: see `verify`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx_layers import ADVICE, BINARY, UNARY, Layers, Value
from onnx_source import DOMAINS, Source, refuse

LEAST_COSINE = 0.9999
GRAINS = (1, 4, 16)
"""Sides in pixels of the squares of noise of each chip. ONNX's own evaluator, which is written to be right, takes some
seconds for each."""
OF_A_LENGTH = ("ReduceSum", "Clip", "Max", "Add", "Expand", "Sqrt", "Reciprocal", "Pow", "Identity", "Unsqueeze")
"""What exporters put between the numbers of a vector and the division by its length."""


class Converter(Layers):
    """Takes the nodes one by one and grows the graph."""

    def convert(self, target: Path) -> None:
        """Writes the whole graph."""
        self.lengths: dict[str, str] = {}  # a length, or what one is made of → the vector that it is of
        for node in self.source.nodes:
            if node.output[0] in self.done or node.output[0] in self.source.constants or self.source.fold(node):
                continue
            if node.domain not in DOMAINS:
                raise self.source.unfit(node, f"is of '{node.domain}', not of ONNX itself", ADVICE)
            try:
                if not self._scales(node):
                    self._writer(node)(node)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                cause = f"is not as ONNX describes it ({type(error).__name__}: {error})"
                raise self.source.unfit(node, cause, "Check the file with onnx.checker.check_model") from error
        embedding = self.values.get(self.source.output)
        shape = () if embedding is None else embedding.shape
        if embedding is None or len(shape) < 2 or max(shape) != int(np.prod(shape)):
            raise refuse(
                self.source.path, f"its output is {list(shape)}, not one vector [1, n]", "Export the embedder alone"
            )
        flat = Value(embedding.tensor, (1, max(shape)), embedding.order)
        self.graph.finish({"chip": self.chip}, {"embedding": self.plain(flat, self.source.output)}, target)

    def _writer(self, node: onnx.NodeProto) -> Callable[[onnx.NodeProto], None]:
        """What writes an operator of that kind."""
        kind = node.op_type
        known: dict[str, Callable[[onnx.NodeProto], None]] = {
            "AveragePool": self.average_pool,
            "BatchNormalization": self.batch_normalization,
            "Cast": self.same,
            "Clip": self.clip,
            "Concat": self.concat,
            "Conv": self.conv,
            "Dropout": self.same,
            "Gemm": self.gemm,
            "GlobalAveragePool": self.global_average_pool,
            "Identity": self.same,
            "LeakyRelu": self.leaky_relu,
            "MatMul": self.matmul,
            "MaxPool": self.max_pool,
            "PRelu": self.prelu,
            "ReduceMean": self.reduce_mean,
            "Shape": self.shape_of,
            "Transpose": self.transpose,
            **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), self.reshape),
            **dict.fromkeys(BINARY, self.binary),
            **dict.fromkeys(UNARY, self.unary),
        }
        if kind not in known:
            raise self.source.unfit(node, "is none that this converter knows", ADVICE)
        return known[kind]

    # What writes nothing

    def same(self, node: onnx.NodeProto) -> None:
        """Identity, what a dropout is at inference, and a conversion to the type that it has."""
        if node.op_type == "Cast" and self.source.attributes(node)["to"] != onnx.TensorProto.FLOAT:
            raise self.source.unfit(node, "makes other numbers than float32", "Export it in float32")
        training = self.source.constant(node, 2) if node.op_type == "Dropout" else None
        if training is not None and training.any():
            raise self.source.unfit(node, "is set for training", "Export it for inference: model.eval() in PyTorch")
        self.values[node.output[0]] = self.value(node)

    def shape_of(self, node: onnx.NodeProto) -> None:
        """Known, since the input's size is."""
        attributes = self.source.attributes(node)
        shape = self.value(node).shape[attributes.get("start", 0) : attributes.get("end")]
        self.source.constants[node.output[0]] = np.array(shape, np.int64)

    def transpose(self, node: onnx.NodeProto) -> None:
        """The numbers stay where they are; their places in the ONNX value change."""
        value = self.value(node)
        axes = self.source.attributes(node).get("perm", list(range(len(value.shape)))[::-1])
        before = np.arange(value.order.size).reshape(value.shape).transpose(axes)
        after = np.empty(value.order.size, np.int64)
        after[before.ravel()] = np.arange(value.order.size)
        self.values[node.output[0]] = Value(value.tensor, before.shape, after[value.order])

    def reshape(self, node: onnx.NodeProto) -> None:
        """Flatten, Reshape, Squeeze, Unsqueeze: the places in the ONNX value stay too; only its shape changes."""
        value, attributes = self.value(node), self.source.attributes(node)
        shape = list(value.shape)
        if node.op_type == "Flatten":
            axis = attributes.get("axis", 1) % (len(shape) + 1)
            wanted = [int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))]
        elif node.op_type == "Reshape":
            given = [int(n) for n in np.asarray(self.source.constant(node, 1))]
            copies = not attributes.get("allowzero")
            wanted = [shape[i] if n == 0 and copies and i < len(shape) else n for i, n in enumerate(given)]
        else:
            axes = attributes.get("axes")
            axes = self.source.constant(node, 1) if axes is None else axes
            if node.op_type == "Squeeze":
                places = range(len(shape)) if axes is None else [int(a) % len(shape) for a in axes]
                wanted = [n for i, n in enumerate(shape) if i not in places or n != 1]
            else:
                wanted = list(np.expand_dims(np.broadcast_to(0, shape), tuple(int(a) for a in axes)).shape)
        try:
            result = np.broadcast_to(0, shape).reshape(wanted).shape
        except ValueError:
            raise self.source.unfit(
                node, f"cannot make {wanted} of {shape}", "Export it for one face at a time (a batch of 1)"
            ) from None
        self.values[node.output[0]] = Value(value.tensor, result, value.order)

    def _scales(self, node: onnx.NodeProto) -> bool:
        """Whether a node belongs to a scaling to length 1. None of it is written: nothing may come after it."""
        kind, name = node.op_type, node.output[0]
        vector = node.input[0] if node.input else ""
        lengths = {self.lengths[i] for i in node.input if i in self.lengths}
        squared = (
            (kind == "Mul" and list(node.input) == [vector, vector])
            or (kind == "Pow" and self.source.constants.get(node.input[1], np.zeros(1)).tolist() in (2, [2]))
        ) and self.follower(node, "ReduceSum") is not None
        if kind == "ReduceL2" or squared:
            if not squared:
                self._check_axes(node, vector)
            self.lengths[name] = vector
        elif kind == "LpNormalization" or (kind in ("Div", "Mul") and lengths):
            of = vector if not lengths else lengths.pop()
            others = [i for i in node.input if i not in self.lengths]
            if others != [of] or self.source.attributes(node).get("p", 2) != 2:
                raise self.source.unfit(node, "divides by something other than the vector's own length", ADVICE)
            if not self.lengths:
                self._check_axes(node, vector)
            self.values[name], self.scaled = self.values[of], self.source.name_of(node)
        elif kind in OF_A_LENGTH and lengths:
            if kind == "ReduceSum":
                self._check_axes(node, lengths.copy().pop())
            if any(i and i not in self.lengths and i not in self.source.constants for i in node.input):
                raise self.source.unfit(node, "mixes a vector's length with something else", ADVICE)
            self.lengths[name] = lengths.pop()
        else:
            return False
        return True

    def _check_axes(self, node: onnx.NodeProto, vector: str) -> None:
        """Refuses a length that is not that of the one vector."""
        value, attributes = self.values.get(vector), self.source.attributes(node)
        axes = attributes.get("axes", attributes.get("axis"))
        if axes is None and node.op_type != "LpNormalization":
            axes = self.source.constant(node, 1)
        axes = np.atleast_1d(-1 if axes is None else axes).tolist()
        if value is None or len(value.shape) != 2 or axes not in ([1], [-1]):
            raise self.source.unfit(node, "takes a length before there is one vector", ADVICE)


class BatchNormalization(OpRun):
    """As at inference. ONNX's own evaluator, up to 1.22, moves the means towards those of the picture below opset 14."""

    def _run(
        self, x: np.ndarray, gain: np.ndarray, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray, **said: float
    ) -> tuple[np.ndarray]:
        gain, shift, mean, variance = (
            v.reshape(-1, *[1] * (x.ndim - 2)).astype(np.float64) for v in (gain, shift, mean, variance)
        )
        return ((gain * (x - mean) / np.sqrt(variance + said["epsilon"]) + shift).astype(x.dtype),)


def verify(source: Source, target: Path, side: int, mean: float, divisor: float) -> float:
    """The least cosine between what ONNX's own evaluator and the written graph make of the same chips of noise.

    Also of the vectors less their mean over the chips: a network may give much the same for all noise, and a graph that
    gives that always would pass.

    Args:
        source: the file that was read.
        target: the graph that was written.
        side: of a chip, pixels.
        mean: subtracted from each grey level before the network.
        divisor: of the difference.

    Raises:
        SystemExit: a cosine is below LEAST_COSINE. The written file is removed.
    """
    random = np.random.default_rng(13)
    interpreter = Interpreter(model_path=str(target))
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    evaluator = ReferenceEvaluator(source.model, new_ops=[BatchNormalization])
    pairs = []
    for grain in GRAINS:
        squares = random.integers(0, 256, (-(-side // grain), -(-side // grain), 3))
        levels = squares.repeat(grain, 0).repeat(grain, 1)[None, :side, :side]
        chip = ((levels - mean) / divisor).astype(np.float32)
        interpreter.set_tensor(entry, chip)
        interpreter.invoke()
        picture = np.ascontiguousarray(chip.transpose(0, 3, 1, 2)) if source.channels_first else chip
        said = evaluator.run([source.output], {source.input: picture})[0]
        pairs.append(np.stack([np.ravel(v).astype(np.float64) for v in (said, interpreter.get_tensor(end))]))
    both = np.stack(pairs)  # chip, which graph, number
    both /= np.linalg.norm(both, axis=2, keepdims=True)
    centred = both - both[:, :1].mean(0, keepdims=True)
    cosines = [(v[:, 0] * v[:, 1]).sum(1) / np.linalg.norm(v, axis=2).prod(1) for v in (both, centred)]
    least = float(np.min(cosines))
    if not least >= LEAST_COSINE:  # not "<": whatever is no number is refused too
        target.unlink()
        raise refuse(
            source.path,
            f"the converted graph does not compute what the file says: on chips of noise the least cosine is {least:.6f}, "
            f"and {LEAST_COSINE} is asked for",
            "Nothing was written: the converter is wrong about this file, so report it with the file's operators",
        )
    return least


def convert(path: Path, target: Path, side: int, mean: float = 0.0, divisor: float = 1.0) -> float:
    """Writes the float32 graph: input (1, side, side, 3) as the ONNX file wants its numbers, output (1, n).

    Returns:
        The least cosine of `verify`.

    Raises:
        SystemExit: the file is refused, in one sentence why and one what to do.
    """
    source = Source(path, side)
    Converter(source, side, f"{path.stem} from ONNX, {side}x{side}").convert(target)
    return verify(source, target, side, mean, divisor)
