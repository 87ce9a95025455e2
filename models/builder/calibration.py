"""Calibration: which pictures, and the range that each tensor takes on them.

Faces come from the people whom the LFW manifest puts in the `calibration` split, and from nobody else. The
pictures are not part of this repository; what is kept is one range per tensor (`models/<name>/ranges.toml`), from
which no picture can be made, so that the shipped files can be rebuilt without any face.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

SEED = 20190724


def calibration_pictures(manifest: Path) -> list[Path]:
    """The pictures of the `calibration` split, in the manifest's order."""
    with manifest.open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["split"] == "calibration"]
    if not rows:
        raise SystemExit(f"{manifest}: no row is in the calibration split. Give the LFW manifest.")
    return [manifest.parent / row["path"] for row in rows]


def digest(pictures: Iterable[Path]) -> str:
    """SHA-256 over the pictures' bytes in order: says later whether the same data was used."""
    total = hashlib.sha256()
    for picture in pictures:
        total.update(hashlib.sha256(picture.read_bytes()).digest())
    return total.hexdigest()


def scenes(pictures: list[Path], count: int, width: int, height: int, seed: int = SEED) -> Iterator[np.ndarray]:
    """Pictures as a camera in a street might give them: (height, width, 3) uint8 BGR, in turn a crowd and people near by.

    The light, the focus and the noise of each whole scene are varied. A portrait's face is about half as high as it.
    """
    random = np.random.default_rng(seed)
    for number in range(count):
        scene = cv2.resize(_read(pictures, random), (width, height), interpolation=cv2.INTER_CUBIC)
        scene = cv2.GaussianBlur(scene, (0, 0), float(random.uniform(0.5, 12)))
        (_near if number % 2 else _crowd)(scene, pictures, random)
        yield light(scene, random)


def close_ups(pictures: list[Path], count: int, side: int, seed: int = SEED) -> Iterator[np.ndarray]:
    """One small face each, enlarged until it is about 64 px high: (side, side, 3) uint8 BGR.

    What a second look by the detector sees: a face that was 16 to 60 px high, with the camera's light and noise, and what
    lies around it.
    """
    random = np.random.default_rng(seed)
    for _ in range(count):
        # A portrait's face is about half as high as it: at 128 px the portrait would be enlarged as far as wanted.
        portrait = float(np.exp(random.uniform(np.log(32), np.log(120))))
        near = round(side / 128 * portrait * float(random.uniform(0.8, 1.25)))
        view = cv2.resize(_read(pictures, random), (near, near), interpolation=cv2.INTER_AREA)
        for shift in (random.uniform(0.5, 1.0, 2) * random.choice((-1, 1), 2), random.uniform(-0.08, 0.08, 2)):
            x, y = ((near - portrait) / 2 + shift * portrait).astype(int)
            _paste(view, _read(pictures, random), random, (max(round(portrait), 8), int(x), int(y)))
        yield cv2.resize(light(view, random), (side, side), interpolation=cv2.INTER_LINEAR)


