"""The clothes of the people of the street, drawn under a head that was cut out of a portrait.

Everything is drawn on a canvas of 1000 pixels to the metre whose origin is the chin; x grows to the right as
the camera sees it, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from provisioning.demo.people import CUT_HALF, CUT_TOP, FACE_HEIGHT, PER_METRE, Portrait, cut_out
from provisioning.demo.world import Colour, Floats, Pixels, dimmed, floats

__all__ = ["CHIN_ABOVE_GROUND", "HEM_BELOW_CHIN", "Figure", "Outfit", "dress"]

CHIN_ABOVE_GROUND: Final = 1.52
HEM_BELOW_CHIN: Final = 0.96
"""Both in metres, for somebody of 1.75 m in a coat."""

_HEADROOM: Final = 0.52  # metres of canvas above the chin: hair, a hat, an umbrella
_DEPTH: Final = 1.04
_HALF_WIDTH: Final = 0.40
_HALF_WIDTH_UMBRELLA: Final = 0.60
_SHRUG: Final = 0.018  # metres by which shoulders are drawn up: collars stand, it is cold
_SHIFT: Final = 3  # OpenCV's fixed-point bits: outlines are drawn to an eighth of a pixel
_SUBPIXEL: Final = 1 << _SHIFT

Points = list[tuple[float, float]]


class Outfit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody wears and carries in one passage. Colours are blue, green, red, 0 to 255."""

    coat: tuple[int, int, int]
    trousers: tuple[int, int, int] = (46, 40, 38)
    scarf: tuple[int, int, int] | None = None
    hat: Literal["", "beanie", "brim"] = ""
    hat_colour: tuple[int, int, int] = (40, 36, 34)
    umbrella: tuple[int, int, int] | None = None
    bag: bool = False
    skin: tuple[int, int, int] = (120, 150, 195)
    hair: tuple[int, int, int] = (36, 40, 48)
    breadth: float = 0.91


@dataclass(frozen=True, slots=True)
class Figure:
    """A dressed person, head to hem.

    Attributes:
        layers: the figure at full, half, quarter and eighth size, each h x w x 4 uint8, BGR premultiplied by alpha.
        chin: column and row of the chin in the full-size layer.
        trousers: colour of the legs, which are drawn frame by frame because they walk.
        face: left, top, right, bottom of the face relative to the chin, in metres; None for a figure seen from
            behind.
    """

    layers: tuple[Pixels, ...]
    chin: tuple[float, float]
    trousers: Colour
    face: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class _Cover:
    """Coverage h x w x 1, 0 to 1, of a part of a canvas."""

    rows: slice
    cols: slice
    values: Floats


