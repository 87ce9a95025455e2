"""The world of the scene in metres, and how a camera sees it in pixels.

X to the right of the camera, Y up from the ground, Z away from the camera. The camera stands at (0, 1.9, 0),
as on the roof edge of a van, and looks along Z; its picture plane is 1920 x 1080 pixels whatever the size of
the video, which is scaled at the end.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CAMERA_HEIGHT",
    "CENTRE",
    "FACADE_LEFT",
    "FAR_SIDE",
    "FOCAL",
    "HORIZON",
    "KERB",
    "PICTURE",
    "Colour",
    "Floats",
    "Pixels",
    "dimmed",
    "floats",
    "light_at",
    "painted",
    "points",
    "project",
]

Pixels = NDArray[Any]
"""A picture of uint8; OpenCV"s own annotations do not say which type of number they return."""
Floats = NDArray[Any]
"""A picture or a row of float32."""
Colour = tuple[float, float, float]
"""Blue, green, red, 0 to 255."""

PICTURE: Final = (1920, 1080)
"""Width and height of the picture plane, in pixels."""
FOCAL: Final = 2400.0
"""Focal length in pixels: 44 degrees across, a short telephoto as a van"s camera has."""
HORIZON: Final = 330.0
"""Row of the horizon; the camera is shifted down, not tilted, so that verticals stay vertical."""
CAMERA_HEIGHT: Final = 1.9

CENTRE: Final = PICTURE[0] / 2
FACADE_LEFT: Final = -3.2
KERB: Final = 2.5
FAR_SIDE: Final = 11.5


def floats(values: Any) -> Floats:
    """Return numbers as a float32 array."""
    return np.asarray(values, np.float32)


def dimmed(colour: Colour, gain: float) -> Colour:
    """Return a colour made darker or brighter."""
    return colour[0] * gain, colour[1] * gain, colour[2] * gain


def painted(hue: int, saturation: int, value: int) -> Colour:
    """Return a colour given by hue (0 to 179), saturation and value (0 to 255), as OpenCV counts them."""
    colour = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return float(colour[0]), float(colour[1]), float(colour[2])


def project(x: float, y: float, z: float) -> tuple[float, float]:
    """Return the pixel (column, row) at which the world point (x, y, z), in metres, with z > 0, is seen."""
    return CENTRE + FOCAL * x / z, HORIZON + FOCAL * (CAMERA_HEIGHT - y) / z


def light_at(x: Floats, z: Floats) -> Floats:
    """Return the light falling at ground positions (x, z) in metres: gains n x 3 (B, G, R), about 0.35 to 1.25.

    Cold dusk everywhere, warm light spilt from the shop windows on the left in pools one shop long, and two
    slanting bands of shade through which everybody has to walk.
    """
    nearness = np.clip((2.2 - x) / 5.4, 0.0, 1.0)
    pools = 0.5 + 0.5 * np.cos((z + 0.6 * x - 3.6) * 2 * np.pi / 5.5)
    warm = (0.15 + 0.75 * pools**2) * nearness
    slant = z + 1.4 * x
    shade = 1.0 - 0.36 * _band(slant, 5.3, 1.0) - 0.30 * _band(slant, 10.5, 1.6)
    ambient = np.float32(0.66) * shade
    gains = np.stack([ambient + 0.50 * warm, ambient * 0.97 + 0.66 * warm, ambient * 0.92 + 0.84 * warm], axis=-1)
    return floats(gains)


def _band(value: Floats, centre: float, width: float) -> Floats:
    """A soft-edged step of the given width around a centre: 1 inside, 0 outside."""
    return np.asarray(0.5 - 0.5 * np.tanh((np.abs(value - centre) - width / 2) * 4.5), np.float32)


def points(points: list[tuple[float, float]]) -> NDArray[np.int32]:
    """Return corners as OpenCV wants them: n x 2 int32."""
    return np.array(points, np.float32).round().astype(np.int32)