def _crowd(scene: np.ndarray, pictures: list[Path], random: np.random.Generator) -> None:
    """Portraits of 24 to 320 px, faces of about 12 to 170 px, before other people's backgrounds."""
    height, width = scene.shape[:2]
    # Log-uniform, so that small faces are as well represented as large ones; from large to small, so that none is hidden.
    sides = np.exp(random.uniform(np.log(24), np.log(320), int(random.integers(4, 60)))).astype(int)
    for side in sorted(sides, reverse=True):
        x, y = int(random.integers(-side // 2, width - side // 2)), int(random.integers(0, height - side // 2))
        _paste(scene, _read(pictures, random), random, (side, x, y))


def _near(scene: np.ndarray, pictures: list[Path], random: np.random.Generator) -> None:
    """One to five people whose faces are a tenth to all of the picture's height."""
    height, width = scene.shape[:2]
    sides = np.exp(random.uniform(np.log(0.2 * height), np.log(2 * height), int(random.integers(1, 6)))).astype(int)
    for side in sorted(sides, reverse=True):
        quarter = side // 4
        x = int(random.integers(-quarter, max(width - 3 * quarter, 1 - quarter)))
        y = int(random.integers(min(-quarter, height - side), max(height - 3 * quarter, 1 - quarter)))
        _paste(scene, _read(pictures, random), random, (side, x, y))


def _paste(scene: np.ndarray, tile: np.ndarray, random: np.random.Generator, place: tuple[int, int, int]) -> None:
    """Puts a portrait, mirrored or not, into the scene: `place` is its side, and x and y of its corner."""
    height, width = scene.shape[:2]
    side, x, y = place
    if random.random() < 0.5:
        tile = tile[:, ::-1]
    how = cv2.INTER_AREA if side < tile.shape[0] else cv2.INTER_CUBIC
    tile = cv2.resize(tile, (side, side), interpolation=how)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    if x0 < x1 and y0 < y1:  # else it stands beside the scene
        scene[y0:y1, x0:x1] = tile[y0 - y : y1 - y, x0 - x : x1 - x]


def light(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Varies exposure, colour temperature, focus and noise of a uint8 picture of any size."""
    values = picture.astype(np.float32) / 255
    if random.random() < 0.3:
        values = cv2.GaussianBlur(values, (0, 0), float(random.uniform(0.4, 2.0)))
    values = values ** float(np.exp(random.uniform(-0.6, 0.9)))  # the upper end is dusk
    values = values * random.uniform(0.85, 1.15, 3).astype(np.float32) * float(random.uniform(0.6, 1.2))
    values += random.normal(0, float(random.uniform(0, 0.03)), values.shape).astype(np.float32)
    return np.clip(values * 255, 0, 255).astype(np.uint8)


def embedder_inputs(faces: np.ndarray, seed: int = SEED) -> Iterator[np.ndarray]:
    """(1, 112, 112, 3) float32 RGB (x − 127.5) / 128 of aligned faces (n, 112, 112, 3) uint8 BGR.

    Each face once: every other one mirrored, and of either kind every other one in another light (see `light`).
    """
    random = np.random.default_rng(seed)
    for number, face in enumerate(faces):
        chip = face[:, ::-1] if number % 2 else face
        chip = light(chip, random) if number // 2 % 2 else chip
        yield (chip[None, ..., ::-1].astype(np.float32) - 127.5) / 128


def _read(pictures: list[Path], random: np.random.Generator) -> np.ndarray:
    picture = cv2.imread(str(pictures[int(random.integers(len(pictures)))]))
    if picture is None:
        raise SystemExit("A calibration picture cannot be read. Check the folder of the manifest.")
    return picture


def largest(
    model: Path, inputs: Iterable[np.ndarray], names: Iterable[str], *, absolute: bool = False
) -> dict[str, np.ndarray]:
    """For each named tensor the largest value of each channel: the 99.99th percentile of each input, maximum of all."""
    interpreter, watched = _watched(model)
    wanted = set(names)
    watched = {index: name for index, name in watched.items() if name in wanted}
    found: dict[str, np.ndarray] = {}
    for values in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
        for index, name in watched.items():
            tensor = interpreter.get_tensor(index)
            tensor = np.abs(tensor) if absolute else tensor
            flat = tensor.reshape(-1, tensor.shape[-1])
            cut = flat.shape[0] - 1 - max(int(flat.shape[0] * 1e-4), 1)
            high = np.partition(flat, cut, axis=0)[cut]
            found[name] = np.maximum(found.get(name, 0), high)
    return found


def second_moments(model: Path, inputs: Iterable[np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """For each named tensor (…, c) the mean over inputs and places of the c × c products of its channels."""
    interpreter, watched = _watched(model)
    wanted = set(names)
    watched = {index: name for index, name in watched.items() if name in wanted}
    found: dict[str, np.ndarray] = {}
    count = 0
    for values in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
        count += 1
        for index, name in watched.items():
            tensor = interpreter.get_tensor(index).astype(np.float64)
            flat = tensor.reshape(-1, tensor.shape[-1])
            found[name] = found.get(name, 0) + flat.T @ flat / len(flat)
    return {name: total / count for name, total in found.items()}


def ranges(model: Path, inputs: Iterable[np.ndarray], share: float = 0.9999) -> dict[str, list[float]]:
    """For each float activation: [minimum, maximum, low percentile, high percentile] over all inputs.

    The percentiles cut off (1 − share) of the values of one input at either end; the widest over the inputs is
    kept. A few values of one cell in a million otherwise stretch a layer's step for everybody.
    """
    interpreter, watched = _watched(model)
    entry = interpreter.get_input_details()[0]["index"]
    found: dict[str, list[float]] = {}
    for values in inputs:
        interpreter.set_tensor(entry, values)
        interpreter.invoke()
        for index, name in watched.items():
            tensor = interpreter.get_tensor(index).ravel()
            cut = max(int(tensor.size * (1 - share)), 1)
            low, high = np.partition(tensor, [cut, tensor.size - 1 - cut])[[cut, tensor.size - 1 - cut]]
            new = [float(tensor.min()), float(tensor.max()), float(low), float(high)]
            old = found.get(name, new)
            found[name] = [min(old[0], new[0]), max(old[1], new[1]), min(old[2], new[2]), max(old[3], new[3])]
    return found


def _watched(model: Path) -> tuple[Interpreter, dict[int, str]]:
    """An interpreter that keeps every activation, and their names by number."""
    interpreter = Interpreter(
        model_path=str(model),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    watched = {entry: interpreter.get_input_details()[0]["name"]}
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():  # noqa: SLF001 - the only way to tell activations from constants
        for index in operator["outputs"]:
            if details[index]["dtype"] == np.float32:
                watched[index] = details[index]["name"]
    return interpreter, watched