class _Canvas:
    """A picture with alpha that is painted in metres around the chin."""

    def __init__(self, half_width: float) -> None:
        self.half_width = half_width
        self.lift = 0.0  # metres by which outlines are raised
        self.shape = (int((_HEADROOM + _DEPTH) * PER_METRE), int(2 * half_width * PER_METRE))
        self.colour: Floats = np.zeros((*self.shape, 3), np.float32)
        self.alpha: Floats = np.zeros(self.shape, np.float32)

    def pixels(self, points: Points) -> NDArray[np.int32]:
        scaled = [
            ((x + self.half_width) * PER_METRE * _SUBPIXEL, (y + _HEADROOM - self.lift) * PER_METRE * _SUBPIXEL)
            for x, y in points
        ]
        return np.array(scaled, np.float32).round().astype(np.int32)

    def mask(self, points: Points, soft: float = 0.8) -> _Cover:
        """Coverage of a closed outline, its edge softened by so many pixels."""
        return self._cover(self.pixels(points), soft, thickness=0)

    def line(self, points: Points, width: float, soft: float) -> _Cover:
        """Coverage of an open line of the given width in metres."""
        return self._cover(self.pixels(points), soft, thickness=max(1, int(width * PER_METRE)))

    def _cover(self, corners: NDArray[np.int32], soft: float, *, thickness: int) -> _Cover:
        margin = int(3 * soft) + thickness + 2
        left, top = np.maximum(corners.min(axis=0) // _SUBPIXEL - margin, 0)
        right, foot = np.minimum(corners.max(axis=0) // _SUBPIXEL + margin, self.shape[::-1])
        values = np.zeros((max(1, foot - top), max(1, right - left)), np.uint8)
        moved = corners - np.array([left, top], np.int32) * _SUBPIXEL
        if thickness:
            cv2.polylines(
                values, [moved], isClosed=False, color=(255,), thickness=thickness, lineType=cv2.LINE_AA, shift=_SHIFT
            )
        else:
            cv2.fillPoly(values, [moved], (255,), cv2.LINE_AA, _SHIFT)
        blurred = np.asarray(cv2.GaussianBlur(values, (0, 0), soft), np.float32) / 255.0
        return _Cover(slice(int(top), int(foot)), slice(int(left), int(right)), blurred[..., None])

    def paint(self, cover: _Cover, colour: Floats | Colour) -> None:
        """Lay a colour, or a picture of the canvas's size, over what is there."""
        where = (cover.rows, cover.cols)
        paint = colour[where] if isinstance(colour, np.ndarray) else floats(colour)
        self.colour[where] += (paint - self.colour[where]) * cover.values
        self.alpha[where] += (1 - self.alpha[where]) * cover.values[..., 0]

    def shade(self, cover: _Cover, gain: float) -> None:
        """Darken or brighten what is there by a gain where the cover is 1."""
        self.colour[cover.rows, cover.cols] *= 1 + (gain - 1) * cover.values

    def layers(self) -> tuple[Pixels, ...]:
        rgb = np.clip(self.colour, 0, 255) * self.alpha[..., None]
        full: Pixels = np.dstack([rgb, self.alpha * 255]).round().astype(np.uint8)
        found: list[Pixels] = [full]
        for _ in range(3):
            last = found[-1]
            found.append(cv2.resize(last, (last.shape[1] // 2, last.shape[0] // 2), interpolation=cv2.INTER_AREA))
        return tuple(found)


def _smooth(points: Points, rounds: int = 3) -> Points:
    """Round the corners of a closed outline by Chaikin's corner cutting."""
    curve = np.array(points, np.float64)
    for _ in range(rounds):
        following = np.roll(curve, -1, axis=0)
        curve = np.stack([0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following], axis=1).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in curve]


def _both_sides(half: Points, breadth: float = 0.91) -> Points:
    """Close an outline given for the right half, from top to bottom, by its mirror image."""
    right = [(x * breadth, y) for x, y in half]
    return right + [(-x, y) for x, y in reversed(right)]


def _ellipse(x: float, y: float, rx: float, ry: float, *, start: float = 0.0, end: float = 2 * np.pi) -> Points:
    return [(x + rx * float(np.cos(a)), y + ry * float(np.sin(a))) for a in np.linspace(start, end, 60)]


def _cloth(canvas: _Canvas, rng: np.random.Generator, colour: Colour) -> Floats:
    """Cloth that hangs: broad vertical folds, a fine weave, brighter towards the middle."""
    rows, cols = canvas.shape
    folds = cv2.resize(rng.normal(0, 1, (7, 26)).astype(np.float32), (cols, rows), interpolation=cv2.INTER_CUBIC)
    creases = cv2.resize(rng.normal(0, 1, (30, 14)).astype(np.float32), (cols, rows), interpolation=cv2.INTER_CUBIC)
    weave = rng.normal(0, 1, (rows, cols)).astype(np.float32)
    across = (np.arange(cols, dtype=np.float32) / PER_METRE - canvas.half_width)[None, :]
    rounding = 1.08 - 6.5 * across**2
    tone = rounding * (1 + 0.09 * folds + 0.05 * creases + 0.035 * weave)
    return np.asarray(floats(colour) * tone[..., None] + 2.0, np.float32)


def dress(
    portrait: Portrait | None, outfit: Outfit, folder: Path, rng: np.random.Generator, *, mirrored: bool = False
) -> Figure:
    """Draw somebody from head to hem.

    Args:
        portrait: whose head; None for somebody seen from behind, whose head is drawn.
        outfit: clothes and what is carried.
        folder: where the portraits lie.
        rng: folds and weave of the cloth.
        mirrored: whether the head is mirrored, as bystanders' are on a second pass.

    Raises:
        FileNotFoundError: the portrait is not in the folder.
    """
    canvas = _Canvas(_HALF_WIDTH_UMBRELLA if outfit.umbrella else _HALF_WIDTH)
    cloth = _cloth(canvas, rng, outfit.coat)
    canvas.lift = _SHRUG
    _coat(canvas, cloth, outfit)
    canvas.lift = 0.0
    face = None
    head_x, head_rx = 0.0, 0.088
    if portrait is None:
        _back_of_head(canvas, rng, outfit)
    else:
        left, top, right, chin = portrait.face
        scale = FACE_HEIGHT / (chin - top)
        side = -1.0 if mirrored else 1.0
        head_x, head_rx = side * (portrait.head[0] - (left + right) / 2) * scale, portrait.head[2] * scale
        half = (right - left) / 2 * scale
        face = (-half, -FACE_HEIGHT, half, 0.0)
        _head(canvas, portrait, folder, mirrored=mirrored)
    canvas.lift = _SHRUG
    _lapels(canvas, cloth, outfit, closed=portrait is None or portrait.collar == 0)
    if outfit.scarf:
        _scarf(canvas, rng, outfit.scarf, outfit.breadth)
    canvas.lift = 0.0
    if outfit.hat:
        _hat(canvas, rng, outfit, head_x, head_rx)
    if outfit.umbrella:
        _umbrella(canvas, outfit.umbrella)
    return Figure(
        layers=canvas.layers(),
        chin=(canvas.half_width * PER_METRE, _HEADROOM * PER_METRE),
        trousers=outfit.trousers,
        face=face,
    )


def _coat(canvas: _Canvas, cloth: Floats, outfit: Outfit) -> None:
    wide = outfit.breadth
    hands = [_ellipse(side * 0.248 * wide, 0.79, 0.030, 0.055) for side in (-1, 1)]
    for hand in hands:
        canvas.paint(canvas.mask(hand, 2.0), dimmed(outfit.skin, 0.8))
    half = [
        (0.0, 0.0),
        (0.055, 0.02),
        (0.085, 0.058),
        (0.17, 0.088),
        (0.222, 0.13),
        (0.25, 0.22),
        (0.268, 0.40),
        (0.285, 0.60),
        (0.284, 0.765),
        (0.224, 0.77),
        (0.212, 0.80),
        (0.222, HEM_BELOW_CHIN),
        (0.10, HEM_BELOW_CHIN + 0.012),
    ]
    canvas.paint(canvas.mask(_smooth(_both_sides(half, wide)), 1.2), cloth)
    for side in (-1, 1):
        arm = [(side * x * wide, y) for x, y in ((0.165, 0.24), (0.188, 0.42), (0.205, 0.62), (0.214, 0.80))]
        canvas.shade(canvas.line(arm, 0.022, 9.0), 0.42)
        canvas.shade(canvas.line([(x + side * 0.03, y) for x, y in arm], 0.03, 14.0), 1.2)
        pocket = [(side * 0.11 * wide, 0.60), (side * 0.15 * wide, 0.72)]
        canvas.shade(canvas.line(pocket, 0.006, 1.5), 0.5)
    canvas.shade(canvas.line([(0.012, 0.22), (0.014, HEM_BELOW_CHIN)], 0.008, 2.0), 0.45)
    for y in (0.36, 0.47, 0.58, 0.69):
        canvas.paint(canvas.mask(_ellipse(0.034, y, 0.009, 0.009), 1.0), dimmed(outfit.coat, 0.5))
    if outfit.bag:
        strap = canvas.line([(-0.115 * wide, 0.082), (0.20 * wide, 0.66)], 0.034, 1.2)
        canvas.paint(strap, (34, 46, 62))
        canvas.shade(canvas.line([(-0.10 * wide, 0.095), (0.225 * wide, 0.66)], 0.012, 5.0), 0.6)


def _head(canvas: _Canvas, portrait: Portrait, folder: Path, *, mirrored: bool) -> None:
    picture, cover = cut_out(portrait, folder)
    if mirrored:
        picture, cover = cv2.flip(picture, 1), cv2.flip(cover, 1)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + 0.80 * (picture - grey)  # dusk takes the colour out of skin and hair
    rows, cols = cover.shape
    below = np.arange(rows, dtype=np.float32) / PER_METRE - CUT_TOP
    chin_shadow = 1.0 - 0.42 * np.clip(below / 0.02, 0, 1) * np.clip(1.0 - (below - 0.03) / 0.16, 0, 1)
    picture = picture * chin_shadow[:, None, None]
    top, left = int((_HEADROOM - CUT_TOP) * PER_METRE), int((canvas.half_width - CUT_HALF) * PER_METRE)
    where = (slice(top, top + rows), slice(left, left + cols))
    whole = np.zeros((*canvas.shape, 3), np.float32)
    whole[where] = picture
    canvas.paint(_Cover(*where, cover[..., None]), whole)


def _back_of_head(canvas: _Canvas, rng: np.random.Generator, outfit: Outfit) -> None:
    neck = _smooth(_both_sides([(0.055, -0.08), (0.06, 0.0), (0.08, 0.06), (0.03, 0.09)]))
    canvas.paint(canvas.mask(neck, 2.0), dimmed(outfit.skin, 0.75))
    for side in (-1, 1):
        canvas.paint(canvas.mask(_ellipse(side * 0.083, -0.10, 0.013, 0.030), 2.0), dimmed(outfit.skin, 0.85))
    strands = cv2.resize(
        rng.normal(1.0, 0.22, (16, 260)).astype(np.float32),
        (canvas.shape[1], canvas.shape[0]),
        interpolation=cv2.INTER_CUBIC,
    )
    hair = np.asarray(floats(outfit.hair) * np.clip(strands, 0.3, 1.8)[..., None], np.float32)
    shape = _smooth(
        _both_sides([(0.0, -0.27), (0.06, -0.262), (0.09, -0.20), (0.092, -0.11), (0.07, -0.03), (0.03, -0.01)])
    )
    canvas.paint(canvas.mask(shape, 2.5), hair)


def _lapels(canvas: _Canvas, cloth: Floats, outfit: Outfit, *, closed: bool) -> None:
    """The coat's collar, in front of the photograph's lower edge."""
    if closed:
        half = [(0.03, 0.055), (0.075, 0.02), (0.10, 0.05), (0.11, 0.09), (0.06, 0.15), (0.0, 0.17)]
        collar = canvas.mask(_smooth(_both_sides(half, outfit.breadth), 2), 1.5)
        canvas.paint(collar, np.asarray(cloth * 0.86, np.float32))
        canvas.shade(canvas.line([(-0.10, 0.10), (-0.05, 0.15), (0.05, 0.15), (0.10, 0.10)], 0.006, 3.0), 0.5)
        return
    for side in (-1, 1):
        shape = [
            (0.056, 0.012),
            (0.078, 0.016),
            (0.125, 0.070),
            (0.150, 0.150),
            (0.128, 0.165),
            (0.135, 0.185),
            (0.012, 0.34),
            (0.004, 0.31),
            (0.040, 0.19),
            (0.060, 0.09),
        ]
        outline = [(side * x, y) for x, y in shape]
        canvas.shade(canvas.mask([(x + side * 0.008, y + 0.010) for x, y in outline], 6.0), 0.62)
        canvas.paint(canvas.mask(outline, 1.4), np.asarray(cloth * (1.16 if side < 0 else 0.98), np.float32))


def _scarf(canvas: _Canvas, rng: np.random.Generator, colour: Colour, breadth: float) -> None:
    wool = np.asarray(_cloth(canvas, rng, colour), np.float32)
    tail = [(0.01, 0.10), (0.075, 0.09), (0.095, 0.40), (0.02, 0.41)]
    canvas.shade(canvas.mask([(x + 0.012, y + 0.015) for x, y in tail], 8.0), 0.55)
    canvas.paint(canvas.mask(_smooth(tail, 2), 1.5), np.asarray(wool * 0.9, np.float32))
    wrap = [
        (0.0, 0.022),
        (0.045, 0.008),
        (0.088 * breadth, -0.022),
        (0.112 * breadth, 0.03),
        (0.108 * breadth, 0.085),
        (0.05, 0.125),
        (0.0, 0.13),
    ]
    canvas.paint(canvas.mask(_smooth(_both_sides(wrap), 2), 1.8), wool)
    for offset, bend in ((0.035, 0.03), (0.065, 0.038), (0.092, 0.03)):
        fold = [(x, offset + bend - 5.5 * bend * (x / 0.11) ** 2 * 0.4) for x in np.linspace(-0.10, 0.10, 16)]
        canvas.shade(canvas.line([(float(x), float(y)) for x, y in fold], 0.007, 3.5), 0.55)


def _hat(canvas: _Canvas, rng: np.random.Generator, outfit: Outfit, x: float, half: float) -> None:
    felt = _cloth(canvas, rng, outfit.hat_colour)
    wide = half * 1.04
    if outfit.hat == "beanie":
        dome = [
            (0.0, -0.318),
            (0.55 * wide, -0.305),
            (0.95 * wide, -0.25),
            (wide, -0.185),
            (0.55 * wide, -0.172),
            (0.0, -0.168),
        ]
        shape = [(x + px, py) for px, py in _smooth(_both_sides(dome), 2)]
        canvas.paint(canvas.mask(shape, 2.0), felt)
        rib = [(x + float(px), -0.212 + 0.9 * float(px) ** 2) for px in np.linspace(-wide, wide, 20)]
        canvas.shade(canvas.line(rib, 0.008, 3.0), 0.55)
    else:
        crown = [(0.0, -0.325), (0.66 * wide, -0.335), (0.95 * wide, -0.26), (wide, -0.19), (0.0, -0.18)]
        canvas.paint(canvas.mask([(x + px, py) for px, py in _smooth(_both_sides(crown), 2)], 2.0), felt)
        canvas.paint(canvas.mask(_ellipse(x, -0.197, 1.75 * wide, 0.026), 2.0), np.asarray(felt * 0.75, np.float32))
        canvas.shade(canvas.mask(_ellipse(x, -0.222, wide, 0.014), 4.0), 0.5)
    shadow = [(x - wide, -0.19), (x + wide, -0.19), (x + 0.9 * wide, -0.13), (x - 0.9 * wide, -0.13)]
    canvas.shade(canvas.mask(shadow, 12.0), 0.66)


def _umbrella(canvas: _Canvas, colour: Colour) -> None:
    x, foot, reach, rise = 0.03, -0.195, 0.55, 0.30
    arc = _ellipse(x, foot, reach, rise, start=np.pi, end=2 * np.pi)
    scallops: Points = []
    ribs = [float(np.sin(a)) * reach for a in np.linspace(np.pi / 2, -np.pi / 2, 7)]
    for right, left in pairwise(ribs):
        for t in np.linspace(0, 1, 10):
            scallops.append(
                (x + right + (left - right) * float(t), foot - 0.12 * (right - left) * float(np.sin(np.pi * t)))
            )
    shadow = [(-0.16, -0.22), (0.16, -0.22), (0.14, -0.13), (-0.14, -0.13)]
    canvas.shade(canvas.mask(shadow, 16.0), 0.70)
    canopy = canvas.mask(arc + scallops, 1.5)
    across = np.linspace(1.25, 0.65, canvas.shape[1], dtype=np.float32)[None, :, None]
    down = np.interp(np.arange(canvas.shape[0]) / PER_METRE - _HEADROOM, [-0.5, -0.19], [1.15, 0.7]).astype(np.float32)
    canvas.paint(canvas.line([(0.17, -0.25), (0.21, 0.36)], 0.010, 1.0), (60, 60, 62))
    canvas.paint(canvas.mask(_ellipse(0.212, 0.37, 0.032, 0.040), 2.5), (95, 118, 150))
    canvas.paint(canopy, np.asarray(floats(colour) * across * down[:, None, None], np.float32))
    for rib in ribs[1:-1]:
        bend = [(x + rib * float(np.sin(a)), foot - rise * float(np.cos(a))) for a in np.linspace(0, np.pi / 2, 20)]
        canvas.shade(canvas.line(bend, 0.004, 2.0), 0.6)
