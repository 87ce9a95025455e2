"""Frame → faces: boxes, scores and five landmarks, in pixels of the frame.

The landmarks of a small face are wrong by much of what an embedder can bear, so it is looked at again, enlarged.

CenterFace gives, for each cell of four by four input pixels, how much it looks like the middle of a face, and for
that cell the face's size, the middle's place within the cell and five landmarks (Xu et al. 2019, section 3).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import SOFTWARE_FAULT, RecordInvalid
from edge.records import Detections
from edge.sight.runtime import Model

__all__ = ["Detector"]

CELL = 4
"""Input pixels per cell of the heat map, in x and in y."""

LARGEST_LOG_SIZE = 7.0
"""exp(7)·4 ≈ 4,400 px: nothing in a frame is larger, and a wild value must not overflow."""

NEIGHBOURS: NDArray[np.intp] = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)], np.intp)
"""(9, 2) y x: a cell and the eight around it."""

CROWD = 512
"""Peaks looked at in one frame, best first: bounds the time that a pathological picture can take."""


SMALL = 30.0
"""Height of a face, in pixels of the detector's input, under which it is looked at again. At 26 that found more people
of LFW, at 32 no more (docs/decisions/0066-landmarks-of-small-faces.md)."""

CLOSE_UP = 1.75
"""Side of what is looked at again, in larger sides of the box. From 1.5 to 2 found as many."""

SAME = 0.3
"""Overlap, as a share of the union, from which on a face of the close-up is the one that is looked at."""


class Detector:
    """Finds faces in frames of any size.

    The frame is scaled to fit the model's input (enlarged if it is smaller, which finds smaller faces) and the rest is
    black. Not safe to share between threads.

    Args:
        model: a checked pack of kind ``detector``.
        score: lowest score of a face that is reported, 0..1.
        iou: two boxes that overlap by more than this share of their union are one face, 0..1.
        close: a checked pack of kind ``detector`` with a small square input, for a second look at small faces; None for
            none.
        sure: lowest score of a face that is worth a second look, 0..1.
    """

    def __init__(
        self, model: Model, *, score: float = 0.2, iou: float = 0.3, close: Model | None = None, sure: float = 0.45
    ) -> None:
        self.model = model
        self.score = score
        self.iou = iou
        self.sure = sure
        self.close = None if close is None else Detector(close, score=score, iou=iou)
        self._close_up = False  # whether the close-up's memory holds somebody
        width, height = model.size
        self._canvas = np.zeros((height, width, 3), np.uint8)

    @property
    def digest(self) -> str:
        """SHA-256 of the model file, hexadecimal."""
        return self.model.digest

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """Finds the faces in one frame.

        Args:
            image: (H, W, 3) uint8 BGR, any size.

        Returns:
            All faces with at least the score, best first; coordinates in pixels of the image.

        Raises:
            RecordInvalid: the image has another shape or type, or no pixel.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise RecordInvalid(
                "frame", f"must be uint8[H, W, 3], got {image.dtype}{list(image.shape)}", SOFTWARE_FAULT
            )
        scale = self._place(image)
        heat, size, offset, points = self.model.run(self._canvas)
        boxes, scores, landmarks = self._decode(heat, size, offset, points)
        keep = self._distinct(boxes, scores)
        found = Detections(boxes[keep] / scale, scores[keep], landmarks[keep] / scale)
        return found if self.close is None else self._again(self.close, image, found, float(scale))

    def look_again(self, image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The landmarks of one face as a close-up of it shows them: a second opinion on where they are.

        Args:
            image: (H, W, 3) uint8 BGR.
            box: (4,) float32, as it was detected in this image.

        Returns:
            (5, 2) float32; None without a close-up, or when it shows no such face.
        """
        if self.close is None:
            return None
        self._close_up = True
        return _closer(self.close, image, box)

    def flush(self) -> None:
        """Overwrites what is left of the last frame here and in the runtime's memory. Costs one run."""
        self._canvas.fill(0)
        self.model.flush()
        if self.close is not None:
            self.close.flush()
            self._close_up = False

    def _again(self, close: Detector, image: NDArray[np.uint8], found: Detections, scale: float) -> Detections:
        """The same faces, landmarks of small ones taken anew. Nobody of an earlier frame stays in the close-up."""
        heights = (found.boxes[:, 3] - found.boxes[:, 1]) * scale
        small = np.flatnonzero((heights < SMALL) & (found.scores >= self.sure))
        if not len(small):
            if self._close_up:
                close.flush()
                self._close_up = False
            return found
        landmarks = found.landmarks.copy()
        for face in small:
            better = self.look_again(image, found.boxes[face])
            if better is not None:
                landmarks[face] = better
        return Detections(found.boxes, found.scores, landmarks)

    def _place(self, image: NDArray[np.uint8]) -> np.float32:
        """Copies the image, scaled, to the top left of the canvas. Returns canvas pixels per image pixel."""
        height, width = image.shape[:2]
        rows, columns = self._canvas.shape[:2]
        scale = min(columns / width, rows / height)
        fit = (max(1, min(columns, round(width * scale))), max(1, min(rows, round(height * scale))))
        # Below one half, sampling between four pixels would step over others: average instead.
        how = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
        if fit == (columns, rows):
            cv2.resize(image, fit, dst=self._canvas, interpolation=how)
        else:
            self._canvas.fill(0)
            self._canvas[: fit[1], : fit[0]] = cv2.resize(image, fit, interpolation=how)
        return np.float32(scale)

    def _decode(
        self, heat: NDArray[Any], size: NDArray[Any], offset: NDArray[Any], points: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (n, 4), scores (n,), landmarks (n, 5, 2) in canvas pixels, best first, not yet distinct."""
        out_heat, out_size, out_offset, _ = self.model.outputs
        warmth = np.ascontiguousarray(out_heat.real(heat[..., 0]))
        # Only a cell that none of its eight neighbours exceeds can be the middle of a face.
        peaks = (warmth >= self.score) & (warmth >= cv2.dilate(warmth, np.ones((3, 3), np.uint8)))
        rows, columns = np.nonzero(peaks)
        scores = warmth[rows, columns]
        best = np.argsort(-scores, kind="stable")[:CROWD]
        rows, columns, scores = rows[best], columns[best], scores[best]
        extent = np.exp(np.minimum(out_size.real(size[rows, columns]), LARGEST_LOG_SIZE)) * CELL  # height, width
        shift = out_offset.real(offset[rows, columns])  # y, x, in cells
        middle = (np.stack([rows, columns], 1).astype(np.float32) + shift + 0.5) * CELL
        corner = middle - extent / 2
        boxes = np.concatenate([corner[:, ::-1], (corner + extent)[:, ::-1]], 1).astype(np.float32)
        return boxes, scores, self._landmarks(warmth, rows, columns, (size, offset, points))

    def _landmarks(
        self,
        warmth: NDArray[np.float32],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        raw: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    ) -> NDArray[np.float32]:
        """Landmarks (n, 5, 2) in canvas pixels: the mean of what the peak and its eight neighbours say, by warmth.

        Each cell places the landmarks by itself, and their errors, rounding to int8 above all, differ between cells.
        """
        _, out_size, out_offset, out_points = self.model.outputs
        size, offset, points = raw
        y, x = rows[:, None] + NEIGHBOURS[:, 0], columns[:, None] + NEIGHBOURS[:, 1]  # (n, 9)
        inside = (y >= 0) & (y < warmth.shape[0]) & (x >= 0) & (x < warmth.shape[1])
        y, x = y.clip(0, warmth.shape[0] - 1), x.clip(0, warmth.shape[1] - 1)
        weight = np.where(inside, warmth[y, x], np.float32(0))
        weight /= weight.sum(1, keepdims=True)
        extent = np.exp(np.minimum(out_size.real(size[y, x]), LARGEST_LOG_SIZE)) * CELL
        middle = (np.stack([y, x], -1).astype(np.float32) + out_offset.real(offset[y, x]) + 0.5) * CELL
        # Landmarks are shares of the box: y, x five times.
        share = out_points.real(points[y, x]).reshape(*y.shape, 5, 2)
        placed = (middle - extent / 2)[:, :, None] + share * extent[:, :, None]  # (n, 9, 5, 2)
        landmarks = (placed * weight[:, :, None, None]).sum(1)[..., ::-1]
        return np.ascontiguousarray(landmarks, np.float32)

    def _distinct(self, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.intp]:
        """Indices of the boxes that are no weaker copy of another: greedy non-maximum suppression."""
        if len(boxes) < 2:
            return np.arange(len(boxes))
        corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), 0.0, self.iou)
        return np.asarray(kept, np.intp).reshape(-1)


def _closer(close: Detector, image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Landmarks (5, 2) of the face in the box as the close-up shows them; None when it shows no such face."""
    height, width = image.shape[:2]
    side = min(round(CLOSE_UP * float(max(box[2] - box[0], box[3] - box[1]))), width, height)
    # A square within the picture: at its edge, the face is not in the middle.
    left = round(float(box[0] + box[2] - side) / 2)
    top = round(float(box[1] + box[3] - side) / 2)
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    if side < 1:
        return None
    seen = close.detect(image[top : top + side, left : left + side])
    if not len(seen):
        return None
    corner = np.array([left, top], np.float32)
    overlaps = _overlaps(seen.boxes + np.tile(corner, 2), box)
    best = int(np.argmax(overlaps))
    return np.asarray(seen.landmarks[best] + corner, np.float32) if overlaps[best] >= SAME else None


def _overlaps(boxes: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) what each of the boxes (n, 4) shares with the box, as a share of their union."""
    shared = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    area = shared.clip(0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - area
    return np.asarray(area / np.maximum(union, 1e-6), np.float32)
