"""Render the demo's street scene into a video, and say what is true of it.

python -m provisioning.demo.scene OUT.mp4
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from edge.errors import StoreUnavailable
from provisioning.demo.camera import Camera
from provisioning.demo.clothes import Figure, dress
from provisioning.demo.script import (
    ENROL,
    PORTRAITS,
    FaceTruth,
    PassageTruth,
    SceneTruth,
    gaits,
    load_script,
    tell_truth,
)
from provisioning.demo.street import draw_street

__all__ = ["ENROL", "FaceTruth", "PassageTruth", "SceneTruth", "main", "render", "truth_path"]

SEED: Final = 2019
_CODEC: Final = "mp4v"  # MPEG-4 part 2: OpenCV's wheels write and read it on x86-64 and aarch64


def truth_path(video: Path) -> Path:
    """Where the ground truth of a rendered video lies: beside it, `NAME.truth.json`."""
    return video.with_suffix(".truth.json")


def render(
    path: Path,
    *,
    seed: int = SEED,
    progress: Callable[[int, int], None] | None = None,
    scale: float = 1.0,
    frames: int | None = None,
) -> SceneTruth:
    """Render the scene into an .mp4 file and write its ground truth beside it.

    The same seed gives the same pictures. The file appears under its name only when it is whole.

    Args:
        path: the video to write; its folder exists. An older file is replaced.
        seed: of the grain, the slabs, the folds of the cloth and the steps.
        progress: called with the number of frames done and of all frames after each frame.
        scale: share of 1920 x 1080, for a quick look; people and their walks stay the same.
        frames: how many frames from the beginning; all of them when None.

    Returns:
        What is true of the rendered frames.

    Raises:
        StoreUnavailable: the file cannot be written.
    """
    script = load_script()
    total = script.frames if frames is None else min(frames, script.frames)
    truth = tell_truth(script, seed=seed, frames=total, scale=scale)
    rng = np.random.default_rng(seed)
    unfinished = path.with_name(f".{path.stem}.part{path.suffix}")
    writer = cv2.VideoWriter(
        str(unfinished), cv2.VideoWriter.fourcc(*_CODEC), float(script.fps), (truth.width, truth.height)
    )
    if not writer.isOpened():
        raise StoreUnavailable(
            str(path),
            "the video cannot be written",
            "Check that its folder exists and may be written, and that its name ends in .mp4",
        )
    camera = Camera(draw_street(rng), rng, scale=scale)
    offsets = gaits(script, seed)
    dressed: dict[int, Figure] = {}
    try:
        for frame in range(total):
            people = []
            for number, (passage, offset) in enumerate(zip(script.passages, offsets, strict=True)):
                moment = passage.at(frame / script.fps, offset)
                if moment is None:
                    dressed.pop(number, None)
                    continue
                if number not in dressed:
                    portrait, cloth = script.by_file.get(passage.portrait), np.random.default_rng([seed, number])
                    dressed[number] = dress(portrait, passage.outfit, PORTRAITS, cloth, mirrored=passage.mirrored)
                people.append((dressed[number], moment, passage.velocity))
            writer.write(camera.take(people))
            if progress is not None:
                progress(frame + 1, total)
        writer.release()
        unfinished.replace(path)
        truth.write(truth_path(path))
    except OSError as error:
        raise StoreUnavailable(
            str(path), error.strerror or "the video cannot be written", "Free some space or choose another folder"
        ) from error
    finally:
        writer.release()
        unfinished.unlink(missing_ok=True)
    return truth


def main(arguments: list[str] | None = None) -> int:
    """Render to the file named on the command line, with a progress bar; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m provisioning.demo.scene", description="Render the demo's street scene."
    )
    parser.add_argument("video", type=Path, metavar="OUT.mp4")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--scale", type=float, default=1.0, help="share of 1920 x 1080")
    options = parser.parse_args(arguments)
    try:
        with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as bar:
            task = bar.add_task("Rendering the street", total=None)
            truth = render(
                options.video,
                seed=options.seed,
                scale=options.scale,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except StoreUnavailable as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, highlight=False)
        return error.exit_code
    passing = f"{len(truth.passages)} people pass, {truth.alerts_expected} of them on the list"
    Console(soft_wrap=True).print(f"{options.video}: {truth.frames} frames, {passing}", markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
