"""Short videos of public-domain portraits that move across a grey street."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.sight.picture import read_image

PORTRAITS = Path(__file__).resolve().parents[2] / "provisioning" / "demo" / "portraits"
ENROLLED = PORTRAITS.parent / "enrol"
WIDTH, HEIGHT, FPS = 640, 384, 20


def walk(path: Path, portraits: Sequence[str], frames: int = 24, empty: int = 16, fps: int = FPS) -> Path:
    """Each portrait in turn crosses the picture in ``frames`` frames; then the street is empty."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (WIDTH, HEIGHT))
    for name in portraits:
        portrait = read_image(PORTRAITS / name)
        height = HEIGHT - 20
        width = round(portrait.shape[1] * height / portrait.shape[0])
        small = cv2.resize(portrait, (width, height), interpolation=cv2.INTER_AREA)
        for step in range(frames):
            street = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            left = round((WIDTH - width) * (0.2 + 0.6 * step / frames))
            street[10 : 10 + height, left : left + width] = small
            writer.write(street)
        for _ in range(empty):
            writer.write(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    writer.release()
    return path
