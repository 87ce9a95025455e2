"""What happens in the demo's scene and what is true of it: `scene.toml`, and the ground truth it implies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge.parsing import json_as, toml_as
from provisioning.demo.clothes import CHIN_ABOVE_GROUND, Outfit
from provisioning.demo.people import FACE_HEIGHT, Portrait
from provisioning.demo.world import PICTURE, project

__all__ = [
    "ENROL",
    "PORTRAITS",
    "FaceTruth",
    "Moment",
    "Passage",
    "PassageTruth",
    "SceneTruth",
    "Script",
    "load_script",
]

HERE: Final = Path(__file__).parent
PORTRAITS: Final = HERE / "portraits"
"""The photographs that walk by."""
ENROL: Final = HERE / "enrol"
"""The demo's watchlist: one folder per reference, other photographs than those that walk by."""

_BOB: Final = 0.018  # metres that a head rises and falls with each step
_STRIDE: Final = 1.4  # metres to a pair of steps


@dataclass(frozen=True, slots=True)
class Moment:
    """Where somebody is in one frame: metres on the ground, height of the chin, phase of the walk in radians."""

    x: float
    z: float
    chin: float
    phase: float


class Passage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"origin": "from"}, kw_only=True):
    """Somebody walks along a straight line, once.

    Attributes:
        portrait: file in `portraits/`; empty for somebody seen from behind.
        reference: the watchlist entry that an alert must name; None for somebody who is not on the list.
        start: when the walk begins, in seconds; negative when it is under way as the film begins.
        speed: metres per second.
        origin, to: begin and end, (X, Z) in metres.
        mirrored: whether the photograph is mirrored.
    """

    start: float
    speed: float
    origin: tuple[float, float]
    to: tuple[float, float]
    outfit: Outfit
    portrait: str = ""
    reference: str | None = None
    mirrored: bool = False

    @property
    def velocity(self) -> tuple[float, float]:
        """Metres per second along X and Z."""
        length = math.dist(self.origin, self.to)
        return self.speed * (self.to[0] - self.origin[0]) / length, self.speed * (self.to[1] - self.origin[1]) / length

    def at(self, second: float, offset: float) -> Moment | None:
        """Where they are at a time in seconds; None before the walk and after it. `offset` shifts the gait."""
        walked = (second - self.start) * self.speed
        length = math.dist(self.origin, self.to)
        if not 0 <= walked <= length:
            return None
        share = walked / length
        phase = 2 * math.pi * walked / _STRIDE + offset
        x = self.origin[0] + share * (self.to[0] - self.origin[0]) + 0.02 * math.sin(phase)
        z = self.origin[1] + share * (self.to[1] - self.origin[1])
        return Moment(x=x, z=z, chin=CHIN_ABOVE_GROUND + _BOB * math.cos(2 * phase), phase=phase)


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The whole scene as written in `scene.toml`."""

    seconds: float
    fps: int
    portraits: tuple[Portrait, ...]
    passages: tuple[Passage, ...]

    @cached_property
    def by_file(self) -> dict[str, Portrait]:
        """The portraits by the name of their file."""
        return {portrait.file: portrait for portrait in self.portraits}

    @property
    def frames(self) -> int:
        """Length of the scene in frames."""
        return round(self.seconds * self.fps)


def load_script(path: Path = HERE / "scene.toml") -> Script:
    """Read a scene.

    Raises:
        msgspec.ValidationError: a key is unknown, missing or of the wrong type; the message names it.
    """
    return toml_as(path.read_bytes(), Script)


@dataclass(frozen=True, slots=True)
class PassageTruth:
    """One person who walks by facing the camera.

    Attributes:
        number: index of the passage, counted from 0 over those that face the camera.
        person, portrait: who, and the file the head was cut from.
        reference: the watchlist entry that an alert must name; None where any alert is false.
        first_frame, last_frame: where the whole face lies in the picture, both included.
        face_px: smallest and largest height of the face in those frames, in pixels.
    """

    number: int
    person: str
    portrait: str
    reference: str | None
    first_frame: int
    last_frame: int
    face_px: tuple[float, float]


@dataclass(frozen=True, slots=True)
class FaceTruth:
    """Where a face is in a frame: left, top, right, bottom in pixels, wholly inside the picture.

    A face may be covered by somebody nearer; the truth does not say so.
    """

    frame: int
    passage: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SceneTruth:
    """What happens in a rendered scene, known because it was written and not because it was recognised."""

    width: int
    height: int
    fps: int
    frames: int
    seed: int
    alerts_expected: int
    passages: tuple[PassageTruth, ...]
    faces: tuple[FaceTruth, ...]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @staticmethod
    def read(path: Path) -> SceneTruth:
        """Read what `write` wrote.

        Raises:
            msgspec.ValidationError: the file is of another form.
        """
        return json_as(path.read_bytes(), SceneTruth)


def gaits(script: Script, seed: int) -> list[float]:
    """The phase at which each passage's walk begins, in radians, so that nobody walks in step."""
    return [float(phase) for phase in np.random.default_rng(seed).uniform(0, 2 * math.pi, len(script.passages))]


def tell_truth(script: Script, *, seed: int, frames: int, scale: float) -> SceneTruth:
    """Work out the ground truth of the first `frames` frames at `scale` times 1920 x 1080, without drawing."""
    width, height = (round(side * scale) for side in PICTURE)
    passages: list[PassageTruth] = []
    faces: list[FaceTruth] = []
    for passage, offset in zip(script.passages, gaits(script, seed), strict=True):
        if not passage.portrait:
            continue
        portrait = script.by_file[passage.portrait]
        left, top, right, foot = portrait.face
        half = (right - left) / (foot - top) * FACE_HEIGHT / 2
        number, seen = len(passages), []
        for frame in range(frames):
            moment = passage.at(frame / script.fps, offset)
            if moment is None:
                continue
            x0, y0 = project(moment.x - half, moment.chin + FACE_HEIGHT, moment.z)
            x1, y1 = project(moment.x + half, moment.chin, moment.z)
            if x0 < 0 or y0 < 0 or x1 > PICTURE[0] or y1 > PICTURE[1]:
                continue
            box = (x0 * scale, y0 * scale, x1 * scale, y1 * scale)
            seen.append(
                FaceTruth(frame, number, (round(box[0], 1), round(box[1], 1), round(box[2], 1), round(box[3], 1)))
            )
        if not seen:
            continue
        heights = [face.box[3] - face.box[1] for face in seen]
        passages.append(
            PassageTruth(
                number=number,
                person=portrait.person,
                portrait=portrait.file,
                reference=passage.reference,
                first_frame=seen[0].frame,
                last_frame=seen[-1].frame,
                face_px=(round(min(heights), 1), round(max(heights), 1)),
            )
        )
        faces.extend(seen)
    return SceneTruth(
        width=width,
        height=height,
        fps=script.fps,
        frames=frames,
        seed=seed,
        alerts_expected=sum(passage.reference is not None for passage in passages),
        passages=tuple(passages),
        faces=tuple(sorted(faces, key=lambda face: (face.frame, face.passage))),
    )
