"""A labelled street made of real faces: who walks where, in which frame, at which size; the same seed, the same street.

Faces come from a folder with one folder of pictures per person. The first picture of somebody who is on the list is
enrolled, the second walks; of a stranger the first picture walks. Nothing is written to disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.sight.picture import read_image

__all__ = ["Passage", "Street", "StreetPlan", "render"]

CONTEXT = 0.6
"""How much of the picture stands around the face's box on each side, in widths of the box."""
PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class StreetPlan:
    """What is rendered.

    Attributes:
        seed: of everything that is drawn by chance.
        seconds: length of the street's film.
        fps: frames a second of the film.
        people_per_minute: how many begin their walk in a minute; each is another person.
        listed: how many of them are on the list.
        size_px: smallest and largest width of a face's box where its walk begins and ends, pixels.
        walk_s: how long one person is in the picture, seconds.
        blur: strongest Gaussian blur, sigma in pixels.
        light: darkest light, as a share of the picture's own.
        width, height: of the frame, pixels.
    """

    seed: int = 2019
    seconds: float = 20.0
    fps: float = 10.0
    people_per_minute: float = 60.0
    listed: int = 5
    size_px: tuple[int, int] = (40, 160)
    walk_s: float = 4.0
    blur: float = 1.0
    light: float = 0.6
    width: int = 1920
    height: int = 1080


@dataclass(frozen=True, slots=True)
class Passage:
    """One walk through the picture.

    Attributes:
        person: name of the person's folder.
        listed: whether this person is on the list.
        enrolled: the picture to enrol; None for a stranger.
        boxes: box of the face, x1 y1 x2 y2 in pixels, by the frame's number.
    """

    person: str
    listed: bool
    enrolled: Path | None
    boxes: dict[int, tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True)
class Street:
    """The rendered street, kept as pieces: a whole film would not fit into memory.

    Attributes:
        plan: what it was made from.
        frames: how many.
        passages: what is true of it.
    """

    plan: StreetPlan
    frames: int
    passages: tuple[Passage, ...]
    _ground: NDArray[np.uint8] = field(repr=False)
    _pieces: tuple[tuple[tuple[NDArray[np.uint8], int, int], ...], ...] = field(repr=False)

    def frame(self, number: int) -> NDArray[np.uint8]:
        """Frame ``number``: ``(height, width, 3)`` uint8 BGR, the caller's own."""
        view = self._ground.copy()
        for piece, left, top in self._pieces[number]:
            height, width = piece.shape[:2]
            x, y = max(left, 0), max(top, 0)
            right, foot = min(left + width, view.shape[1]), min(top + height, view.shape[0])
            if x < right and y < foot:
                view[y:foot, x:right] = piece[y - top : foot - top, x - left : right - left]
        return view

    @property
    def faces_per_frame(self) -> float:
        """How many labelled faces a frame holds in the mean."""
        return sum(len(passage.boxes) for passage in self.passages) / self.frames


