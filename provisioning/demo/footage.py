"""What the demo watches and whom it looks for: the rendered scene with its truth, or a video of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge.errors import NothingToEnrol, VideoUnreadable
from edge.parsing import json_as
from provisioning.demo.scene import ENROL, SceneTruth, render, truth_path

__all__ = ["Footage", "own_video", "rendered_scene"]

HERE = Path(__file__).resolve().parent
RENDERERS = {"camera.py", "clothes.py", "people.py", "scene.py", "script.py", "street.py"}
"""What the pictures are drawn by: a change of one renders the scene anew."""


@dataclass(frozen=True, slots=True)
class Footage:
    """A video, the folder to enrol from, and what should come of it.

    Attributes:
        video: the file.
        enrol: one folder of photographs per reference.
        frames, fps: of the video.
        truth: who passes when; None for a video of one's own.
        cooldown_s: how long the same subject raises no second alert.
        leaves: reference of who is on the list too, and leaves it at their first alert; empty for nobody.
    """

    video: Path
    enrol: Path
    frames: int
    fps: float
    truth: SceneTruth | None
    cooldown_s: float
    leaves: str = ""


LEAVES, LEAVING = "SUBJECT-002", "collins.jpg"
"""Who leaves the list in the middle, and the photograph: the one that walks by, for what is shown with it is the
leaving and not the recognition."""


def rendered_scene(cache: Path, console: Console) -> Footage:
    """The demo's own scene, rendered once and kept until anything that it is made of changes."""
    sources = sorted(p for p in HERE.rglob("*") if p.suffix in {".toml", ".jpg", ".png"} or p.name in RENDERERS)
    digest = hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in sources)).hexdigest()[:16]
    video = cache / f"scene-{digest}.mp4"
    if not (video.exists() and truth_path(video).exists()):
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob("scene-*"):
            old.unlink()
        console.print("Rendering a street scene from public-domain portraits (once) …")
        columns = (TextColumn("  "), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("scene", total=None)
            render(video, progress=lambda done, total: bar.update(task, completed=done, total=total))
    truth = with_one_who_leaves(json_as(truth_path(video).read_bytes(), SceneTruth))
    return Footage(video, ENROL, truth.frames, truth.fps, truth, cooldown_s=4.0, leaves=LEAVES)


def with_one_who_leaves(truth: SceneTruth) -> SceneTruth:
    """The truth of a scene in which the first passage of :data:`LEAVING` alerts and every later one does not."""
    first = next(each.number for each in truth.passages if each.portrait == LEAVING)
    passages = tuple(replace(each, reference=LEAVES) if each.number == first else each for each in truth.passages)
    return replace(truth, passages=passages, alerts_expected=truth.alerts_expected + 1)


def own_video(video: Path, enrol: Path) -> Footage:
    """A video and a folder of one's own.

    Raises:
        VideoUnreadable: the video cannot be opened.
        NothingToEnrol: the folder is not there, or has no folder in it.
    """
    if not video.is_file():
        raise VideoUnreadable(str(video), "there is no such file", "Check the path after --video")
    if not enrol.is_dir() or not any(entry.is_dir() for entry in enrol.iterdir()):
        raise NothingToEnrol(
            str(enrol), "holds no folder of pictures", "Make one folder per reference, with pictures in it"
        )
    capture = cv2.VideoCapture(str(video))
    frames, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), float(capture.get(cv2.CAP_PROP_FPS))
    opened = capture.isOpened()
    capture.release()
    if not opened:
        raise VideoUnreadable(str(video), "is not a video, or is cut off", "Convert it to MP4 (H.264)")
    return Footage(video.resolve(), enrol.resolve(), max(0, frames), fps if fps > 0 else 25.0, None, cooldown_s=30.0)
