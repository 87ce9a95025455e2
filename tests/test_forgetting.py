"""Is it really gone? Another process searches the whole memory of one that has held a face and let it go.

The needles are made in this process, so that looking for them does not put them where they are looked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest

from edge.config import QualitySection
from edge.records import Detections, TrackedFace
from edge.sight.align import align
from edge.sight.closer import cuts
from edge.sight.faults import GRID
from edge.sight.picture import read_image
from edge.sight.quality import assess
from tests.sim.van import models, second_model

REPOSITORY = Path(__file__).resolve().parent.parent
PORTRAIT = REPOSITORY / "provisioning" / "demo" / "portraits" / "biden.jpg"
SEED = 20190724
FRAMES_SEEN = 8
NEEDLES = 8
"""Of each kind: enough to notice one survivor, few enough to search a whole memory for in a second."""


class Suspect:
    """The other process, as one who may read its memory sees it."""

    def __init__(self, picture: Path, *how: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sim.forgetful", str(picture), str(SEED), *how],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def wait_for(self, where: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == where

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def remembers(self, needles: list[bytes]) -> int:
        """How many of the needles are somewhere in its memory."""
        found: set[bytes] = set()
        for region in self._regions():
            if region.count(0) < len(region):
                found.update(needle for needle in needles if needle in region)
        return len(found)

    def _regions(self) -> Iterator[bytes]:
        maps = Path(f"/proc/{self._process.pid}/maps").read_text(encoding="utf-8").splitlines()
        with Path(f"/proc/{self._process.pid}/mem").open("rb", buffering=0) as memory:
            for line in maps:
                span, rights = line.split()[:2]
                if "w" not in rights or "[vvar]" in line:
                    continue
                start, end = (int(part, 16) for part in span.split("-"))
                try:
                    memory.seek(start)
                    yield memory.read(end - start)
                except OSError:
                    continue

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def a_picture(tmp_path: Path) -> Path:
    """A street-sized picture with one face of about 100 px in it, without loss, so that its pixels are known."""
    portrait = read_image(PORTRAIT)
    scale = 300 / portrait.shape[0]
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    street = np.full((360, 640, 3), 90, np.uint8)
    street[30 : 30 + small.shape[0], 200 : 200 + small.shape[1]] = small[: 360 - 30]
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), street)
    return path


@pytest.fixture
def suspect(a_picture: Path, request: pytest.FixtureRequest) -> Iterator[Suspect]:
    if os.geteuid() != 0:
        pytest.skip("only root may read the memory of a protected process")
    process = Suspect(a_picture, *getattr(request, "param", ()))
    yield process
    process.end()


def windows(array: np.ndarray, size: int, step: int) -> list[bytes]:
    """Runs of bytes that occur by chance nowhere else: enough of them that one survivor is noticed."""
    content = array.tobytes()
    parts = [content[at : at + size] for at in range(0, len(content) - size, step)]
    return [part for part in parts if len(set(part)) > size // 3][:NEEDLES]


def of_a_second_opinion(
    image: np.ndarray, found: Detections, again: np.ndarray | None, weight: float
) -> dict[str, list[bytes]]:
    """What the second embedder makes of the same picture, on its way to a template and there."""
    second = second_model()
    cut = list(cuts(image, found.landmarks[0], again, second.template))
    embedding = second.embed_mean(cut)
    template = np.zeros_like(embedding)
    for _ in range(FRAMES_SEEN - 1):
        template += embedding * np.float32(weight)
    last = np.ascontiguousarray(cut[-1][:, ::-1, ::-1]).astype(np.float32)
    second.flush()
    return {
        "chips of the second": [window for one in cut for window in windows(one[40:120], 24, 3000)],
        "a chip as the second takes it": windows(last[40:120], 32, 999),
        "second embedding": windows(embedding, 12, 12),
        "second embedding, weighted": windows(embedding * np.float32(weight), 12, 12),
        "second template": windows(template, 12, 12),
    }


def test_canaries_are_found_while_they_live_and_nowhere_after_their_deadline(suspect: Suspect) -> None:
    random = np.random.default_rng(SEED)
    embedding = windows(random.standard_normal(192, np.float32), 16, 64)
    chip = windows(random.integers(1, 255, (112, 112, 3), np.uint8), 24, 1000)
    suspect.wait_for("ready")
    assert suspect.remembers(embedding + chip) == 0
    suspect.go_on()
    suspect.wait_for("planted")
    assert suspect.remembers(embedding) == len(embedding), "the search itself must work"
    assert suspect.remembers(chip) == len(chip)
    suspect.go_on()
    suspect.wait_for("expired")
    assert suspect.remembers(embedding + chip) == 0


@pytest.mark.parametrize(
    "suspect",
    [(), ("closely",), ("closely", "second")],
    ids=["one look", "a closer look", "a closer look with a second opinion"],
    indirect=True,
)
def test_a_real_passage_leaves_neither_pixels_nor_chip_nor_embedding_in_memory(
    suspect: Suspect, a_picture: Path, request: pytest.FixtureRequest
) -> None:
    closely = "closer" in request.node.callspec.id
    image = read_image(a_picture)
    detector, embedder = models()
    found = detector.detect(image)
    assert len(found) >= 1
    chip = align(image, found.landmarks[0])
    once = embedding = embedder.embed(chip)
    cut = list(cuts(image, found.landmarks[0], detector.look_again(image, found.boxes[0])))
    if closely:
        embedding = embedder.embed_mean(cut)
    face = TrackedFace(uuid4(), found.boxes[0], float(found.scores[0]), found.landmarks[0], 1)
    weight = assess(image, face, QualitySection()).weight
    template = np.zeros_like(embedding)
    for _ in range(FRAMES_SEEN - 1):  # the first frame only makes the tracker curious
        template += once * np.float32(weight)
        if closely:  # in the order in which the van does it, or the last bits differ
            template += once * np.float32(-weight)
            template += embedding * np.float32(weight)
    x1, y1, x2, y2 = (int(v) for v in face.box)
    last = np.ascontiguousarray(cut[-1][:, ::-1]) if closely else chip  # what the model saw last
    rgb = np.ascontiguousarray(last[..., ::-1])
    needles = {
        "frame": windows(np.ascontiguousarray(image[y1 + 20 : y2 - 20, x1 + 20 : x2 - 20]), 24, 500),
        "sampled to tell whether the camera is frozen": windows(
            image[:: max(1, 360 // GRID[1]), :: max(1, 640 // GRID[0])], 24, 500
        ),
        "grey, to tell whether it is covered": windows(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[y1:y2, x1:x2], 24, 500),
        "chip": windows(chip[30:90], 24, 500),
        "chip as the model takes it": windows(
            ((rgb[30:90].astype(np.float64) - 127.5) / 128).astype(np.float32), 32, 999
        ),
        "other chips of a closer look": [window for one in cut[1:] for window in windows(one[30:90], 24, 2000)],
        "a mirrored chip": windows(np.ascontiguousarray(cut[1][30:90, ::-1]), 24, 500),
        "embedding of one look": windows(once, 12, 12),
        "embedding of one look, weighted": windows(once * np.float32(weight), 12, 12),
        "embedding": windows(embedding, 12, 12),
        "embedding, weighted": windows(embedding * np.float32(weight), 12, 12),
        "template": windows(template, 12, 12),
    }
    if "second" in request.node.callspec.id:
        needles |= of_a_second_opinion(image, found, detector.look_again(image, found.boxes[0]), weight)
    detector.flush()
    embedder.flush()
    for where in ("ready", "planted", "expired"):
        suspect.wait_for(where)
        suspect.go_on()
    suspect.wait_for("seen")
    alive = {name: suspect.remembers(those) for name, those in needles.items()}
    suspect.go_on()
    suspect.wait_for("forgotten")
    assert alive["chip as the model takes it"] > 0
    assert alive["template"] > 0
    assert alive.get("second template", 1) > 0
    left = {name: suspect.remembers(those) for name, those in needles.items()}
    assert left == dict.fromkeys(needles, 0), f"while it lived: {alive}"
