"""The empty street: a procedurally drawn pavement, parked cars, lamps and a dusk sky, between its buildings."""

from __future__ import annotations

import cv2
import numpy as np

from provisioning.demo.buildings import awnings, facade, shop_row, terrace
from provisioning.demo.world import (
    CAMERA_HEIGHT,
    CENTRE,
    FACADE_LEFT,
    FAR_SIDE,
    FOCAL,
    HORIZON,
    KERB,
    PICTURE,
    Colour,
    Floats,
    Pixels,
    dimmed,
    floats,
    light_at,
    painted,
    points,
    project,
)

__all__ = ["draw_street"]


def draw_street(rng: np.random.Generator) -> Pixels:
    """Draw the street at dusk with nobody in it: 1080 x 1920 x 3, uint8, BGR."""
    width, height = PICTURE
    view = _sky(rng)
    _skyline(view, rng)
    facade(view, terrace(rng, lit=0.45), x=FAR_SIDE, near=24.0, far=150.0, tall=10.5, mirrored=True)
    facade(view, shop_row(rng), x=FACADE_LEFT, near=4.0, far=70.0, tall=8.6, mirrored=False)
    awnings(view, rng)
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
    soft = floats(cv2.GaussianBlur(view, (0, 0), 1.7))
    _bokeh(soft, rng)
    quarter = cv2.resize(np.maximum(soft - 150.0, 0.0), (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    glow = cv2.resize(cv2.GaussianBlur(quarter, (0, 0), 5.5), (width, height), interpolation=cv2.INTER_LINEAR)
    soft += 0.55 * glow
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    reach = ((cols - CENTRE) / CENTRE) ** 2 + ((rows - height * 0.45) / (height * 0.6)) ** 2
    soft *= (1.0 - 0.13 * np.clip(reach, 0.0, 2.0))[..., None]
    return np.clip(1.13 * soft, 0, 255).astype(np.uint8)


def _sky(rng: np.random.Generator) -> Floats:
    width, height = PICTURE
    stops = floats([[96, 66, 46], [128, 98, 82], [150, 146, 176], [130, 176, 226]])
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
        cv2.fillPoly(view, [points([(left, top), (right, top), ((left + right) / 2, top - 22)])], colour)
        for _ in range(10):
            c, r = int(rng.uniform(left, right - 5)), int(rng.uniform(top, foot))
            cv2.rectangle(view, (c, r), (c + 3, r + 4), (110, 180, 225), -1)
        x += wide


def _put_back_above_ground(view: Floats, before: Floats, top: int) -> None:
    """Restore the parts of the facades that reach below the horizon row, down to their foot on the ground."""
    rows, cols = np.mgrid[0 : before.shape[0], 0 : view.shape[1]].astype(np.float32)
    slope_left = CAMERA_HEIGHT / -FACADE_LEFT
    slope_right = CAMERA_HEIGHT / FAR_SIDE
    foot = np.maximum((CENTRE - cols) * slope_left, (cols - CENTRE) * slope_right)
    keep = (rows < foot)[..., None]
    view[top:] = np.where(keep, before, view[top:])


def _ground(rng: np.random.Generator) -> Floats:
    """Everything below the horizon row: paving slabs, kerb, wet asphalt, yellow lines."""
    width, height = PICTURE
    rows, cols = np.mgrid[int(HORIZON) : height, 0:width].astype(np.float32)
    z = FOCAL * CAMERA_HEIGHT / np.maximum(rows - HORIZON + 0.5, 4.0)
    x = (cols - CENTRE) * z / FOCAL
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
    paving = (128.0 * slab * joint * speckle * puddle)[..., None] * floats([1.0, 0.99, 0.97])
    asphalt = (58.0 * speckle * speckle * puddle)[..., None] * floats([1.05, 1.0, 0.98])
    ground = np.where((x < KERB)[..., None], paving, asphalt)
    ground = np.where(((x > KERB - 0.16) & (x < KERB))[..., None], 140.0 * speckle[..., None], ground)
    yellow = ((x > 2.72) & (x < 2.80)) | ((x > 2.88) & (x < 2.96))
    ground = np.where(yellow[..., None], floats([60, 165, 185]) * speckle[..., None], ground)
    dashes = (np.abs(x - 6.6) < 0.06) & (np.mod(z, 6.0) < 3.5)
    ground = np.where(dashes[..., None], floats([170, 175, 175]), ground)
    lit = light_at(x, z)
    return floats(ground * np.where((x < KERB)[..., None], lit, 0.62 + 0.12 * lit))


def _parked_car(view: Floats, rng: np.random.Generator, z: float) -> None:
    paint = painted(int(rng.integers(0, 180)), int(rng.integers(20, 110)), 74)
    left, right, back = 3.1, 4.85, z + 4.2

    def face(corners: list[tuple[float, float, float]], shade: float, colour: Colour = paint) -> None:
        cv2.fillPoly(view, [points([project(*corner) for corner in corners])], dimmed(colour, shade), cv2.LINE_AA)

    dark, glass = (26.0, 24.0, 24.0), (96.0, 84.0, 74.0)
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
