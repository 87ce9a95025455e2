"""The DET curve as a picture: miss rate (FNIR) against false alerts (FPIR), both logarithmic."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import StoreUnavailable
from edge.evaluate.measure import Searches

__all__ = ["det_plot"]

WIDTH, HEIGHT = 960, 720
LEFT, RIGHT, TOP, BOTTOM = 110, 40, 110, 90  # margins in pixels
INK, GRID, CURVE, BAND = (40, 40, 40), (215, 215, 215), (160, 80, 20), (235, 215, 195)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def det_plot(mated: Searches, nonmated: Searches, path: Path, title: str) -> None:
    """Draws the curve with a 95 % band of FNIR (normal approximation) and writes it as PNG.

    Raises:
        StoreUnavailable: the file cannot be written.
    """
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    n_mated, n_other = max(len(mated.best), 1), max(len(nonmated.best), 1)
    thresholds = np.unique(np.concatenate([nonmated.best, mated.best]))
    hits = np.sort(mated.best[mated.right])
    fpir = 1 - np.searchsorted(np.sort(nonmated.best), thresholds, "left") / n_other
    fnir = 1 - (len(hits) - np.searchsorted(hits, thresholds, "left")) / n_mated
    floor_x, floor_y = _decade(1 / n_other), _decade(max(float(fnir.min()) / 2, 1 / n_mated))

    def place(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int32]:
        across = np.log10(np.clip(x, 10**floor_x, 1)) / -floor_x + 1
        up = np.log10(np.clip(y, 10**floor_y, 1)) / -floor_y + 1
        pixels = [LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)]
        return np.asarray(np.stack(pixels, 1).round(), np.int32)

    half = 1.96 * np.sqrt(np.maximum(fnir * (1 - fnir), 1 / n_mated) / n_mated)
    outline = np.concatenate([place(fpir, fnir + half), place(fpir, fnir - half)[::-1]])
    cv2.fillPoly(canvas, [outline], BAND, cv2.LINE_AA)
    for floor, vertical in ((floor_x, True), (floor_y, False)):
        for power in range(floor, 1):
            value = np.array([10.0**power])
            edge = np.array([1.0])
            low = np.array([10.0**floor_y]) if vertical else np.array([10.0**floor_x])
            ends = ((value, low), (value, edge)) if vertical else ((low, value), (edge, value))
            a, b = (place(x, y)[0] for x, y in ends)
            cv2.line(canvas, a.tolist(), b.tolist(), GRID, 1)
            label = f"{100 * 10.0**power:g} %"
            at = (a[0] - 25, a[1] + 25) if vertical else (a[0] - 80, a[1] + 5)
            cv2.putText(canvas, label, (int(at[0]), int(at[1])), FONT, 0.5, INK, 1, cv2.LINE_AA)
    cv2.polylines(canvas, [place(fpir, fnir)], isClosed=False, color=CURVE, thickness=2, lineType=cv2.LINE_AA)
    cv2.putText(canvas, title, (LEFT, 35), FONT, 0.6, INK, 1, cv2.LINE_AA)
    about = f"{len(mated.best)} mated and {len(nonmated.best)} non-mated searches; band: 95 % of FNIR"
    cv2.putText(canvas, about, (LEFT, 58), FONT, 0.45, INK, 1, cv2.LINE_AA)
    below = (WIDTH // 2 - 150, HEIGHT - 25)
    cv2.putText(canvas, "FPIR: non-mated searches that alert", below, FONT, 0.55, INK, 1, cv2.LINE_AA)
    cv2.putText(canvas, "FNIR: mated searches missed", (20, TOP - 20), FONT, 0.45, INK, 1, cv2.LINE_AA)
    try:
        path.write_bytes(cv2.imencode(".png", canvas)[1].tobytes())
    except OSError as error:
        raise StoreUnavailable(str(path), f"the plot cannot be written ({error.strerror})", "Check the path") from error


def _decade(smallest: float) -> int:
    """The power of ten at or below the smallest rate that the data can show; at least one decade is drawn."""
    return min(-1, math.floor(math.log10(smallest)))
