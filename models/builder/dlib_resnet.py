"""dlib's face recognition network, from dlib's own file format to a float TensorFlow Lite graph.

`scripts/pack-model add FOLDER dlib_face_recognition_resnet_model_v1.dat …` calls it.

The network is the one that dlib's example dnn_face_recognition_ex.cpp documents: 29 convolutions, each followed by an
affine layer, in residual blocks. The file holds, one after the other from input to output, each layer's name and
what it learnt. What is read here, of dlib's format (serialize.h, cuda/tensor_tools and dnn/layers.h of dlib 19):

* an integer is one byte that says how many follow (its top bit: negative), then those, least significant first;
* a text is its length, then its bytes; a layer begins with its name as a text;
* a tensor is the version 2, four integers (samples, channels, rows, columns), then float32, least significant byte first.

Three things are folded into the weights, none of which changes the result beyond rounding: the affine layers, and the
mean and the divisor of the input. So the graph takes RGB 0–255, and its card has neither mean nor divisor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flatbuffer import Graph, Op, add_options, conv_options, pool_options, schema

CHIP = 150  # pixels
MEAN = np.array([122.782, 117.001, 104.298])  # of R, G and B, grey levels: dlib's input_rgb_image_sized
DIVISOR = 256.0
LAYERS = re.compile(rb"\x01.(con_4|affine_|relu_|max_pool_2|avg_pool_2|add_prev_|fc_2)", re.DOTALL)
INTEGERS_BEFORE_TENSOR = {"con_4": 0, "affine_": 0, "fc_2": 2}  # fc_2: its outputs and its inputs
BLOCK = ("con_4", "affine_", "relu_", "con_4", "affine_")
VALID, SAME = schema.Padding.VALID, schema.Padding.SAME


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its name, and what it learnt, flat; empty where it learns nothing."""

    name: str
    values: np.ndarray


def read(content: bytes) -> list[Layer]:
    """The layers from input to output."""
    layers = []
    for match in LAYERS.finditer(content):
        name = match[1].decode()
        if content[match.start() + 1] != len(name):
            continue  # chance: these bytes are weights
        values = np.empty(0, np.float32)
        if name in INTEGERS_BEFORE_TENSOR:
            at = match.end()
            for _ in range(INTEGERS_BEFORE_TENSOR[name]):
                _, at = _integer(content, at)
            values = _tensor(content, at)
        layers.append(Layer(name, values))
    return layers


def _integer(content: bytes, at: int) -> tuple[int, int]:
    size = content[at] & 0x7F
    value = int.from_bytes(content[at + 1 : at + 1 + size], "little")
    return (-value if content[at] & 0x80 else value), at + 1 + size


def _tensor(content: bytes, at: int) -> np.ndarray:
    version, at = _integer(content, at)
    shape = []
    for _ in range(4):
        length, at = _integer(content, at)
        shape.append(length)
    count = int(np.prod(shape))
    if version != 2 or not 0 < count * 4 <= len(content) - at:
        raise SystemExit("A tensor of the file is not as dlib 19 writes it. Extend dlib_resnet.py for this version.")
    return np.frombuffer(content, "<f4", count, at).astype(np.float32)


