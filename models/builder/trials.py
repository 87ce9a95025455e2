"""Ways of quantising the embedder that were tried and not shipped; docs/models.md has the table.

    trials.py CHIPS.npy TARGET     CHIPS: (n, 112, 112, 3) uint8 BGR of people of the calibration split
                                   (scripts/bench-models chips); TARGET: folder for a pack with all of them

The pack is then measured like any other: lfr-edge evaluate --models TARGET --embedder mobilefacenet:static-split …
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import biases
import calibration
import mobilefacenet
import numpy as np
import quantise
import rounding
import tomlkit
from ai_edge_litert.tools import flatbuffer_utils
from build import MODELS, describe, sha256
from flatbuffer import Op, schema

FACES = 400
TWO_MORE = (  # after those that ship in float, what leaving a layer in float wins most by
    mobilefacenet.BLOCK.format("2_InvResBlock_0/Conv_1"),
    mobilefacenet.BLOCK.format("3_InvResBlock_0/Conv_1"),
)


def main() -> None:
    """Builds every trial and writes a card for them."""
    chips, target = np.load(sys.argv[1]), Path(sys.argv[2]) / "mobilefacenet"
    target.mkdir(parents=True, exist_ok=True)
    source = MODELS / "mobilefacenet/build/mobilefacenet-float.tflite"
    step = max(len(chips) // FACES, 1)
    inputs = [((chip[None, ..., ::-1].astype(np.float32)) - 127.5) / 128 for chip in chips[::step]]
    few = inputs[::4]
    shutil.copy(source, target / "float.tflite")
    dynamic_forms(source, target, inputs)
    ranges = calibration.ranges(source, inputs)
    quantise.static(source, ranges, target / "static-prelu.tflite")
    split_prelu(source, target / "split-float.tflite")
    ranges = calibration.ranges(target / "split-float.tflite", inputs)
    quantise.static(target / "split-float.tflite", ranges, target / "static-split.tflite")
    quantise.static(target / "split-float.tflite", ranges, target / "static-split-percentile.tflite", percentile=True)
    equalised(source, target / "equalised.tflite", inputs)
    split_prelu(target / "equalised.tflite", target / "equalised-split.tflite")
    best = target / "equalised-split.tflite"
    ranges = calibration.ranges(best, inputs)
    quantise.static(best, ranges, target / "static-equalised.tflite", percentile=True)

    def static(graph: Path, result: Path) -> None:
        quantise.static(graph, ranges, result, percentile=True)

    biases.apply(best, biases.measure(best, static, lambda: few), target / "static-biases-float.tflite")
    static(target / "static-biases-float.tflite", target / "static-biases.tflite")
    quantise.static(
        target / "static-biases-float.tflite",
        ranges,
        target / "static-mixed.tflite",
        percentile=True,
        keep_float=mobilefacenet.KEPT_FLOAT,
    )
    card = tomlkit.parse((MODELS / "mobilefacenet/card.toml").read_text())
    card["variants"] = tomlkit.table()
    for file in sorted(target.glob("*.tflite")):
        entry = tomlkit.parse(
            f'file = "{file.name}"\nsha256 = "{sha256(file)}"\nshipped = false\nquantisation = "a trial"\n'
            'input = { name = "chip" }\noutputs = [{ name = "embedding" }]\n'
        )
        describe(file, entry)
        card["variants"][file.stem] = entry
    (target / "card.toml").write_text(tomlkit.dumps(card))


def dynamic_forms(source: Path, target: Path, inputs: list[np.ndarray]) -> None:
    """What ships, and what it is made of, one step at a time."""
    kept = mobilefacenet.KEPT_FLOAT
    merged = target / "merged.tflite"
    mobilefacenet.merge(source, merged)
    quantise.dynamic(source, target / "dynamic-plain.tflite")
    quantise.dynamic(source, target / "dynamic-depthwise.tflite", ("CONV_2D", "DEPTHWISE_CONV_2D"))
    quantise.dynamic(merged, target / "dynamic-merged.tflite")
    quantise.dynamic(merged, target / "dynamic-kept.tflite", keep_float=kept)
    biases.apply(
        merged,
        biases.measure(merged, quantise.dynamic, lambda: inputs),
        target / "merged-biases.tflite",
    )
    quantise.dynamic(target / "merged-biases.tflite", target / "dynamic-biases.tflite")
    quantise.dynamic(target / "merged-biases.tflite", target / "dynamic-five.tflite", keep_float=(*kept, *TWO_MORE))
    rounding.gptq(merged, target / "rounded.tflite", inputs)
    rounded = target / "rounded.tflite"
    found = biases.measure(merged, quantise.dynamic, lambda: inputs, start=rounded)
    biases.apply(rounded, found, target / "rounded-biases.tflite")
    quantise.dynamic(target / "rounded-biases.tflite", target / "dynamic-rounded.tflite")
    shutil.copy(MODELS / "mobilefacenet/mobilefacenet-dynamic-int8.tflite", target / "dynamic-shipped.tflite")


def _values(model: schema.ModelT, tensor: int) -> np.ndarray:
    held = model.subgraphs[0].tensors[tensor]
    return np.frombuffer(bytes(model.buffers[held.buffer].data), np.float32).reshape(held.shape)


def _store(model: schema.ModelT, tensor: int, values: np.ndarray) -> None:
    held = model.subgraphs[0].tensors[tensor]
    model.buffers[held.buffer].data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)


def _codes(model: schema.ModelT) -> list[int]:
    return [code.builtinCode for code in model.operatorCodes]


def split_prelu(source: Path, target: Path) -> None:
    """PReLU as relu(x) − relu(−a·x), or + for a channel with a < 0: exact for every slope, and XNNPACK runs all of it in int8.

    MUL carries the RELU, since a RELU of its own is not delegated in int8.
    """
    model = flatbuffer_utils.read_model(str(source))
    graph, codes = model.subgraphs[0], _codes(model)
    for code in (Op.MUL, Op.ADD):
        if code not in codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 2
            model.operatorCodes.append(entry)
            codes.append(code)

    def tensor(name: str, shape: list[int], values: np.ndarray | None = None) -> int:
        new = schema.TensorT()
        new.name, new.shape, new.type, new.buffer = name, shape, schema.TensorType.FLOAT32, 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(buffer)
            new.buffer = len(model.buffers) - 1
        graph.tensors.append(new)
        return len(graph.tensors) - 1

    def operator(code: int, inputs: list[int], output: int, *, relu: bool) -> schema.OperatorT:
        new = schema.OperatorT()
        new.opcodeIndex, new.inputs, new.outputs = codes.index(code), inputs, [output]
        options = schema.MulOptionsT() if code == Op.MUL else schema.AddOptionsT()
        kinds = schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
        new.builtinOptions = options
        new.builtinOptionsType = (
            schema.BuiltinOptions.MulOptions if code == Op.MUL else schema.BuiltinOptions.AddOptions
        )
        return new

    kept = []
    for number, old in enumerate(graph.operators):
        if codes[old.opcodeIndex] != Op.PRELU:
            kept.append(old)
            continue
        x, y = old.inputs[0], old.outputs[0]
        slope, shape = _values(model, old.inputs[1]).reshape(-1), list(graph.tensors[x].shape)
        width = [1, 1, 1, len(slope)]
        up, down = tensor(f"up{number}", shape), tensor(f"down{number}", shape)
        ones = tensor(f"one{number}", [1], np.ones(1))
        kept.append(operator(Op.MUL, [x, ones], up, relu=True))
        kept.append(operator(Op.MUL, [x, tensor(f"slope{number}", width, -np.abs(slope))], down, relu=True))
        signed = tensor(f"signed{number}", shape)
        kept.append(operator(Op.MUL, [down, tensor(f"sign{number}", width, -np.sign(slope))], signed, relu=False))
        kept.append(operator(Op.ADD, [up, signed], y, relu=False))
    graph.operators = kept
    flatbuffer_utils.write_model(model, str(target))


def equalised(source: Path, target: Path, inputs: list[np.ndarray]) -> None:
    """Channels equalised by powers of two across PReLU, which is as homogeneous as ReLU: prelu(s·x) = s·prelu(x)."""
    model = flatbuffer_utils.read_model(str(source))
    graph, codes = model.subgraphs[0], _codes(model)
    convolutions = (Op.CONV_2D, Op.DEPTHWISE_CONV_2D)
    makers = {o.outputs[0]: o for o in graph.operators}
    triples = []
    for old in graph.operators:
        if codes[old.opcodeIndex] != Op.PRELU:
            continue
        after = [o for o in graph.operators if old.outputs[0] in list(o.inputs)]
        if len(after) == 1 and codes[after[0].opcodeIndex] in convolutions:
            triples.append((makers[old.inputs[0]], old, after[0]))

    def name(index: int) -> str:
        raw = graph.tensors[index].name
        return raw.decode() if isinstance(raw, bytes) else raw

    size = calibration.largest(source, inputs, [name(p.outputs[0]) for _, p, _ in triples], absolute=True)
    for maker, prelu, after in triples:
        largest = size[name(prelu.outputs[0])]
        depthwise = codes[after.opcodeIndex] == Op.DEPTHWISE_CONV_2D
        room = np.log2(largest.max() / np.maximum(largest, 1e-9)) * (1.0 if depthwise else 0.5)
        factor = np.exp2(np.clip(np.floor(room), 0, 6)).astype(np.float32)
        first = _values(model, maker.inputs[1])
        along = (1, 1, 1, -1) if codes[maker.opcodeIndex] == Op.DEPTHWISE_CONV_2D else (-1, 1, 1, 1)
        _store(model, maker.inputs[1], first * factor.reshape(along))
        _store(model, maker.inputs[2], _values(model, maker.inputs[2]) * factor)
        _store(model, after.inputs[1], _values(model, after.inputs[1]) / factor)
    flatbuffer_utils.write_model(model, str(target))


if __name__ == "__main__":
    main()
