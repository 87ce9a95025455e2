"""The buildings of the street: shop fronts with awnings on our side, houses across the road."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from provisioning.demo.world import (
    FACADE_LEFT,
    Colour,
    Floats,
    dimmed,
    floats,
    painted,
    points,
    project,
)

__all__ = ["awnings", "facade", "shop_row", "terrace"]

_SHOPS: Final = ("BAKERY", "BOOKS", "CAFE", "CHEMIST", "FLOWERS", "TAILOR", "RECORDS", "GROCER", "OPTICIAN", "TOYS")


def _bricks(rng: np.random.Generator, wide: int, tall: int, colour: Colour) -> Floats:
    """A wall texture: courses of bricks that differ a little from one another."""
    courses = rng.normal(1.0, 0.09, (tall // 6 + 1, wide // 14 + 1)).astype(np.float32)
    tone = floats(cv2.resize(courses, (wide, tall), interpolation=cv2.INTER_NEAREST))
    tone[::6] *= 0.8
    stain = cv2.resize(rng.normal(1.0, 0.1, (6, 30)).astype(np.float32), (wide, tall), interpolation=cv2.INTER_CUBIC)
    return (tone * stain)[..., None] * floats(colour)


def _window(
    wall: Floats,
    rng: np.random.Generator,
    box: tuple[int, int, int, int],
    *,
    lit: bool,
    frame: Colour = (150, 150, 150),
) -> None:
    left, top, right, foot = box
    cv2.rectangle(wall, (left - 4, top - 4), (right + 4, foot + 5), frame, -1)
    glass = floats([95, 165, 220] if lit else [74, 62, 52]) * rng.uniform(0.6, 1.0)
    fall = np.linspace(1.1, 0.7, foot - top, dtype=np.float32)[:, None, None]
    wall[top:foot, left:right] = glass * fall
    cv2.line(wall, ((left + right) // 2, top), ((left + right) // 2, foot), frame, 3)
    cv2.line(wall, (left, (top + foot) // 2), (right, (top + foot) // 2), frame, 3)


def terrace(rng: np.random.Generator, lit: float) -> Floats:
    """The far side of the road: 126 m of houses at 24 pixels to the metre."""
    wide, tall = 126 * 24, 252
    wall = _bricks(rng, wide, tall, (58, 66, 88))
    for left in range(0, wide, 6 * 24):
        wall[:, left : left + 6 * 24] *= rng.uniform(0.75, 1.15)
        for floor in range(3):
            for bay in range(3):
                x, y = left + 14 + bay * 46, 18 + floor * 74
                _window(wall, rng, (x, y, x + 26, y + 40), lit=bool(rng.random() < lit), frame=(120, 124, 130))
        cv2.rectangle(wall, (left + 60, 200), (left + 84, 252), (40, 40, 60), -1)
    return wall


def shop_row(rng: np.random.Generator) -> Floats:
    """Our side: 66 m of shops with flats above, at 60 pixels to the metre."""
    scale, tall = 60, 516
    wide = 66 * scale
    wall = _bricks(rng, wide, tall, (70, 84, 122))
    ground_floor = tall - int(3.5 * scale)
    for index, left in enumerate(range(0, wide, int(5.5 * scale))):
        right = min(left + int(5.5 * scale), wide)
        wall[:ground_floor, left:right] *= floats(
            [rng.uniform(0.7, 1.1), rng.uniform(0.75, 1.1), rng.uniform(0.8, 1.15)]
        )
        for x in range(left + 50, right - 80, 110):
            _window(wall, rng, (x, 60, x + 62, 190), lit=bool(rng.random() < 0.5), frame=(165, 170, 172))
        _shop(wall, rng, left=left, right=right, top=ground_floor, name=_SHOPS[index % len(_SHOPS)])
    return wall


def _shop(wall: Floats, rng: np.random.Generator, *, left: int, right: int, top: int, name: str) -> None:
    tall = wall.shape[0]
    hue = int(rng.integers(0, 180))
    colour = painted(hue, 120, 88)
    cv2.rectangle(wall, (left, top), (right, tall), colour, -1)
    cv2.rectangle(wall, (left + 8, top + 8), (right - 8, top + 48), dimmed(colour, 0.55), -1)
    size = cv2.getTextSize(name, cv2.FONT_HERSHEY_TRIPLEX, 1.3, 2)[0]
    cv2.putText(
        wall,
        name,
        ((left + right - size[0]) // 2, top + 42),
        cv2.FONT_HERSHEY_TRIPLEX,
        1.3,
        (170, 215, 235),
        2,
        cv2.LINE_AA,
    )
    glass_top, glass_foot = top + 58, tall - 34
    door = right - 70
    glow = floats([rng.uniform(95, 150), rng.uniform(165, 205), rng.uniform(215, 250)])
    for x0, x1, foot in ((left + 14, door - 12, glass_foot), (door, right - 12, tall - 6)):
        depth = np.linspace(1.05, 0.55, foot - glass_top, dtype=np.float32)[:, None, None]
        pane = np.broadcast_to(glow * depth, (foot - glass_top, x1 - x0, 3)).copy()
        for _ in range(max(3, (x1 - x0) // 16)):
            w, h = int(rng.integers(8, 30)), int(rng.integers(14, 60))
            x, y = int(rng.integers(0, max(1, x1 - x0 - w))), int(rng.integers(30, max(31, pane.shape[0] - h)))
            pane[y : y + h, x : x + w] *= floats(rng.uniform(0.3, 0.95, 3))
        wall[glass_top:foot, x0:x1] = cv2.GaussianBlur(pane, (0, 0), 2.5)
    for x in range(left + 14, door - 12, (door - left - 26) // 3 or 1):
        cv2.line(wall, (x, glass_top), (x, glass_foot), dimmed(colour, 0.7), 4)


def facade(view: Floats, wall: Floats, *, x: float, near: float, far: float, tall: float, mirrored: bool) -> None:
    """Stand a wall texture, whose columns run from near to far, upright along Z at the given X."""
    rows, cols = wall.shape[:2]
    texture = floats([[0, 0], [cols, 0], [cols, rows], [0, rows]])
    seen = floats([project(x, tall, near), project(x, tall, far), project(x, 0, far), project(x, 0, near)])
    # The near end is seen many times larger than the far end: minify with care for the far end only.
    warp = cv2.getPerspectiveTransform(texture, seen)
    size = (view.shape[1], view.shape[0])
    depth = np.linspace(1.0, 0.8, cols, dtype=np.float32)[None, :, None]
    smooth = cv2.GaussianBlur(wall * depth, (0, 0), 1.2)
    picture = cv2.warpPerspective(smooth, warp, size, flags=cv2.INTER_LINEAR)
    cover = cv2.warpPerspective(np.ones((rows, cols), np.float32), warp, size, flags=cv2.INTER_LINEAR)[..., None]
    dusk = floats([0.86, 0.80, 0.76]) if mirrored else floats([0.88, 0.86, 0.86])
    view[:] = view * (1.0 - cover) + picture * cover * dusk


def awnings(view: Floats, rng: np.random.Generator) -> None:
    """Draw a striped awning over every second shop."""
    for index in range(9, -1, -1):
        if index % 2:
            continue
        near, far = 4.3 + 5.5 * index, 9.2 + 5.5 * index
        stripes, plain, striped = (
            10,
            dimmed((150, 160, 165), 0.72),
            dimmed(painted(int(rng.integers(0, 180)), 130, 120), 0.72),
        )
        for stripe in range(stripes - 1, -1, -1):
            z0, z1 = near + (far - near) * stripe / stripes, near + (far - near) * (stripe + 1) / stripes
            colour = striped if stripe % 2 else plain
            x0, x1 = FACADE_LEFT, FACADE_LEFT + 0.9
            roof = [project(x0, 2.95, z0), project(x0, 2.95, z1), project(x1, 2.5, z1), project(x1, 2.5, z0)]
            hem = [project(x1, 2.5, z0), project(x1, 2.5, z1), project(x1, 2.32, z1), project(x1, 2.32, z0)]
            cv2.fillPoly(view, [points(roof)], colour, cv2.LINE_AA)
            cv2.fillPoly(view, [points(hem)], dimmed(colour, 0.8), cv2.LINE_AA)
