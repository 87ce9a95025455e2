"""Renders what somebody may put before a van's camera: a print, a screen, a paper mask, and what hides a face.

Every way takes a picture of one person and where its face is, and gives a frame in which the face is so many pixels high.
They are drawn, not filmed: a print and a screen are finer than the camera's pixels, bent by perspective, and keep the
tones and colours that paper and screen have; a mask, glasses and a cap are laid over the face by its five landmarks.
Nothing here learns from an embedder or aims at one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

WIDTH, HEIGHT = 1920, 1080
WINDOW = 560
"""Side of the square in the middle of the frame in which everything happens."""
FINE = 4
"""Pixels of a print or a screen for each of the camera's, in x and y, before the camera takes them together."""
NOISE = 2.0
"""Standard deviation of the camera's noise, of 255; as in scripts/bench-small."""
SOFTNESS = 0.5
"""Standard deviation of the lens's blur of a print or a screen, in camera pixels: the picture has been blurred once before."""

CANONICAL = np.float32([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]])
"""Eyes, nose and corners of the mouth of a chip of 112 pixels: the drawings below are in these coordinates."""

SURGICAL = [
    (13, 68),
    (34, 64),
    (48, 59),
    (56, 57),
    (64, 59),
    (78, 64),
    (99, 68),
    (96, 98),
    (78, 119),
    (56, 126),
    (34, 119),
    (16, 98),
]
LOOPS = [((14, 70), (2, 58)), ((17, 96), (3, 72)), ((98, 70), (110, 58)), ((95, 96), (109, 72))]
PLEATS = (80, 92, 104)
LENSES = ((37.5, 53), (74.5, 53))
LENS = (16.5, 12.5)
FRAMES = [((52, 49), (60, 49)), ((22, 49), (3, 46)), ((90, 49), (109, 46))]
CROWN = [(7, 38), (9, 12), (22, -12), (40, -24), (56, -27), (72, -24), (90, -12), (103, 12), (105, 38)]
BRIM = [(5, 36), (30, 28), (56, 26), (82, 28), (107, 36), (100, 46), (78, 41), (56, 40), (34, 41), (12, 46)]
SHADE = [(8, 40), (104, 40), (104, 68), (56, 74), (8, 68)]
CUT_OUT = ((56, 68), (42, 56))
"""Middle and half axes of a paper mask: from the hair to the chin and from cheek to cheek."""
HOLE = (9.0, 5.5)
"""Half axes of its holes for the eyes."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of one person.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        landmarks: (5, 2) float32 x y: eyes, nose, corners of the mouth.
        height: of the face in it, in pixels.
    """

    image: np.ndarray
    landmarks: np.ndarray
    height: float

    def fine(self, face: float, pixels: int = FINE) -> Shown:
        """The picture in such a size that its face is `face` camera pixels high, with so many pixels for each of those."""
        factor = face * pixels / self.height
        size = tuple(max(1, round(side * factor)) for side in self.image.shape[1::-1])
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        return Shown(
            cv2.resize(self.image, size, interpolation=how), self.landmarks * np.float32(factor), face * pixels
        )