class Builder:
    """Takes the layers one by one and grows the graph."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.next = 0
        self.graph = Graph("dlib face recognition ResNet, 150x150, RGB 0-255")

    def take(self, name: str) -> np.ndarray:
        """What the next layer learnt, which must be of that name."""
        if self.next == len(self.layers) or self.layers[self.next].name != name:
            raise SystemExit(f"Layer {self.next} of the file is no {name}: it is not dlib's face recognition network.")
        self.next += 1
        return self.layers[self.next - 1].values

    def ahead(self, steps: int) -> str:
        """The name of the layer that many steps ahead; empty past the end."""
        place = self.next + steps
        return self.layers[place].name if place < len(self.layers) else ""

    def convolution(self, source: int, side: int, stride: int, *, relu: bool, first: bool = False) -> int:
        """A convolution and the affine layer after it. dlib pads by half the kernel at stride 1 and not at all at 2."""
        _, rows, _, channels = self.graph.shape(source)
        learnt, scaling = self.take("con_4"), self.take("affine_").astype(np.float64)
        filters = len(scaling) // 2
        if len(learnt) != filters * (channels * side * side + 1):
            raise SystemExit(
                f"Layer {self.next - 2}: {len(learnt)} weights do not make {filters} filters of {side}x{side}."
            )
        weights = learnt[:-filters].astype(np.float64).reshape(filters, channels, side, side).transpose(0, 2, 3, 1)
        bias = learnt[-filters:].astype(np.float64)
        gamma, beta = scaling[:filters], scaling[filters:]
        weights, bias = weights * gamma[:, None, None, None], bias * gamma + beta
        if first:  # it pads nothing, so that the mean is the same for every output
            weights = weights / DIVISOR
            bias = bias - (weights * MEAN).sum((1, 2, 3))
        padding = SAME if stride == 1 else VALID
        size = rows if stride == 1 else (rows - side) // stride + 1
        name = f"con{self.next - 1}"
        return self.graph.operator(
            Op.CONV_2D,
            [
                source,
                self.graph.constant(f"{name}/w", weights.astype(np.float32)),
                self.graph.constant(f"{name}/b", bias.astype(np.float32)),
            ],
            self.graph.activation(name, [1, size, size, filters]),
            schema.BuiltinOptions.Conv2DOptions,
            conv_options(stride, padding, relu=relu),
        )

    def pool(self, code: int, source: int, side: int, stride: int) -> int:
        """A pooling that pads nothing."""
        _, rows, _, channels = self.graph.shape(source)
        size = (rows - side) // stride + 1
        out = self.graph.activation(f"pool{self.next}", [1, size, size, channels])
        options = pool_options(side, stride)
        return self.graph.operator(code, [source], out, schema.BuiltinOptions.Pool2DOptions, options)

    def grown(self, tensor: int, size: int, channels: int) -> int:
        """With zeros at the bottom, at the right and in further channels: so dlib adds tensors of different shapes."""
        _, rows, _, have = self.graph.shape(tensor)
        if (rows, have) == (size, channels):
            return tensor
        name = f"grown{self.next}-{tensor}"
        more = [[0, 0], [0, size - rows], [0, size - rows], [0, channels - have]]
        return self.graph.operator(
            Op.PAD,
            [tensor, self.graph.constant(f"{name}/pads", np.array(more, np.int32))],
            self.graph.activation(name, [1, size, size, channels]),
            schema.BuiltinOptions.PadOptions,
            schema.PadOptionsT(),
        )

    def block(self, source: int) -> int:
        """A residual block; where an average pooling follows, its input is halved on both ways round."""
        if tuple(self.ahead(i) for i in range(len(BLOCK))) != BLOCK:
            raise SystemExit(f"At layer {self.next} no residual block begins: it is not dlib's network.")
        halved = self.ahead(len(BLOCK)) == "avg_pool_2"
        inner = self.convolution(source, 3, 2 if halved else 1, relu=True)
        self.take("relu_")
        inner = self.convolution(inner, 3, 1, relu=False)
        if halved:
            self.take("avg_pool_2")
            source = self.pool(Op.AVERAGE_POOL_2D, source, 2, 2)
        self.take("add_prev_")
        self.take("relu_")
        size = max(self.graph.shape(source)[1], self.graph.shape(inner)[1])
        channels = max(self.graph.shape(source)[3], self.graph.shape(inner)[3])
        ways = [self.grown(inner, size, channels), self.grown(source, size, channels)]
        out = self.graph.activation(f"block{self.next}", [1, size, size, channels])
        return self.graph.operator(Op.ADD, ways, out, schema.BuiltinOptions.AddOptions, add_options(relu=True))

    def build(self, target: Path) -> None:
        """The whole network."""
        chip = self.graph.activation("chip", [1, CHIP, CHIP, 3])
        at = self.convolution(chip, 7, 2, relu=True, first=True)
        self.take("relu_")
        self.take("max_pool_2")
        at = self.pool(Op.MAX_POOL_2D, at, 3, 2)
        while self.ahead(0) == "con_4":
            at = self.block(at)
        self.take("avg_pool_2")
        at = self.pool(Op.AVERAGE_POOL_2D, at, self.graph.shape(at)[1], 1)
        inputs = self.graph.shape(at)[3]
        weights = self.take("fc_2").reshape(inputs, -1).T  # no bias
        out = self.graph.activation("embedding", [1, len(weights)])
        options = schema.FullyConnectedOptionsT()
        constant = self.graph.constant("fc/w", np.ascontiguousarray(weights))
        self.graph.operator(
            Op.FULLY_CONNECTED, [at, constant], out, schema.BuiltinOptions.FullyConnectedOptions, options
        )
        if self.next != len(self.layers):
            raise SystemExit(f"The file has {len(self.layers) - self.next} layers more than dlib's network.")
        self.graph.finish({"chip": chip}, {"embedding": out}, target)


def convert(source: Path, target: Path) -> None:
    """Writes the float32 graph: input (1,150,150,3) RGB 0–255 in dlib's alignment, output (1,128), not of length 1."""
    Builder(read(source.read_bytes())).build(target)
