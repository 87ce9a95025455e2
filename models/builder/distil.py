"""Quantisation-aware fine-tuning of the embedder without labels; docs/models.md says what came of it. It ships nothing.

    distil.py fit CHIPS.npy MANIFEST TRIALS NAME [--split] [--correct] [--steps N] [--rate R] [--half]
    distil.py distance CHIPS.npy MANIFEST TRIALS [VARIANT …] [--half]

CHIPS is what `scripts/bench-models chips` writes from MANIFEST, TRIALS the folder that `trials.py` filled. `fit` takes the
float graph with channels equalised, PRELU kept or spelt out, quantises it as `quantise.static` does, and changes weights,
biases and ranges so that its embeddings of degraded faces come nearer to those that the float model gives of the same
degraded faces. It writes NAME.tflite, static int8, and NAME-start.tflite, the same form before the first step. `distance`
prints 1 − cosine to the float model, of every variant if none is named. With --half, `fit` uses one half of the people and
both measure on the other: for choosing steps and rate.

Needs requirements.txt and requirements-distil.txt. One thread.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import biases
import calibration
import cv2
import numpy as np
import quantise
import tomlkit
import torch
import trials
from ai_edge_litert.interpreter import Interpreter
from build import MODELS, describe, sha256
from student import Student
from torch.nn import functional

FLOAT = MODELS / "mobilefacenet/build/mobilefacenet-float.tflite"
BATCH = 16
RANGE_RATE = 0.02  # of the rate of weights: with 0.1 and a rate of 0.2 the loss grew again after 50 steps
EQUAL = 0.9999  # least cosine of our float graph with LiteRT's


def degraded(chip: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A face as a street camera may give it: (112, 112, 3) uint8 BGR, mirrored or not; one in six is else as it was."""
    face = chip[:, ::-1].copy() if random.random() < 0.5 else chip.copy()
    if random.random() < 1 / 6:
        return face
    if random.random() < 0.5:  # turned, shifted, and squeezed to one side as by a turn of the head
        corners = np.array([[0, 0], [111, 0], [111, 111], [0, 111]], np.float32)
        angle, size = np.deg2rad(random.uniform(-20, 20)), random.uniform(0.85, 1.2)
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = (corners - 55.5) * [random.uniform(0.7, 1), 1] @ turn.T + 55.5 + random.uniform(-6, 6, 2)
        moved += random.uniform(-9, 9, (4, 2))
        warp = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
        edge = cv2.BORDER_REPLICATE if random.random() < 0.5 else cv2.BORDER_CONSTANT
        face = cv2.warpPerspective(face, warp, (112, 112), borderMode=edge)
    if random.random() < 0.3:  # glasses, a scarf, a hand, somebody else's shoulder
        width, height = random.integers(15, 75, 2)
        x, y = random.integers(-10, 100), random.integers(-10, 100)
        colour = random.integers(0, 256, 3)
        face[max(y, 0) : y + height, max(x, 0) : x + width] = colour
    if random.random() < 0.4:  # small in the picture
        side = int(np.exp(random.uniform(np.log(14), np.log(90))))
        face = cv2.resize(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), (112, 112))
    if random.random() < 0.2:  # moving
        length = int(random.integers(3, 14))
        along = np.full((1, length) if random.random() < 0.7 else (length, 1), 1 / length, np.float32)
        face = cv2.filter2D(face, -1, along)
    return calibration.light(face, random) if random.random() < 0.8 else face


def batch_of(faces: list[np.ndarray]) -> np.ndarray:
    """(n, 112, 112, 3) float32 RGB (x − 127.5) / 128."""
    return (np.stack(faces)[..., ::-1].astype(np.float32) - 127.5) / 128


def runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The model as LiteRT runs it: (n, 112, 112, 3) float32 → (n, d) float32 of length 1."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        rows = []
        for values in batch:
            given = values[None]
            if entry["dtype"] == np.int8:
                scale, zero = entry["quantization"]
                given = np.clip(np.rint(given / scale) + zero, -128, 127).astype(np.int8)
            interpreter.set_tensor(entry["index"], given)
            interpreter.invoke()
            row = interpreter.get_tensor(end["index"])[0].astype(np.float32)
            if end["dtype"] == np.int8:
                row = (row - end["quantization"][1]) * np.float32(end["quantization"][0])
            rows.append(row / max(float(np.linalg.norm(row)), 1e-12))
        return np.stack(rows)

    return run