def render(faces: Path, plan: StreetPlan, locate: Callable[[NDArray[np.uint8]], NDArray[np.float32] | None]) -> Street:
    """Make a street of the faces in a folder.

    Args:
        faces: holds one folder of pictures per person.
        plan: what to render.
        locate: finds the one face of a picture: x1 y1 x2 y2 in pixels, or None; whoever is not found does not walk.

    Raises:
        BadInput: the folder holds too few people for the plan.
    """
    random = np.random.default_rng(plan.seed)
    frames = max(1, round(plan.seconds * plan.fps))
    wanted = max(1, round(plan.people_per_minute * plan.seconds / 60))
    listed = min(plan.listed, wanted)
    walkers = _cast(faces, wanted, listed, random, locate)
    turns = random.permutation(wanted)  # those on the list come at any time
    steps = max(2, round(plan.walk_s * plan.fps))
    pieces: list[list[tuple[NDArray[np.uint8], int, int]]] = [[] for _ in range(frames)]
    passages = []
    for at, (person, enrolled, cut, box) in zip(turns, walkers, strict=True):
        # Everybody's walk lies wholly within the film: who is cut off is nobody's fault.
        begins = round(int(at) / wanted * max(0, frames - steps))
        near, far = sorted(random.uniform(*plan.size_px, 2), reverse=True)
        row, back = random.uniform(0.25, 0.75) * plan.height, bool(random.integers(2))
        light, blur = random.uniform(plan.light, 1.0), random.uniform(0.0, plan.blur)
        boxes = {}
        for step in range(min(steps, frames - begins)):
            share = step / (steps - 1)
            size = far + (near - far) * share
            scale = size / (box[2] - box[0])
            piece = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else 1)
            if blur > 0.2:
                piece = cv2.GaussianBlur(piece, (0, 0), blur)
            lit = cv2.convertScaleAbs(piece, alpha=light)
            x = (0.04 + 0.86 * (1 - share if back else share)) * plan.width
            left, top = round(x - box[0] * scale), round(row - box[1] * scale)
            pieces[begins + step].append((np.asarray(lit, np.uint8), left, top))
            x1, y1, x2, y2 = (float(side * scale) for side in box)
            boxes[begins + step] = (left + x1, top + y1, left + x2, top + y2)
        passages.append(Passage(person, enrolled is not None, enrolled, boxes))
        cut.fill(0)
    for together in pieces:  # who is nearer hides who is farther
        together.sort(key=lambda piece: piece[0].shape[0])
    ground = cv2.GaussianBlur(random.integers(60, 140, (plan.height, plan.width, 3), np.uint8), (0, 0), 3)
    return Street(plan, frames, tuple(passages), np.asarray(ground, np.uint8), tuple(map(tuple, pieces)))


def _cast(
    faces: Path,
    wanted: int,
    listed: int,
    random: np.random.Generator,
    locate: Callable[[NDArray[np.uint8]], NDArray[np.float32] | None],
) -> list[tuple[str, Path | None, NDArray[np.uint8], NDArray[np.float32]]]:
    """Who walks: name, the picture to enrol, the picture that walks, and the face's box in it. The listed are first."""
    folders = sorted(entry for entry in faces.iterdir() if entry.is_dir()) if faces.is_dir() else []
    albums = {f.name: sorted(p for p in f.iterdir() if p.suffix.lower() in PICTURES) for f in folders}
    names = [str(name) for name in random.permutation(sorted(name for name in albums if albums[name]))]
    walkers: list[tuple[str, Path | None, NDArray[np.uint8], NDArray[np.float32]]] = []
    used: set[str] = set()
    for name in (name for name in names if len(albums[name]) > 1):
        if len(walkers) == listed:
            break
        found = _cut(read_image(albums[name][1]), locate)
        if found is not None and locate(read_image(albums[name][0])) is not None:
            walkers.append((name, albums[name][0], *found))
            used.add(name)
    for name in sorted((name for name in names if name not in used), key=lambda name: len(albums[name])):
        if len(walkers) == wanted or len(walkers) < listed:
            break
        found = _cut(read_image(albums[name][0]), locate)
        if found is not None:
            walkers.append((name, None, *found))
    if len(walkers) < wanted:
        raise BadInput(
            str(faces),
            f"holds faces of {len(walkers)} people that can be used, and this street needs {wanted}, "
            f"{listed} of them with two pictures",
            "Give a folder with one folder of pictures per person, or ask for fewer people or a shorter street",
        )
    return walkers


def _cut(
    picture: NDArray[np.uint8], locate: Callable[[NDArray[np.uint8]], NDArray[np.float32] | None]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """The face with some of its surroundings, and its box in that."""
    box = locate(picture)
    if box is None:
        return None
    margin = CONTEXT * float(box[2] - box[0])
    left, top = max(0, int(box[0] - margin)), max(0, int(box[1] - margin))
    cut = picture[top : int(box[3] + margin), left : int(box[2] + margin)].copy()
    return cut, box - np.array([left, top, left, top], np.float32)