def street(seed):
    """An empty frame: soft, uneven grey."""
    random = np.random.default_rng([seed, 0xB6])
    coarse = random.normal(118, 22, (9, 16, 1)) + random.normal(0, 5, (9, 16, 3))
    return np.clip(
        cv2.resize(coarse.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 40, 200
    ).astype(np.uint8)


def middle(frame):
    """The window of a frame: a view, not a copy."""
    top, left = (HEIGHT - WINDOW) // 2, (WIDTH - WINDOW) // 2
    return frame[top : top + WINDOW, left : left + WINDOW]


def take(empty, seen, random):
    """The camera's frame: `seen`, (WINDOW, WINDOW, 3) float or uint8, in the middle of the empty one, with noise."""
    frame = empty.copy()
    noisy = seen + random.normal(0, NOISE, seen.shape)
    middle(frame)[:] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return frame


# -- in person, and hidden ----------------------------------------------------------------------


def in_person(empty, shown, face, random, dressed=None):
    """The person in the picture, as the camera sees them; dressed in something by ``dressed(picture)``."""
    picture = shown.fine(face)
    image = picture.image if dressed is None else dressed(picture)
    return take(empty, _pasted(middle(empty), image), random)


def _pasted(background, image):
    """A picture of FINE pixels for each of the camera's in the middle of the background."""
    height, width = (max(1, round(side / FINE)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    small = small[max(0, (height - WINDOW) // 2) :][:WINDOW, max(0, (width - WINDOW) // 2) :][:, :WINDOW]
    seen = background.copy()
    top, left = (WINDOW - small.shape[0]) // 2, (WINDOW - small.shape[1]) // 2
    seen[top : top + small.shape[0], left : left + small.shape[1]] = small
    return seen


def _onto(picture):
    """The affine map from drawings to the picture that fits its landmarks best: it follows a turned head."""
    ones = np.hstack([CANONICAL, np.ones((5, 1), np.float32)])
    return np.linalg.lstsq(ones, picture.landmarks, rcond=None)[0].T


def _points(outline, onto):
    return np.float32(outline) @ onto[:, :2].T + onto[:, 2]


def _oval(centre, axes, steps=48):
    turn = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([centre[0] + axes[0] * np.cos(turn), centre[1] + axes[1] * np.sin(turn)], 1)


def _cover(shape, outlines, onto, soft):
    """(H, W, 1) float 0..1: 1 within the outlines; their edge is as soft as so many pixels."""
    cover = np.zeros(shape[:2], np.uint8)
    for outline in outlines:
        cv2.fillPoly(cover, [np.rint(_points(outline, onto) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return (cv2.GaussianBlur(cover, (0, 0), soft) if soft else cover)[..., None].astype(np.float32) / 255


def _strokes(shape, strokes, onto, width):
    cover = np.zeros(shape[:2], np.uint8)
    scale = np.sqrt(abs(np.linalg.det(onto[:, :2])))
    for stroke in strokes:
        points = [np.rint(_points(stroke, onto) * 16).astype(np.int32)]
        thick = max(1, round(width * scale))
        cv2.polylines(cover, points, isClosed=False, color=255, thickness=thick, lineType=cv2.LINE_AA, shift=4)
    return cover[..., None].astype(np.float32) / 255


def _light(picture):
    """How bright the face is, about 1: what is worn stands in the same light."""
    x, y = picture.landmarks.mean(0)
    reach = picture.height / 4
    patch = picture.image[max(0, int(y - reach)) : int(y + reach), max(0, int(x - reach)) : int(x + reach)]
    return float(np.clip(patch.mean() / 125, 0.45, 1.3)) if patch.size else 1.0


def surgical_mask(picture):
    """A pleated pale blue mask from the bridge of the nose to the chin, with loops round the ears."""
    onto, light, out = _onto(picture), _light(picture), picture.image.astype(np.float32)
    colour = np.float32([212, 196, 168]) * light
    loops = _strokes(out.shape, LOOPS, onto, 1.6)
    out += loops * (np.float32([225, 225, 225]) * light - out)
    cover = _cover(out.shape, [SURGICAL], onto, FINE / 2)
    # Round as a face is: darker to the sides and below.
    inverse = np.linalg.inv(np.vstack([onto, [0, 0, 1]]))
    y, x = np.mgrid[: out.shape[0], : out.shape[1]].astype(np.float32)
    across = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] - 56
    down = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] - 80
    shade = (1 - 0.28 * (across / 43) ** 2 - 0.12 * np.clip(down / 40, 0, 1)).clip(0.5, 1)[..., None]
    pleats = _strokes(out.shape, [[(18, y - 2), (56, y + 3), (94, y - 2)] for y in PLEATS], onto, 1.2)
    cloth = colour * shade * (1 - 0.18 * cv2.GaussianBlur(pleats, (0, 0), FINE / 2)[..., None])
    return _to_bytes(out + cover * (cloth - out))


def sunglasses(picture):
    """Large dark glasses; a little of what is behind them and a reflection can be seen."""
    onto, out = _onto(picture), picture.image.astype(np.float32)
    rims = _strokes(out.shape, FRAMES, onto, 2.6)
    out += rims * (18 - out)
    cover = _cover(out.shape, [_oval(at, LENS) for at in LENSES], onto, FINE / 2)
    glint = _cover(out.shape, [_oval((x - 6, y - 5), (4.5, 2)) for x, y in LENSES], onto, FINE)
    glass = 0.06 * out + 18 + 60 * glint
    return _to_bytes(out + cover * (glass - out))


def cap(picture):
    """A dark cap drawn deep, in whose brim's shadow the eyes lie."""
    onto, light, out = _onto(picture), _light(picture), picture.image.astype(np.float32)
    scale = float(np.sqrt(abs(np.linalg.det(onto[:, :2]))))
    out *= 1 - 0.65 * _cover(out.shape, [SHADE], onto, 4 * scale)
    for outline, colour in ((CROWN, (62, 44, 36)), (BRIM, (44, 30, 24))):
        out += _cover(out.shape, [outline], onto, FINE / 2) * (np.float32(colour) * light - out)
    return _to_bytes(out)


def mask_and_glasses(picture):
    """Both."""
    return sunglasses(Shown(surgical_mask(picture), picture.landmarks, picture.height))


def mask_and_cap(picture):
    """Both."""
    return cap(Shown(surgical_mask(picture), picture.landmarks, picture.height))


# -- prints and screens -------------------------------------------------------------------------


def printed(image, random):
    """As paper gives it: paper is no white lamp and ink no black hole, colours are paler, a cast, dots of three inks."""
    grey = image.mean(2, keepdims=True)
    pale = grey + 0.8 * (image.astype(np.float32) - grey)
    ink = 1 - pale / 255
    # One dot to each camera pixel: each ink's screen is turned by another angle, as printers do.
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    for channel, degrees in enumerate((0, 75, 15)):
        along, turn = np.pi * 2 / FINE, np.radians(degrees)
        screen = np.cos(along * (x * np.cos(turn) + y * np.sin(turn))) + np.cos(
            along * (y * np.cos(turn) - x * np.sin(turn))
        )
        # Between plain tone and full dots: ink spreads.
        ink[..., channel] = np.clip(
            ink[..., channel] + 0.22 * screen / 2 * 4 * ink[..., channel] * (1 - ink[..., channel]), 0, 1
        )
    cast = np.float32([0.93, 0.98, 1.0]) * random.uniform(0.95, 1.0, 3).astype(np.float32)
    return _to_bytes((48 + (228 - 48) * (1 - ink)) * cast)


def displayed(image, random):
    """As a screen gives it: another gamma, a blue white, bright blacks, stripes of three colours and rows between them."""
    tone = (image.astype(np.float32) / 255) ** random.uniform(0.85, 1.2)
    shown = tone * np.float32([255, 244, 232])
    stripe = np.full((3, 3), 0.35, np.float32) + 0.65 * np.eye(3, dtype=np.float32)
    grid = stripe[np.arange(image.shape[1]) % 3][None].repeat(image.shape[0], 0)
    grid = grid * np.where(np.arange(image.shape[0]) % 3 == 2, 0.55, 1.0)[:, None, None].astype(np.float32)
    shown *= grid / grid.mean()
    return _to_bytes(26 + shown * (215 / 255))


def _glare(shape, random):
    """(H, W, 1) float: what the sky adds to a screen: a slope and a bright patch, in levels of 255."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    x, y = x / shape[1], y / shape[0]
    turn = random.uniform(0, 2 * np.pi)
    slope = 14 + 14 * ((x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn))
    at = random.uniform(0.15, 0.85, 2)
    patch = 90 * np.exp(-(((x - at[0]) / 0.16) ** 2 + ((y - at[1]) / 0.1) ** 2))
    return (slope + patch)[..., None]


def _framed(image, share, colour):
    margin = round(share * max(image.shape[:2]))
    return cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=colour)


def _held(background, sheet, random):
    """A sheet of FINE pixels for each of the camera's, held not quite straight before the background."""
    height, width = (side / FINE for side in sheet.shape[:2])
    corners = np.float32([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    roll = np.radians(random.uniform(-6, 6))
    turned = (
        corners
        * np.float32([width, height])
        / 2
        @ np.float32([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    )
    # One side is nearer than the other: up to a tenth of the sheet's size.
    lean = 1 + corners[:, :1] * random.uniform(-0.05, 0.05) + corners[:, 1:] * random.uniform(-0.05, 0.05)
    narrow = np.float32([random.uniform(0.88, 1.0), random.uniform(0.94, 1.0)])
    where = turned * lean * narrow + WINDOW / 2
    source = (corners + 1) / 2 * np.float32(sheet.shape[1::-1])
    return _laid(background, sheet, None, cv2.getPerspectiveTransform(source, where.astype(np.float32)))


def _laid(background, sheet, cover, transform):
    """The sheet on the background through a 3×3 map to camera pixels, each the mean of FINE×FINE samples.

    With fewer samples than the sheet has pixels, stripes finer than the camera's pixels would come out as broad bands.
    """
    finely = np.diag([float(FINE), float(FINE), 1.0]) @ transform
    size = (FINE * WINDOW, FINE * WINDOW)
    if cover is None:
        cover = np.ones((*sheet.shape[:2], 1), np.float32)
    seen = cv2.warpPerspective(sheet, finely, size, flags=cv2.INTER_LINEAR).astype(np.float32)
    covered = cv2.warpPerspective(cover, finely, size, flags=cv2.INTER_LINEAR)[..., None]
    seen, covered = (
        cv2.resize(each, (WINDOW, WINDOW), interpolation=cv2.INTER_AREA) for each in (seen * covered, covered)
    )
    seen = cv2.GaussianBlur(seen, (0, 0), SOFTNESS)
    covered = cv2.GaussianBlur(covered, (0, 0), SOFTNESS)[..., None]
    return background * (1 - covered) + seen


def held_print(empty, shown, face, random):
    """A print of the picture with a white margin, held before the camera."""
    sheet = _framed(printed(shown.fine(face).image, random), 0.05, (214, 224, 228))
    return take(empty, _held(middle(empty), sheet, random), random)


def held_screen(empty, shown, face, random):
    """A screen in a black case that shows the picture, held before the camera, with glare."""
    image = displayed(shown.fine(face).image, random)
    image = _to_bytes(image + _glare(image.shape, random))
    return take(empty, _held(middle(empty), _framed(image, 0.04, (22, 20, 20)), random), random)


def paper_mask(empty, shown, face, random, bearer, *, holes=False):
    """The printed face cut out and worn by somebody else; with holes for that person's eyes, or without."""
    picture, head = shown.fine(face), bearer.fine(face)
    onto = _onto(picture)
    cover = _cover(picture.image.shape, [_oval(*CUT_OUT)], onto, 0)
    if holes:
        cover *= 1 - _cover(picture.image.shape, [_oval(eye, HOLE) for eye in CANONICAL[:2]], onto, 0)
    seen = _pasted(middle(empty), head.image)
    # The bearer's landmarks in the window; half a pixel is lost to rounding.
    corner = (WINDOW - np.array(head.image.shape[1::-1]) / FINE) / 2
    target = head.landmarks / FINE + corner
    fitted, _ = cv2.estimateAffinePartial2D(picture.landmarks, target.astype(np.float32), method=cv2.LMEDS)
    transform = np.vstack([fitted, [0, 0, 1]])
    return take(empty, _laid(seen, printed(picture.image, random), cover, transform), random)


def _to_bytes(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
