"""How good a reference picture is, in the terms of ISO/IEC 29794-5:2025, from our own measures.

The reference implementation of that standard, OFIQ, is a C++ program with networks of its own and has no Python
package. So the names are the standard's and the values are what the standard calls native: measured, not mapped to
0..100. They are measured in our own way, because five landmarks and a box are no face mask: :data:`COMPONENTS` says
how. No value may be compared with a score from 0 to 100 of another product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import QualitySection
from edge.records import QualityReport, TrackedFace

__all__ = ["COMPONENTS", "Component", "limits_of", "measure"]

DARK, BRIGHT = 25, 247
"""Grey levels up to which a pixel is under-exposed, and from which it is over-exposed, as OFIQ counts them."""


@dataclass(frozen=True, slots=True)
class Component:
    """One component of quality.

    Attributes:
        name: as ISO/IEC 29794-5:2025 calls it.
        unit: of the native value.
        how: what was measured, for people.
        document: what ISO/IEC 39794-5:2019, annex D, asks of the photograph of a travel document; for comparison.
    """

    name: str
    unit: str
    how: str
    document: str = ""


COMPONENTS = (
    Component("SingleFacePresent", "", "height of the second largest face as a share of the largest", "one face"),
    Component("InterEyeDistance", "px", "pixels between the eyes, for a head that looks straight ahead", "90 or more"),
    Component("HeadPoseYaw", "°", "turned to the side, from five landmarks: good to ten degrees", "5 at most"),
    Component("HeadPosePitch", "°", "up or down, from five landmarks: good to ten degrees", "5 at most"),
    Component("HeadPoseRoll", "°", "leaning, from the line of the eyes", "8 at most"),
    Component("Sharpness", "", "variance of the Laplacian at 112 pixels of face height; OFIQ asks a classifier"),
    Component("LuminanceMean", "", "mean grey level of the face box, 0 to 1"),
    Component("UnderExposurePrevention", "", "share of the face box that is nearly black"),
    Component("OverExposurePrevention", "", "share of the face box that is nearly white"),
    Component("DynamicRange", "bit", "entropy of the grey levels of the face box, 0 to 8"),
    Component("IlluminationUniformity", "", "how alike the light on both halves of the face is, 0 to 1"),
)


def limits_of(limits: QualitySection) -> dict[str, str]:
    """What this list asks of each component, in words; all are this project's choice (docs/models.md)."""
    return {
        "SingleFacePresent": "below 0.50",
        "InterEyeDistance": f"{limits.min_eye_distance:.0f} or more, as seen",
        "HeadPoseYaw": f"{limits.max_yaw:.0f} at most",
        "HeadPosePitch": f"{limits.max_pitch:.0f} at most",
        "HeadPoseRoll": "60 at most",
        "Sharpness": f"{limits.min_sharpness:.0f} or more",
        "LuminanceMean": f"{limits.min_brightness / 255:.2f} to {limits.max_brightness / 255:.2f}",
    }


def measure(
    image: NDArray[np.uint8], face: TrackedFace, report: QualityReport, second: float = 0.0
) -> dict[str, float]:
    """Native values of the components, in the order of :data:`COMPONENTS`.

    Args:
        image: ``(H, W, 3)`` uint8 BGR, upright.
        face: the face in it.
        report: of the same face.
        second: height of the second largest face, as a share of this one's.
    """
    turned = max(0.1, math.cos(math.radians(min(80.0, abs(report.yaw)))))
    light = _light(image, face)
    values = {
        "SingleFacePresent": second,
        "InterEyeDistance": report.eye_distance / turned,
        "HeadPoseYaw": report.yaw,
        "HeadPosePitch": report.pitch,
        "HeadPoseRoll": report.roll,
        "Sharpness": report.sharpness,
        **light,
    }
    return {name: round(value, 1 if abs(value) >= 10 else 3) for name, value in values.items()}


def _light(image: NDArray[np.uint8], face: TrackedFace) -> dict[str, float]:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(float(side)) for side in face.box)
    part = image[max(0, y1) : min(height, y2), max(0, x1) : min(width, x2)]
    if min(part.shape[:2]) < 4:
        return {}
    grey = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    half = grey.shape[1] // 2
    coarse = np.asarray(grey // 8, np.uint8)
    left, right = (np.bincount(side.ravel(), minlength=32) / side.size for side in (coarse[:, :half], coarse[:, half:]))
    there = shares[shares > 0]
    values = {
        "LuminanceMean": float(grey.mean()) / 255,
        "UnderExposurePrevention": float(shares[: DARK + 1].sum()),
        "OverExposurePrevention": float(shares[BRIGHT:].sum()),
        "DynamicRange": float(-(there * np.log2(there)).sum()),
        "IlluminationUniformity": float(np.minimum(left, right).sum()),
    }
    grey.fill(0)
    return values
