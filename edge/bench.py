"""How fast is this machine? Medians per stage on made-up pixels: nobody's face is needed to measure.

The pixels are noise and every stage does the work that a real face would cost it. What a detector finds
is another matter: ``lfr-edge evaluate`` measures that.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from uuid import uuid4

import numpy as np
from msgspec import Struct

from edge.assembly.mandate import load_models, load_second
from edge.config import CameraSection, Config, DeploymentSection, QualitySection, VanSection
from edge.match.index import Index
from edge.records import TrackedFace
from edge.sight.align import align
from edge.sight.quality import assess

__all__ = ["BenchReport", "bench"]

FRAME_HEIGHT, FRAME_WIDTH = 1080, 1920
FACE_PX = 90
LIST_SIZES = (1_000, 10_000)


class BenchReport(Struct, frozen=True):
    """Medians, with what they were measured on.

    Attributes:
        machine: processor and system.
        runtime: which runtime, and the packs it ran.
        threads: per model.
        rounds: measurements per stage.
        median_ms: milliseconds by stage.
    """

    machine: str
    runtime: str
    threads: int
    rounds: int
    median_ms: dict[str, float]


def bench(config: Config | None = None, *, rounds: int = 50) -> BenchReport:
    """Measure every stage of the path of one face.

    Args:
        config: takes models and threads from here; the defaults otherwise.
        rounds: measurements per stage, after three that are thrown away.
    """
    if config is None:
        config = Config(
            van=VanSection(id="bench"), deployment=DeploymentSection(id="bench"), camera=CameraSection(source="bench")
        )
    (detector, embedder), second = load_models(config), load_second(config)
    random = np.random.default_rng(2019)
    frame = random.integers(0, 255, (FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
    chip = random.integers(0, 255, (embedder.chip_size, embedder.chip_size, 3), np.uint8)
    x, y = FRAME_WIDTH / 2, FRAME_HEIGHT / 2
    box = np.array([x, y, x + FACE_PX, y + FACE_PX], np.float32)
    share = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    landmarks = (box[:2] + share * FACE_PX).astype(np.float32)
    face = TrackedFace(uuid4(), box, 0.9, landmarks, 3)
    limits = QualitySection()
    other = chip if second is None else random.integers(0, 255, (second.chip_size, second.chip_size, 3), np.uint8)
    close, small = detector.close, frame[:FACE_PX, :FACE_PX]

    stages: dict[str, Callable[[], object]] = {
        f"detect ({config.models.detector})": lambda: detector.detect(frame),
        **({} if close is None else {f"second look ({config.models.close_up})": lambda: close.detect(small)}),
        "quality": lambda: assess(frame, face, limits),
        "align": lambda: align(frame, landmarks, embedder.template),
        f"embed ({config.models.embedder})": lambda: embedder.embed(chip),
        **({} if second is None else {f"second opinion ({config.models.second})": lambda: second.embed(other)}),
    }
    for size in LIST_SIZES:
        templates = random.standard_normal((size, embedder.dimension)).astype(np.float32)
        templates /= np.linalg.norm(templates, axis=1, keepdims=True)
        index = Index([str(n) for n in range(size)], templates, method="exact")
        stages[f"search {size:,} templates"] = partial(index.search, templates[0].copy())
    return BenchReport(
        machine=f"{platform.machine()} {platform.system()} {platform.release()}",
        runtime=f"{config.models.runtime}",
        threads=config.models.threads,
        rounds=rounds,
        median_ms={stage: round(_median_ms(work, rounds), 3) for stage, work in stages.items()},
    )


def _median_ms(work: Callable[[], object], rounds: int) -> float:
    for _ in range(3):
        work()
    spent = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        work()
        spent.append((time.perf_counter_ns() - begun) / 1e6)
    return statistics.median(spent)
