"""CenterFace from its ONNX file to a float TensorFlow Lite graph of any size that is a multiple of 32.

Two things are changed, neither of which changes the result:

* The first kernel's input channels are reversed, so the graph takes BGR, the order of a camera frame.
* Batch normalisation after a transposed convolution is folded into its weights.
"""

from __future__ import annotations

from pathlib import Path

import equalise
import numpy as np
import onnx
from flatbuffer import (
    Graph,
    Op,
    add_options,
    conv_options,
    depthwise_options,
    schema,
    transpose_conv_options,
)
from onnx import numpy_helper

OUTPUTS = {"537": "heat", "538": "scale", "539": "offset", "540": "landmarks"}
LOGIT = "536"
"""What the heat map is the logistic function of."""
LEAST_LOGIT = -3.5
"""Heat 0.03. Colder cells are no faces at any threshold in use, and their logits of down to −10 would take two thirds of
the 256 steps, which left steps of 0.013 in the score of a face."""
HEADS = (LOGIT, "scale", "offset", "landmarks")
"""The four last convolutions. Nearly every cell is background, so the mean over all cells says nothing of faces: their
biases are not corrected."""


def write_float(
    source: Path, width: int, height: int, target: Path, powers: dict[str, list[int]] | None = None
) -> None:
    """Writes the float32 graph for pictures of `width` × `height` pixels, 0–255, NHWC, batch 1.

    With `powers` its channels are equalised, which changes no result: see equalise.py.
    """
    if width % 32 or height % 32:
        raise SystemExit(f"CenterFace {width}x{height}: each side must be a multiple of 32. Choose another size.")
    published = onnx.load(str(source)).graph
    nodes = list(published.node)
    constants = {t.name: numpy_helper.to_array(t) for t in published.initializer}
    constants = equalise.apply(constants, nodes, powers or {})
    graph = Graph(f"CenterFace {width}x{height}, BGR 0-255")
    at = {"input.1": graph.activation("image", [1, height, width, 3])}
    users = {name: node for node in nodes for name in node.input}  # the last user is the only one where it matters
    taken: set[str] = set()  # outputs of nodes that were folded into the one before

    def fold(node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        follower = users.get(node.output[0])
        if follower is None or follower.op_type != kind:
            return None
        taken.add(follower.output[0])
        return follower

    def label(name: str) -> str:
        return OUTPUTS.get(name, name)

    for node in nodes:
        if node.output[0] in taken:
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        source_tensor = at[node.input[0]]
        _, rows, columns, channels = graph.shape(source_tensor)
        if node.op_type == "Conv":
            weights, bias = constants[node.input[1]], constants[node.input[2]]
            stride, pad = attributes["strides"][0], attributes["pads"][0]
            if node.input[0] == "input.1":
                weights = weights[:, ::-1]  # RGB to BGR
            relu = fold(node, "Relu")
            padding = schema.Padding.SAME
            if stride == 2 and pad:
                # PyTorch pads one pixel on each side; on an even size SAME would pad one at the bottom right.
                source_tensor, padding = _pad(graph, source_tensor, node.output[0]), schema.Padding.VALID
            name = (relu or node).output[0]
            out = graph.activation(label(name), [1, rows // stride, columns // stride, weights.shape[0]])
            if attributes["group"] == 1:
                code, options = Op.CONV_2D, conv_options(stride, padding, relu=relu is not None)
                kind, laid_out = schema.BuiltinOptions.Conv2DOptions, weights.transpose(0, 2, 3, 1)
            else:
                code, options = Op.DEPTHWISE_CONV_2D, depthwise_options(stride, padding, relu=relu is not None)
                kind, laid_out = schema.BuiltinOptions.DepthwiseConv2DOptions, weights.transpose(1, 2, 3, 0)
            inputs = [
                source_tensor,
                graph.constant(name + "/w", np.ascontiguousarray(laid_out)),
                graph.constant(name + "/b", bias),
            ]
            at[name] = graph.operator(code, inputs, out, kind, options)
        elif node.op_type == "ConvTranspose":
            norm = fold(node, "BatchNormalization")
            relu = fold(norm, "Relu")
            gain, shift, mean, variance = (constants[name] for name in norm.input[1:])
            epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
            factor = gain / np.sqrt(variance + epsilon)
            weights = (constants[node.input[1]] * factor[None, :, None, None]).transpose(1, 2, 3, 0)
            bias = (shift - mean * factor).astype(np.float32)
            name = relu.output[0]
            shape = np.array([1, rows * 2, columns * 2, weights.shape[0]], np.int32)
            out = graph.activation(name, shape.tolist())
            inputs = [
                graph.constant(name + "/shape", shape),
                graph.constant(name + "/w", np.ascontiguousarray(weights, np.float32)),
                source_tensor,
                graph.constant(name + "/b", bias),
            ]
            options = transpose_conv_options(2, relu=True)
            at[name] = graph.operator(
                Op.TRANSPOSE_CONV, inputs, out, schema.BuiltinOptions.TransposeConvOptions, options
            )
        elif node.op_type == "Add":
            out = graph.activation(node.output[0], [1, rows, columns, channels])
            inputs = [at[name] for name in node.input]
            at[node.output[0]] = graph.operator(Op.ADD, inputs, out, schema.BuiltinOptions.AddOptions, add_options())
        elif node.op_type == "Sigmoid":
            out = graph.activation(label(node.output[0]), [1, rows, columns, channels])
            at[node.output[0]] = graph.operator(Op.LOGISTIC, [source_tensor], out)
        else:
            raise SystemExit(f"CenterFace: the source has an operator {node.op_type}. Extend centerface.py for it.")
    graph.finish({"image": at["input.1"]}, {label: at[name] for name, label in OUTPUTS.items()}, target)


def _pad(graph: Graph, tensor: int, name: str) -> int:
    _, rows, columns, channels = graph.shape(tensor)
    widths = graph.constant(name + "/pads", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    out = graph.activation(name + "/padded", [1, rows + 2, columns + 2, channels])
    return graph.operator(Op.PAD, [tensor, widths], out, schema.BuiltinOptions.PadOptions, schema.PadOptionsT())
