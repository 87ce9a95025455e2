"""Landmarks → chip: a face turned upright and scaled to the template that embedders are trained on. Pure."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import SOFTWARE_FAULT, RecordInvalid
from edge.records import CHIP_SIZES, ChipTemplate

__all__ = ["TEMPLATE", "TEMPLATES", "align", "similarity"]

TEMPLATE: NDArray[np.float64] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""(5, 2) x y in chip pixels: where the five landmarks lie in a chip (Deng et al., ArcFace, 2019)."""

TEMPLATES: dict[ChipTemplate, NDArray[np.float64]] = {
    "arcface-112": TEMPLATE,
    # dlib's get_face_chip (padding 0.25) aligns by the corners of the eyes and the base of the nose, which the detector
    # does not give. Measured instead: where its landmarks fall in the chips that dlib cut from 383 pictures of LFW's
    # calibration split, the median, made symmetric.
    "dlib-150": np.array([[45.35, 46.2], [103.65, 46.2], [74.5, 79.2], [50.0, 104.9], [99.0, 104.9]]),
}
"""For each template (5, 2) x y in chip pixels."""


def align(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    template: ChipTemplate = "arcface-112",
    zoom: float = 1.0,
) -> NDArray[np.uint8]:
    """Cuts one face out of a frame.

    Args:
        image: (H, W, 3) uint8 BGR.
        landmarks: (5, 2) x y in pixels of the image, in the order of :data:`edge.records.LANDMARKS`.
        template: what the embedder was trained on, as :attr:`edge.sight.embed.Embedder.template` says.
        zoom: by how much larger than the template's the face shall be, about the middle of its landmarks.

    Returns:
        (n, n, 3) uint8 BGR, n the side of the template's chips; black where the chip reaches past the image.

    Raises:
        RecordInvalid: the landmarks are not (5, 2), not finite, or all in one place.
    """
    side, matrix = CHIP_SIZES[template], similarity(landmarks, template) * zoom
    matrix[:, 2] += (1.0 - zoom) * TEMPLATES[template].mean(0)
    chip = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))
    return chip.astype(np.uint8, copy=False)


def similarity(landmarks: NDArray[np.float32], template: ChipTemplate = "arcface-112") -> NDArray[np.float64]:
    """The rotation, scale and shift that bring landmarks closest to the template, in least squares.

    Umeyama, Least-squares estimation of transformation parameters between two point patterns (1991), equations
    38 to 43, for two dimensions. A reflection is never returned.

    Args:
        landmarks: (5, 2) x y.
        template: where they are to lie.

    Returns:
        (2, 3) matrix from image pixels to chip pixels.

    Raises:
        RecordInvalid: the landmarks are not (5, 2), not finite, or all in one place.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise RecordInvalid("landmarks", "must be five finite points", SOFTWARE_FAULT)
    goal = TEMPLATES[template]
    mean, target = points.mean(0), goal.mean(0)
    centred = points - mean
    variance = float((centred**2).sum() / len(points))
    if variance < 1e-6:
        raise RecordInvalid("landmarks", "are all in one place", SOFTWARE_FAULT)
    u, strength, vt = np.linalg.svd((goal - target).T @ centred / len(points))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = (u * sign) @ vt
    scale = float((strength * sign).sum() / variance)
    return np.column_stack([scale * rotation, target - scale * rotation @ mean])