def torch_batch(batch: np.ndarray) -> torch.Tensor:
    """The same numbers as torch wants them, (n, 3, 112, 112)."""
    return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def agrees(exact: Student, teacher: Callable[[np.ndarray], np.ndarray], faces: np.ndarray) -> None:
    """Stops unless torch and LiteRT give the same embeddings of the float graph."""
    batch = batch_of(list(faces[:: max(len(faces) // 24, 1)]))
    with torch.no_grad():
        ours = functional.normalize(exact(torch_batch(batch))).numpy()
    least = float((ours * teacher(batch)).sum(1).min())
    print(f"torch and LiteRT, float: cosine {least:.7f} or more on {len(batch)} faces", flush=True)
    if least < EQUAL:
        raise SystemExit("torch does not compute what the float graph does. Mend distil.py before anything is fitted.")


def halves(chips: np.ndarray, manifest: Path) -> tuple[np.ndarray, np.ndarray]:
    """Faces to fit on, faces to measure on: no person is in both."""
    with manifest.open(newline="") as handle:
        people = [row["identity"] for row in csv.DictReader(handle) if row["split"] == "calibration"]
    if len(people) != len(chips):
        raise SystemExit(f"{len(chips)} faces of {len(people)} pictures: cannot say whose they are.")
    number = {name: i for i, name in enumerate(sorted(set(people)))}
    odd = np.array([number[name] % 2 for name in people], bool)
    return chips[~odd], chips[odd]


def learn(
    student: Student, teacher: Callable[[np.ndarray], np.ndarray], faces: np.ndarray, steps: int, rate: float
) -> None:
    """Adam on 1 − cosine to the float model, each batch drawn and degraded anew; the rate falls as a cosine."""
    groups = [
        {"params": list(student.changes.values()), "lr": rate},
        {"params": list(student.moves.values()), "lr": rate * RANGE_RATE},
    ]
    work = torch.optim.Adam(groups, betas=(0.9, 0.99))
    peak = torch.optim.lr_scheduler.LambdaLR(
        work, lambda n: min((n + 1) / 50, 1) * (0.02 + 0.49 * (1 + np.cos(np.pi * n / max(steps, 1))))
    )
    random = np.random.default_rng(calibration.SEED)
    begun, told = time.process_time(), []
    for step in range(steps):
        batch = batch_of([degraded(faces[i], random) for i in random.integers(0, len(faces), BATCH)])
        aim = torch.from_numpy(teacher(batch))
        loss = (1 - functional.cosine_similarity(student(torch_batch(batch)), aim)).mean()
        work.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        work.step()
        peak.step()
        told.append(float(loss.detach()))
        if step % 50 == 49:
            taken = time.process_time() - begun
            print(
                f"step {step + 1}, {taken:.0f} s of one core: 1 − cosine {1000 * np.mean(told[-50:]):.2f}e-3",
                flush=True,
            )


def distances(
    model: Path, teacher: Callable[[np.ndarray], np.ndarray], faces: np.ndarray, every: int
) -> tuple[float, float]:
    """Mean 1 − cosine to the float model, in thousandths: on the faces as they are, and on degraded ones."""
    run, random = runner(model), np.random.default_rng(1)
    chosen = list(faces[::every])
    both = [batch_of(chosen), batch_of([degraded(face, random) for face in chosen])]
    plain, hard = (float(1000 * (1 - (run(batch) * teacher(batch)).sum(1)).mean()) for batch in both)
    return plain, hard


def fit(options: argparse.Namespace) -> None:
    """Writes the two static forms and their lines of the card of the trials."""
    chips, pack = np.load(options.chips), options.trials / "mobilefacenet"
    teacher = runner(FLOAT)
    agrees(Student(FLOAT, None), teacher, chips)
    used, others = halves(chips, options.manifest) if options.half else (chips, chips)
    inputs = [batch_of([face]) for face in used[:: max(len(used) // 400, 1)]]
    with tempfile.TemporaryDirectory() as folder:
        source, corrected = Path(folder) / "equalised.tflite", Path(folder) / "corrected.tflite"
        trials.equalised(FLOAT, source, inputs)
        if options.split:
            trials.split_prelu(source, Path(folder) / "split.tflite")
            source = Path(folder) / "split.tflite"
        ranges = calibration.ranges(source, inputs)

        def static(graph: Path, result: Path) -> None:
            quantise.static(graph, ranges, result, percentile=True)

        if options.correct:
            biases.apply(source, biases.measure(source, static, lambda: inputs[::4]), corrected)
            source = corrected
        names = [f"{options.name}-start", options.name]
        static(source, pack / f"{names[0]}.tflite")
        student = Student(source, ranges)
        learn(student, teacher, used, options.steps, options.rate)
        found = student.write(Path(folder) / "learnt.tflite")
        quantise.static(Path(folder) / "learnt.tflite", found, pack / f"{names[1]}.tflite", percentile=True)
    path = pack / "card.toml"
    card = tomlkit.parse(path.read_text())
    for name in names:
        file = pack / f"{name}.tflite"
        entry = tomlkit.parse(
            f'file = "{file.name}"\nsha256 = "{sha256(file)}"\nshipped = false\nquantisation = "a trial"\n'
            'input = { name = "chip" }\noutputs = [{ name = "embedding" }]\n'
        )
        describe(file, entry)
        card["variants"][name] = entry  # type: ignore[index]
        plain, hard = distances(file, teacher, others, 2 if options.half else 4)
        print(f"{name}: 1 − cosine {plain:.2f}e-3 plain, {hard:.2f}e-3 degraded", flush=True)
    path.write_text(tomlkit.dumps(card))


def distance(options: argparse.Namespace) -> None:
    """Prints 1 − cosine to the float model on every fourth face, or on the people that --half left out."""
    chips, pack = np.load(options.chips), options.trials / "mobilefacenet"
    teacher = runner(FLOAT)
    faces = halves(chips, options.manifest)[1] if options.half else chips
    for name in options.variants or sorted(file.stem for file in pack.glob("*.tflite")):
        plain, hard = distances(pack / f"{name}.tflite", teacher, faces, 2 if options.half else 4)
        print(f"{name}: 1 − cosine {plain:.2f}e-3 plain, {hard:.2f}e-3 degraded", flush=True)


def main() -> None:
    """Reads the command line."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(calibration.SEED)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one, two = commands.add_parser("fit"), commands.add_parser("distance")
    for command in (one, two):
        for name in ("chips", "manifest", "trials"):
            command.add_argument(name, type=Path)
        command.add_argument("--half", action="store_true")
    one.add_argument("name")
    one.add_argument("--split", action="store_true", help="PReLU spelt out, so that all of it is int8")
    one.add_argument("--correct", action="store_true", help="correct biases before the first step")
    one.add_argument("--steps", type=int, default=600)
    one.add_argument("--rate", type=float, default=0.05)
    one.set_defaults(run=fit)
    two.add_argument("variants", nargs="*")
    two.set_defaults(run=distance)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
