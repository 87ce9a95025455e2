"""Cross-layer equalisation in powers of two (after Nagel et al., Data-Free Quantization, 2019).

An int8 activation has one step for all its channels, so a channel that stays small is left with a few levels. Between two
convolutions with nothing but a ReLU in between, a channel can be made larger in the first and smaller in the second, and
nothing changes: relu(s·x) = s·relu(x). With powers of two not even rounding does, so the float graph gives the same bits.
"""

from __future__ import annotations

import numpy as np
import onnx

MOST = 6  # a channel is enlarged by 2^6 at most: beyond, it is as good as never used


def pairs(nodes: list[onnx.NodeProto]) -> dict[str, tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Tensor → (convolution that makes it, through a ReLU; the only convolution that reads it)."""
    makers = {node.output[0]: node for node in nodes}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for node in nodes:
        if node.op_type != "Relu":
            continue
        maker, after = makers[node.input[0]], readers.get(node.output[0], [])
        if maker.op_type == "Conv" and len(after) == 1 and after[0].op_type == "Conv":
            found[node.output[0]] = (maker, after[0])
    return found


def exponents(largest: dict[str, np.ndarray], nodes: list[onnx.NodeProto]) -> dict[str, list[int]]:
    """How far each channel is enlarged, as powers of two, from the largest value that it took.

    In front of a depthwise convolution, whose weights have a step for each channel anyway, the whole difference is made
    up. In front of a full one the channels share the step of its weights, so half of it is.
    """
    chosen = {}
    for name, (_, reader) in pairs(nodes).items():
        depthwise = next(a.i for a in reader.attribute if a.name == "group") > 1
        room = np.log2(largest[name].max() / np.maximum(largest[name], 1e-9))
        chosen[name] = np.clip(np.floor(room * (1.0 if depthwise else 0.5)), 0, MOST).astype(int).tolist()
    return chosen


def apply(
    constants: dict[str, np.ndarray], nodes: list[onnx.NodeProto], powers: dict[str, list[int]]
) -> dict[str, np.ndarray]:
    """The constants with each channel enlarged in the first convolution and made smaller in the second."""
    changed = dict(constants)
    for name, (maker, reader) in pairs(nodes).items():
        if name not in powers:
            continue
        factor = np.exp2(np.array(powers[name])).astype(np.float32)
        depthwise = next(a.i for a in reader.attribute if a.name == "group") > 1
        weights, bias, after = maker.input[1], maker.input[2], reader.input[1]
        changed[weights] = changed[weights] * factor[:, None, None, None]
        changed[bias] = changed[bias] * factor
        shape = (-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)
        changed[after] = changed[after] / factor.reshape(shape)
    return changed
