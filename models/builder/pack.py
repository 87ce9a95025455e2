"""A force's own embedder into a pack: called by scripts/pack-model.

    pack.py FOLDER MODEL     FOLDER holds a card.toml without variants; MODEL is float TensorFlow Lite, ONNX, or dlib's .dat

The float model is made to take one face at a time and its PReLU is put back together where a converter spelt it out;
then its convolutions are quantised (int8 weights per channel, activations as they run). Both become variants of the card.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dlib_resnet
import mobilefacenet
import onnx_embedder
import quantise
import tomlkit
from build import describe, sha256

SCHEME = "dynamic int8: weights of {} per output channel, symmetric; activations quantised per picture as they run"


def main() -> None:
    """Builds both variants and writes them into the card."""
    folder, source = Path(sys.argv[1]), Path(sys.argv[2])
    card_path = folder / "card.toml"
    card = tomlkit.parse(card_path.read_text())
    if sha256(source) != card["source"]["file_sha256"]:
        raise SystemExit(
            f"{source}: its SHA-256 is not source.file_sha256 of {card_path}. Correct the card or the file."
        )
    files = {"dynamic-int8": f"{folder.name}-dynamic-int8.tflite", "float": f"build/{folder.name}-float.tflite"}
    operators = ["CONV_2D"]
    converted = folder / "build" / f"{folder.name}-converted.tflite"
    if source.suffix == ".dat":
        dlib_resnet.convert(source, converted)
        source = converted
    elif source.suffix == ".onnx":
        said = card["input"]
        side = int(said["template"].rsplit("-", 1)[1])  # arcface-112, dlib-150
        least = onnx_embedder.convert(source, converted, side, said.get("mean", 0.0), said.get("divisor", 1.0))
        print(f"converted: the least cosine with what ONNX's own evaluator gives on chips of noise is {least:.6f}")
        source = converted
        operators.append("FULLY_CONNECTED")  # an ArcFace ResNet ends in one that holds half of its weights
    mobilefacenet.write_float(source, folder / files["float"], f"{folder.name}, one face at a time")
    quantise.dynamic(folder / files["float"], folder / files["dynamic-int8"], operators)
    card["variants"] = tomlkit.table()
    for variant, name in files.items():
        shipped = variant != "float"
        entry = tomlkit.parse(
            f'file = "{name}"\nsha256 = "{sha256(folder / name)}"\nshipped = {str(shipped).lower()}\n'
            'input = { name = "chip" }\noutputs = [{ name = "embedding" }]\n'
            f'quantisation = "{SCHEME.format(" and ".join(operators)) if shipped else "none: the reference"}"\n'
        )
        describe(folder / name, entry)
        card["variants"][variant] = entry
    card_path.write_text(tomlkit.dumps(card))


if __name__ == "__main__":
    main()
