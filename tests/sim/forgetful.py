"""A van in a process of its own, whose memory another process searches. Speaks in lines on stdin and stdout.

    python -m tests.sim.forgetful PICTURE SEED [closely [second]]

It shows one face to the real pipeline for several frames, then an empty street until the passage has ended. With
``closely`` every face gets the closer look that is for whoever comes near somebody on the list; with ``second`` also by
a second embedder. At every stop it says where it stands and waits for a line, so that its memory can be read meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np

from edge.clock import NS_PER_S
from edge.config import MemorySection
from edge.custody.erase import Kind
from edge.custody.memory import protect
from edge.custody.retention import Custodian
from edge.deployment.permit import Permit
from edge.match.decide import Decider
from edge.match.index import Index
from edge.match.relative import Relative
from edge.match.second import SecondOpinion
from edge.pipeline import Pipeline
from edge.records import Frame, Limits, SearchResult
from edge.sight.faults import PictureWatch
from edge.sight.picture import read_image
from tests.sim.clock import HandClock
from tests.sim.van import Desk, Subjects, a_config, models, second_model

STEP_S = 0.05


class Street:
    """Eight frames with the face, then an empty street for a second and a half."""

    def __init__(self, picture: Path, clock: HandClock, custodian: Custodian) -> None:
        self._watch = PictureWatch()  # as the camera's worker has it
        self._frames = self._make(picture, clock, custodian)
        self.ended = False

    def _make(self, picture: Path, clock: HandClock, custodian: Custodian) -> Iterator[Frame | None]:
        for number in range(38):
            clock.advance(STEP_S)
            pixels = read_image(picture) if number < 8 else np.zeros((360, 640, 3), np.uint8)
            if number < 8:  # no later picture may be needed to overwrite what is left of these
                self._watch.look(pixels, clock.monotonic_ns() / NS_PER_S)
            handle = custodian.hold(Kind.FRAME, pixels)
            del pixels
            if number == 8:
                stop("seen")
            yield Frame(number, clock.monotonic_ns(), clock.now(), handle)

    def next(self, timeout: float) -> Frame | None:
        frame = next(self._frames, None)
        self.ended = frame is None
        return frame


class Attentive(Decider):
    """Finds everybody near."""

    def near(self, track_id: UUID, result: SearchResult, now_ns: int) -> bool:
        return True


def stop(where: str) -> None:
    print(where, flush=True)
    sys.stdin.readline()


def main() -> None:
    picture, closely, twice = Path(sys.argv[1]), "closely" in sys.argv[3:], "second" in sys.argv[3:]
    protect(MemorySection())
    clock = HandClock()
    custodian = Custodian(clock)
    stop("ready")

    random = np.random.default_rng(int(sys.argv[2]))
    canary = np.empty(192, np.float32)
    random.standard_normal(dtype=np.float32, out=canary)
    chip = random.integers(1, 255, (112, 112, 3), np.uint8)
    custodian.hold(Kind.EMBEDDING, canary)
    custodian.hold(Kind.CHIP, chip)
    del canary, chip
    stop("planted")
    clock.advance(0.9)
    custodian.sweep()
    stop("expired")

    detector, embedder = models()
    config = a_config()
    templates = np.eye(2, embedder.dimension, dtype=np.float32)
    index, second = Index(["A", "B"], templates), None
    if twice:
        other = second_model()
        theirs = np.eye(2, other.dimension, dtype=np.float32)
        second = (other, SecondOpinion(index, ["A", "B"], theirs, relative=Relative(), share=0.6))
    permit = Permit(clock)
    permit.grant()
    pipeline = Pipeline(
        config=config,
        clock=clock,
        source=Street(picture, clock, custodian),
        detector=detector,
        embedder=embedder,
        index=index,
        second=second,
        subjects=Subjects({}),
        decider=(Attentive if closely else Decider)(config.decision, limits=Limits(0.6, 0.45)),
        limits=lambda *_: Limits(0.6, 0.45),
        custodian=custodian,
        sink=Desk(),
        permit=permit,
        on_turn=permit.grant,
    )
    pipeline.run()
    assert pipeline.counts.embedded >= 6, pipeline.counts
    assert pipeline.counts.closer == (pipeline.counts.embedded if closely else 0), pipeline.counts
    assert custodian.totals().live == 0
    stop("forgotten")


if __name__ == "__main__":
    main()
