"""The empty street: a procedurally drawn pavement, shop fronts, parked cars and a dusk sky.

World frame, in metres: X to the right of the camera, Y up from the ground, Z away from the camera. The
camera stands at (0, 1.9, 0), as on the roof edge of a van, and looks along Z; its picture plane is
1920 x 1080 pixels whatever the size of the video, which is scaled at the end.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CAMERA_HEIGHT",
    "FOCAL",
    "HORIZON",
    "PICTURE",
    "Colour",
    "Floats",
    "Pixels",
    "draw_street",
    "light_at",
    "project",
]

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Colour = tuple[float, float, float]
"""Blue, green, red, 0 to 255."""

PICTURE: Final = (1920, 1080)
"""Width and height of the picture plane, in pixels."""
FOCAL: Final = 2400.0
"""Focal length in pixels: 44 degrees across, a short telephoto as a van's camera has."""
HORIZON: Final = 330.0
"""Row of the horizon; the camera is shifted down, not tilted, so that verticals stay vertical."""
CAMERA_HEIGHT: Final = 1.9

_CENTRE: Final = PICTURE[0] / 2
_FACADE_LEFT: Final = -3.2
_KERB: Final = 2.5
_FAR_SIDE: Final = 11.5
_SHOPS: Final = ("BAKERY", "BOOKS", "CAFE", "CHEMIST", "FLOWERS", "TAILOR", "RECORDS", "GROCER", "OPTICIAN", "TOYS")


def project(x: float, y: float, z: float) -> tuple[float, float]:
    """Return the pixel (column, row) at which the world point (x, y, z), in metres, with z > 0, is seen."""
    return _CENTRE + FOCAL * x / z, HORIZON + FOCAL * (CAMERA_HEIGHT - y) / z


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
    return gains.astype(np.float32)


def _band(value: Floats, centre: float, width: float) -> Floats:
    """A soft-edged step of the given width around a centre: 1 inside, 0 outside."""
    return np.asarray(0.5 - 0.5 * np.tanh((np.abs(value - centre) - width / 2) * 4.5), np.float32)


def draw_street(rng: np.random.Generator) -> Pixels:
    """Draw the street at dusk with nobody in it: 1080 x 1920 x 3, uint8, BGR."""
    width, height = PICTURE
    view = _sky(rng)
    _skyline(view, rng)
    _facade(view, _terrace(rng, lit=0.45), x=_FAR_SIDE, near=24.0, far=150.0, tall=10.5, mirrored=True)
    _facade(view, _shop_row(rng), x=_FACADE_LEFT, near=4.0, far=70.0, tall=8.6, mirrored=False)
    _awnings(view, rng)
    ground = _ground(rng)
    top = int(HORIZON)
    mirror = cv2.flip(view[: height - top][: min(top, height - top)], 0)
    mirror = cv2.GaussianBlur(mirror, (0, 0), sigmaX=5, sigmaY=26)
    visible = ground.shape[0]
    wet = np.zeros_like(ground)
    wet[: mirror.shape[0]] = mirror[:visible]
    fade = (
        np.float32(0.45) * np.clip(1.0 - np.arange(visible, dtype=np.float32) / (0.92 * top), 0.0, 1.0)[:, None, None]
    )
    facade_foot = view[top:].copy()
    view[top:] = ground * (1.0 - 0.25 * fade) + wet * fade
    _put_back_above_ground(view, facade_foot, top)
    for z in (30.0, 21.5, 13.0):
        _parked_car(view, rng, z)
    for z in (46.0, 30.0, 17.0):
        _lamp_post(view, z)
    soft = cv2.GaussianBlur(view, (0, 0), 1.7)
    _bokeh(soft, rng)
    glow = cv2.GaussianBlur(np.maximum(soft - 150.0, 0.0), (0, 0), 22)
    soft += 0.55 * glow
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    reach = ((cols - _CENTRE) / _CENTRE) ** 2 + ((rows - height * 0.45) / (height * 0.6)) ** 2
    soft *= (1.0 - 0.13 * np.clip(reach, 0.0, 2.0))[..., None]
    return np.clip(1.13 * soft, 0, 255).astype(np.uint8)


