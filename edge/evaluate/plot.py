"""What was measured as a picture: the DET curve with its thresholds, and every group with its bounds.

Drawn with matplotlib, which the extra ``plots`` installs; a van has no use for it. What cannot be shown with so few
searches is drawn as a bound, never as a point: a perfect result is an arrow that ends where the truth may still lie.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import BadInput, RuntimeUnavailable, StoreUnavailable
from edge.evaluate.forest import forest
from edge.evaluate.measure import Point, clopper_pearson

if TYPE_CHECKING:
    from edge.evaluate.report import Report

__all__ = ["ENDINGS", "check", "draw"]

ENDINGS = (".png", ".svg", ".pdf")
MOST_POINTS = 240
"""Thresholds along the curve: more are not told apart on paper."""
BELOW = 0.3
"""Where an axis begins, as a share of the smallest rate that the searches can show."""
CURVE, BAND, INK, FAINT, UNSURE = "#0b4a8f", "#c9dbf0", "#16191d", "#59626e", "#b06a00"


def check(path: Path) -> None:
    """Whether a plot can be drawn into this file, before anything is measured.

    Raises:
        BadInput: the ending is none of :data:`ENDINGS`.
        RuntimeUnavailable: matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise BadInput(str(path), f"does not end in {', '.join(ENDINGS)}", "Give another name")
    if importlib.util.find_spec("matplotlib") is None:
        cause = "needs matplotlib, which is not installed"
        raise RuntimeUnavailable("the plot", cause, "Run: pip install 'lfr-edge[plots]'")


def draw(report: Report, path: Path, title: str) -> None:
    """Draw an evaluation and write it; the file's ending says in which format.

    Raises:
        BadInput, RuntimeUnavailable: see :func:`check`.
        StoreUnavailable: the file cannot be written.
    """
    check(path)
    from matplotlib.figure import Figure  # noqa: PLC0415 - only whoever draws has it

    values = [(column, value) for column, groups in report.groups.items() for value in groups]
    wide = 8.2 if not values else 18.5 if report.differentials else 15.0
    figure = Figure(figsize=(wide, max(6.2, 3.0 + 0.5 * len(values))), layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    if values:
        ratios = (2, 1.1, 1.1, 1)[: 4 if report.differentials else 3]
        curve, found, false, *shifts = figure.subplots(1, len(ratios), width_ratios=ratios)
        forest(found, false, shifts[0] if shifts else None, report)
    else:
        curve = figure.subplots()
    _curve(curve, report)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise StoreUnavailable(str(path), f"the plot cannot be written ({error.strerror})", "Check the path") from None


def _curve(axes: Any, report: Report) -> None:
    """FNIR against FPIR, both logarithmic, with the 95 % band of FNIR and a mark at each threshold of the report."""
    mated, other = report.mated, report.nonmated
    hits, false = np.sort(mated.best[mated.right]), np.sort(other.best)
    n_mated, n_other = len(mated.best), len(other.best)
    seen = np.unique(np.concatenate([false, hits]))
    if len(seen) > MOST_POINTS:
        seen = np.quantile(seen, np.linspace(0, 1, MOST_POINTS))
    alerts = n_other - np.searchsorted(false, seen, "left")
    missed = n_mated - (len(hits) - np.searchsorted(hits, seen, "left"))
    fpir, fnir = alerts / max(n_other, 1), missed / max(n_mated, 1)
    bounds = np.array([clopper_pearson(int(k), n_mated) for k in missed]).reshape(-1, 2)
    left, low = BELOW / max(n_other, 1), BELOW / max(n_mated, 1)
    across = np.maximum(fpir, left)
    axes.fill_between(across, np.maximum(bounds[:, 0], low), bounds[:, 1], color=BAND, label="95 % of FNIR")
    axes.plot(across, np.maximum(fnir, low), color=CURVE, linewidth=1.6, label="measured")
    for point in {point.threshold: point for point in reversed(report.overall)}.values():
        _mark(axes, point, left, low)
    if n_mated and int(missed.min()) == 0:
        text = f"none of {n_mated:,} missed: at most {bounds[missed.argmin(), 1]:.1%} are, 95 % sure"
        axes.text(0.97, 0.02, text, transform=axes.transAxes, fontsize=8, color=FAINT, ha="right")
    if n_other:
        axes.axvspan(left, 1 / n_other, color="#f1f1f1", zorder=0)
        axes.text(
            left * 1.1, 0.85, f"one in {n_other:,}\nand rarer:\ncannot be shown", fontsize=8, color=FAINT, va="top"
        )
    axes.set(xscale="log", yscale="log", xlim=(left, 1), ylim=(low, 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent)
    axes.set_xlabel(f"FPIR: non-mated searches that alert ({n_other:,} searches)")
    axes.set_ylabel(f"FNIR: mated searches missed ({n_mated:,} searches)")
    axes.grid(which="major", color="#dde2e8", linewidth=0.7)
    axes.legend(loc="upper right", fontsize=8, frameon=False)


def _mark(axes: Any, point: Point, left: float, low: float) -> None:
    """One threshold: a cross of both intervals; an arrow to the bound where nothing was missed or nobody alerted."""
    missed = 1 - point.tpir
    (f0, f1), (t0, t1) = point.fpir_ci95, point.tpir_ci95
    x, y = max(point.fpir, left * 1.25), max(missed, low * 1.5)
    colour = CURVE if point.shown else UNSURE
    axes.plot([max(f0, left), min(f1, 1)], [y, y], color=colour, linewidth=1)
    axes.plot([x, x], [max(1 - t1, low), min(1 - t0, 1)], color=colour, linewidth=1)
    axes.plot(
        x,
        y,
        marker="o" if point.shown else "D",
        color=colour,
        markersize=5,
        fillstyle="full" if point.shown else "none",
    )
    axes.annotate(f"{point.threshold:.3f}", (x, y), xytext=(6, 6), textcoords="offset points", fontsize=8, color=INK)


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.3g} %"
