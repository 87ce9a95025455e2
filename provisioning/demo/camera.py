"""The camera of the demo: puts dressed people into the street, frame by frame, with what a lens and a sensor do.

Perspective, cover by whoever is nearer, light that changes along the pavement, motion blur, defocus, grain.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from provisioning.demo.clothes import CHIN_ABOVE_GROUND, HEM_BELOW_CHIN, Figure
from provisioning.demo.people import PER_METRE
from provisioning.demo.script import Moment
from provisioning.demo.world import FOCAL, PICTURE, Colour, Floats, Pixels, floats, light_at, project

__all__ = ["Camera"]

_SHUTTER: Final = 1 / 45  # seconds: a van's camera at dusk
_FOCUS: Final = 4.6  # metres
_BLUR: Final = 5.5  # pixels of standard deviation for each dioptre out of focus
_GRAIN: Final = 5.0  # grey levels of standard deviation
_EXPOSURE: Final = 1.12
_TURN: Final = [2 * math.pi * n / 20 for n in range(20)]
_SHIFT: Final = 3  # OpenCV's fixed-point bits for outlines


class Camera:
    """Takes pictures of an empty street with people in it.

    Args:
        street: 1080 x 1920 x 3 uint8, BGR.
        rng: the grain.
        scale: size of the pictures as a share of 1920 x 1080.
    """

    def __init__(self, street: Pixels, rng: np.random.Generator, *, scale: float) -> None:
        self._scale = scale
        self.size = (round(PICTURE[0] * scale), round(PICTURE[1] * scale))
        self._street = street if scale == 1 else cv2.resize(street, self.size, interpolation=cv2.INTER_AREA)
        self._rng = rng
        # One tile of grain, larger than the picture, laid at another place for every frame.
        rows, cols = self.size[1] + 96, self.size[0] + 96
        grain = rng.normal(0, _GRAIN, (rows, cols)).astype(np.float32)
        grain = 1.25 * cv2.GaussianBlur(grain, (0, 0), 0.55) + rng.normal(0, 0.35 * _GRAIN, (rows, cols)).astype(
            np.float32
        )
        self._brighter = cv2.merge([np.clip(grain, 0, 255).astype(np.uint8)] * 3)
        self._darker = cv2.merge([np.clip(-grain, 0, 255).astype(np.uint8)] * 3)

    def take(self, people: list[tuple[Figure, Moment, tuple[float, float]]]) -> Pixels:
        """Return one picture, h x w x 3 uint8 BGR, of people with where they are and their speed (x, z) in m/s."""
        picture = self._street.copy()
        for figure, moment, velocity in sorted(people, key=lambda one: -one[1].z):
            light = light_at(floats([moment.x]), floats([moment.z]))[0]
            self._legs(picture, figure, moment, light)
            self._body(picture, figure, moment, velocity)
        down, right = (int(n) for n in self._rng.integers(0, 96, 2))
        window = (slice(down, down + self.size[1]), slice(right, right + self.size[0]))
        cv2.add(picture, self._brighter[window], dst=picture)
        cv2.subtract(picture, self._darker[window], dst=picture)
        return picture

    def _pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        column, row = project(x, y, z)
        return column * self._scale, row * self._scale

    def _body(self, picture: Pixels, figure: Figure, moment: Moment, velocity: tuple[float, float]) -> None:
        shrink = FOCAL * self._scale / moment.z / PER_METRE
        level = min(len(figure.layers) - 1, max(0, int(math.log2(1 / shrink)))) if shrink < 1 else 0
        layer = figure.layers[level]
        factor = shrink * 2**level
        column, row = self._pixel(moment.x, moment.chin, moment.z)
        turn = math.radians(1.3) * math.sin(moment.phase)
        cos, sin = factor * math.cos(turn), factor * math.sin(turn)
        chin_x, chin_y = figure.chin[0] / 2**level, figure.chin[1] / 2**level
        reach_x, above, below = chin_x * factor + 12, chin_y * factor + 12, (layer.shape[0] - chin_y) * factor + 12
        left, right = max(0, int(column - reach_x)), min(self.size[0], int(column + reach_x))
        top, foot = max(0, int(row - above)), min(self.size[1], int(row + below))
        if right - left < 2 or foot - top < 2:
            return
        place = np.array(
            [
                [cos, sin, column - left - cos * chin_x - sin * chin_y],
                [-sin, cos, row - top + sin * chin_x - cos * chin_y],
            ]
        )
        seen = cv2.warpAffine(layer, place, (right - left, foot - top), flags=cv2.INTER_LINEAR)
        seen = self._blurred(seen, moment, velocity)
        across = np.linspace(-1, 1, 9, dtype=np.float32) * np.float32((right - left) / 2 / (shrink * PER_METRE))
        # Three times the true spread, so that a window on one side and shade on the other fall across one face.
        lit = light_at(np.float32(moment.x) + 3.0 * across, np.full(9, moment.z, np.float32)) * _EXPOSURE
        row_of_light = np.clip(lit[None] * 128, 0, 255).astype(np.uint8)
        gain = cv2.resize(row_of_light, (right - left, foot - top), interpolation=cv2.INTER_LINEAR)
        part = picture[top:foot, left:right]
        through = cv2.cvtColor(cv2.bitwise_not(seen[..., 3]), cv2.COLOR_GRAY2BGR)
        colour = cv2.multiply(cv2.cvtColor(seen, cv2.COLOR_BGRA2BGR), gain, scale=1 / 128)
        cv2.add(cv2.multiply(part, through, scale=1 / 255), colour, dst=part)

    def _blurred(self, seen: Pixels, moment: Moment, velocity: tuple[float, float]) -> Pixels:
        """Motion blur along the way the chin moves while the shutter is open, then defocus by distance."""
        before = self._pixel(moment.x, moment.chin, moment.z)
        after = self._pixel(moment.x + velocity[0] * _SHUTTER, moment.chin, max(0.5, moment.z + velocity[1] * _SHUTTER))
        smear = math.dist(before, after)
        if smear > 1.5:
            length = round(smear) | 1
            kernel = np.zeros((length, length), np.float32)
            middle = length // 2
            step = ((after[0] - before[0]) / smear * middle, (after[1] - before[1]) / smear * middle)
            start, end = (
                (round(middle - step[0]), round(middle - step[1])),
                (round(middle + step[0]), round(middle + step[1])),
            )
            cv2.line(kernel, start, end, (1.0,), 1)
            seen = cv2.filter2D(seen, -1, kernel / kernel.sum())
        sigma = _BLUR * abs(1 / moment.z - 1 / _FOCUS) * self._scale
        return seen if sigma < 0.3 else np.asarray(cv2.GaussianBlur(seen, (0, 0), sigma), np.uint8)

    def _legs(self, picture: Pixels, figure: Figure, moment: Moment, light: Floats) -> None:
        hem = CHIN_ABOVE_GROUND - HEM_BELOW_CHIN + 0.10
        if self._pixel(moment.x, hem, moment.z)[1] > self.size[1]:
            return
        self._shadow(picture, moment)
        for side in (-1.0, 1.0):
            swing = math.sin(moment.phase + (0 if side > 0 else math.pi))
            lift, ahead = 0.10 * max(0.0, swing), 0.28 * math.cos(moment.phase + (0 if side > 0 else math.pi))
            dim = 0.82 + 0.18 * swing
            z = moment.z - ahead
            hip, foot = moment.x + side * 0.085, moment.x + side * 0.075
            leg = [(hip - 0.085, hem), (hip + 0.085, hem), (foot + 0.055, 0.07 + lift), (foot - 0.055, 0.07 + lift)]
            corners = [self._pixel(x, y, moment.z if y > 0.4 else z) for x, y in leg]
            self._fill(picture, corners, _dimmed(figure.trousers, light, dim))
            toe = 0.5 + 0.5 * max(0.0, -swing)
            shoe = [
                (foot + side * 0.012 + 0.050 * math.cos(a), 0.045 + lift + (0.03 + 0.03 * toe) * math.sin(a))
                for a in _TURN
            ]
            self._fill(picture, [self._pixel(x, y, z) for x, y in shoe], _dimmed((22, 20, 20), light, 1.0))

    def _shadow(self, picture: Pixels, moment: Moment) -> None:
        column, row = self._pixel(moment.x, 0, moment.z)
        reach = FOCAL * self._scale / moment.z
        wide, tall = int(0.46 * reach), max(4, int(0.15 * reach))
        left, right = max(0, int(column - wide)), min(self.size[0], int(column + wide))
        top, foot = max(0, int(row - tall)), min(self.size[1], int(row + tall))
        if right - left < 2 or foot - top < 2:
            return
        xs = (np.arange(left, right, dtype=np.float32) - column) / wide
        ys = (np.arange(top, foot, dtype=np.float32) - row) / tall
        fall = np.clip(1 - (xs[None, :] ** 2 + ys[:, None] ** 2), 0, 1)
        gain = cv2.merge([np.asarray(255 * (1 - 0.55 * fall), np.uint8)] * 3)
        part = picture[top:foot, left:right]
        cv2.multiply(part, gain, dst=part, scale=1 / 255)

    def _fill(self, picture: Pixels, corners: list[tuple[float, float]], colour: Colour) -> None:
        outline: NDArray[np.int32] = np.array(np.array(corners) * (1 << _SHIFT), np.int32)
        cv2.fillPoly(picture, [outline], colour, cv2.LINE_AA, _SHIFT)


def _dimmed(colour: Colour, light: Floats, gain: float) -> Colour:
    lit = np.clip(floats(colour) * light * gain * _EXPOSURE, 0, 255)
    return float(lit[0]), float(lit[1]), float(lit[2])