def _sky(rng: np.random.Generator) -> Floats:
    width, height = PICTURE
    stops = np.float32([[96, 66, 46], [128, 98, 82], [150, 146, 176], [130, 176, 226]])
    rows = np.interp(np.arange(height), [0, 140, 260, HORIZON], np.arange(4))
    sky = np.stack([np.interp(rows, np.arange(4), stops[:, c]) for c in range(3)], axis=-1).astype(np.float32)
    view = np.repeat(sky[:, None, :], width, axis=1)
    cloud = cv2.resize(rng.normal(0, 1, (24, 20)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    view += 7.0 * cv2.GaussianBlur(cloud, (0, 0), sigmaX=60, sigmaY=8)[..., None]
    return np.ascontiguousarray(view)


def _skyline(view: Floats, rng: np.random.Generator) -> None:
    (left, top), (right, foot) = project(-30.0, 4.0, 165), project(40.0, 0.0, 165)
    cv2.rectangle(view, (int(left), int(top)), (int(right), int(HORIZON) + 40), (66, 58, 60), -1)
    x = -30.0
    while x < 34.0:
        wide, tall = rng.uniform(5, 10), rng.uniform(6, 15)
        (left, top), (right, foot) = project(x, tall, 170), project(x + wide, 0, 170)
        tone = rng.uniform(62, 84)
        colour = (tone * 1.15, tone, tone * 1.02)
        cv2.rectangle(view, (int(left), int(top)), (int(right), int(foot)), colour, -1)
        cv2.fillPoly(view, [_points([(left, top), (right, top), ((left + right) / 2, top - 22)])], colour)
        for _ in range(10):
            c, r = int(rng.uniform(left, right - 5)), int(rng.uniform(top, foot))
            cv2.rectangle(view, (c, r), (c + 3, r + 4), (110, 180, 225), -1)
        x += wide


def _points(points: list[tuple[float, float]]) -> NDArray[np.int32]:
    return np.array(points, np.float32).round().astype(np.int32)


def _bricks(rng: np.random.Generator, wide: int, tall: int, colour: Colour) -> Floats:
    """A wall texture: courses of bricks that differ a little from one another."""
    courses = rng.normal(1.0, 0.09, (tall // 6 + 1, wide // 14 + 1)).astype(np.float32)
    tone = cv2.resize(courses, (wide, tall), interpolation=cv2.INTER_NEAREST)
    tone[::6] *= 0.8
    stain = cv2.resize(rng.normal(1.0, 0.1, (6, 30)).astype(np.float32), (wide, tall), interpolation=cv2.INTER_CUBIC)
    return (tone * stain)[..., None] * np.float32(colour)


def _window(
    wall: Floats, rng: np.random.Generator, box: tuple[int, int, int, int], lit: bool, frame: Colour = (150, 150, 150)
) -> None:
    left, top, right, foot = box
    cv2.rectangle(wall, (left - 4, top - 4), (right + 4, foot + 5), frame, -1)
    glass = np.float32([95, 165, 220] if lit else [74, 62, 52]) * rng.uniform(0.6, 1.0)
    fall = np.linspace(1.1, 0.7, foot - top, dtype=np.float32)[:, None, None]
    wall[top:foot, left:right] = glass * fall
    cv2.line(wall, ((left + right) // 2, top), ((left + right) // 2, foot), frame, 3)
    cv2.line(wall, (left, (top + foot) // 2), (right, (top + foot) // 2), frame, 3)


def _terrace(rng: np.random.Generator, lit: float) -> Floats:
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


def _shop_row(rng: np.random.Generator) -> Floats:
    """Our side: 66 m of shops with flats above, at 60 pixels to the metre."""
    scale, tall = 60, 516
    wide = 66 * scale
    wall = _bricks(rng, wide, tall, (70, 84, 122))
    ground_floor = tall - int(3.5 * scale)
    for index, left in enumerate(range(0, wide, int(5.5 * scale))):
        right = min(left + int(5.5 * scale), wide)
        wall[:ground_floor, left:right] *= np.float32(
            [rng.uniform(0.7, 1.1), rng.uniform(0.75, 1.1), rng.uniform(0.8, 1.15)]
        )
        for x in range(left + 50, right - 80, 110):
            _window(wall, rng, (x, 60, x + 62, 190), lit=bool(rng.random() < 0.5), frame=(165, 170, 172))
        _shop(wall, rng, left, right, ground_floor, _SHOPS[index % len(_SHOPS)])
    return wall


def _shop(wall: Floats, rng: np.random.Generator, left: int, right: int, top: int, name: str) -> None:
    tall = wall.shape[0]
    hue = int(rng.integers(0, 180))
    paint = cv2.cvtColor(np.uint8([[[hue, 120, 88]]]), cv2.COLOR_HSV2BGR)[0, 0].astype(float)
    colour = (float(paint[0]), float(paint[1]), float(paint[2]))
    cv2.rectangle(wall, (left, top), (right, tall), colour, -1)
    cv2.rectangle(wall, (left + 8, top + 8), (right - 8, top + 48), tuple(0.55 * c for c in colour), -1)
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
    glow = np.float32([rng.uniform(95, 150), rng.uniform(165, 205), rng.uniform(215, 250)])
    for x0, x1, foot in ((left + 14, door - 12, glass_foot), (door, right - 12, tall - 6)):
        depth = np.linspace(1.05, 0.55, foot - glass_top, dtype=np.float32)[:, None, None]
        pane = np.broadcast_to(glow * depth, (foot - glass_top, x1 - x0, 3)).copy()
        for _ in range(max(3, (x1 - x0) // 16)):
            w, h = int(rng.integers(8, 30)), int(rng.integers(14, 60))
            x, y = int(rng.integers(0, max(1, x1 - x0 - w))), int(rng.integers(30, max(31, pane.shape[0] - h)))
            pane[y : y + h, x : x + w] *= np.float32(rng.uniform(0.3, 0.95, 3))
        wall[glass_top:foot, x0:x1] = cv2.GaussianBlur(pane, (0, 0), 2.5)
    for x in range(left + 14, door - 12, (door - left - 26) // 3 or 1):
        cv2.line(wall, (x, glass_top), (x, glass_foot), tuple(0.7 * c for c in colour), 4)


def _facade(view: Floats, wall: Floats, *, x: float, near: float, far: float, tall: float, mirrored: bool) -> None:
    """Stand a wall texture, whose columns run from near to far, upright along Z at the given X."""
    rows, cols = wall.shape[:2]
    texture = np.float32([[0, 0], [cols, 0], [cols, rows], [0, rows]])
    seen = np.float32([project(x, tall, near), project(x, tall, far), project(x, 0, far), project(x, 0, near)])
    # The near end is seen many times larger than the far end: minify with care for the far end only.
    warp = cv2.getPerspectiveTransform(texture, seen)
    size = (view.shape[1], view.shape[0])
    depth = np.linspace(1.0, 0.8, cols, dtype=np.float32)[None, :, None]
    smooth = cv2.GaussianBlur(wall * depth, (0, 0), 1.2)
    picture = cv2.warpPerspective(smooth, warp, size, flags=cv2.INTER_LINEAR)
    cover = cv2.warpPerspective(np.ones((rows, cols), np.float32), warp, size, flags=cv2.INTER_LINEAR)[..., None]
    dusk = np.float32([0.86, 0.80, 0.76]) if mirrored else np.float32([0.88, 0.86, 0.86])
    view[:] = view * (1.0 - cover) + picture * cover * dusk


def _put_back_above_ground(view: Floats, before: Floats, top: int) -> None:
    """Restore the parts of the facades that reach below the horizon row, down to their foot on the ground."""
    rows, cols = np.mgrid[0 : before.shape[0], 0 : view.shape[1]].astype(np.float32)
    slope_left = CAMERA_HEIGHT / -_FACADE_LEFT
    slope_right = CAMERA_HEIGHT / _FAR_SIDE
    foot = np.maximum((_CENTRE - cols) * slope_left, (cols - _CENTRE) * slope_right)
    keep = (rows < foot)[..., None]
    view[top:] = np.where(keep, before, view[top:])


def _awnings(view: Floats, rng: np.random.Generator) -> None:
    for index in range(9, -1, -1):
        if index % 2:
            continue
        near, far = 4.3 + 5.5 * index, 9.2 + 5.5 * index
        hue = int(rng.integers(0, 180))
        paint = cv2.cvtColor(np.uint8([[[hue, 130, 120]]]), cv2.COLOR_HSV2BGR)[0, 0].astype(float)
        stripes = 10
        for stripe in range(stripes, -1, -1):
            if stripe == stripes:
                continue
            z0, z1 = near + (far - near) * stripe / stripes, near + (far - near) * (stripe + 1) / stripes
            colour = tuple(float(c) for c in (paint if stripe % 2 else np.array([150.0, 160.0, 165.0])) * 0.72)
            x0, x1 = _FACADE_LEFT, _FACADE_LEFT + 0.9
            roof = [project(x0, 2.95, z0), project(x0, 2.95, z1), project(x1, 2.5, z1), project(x1, 2.5, z0)]
            hem = [project(x1, 2.5, z0), project(x1, 2.5, z1), project(x1, 2.32, z1), project(x1, 2.32, z0)]
            cv2.fillPoly(view, [_points(roof)], colour, cv2.LINE_AA)
            cv2.fillPoly(view, [_points(hem)], tuple(0.8 * c for c in colour), cv2.LINE_AA)


def _ground(rng: np.random.Generator) -> Floats:
    """Everything below the horizon row: paving slabs, kerb, wet asphalt, yellow lines."""
    width, height = PICTURE
    rows, cols = np.mgrid[int(HORIZON) : height, 0:width].astype(np.float32)
    z = FOCAL * CAMERA_HEIGHT / np.maximum(rows - HORIZON + 0.5, 4.0)
    x = (cols - _CENTRE) * z / FOCAL
    row_index = np.floor(z / 0.6)
    shifted = x + 0.3 * np.mod(row_index, 2)
    tones = rng.normal(1.0, 0.075, (256, 64)).astype(np.float32)
    slab = tones[row_index.astype(int) % 256, np.floor(shifted / 0.6).astype(int) % 64]
    joint_x = np.abs(np.mod(shifted, 0.6) - 0.3) > 0.3 - 0.009
    joint_z = np.abs(np.mod(z, 0.6) - 0.3) > 0.3 - 0.009 * np.maximum(1.0, z / 6)
    joint = np.where(joint_x | joint_z, 0.72, 1.0)
    joint = 1.0 + (joint - 1.0) * np.clip(1.25 - z / 26, 0.0, 1.0)
    speckle = rng.normal(1.0, 0.05, rows.shape).astype(np.float32)
    puddle = cv2.GaussianBlur(
        cv2.resize(
            rng.normal(1.0, 0.13, (60, 30)).astype(np.float32), (width, rows.shape[0]), interpolation=cv2.INTER_CUBIC
        ),
        (0, 0),
        5,
    )
    paving = (128.0 * slab * joint * speckle * puddle)[..., None] * np.float32([1.0, 0.99, 0.97])
    asphalt = (58.0 * speckle * speckle * puddle)[..., None] * np.float32([1.05, 1.0, 0.98])
    ground = np.where((x < _KERB)[..., None], paving, asphalt)
    ground = np.where(((x > _KERB - 0.16) & (x < _KERB))[..., None], 140.0 * speckle[..., None], ground)
    yellow = ((x > 2.72) & (x < 2.80)) | ((x > 2.88) & (x < 2.96))
    ground = np.where(yellow[..., None], np.float32([60, 165, 185]) * speckle[..., None], ground)
    dashes = (np.abs(x - 6.6) < 0.06) & (np.mod(z, 6.0) < 3.5)
    ground = np.where(dashes[..., None], np.float32([170, 175, 175]), ground)
    lit = light_at(x, z)
    return (ground * np.where((x < _KERB)[..., None], lit, 0.62 + 0.12 * lit)).astype(np.float32)


def _parked_car(view: Floats, rng: np.random.Generator, z: float) -> None:
    hue = int(rng.integers(0, 180))
    paint = cv2.cvtColor(np.uint8([[[hue, int(rng.integers(20, 110)), 74]]]), cv2.COLOR_HSV2BGR)[0, 0].astype(float)
    left, right, back = 3.1, 4.85, z + 4.2

    def face(points: list[tuple[float, float, float]], shade: float, colour: NDArray[np.float64] = paint) -> None:
        cv2.fillPoly(
            view, [_points([project(*p) for p in points])], tuple(float(c) * shade for c in colour), cv2.LINE_AA
        )

    dark, glass = np.array([26.0, 24.0, 24.0]), np.array([96.0, 84.0, 74.0])
    face([(left, 0.02, z), (right, 0.02, z), (right, 0.02, back), (left, 0.02, back)], 0.7, dark)
    face([(left, 0.35, z), (left, 0.35, back), (left, 0.92, back), (left, 0.88, z)], 0.95)
    for wheel in (z + 0.75, back - 0.8):
        turn = np.linspace(0, 2 * np.pi, 24)
        face([(left, 0.32 + 0.31 * float(np.sin(a)), wheel + 0.31 * float(np.cos(a))) for a in turn], 1.0, dark)
    face(
        [
            (left + 0.1, 0.9, z + 1.1),
            (left + 0.1, 0.9, back),
            (left + 0.2, 1.42, back - 0.5),
            (left + 0.2, 1.42, z + 1.8),
        ],
        0.9,
        glass,
    )
    face([(left, 0.88, z), (right, 0.88, z), (right - 0.1, 0.95, z + 1.1), (left + 0.1, 0.95, z + 1.1)], 1.25)
    face(
        [
            (left + 0.1, 0.95, z + 1.1),
            (right - 0.1, 0.95, z + 1.1),
            (right - 0.2, 1.42, z + 1.8),
            (left + 0.2, 1.42, z + 1.8),
        ],
        1.1,
        glass,
    )
    face(
        [
            (left + 0.2, 1.42, z + 1.8),
            (right - 0.2, 1.42, z + 1.8),
            (right - 0.2, 1.45, back - 0.5),
            (left + 0.2, 1.45, back - 0.5),
        ],
        1.3,
    )
    face([(left, 0.25, z), (right, 0.25, z), (right, 0.88, z), (left, 0.88, z)], 0.8)
    face([(left + 0.45, 0.42, z), (right - 0.45, 0.42, z), (right - 0.45, 0.62, z), (left + 0.45, 0.62, z)], 1, dark)
    for lamp in (left + 0.25, right - 0.25):
        column, row = project(lamp, 0.68, z)
        cv2.ellipse(
            view, (int(column), int(row)), (max(2, int(260 / z)), max(2, int(170 / z))), 0, 0, 360, (150, 165, 170), -1
        )
    plate = project((left + right) / 2, 0.38, z)
    cv2.rectangle(
        view,
        (int(plate[0] - 560 / z), int(plate[1] - 110 / z)),
        (int(plate[0] + 560 / z), int(plate[1] + 110 / z)),
        (150, 160, 160),
        -1,
    )


def _lamp_post(view: Floats, z: float) -> None:
    foot, top = project(2.2, 0, z), project(2.2, 5.2, z)
    thick = max(2, int(150 / z))
    cv2.line(view, (int(foot[0]), int(foot[1])), (int(top[0]), int(top[1])), (44, 42, 40), thick, cv2.LINE_AA)
    head = project(1.6, 5.3, z)
    cv2.line(view, (int(top[0]), int(top[1])), (int(head[0]), int(head[1])), (44, 42, 40), thick, cv2.LINE_AA)
    cv2.circle(view, (int(head[0]), int(head[1])), max(3, int(420 / z)), (150, 215, 250), -1, cv2.LINE_AA)


def _bokeh(view: Floats, rng: np.random.Generator) -> None:
    """Lights too far away to be in focus: discs, brighter at the rim as a lens draws them."""
    layer = np.zeros_like(view)
    tints = ((90, 170, 255), (120, 200, 250), (200, 225, 235), (70, 80, 235), (110, 220, 160))
    for _ in range(46):
        z = rng.uniform(35, 120)
        x, y = rng.uniform(-3.0, 11.0), rng.choice([0.7, 0.8, 2.8, 4.5, 5.5])
        column, row = project(float(x), float(y), float(z))
        radius = int(rng.uniform(5, 15))
        tint = np.array(tints[int(rng.integers(len(tints)))], float) * rng.uniform(0.12, 0.36)
        cv2.circle(layer, (int(column), int(row)), radius, tuple(float(c) for c in tint), -1, cv2.LINE_AA)
        cv2.circle(layer, (int(column), int(row)), radius, tuple(float(c) * 1.35 for c in tint), 1, cv2.LINE_AA)
    view += cv2.GaussianBlur(layer, (0, 0), 0.8)
