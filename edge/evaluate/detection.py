"""Detector recall by face height at a fixed number of false positives per picture. Pure but for reading the list."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.records import Detections

__all__ = ["HEIGHTS", "Found", "Recall", "match", "read_boxes", "recall"]

HEIGHTS = ((16.0, 32.0), (32.0, 64.0), (64.0, float("inf")))
"""Face heights that are reported, in pixels of the picture; smaller ones are neither asked for nor held against it."""

SAME_FACE = 0.5
"""Intersection over union from which a box is the labelled face: the usual bound of WIDER FACE and PASCAL VOC."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one picture.

    Attributes:
        false: scores of the detections that are no labelled face.
        hits: (n,) for each labelled face the score of the detection that found it, or -1.
        heights: (n,) of the labelled faces, pixels.
    """

    false: NDArray[np.float32]
    hits: NDArray[np.float32]
    heights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recall:
    """The working point and what it finds.

    Attributes:
        score: lowest score at which the false positives stay within the budget.
        false_per_picture: at that score.
        by_height: recall for each range of :data:`HEIGHTS`, nan without a face of that height.
        faces: how many labelled faces each range has.
    """

    score: float
    false_per_picture: float
    by_height: tuple[float, ...]
    faces: tuple[int, ...]


def read_boxes(path: Path) -> dict[Path, NDArray[np.float32]]:
    """Reads ``path,x1,y1,x2,y2``; paths relative to the list.

    Raises:
        BadInput: the file is missing or no such list.
    """
    boxes: dict[Path, list[list[float]]] = defaultdict(list)
    try:
        with path.open(newline="") as handle:
            for row in csv.DictReader(handle):
                boxes[path.parent / row["path"]].append([float(row[c]) for c in ("x1", "y1", "x2", "y2")])
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(str(path), f"is not a list of boxes ({error})", "Give the columns path,x1,y1,x2,y2") from error
    return {picture: np.array(rows, np.float32) for picture, rows in boxes.items()}


def match(detections: Detections, labelled: NDArray[np.float32]) -> Found:
    """Gives each labelled face the best-scoring detection that covers it; each of both is used once."""
    hits = np.full(len(labelled), -1, np.float32)
    false = []
    heights = labelled[:, 3] - labelled[:, 1]
    overlap = _iou(detections.boxes, labelled)
    for row, score in zip(overlap, detections.scores, strict=True):  # best score first
        free = np.where(hits < 0, row, 0)
        best = int(free.argmax()) if len(free) else -1
        if best >= 0 and free[best] >= SAME_FACE:
            hits[best] = score
        else:
            false.append(score)
    return Found(np.array(false, np.float32), hits, heights)


def recall(found: Sequence[Found], budget: float = 0.25) -> Recall:
    """Recall at the lowest score with at most `budget` false positives per picture."""
    false = np.sort(np.concatenate([f.false for f in found]))[::-1]
    allowed = int(budget * len(found))
    score = float(np.nextafter(false[allowed], np.float32(2))) if len(false) > allowed else 0.0
    hits, heights = (np.concatenate([getattr(f, name) for f in found]) for name in ("hits", "heights"))
    ranges = [(heights >= low) & (heights < high) for low, high in HEIGHTS]
    return Recall(
        score=score,
        false_per_picture=float((false >= score).sum() / len(found)),
        by_height=tuple(float((hits[r] >= score).mean()) if r.any() else float("nan") for r in ranges),
        faces=tuple(int(r.sum()) for r in ranges),
    )


def measure(
    detect: Callable[[Path], Detections], boxes: dict[Path, NDArray[np.float32]], budget: float = 0.25
) -> Recall:
    """Runs a detector over all pictures of a list."""
    return recall([match(detect(picture), labelled) for picture, labelled in sorted(boxes.items())], budget)


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    area = (a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None] - shared
    return np.asarray(shared / np.maximum(area, 1e-9), np.float32)
