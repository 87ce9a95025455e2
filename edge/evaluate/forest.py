"""Groups beside each other: one line for each, its rate with bounds, and how its scores lie against everybody's.

Axes begin where the lowest bound lies, not at 0, so that groups which are all near 100 % are still told apart. A group
without a miss, or without an alert, is an open mark at the end of its axis and a line to the bound: how bad the truth
may still be. matplotlib is not imported here: whoever draws hands over the axes.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.evaluate.differentials import UNKNOWN
from edge.evaluate.tables import ratio_in_words, telling

if TYPE_CHECKING:
    from edge.evaluate.measure import Point
    from edge.evaluate.report import Report

__all__ = ["forest"]

SURE, INK, FAINT, GRID, UNSURE = "#0b4a8f", "#16191d", "#59626e", "#dde2e8", "#b06a00"
MARGIN = 0.06
"""Room beyond the outermost bound, as a share of the axis."""
SCALE = 10
"""Searches from which a group's bounds set the scale: one person's would stretch it over everything."""
LONGEST_NAME = 28
LINE = 46
"""Characters of a line of the words under a panel."""


def forest(found: Any, false: Any, shifts: Any | None, report: Report) -> None:
    """Draws TPIR, FPIR and, where there are figures and an axis for them, shifts of scores.

    Args:
        found: matplotlib axes for TPIR.
        false: for FPIR.
        shifts: for score shifts, or None.
        report: what was measured, with groups.
    """
    at = telling(report.differentials, report.overall)
    point = report.overall[at]
    rows = [(column, value, *figures) for column, groups in report.groups.items() for value, figures in groups.items()]
    names = [
        f"{_short(f'{column}: {value}')}\n{len(mated.best):,} mated, {len(other.best):,} not"
        for column, value, mated, other, _ in rows
    ]
    left, right = [], []
    for _, value, mated, other, points in rows:
        here, known, enough = points[at], value != UNKNOWN, len(other.best) >= point.needed
        left.append(_Row(len(mated.best), here.tpir, here.tpir_ci95, known, sure=True))
        right.append(_Row(len(other.best), here.fpir, here.fpir_ci95, known, sure=enough))
    _rates(found, left, point.tpir, best=1.0)
    _rates(false, right, point.fpir, best=0.0)
    found.set_yticks(range(len(rows)), names, fontsize=8)
    found.set_title(f"TPIR at {point.threshold:.3f}, 95 %", fontsize=10)
    false.set_title(f"FPIR at {point.threshold:.3f}, 95 %", fontsize=10)
    ratios = [(column, apart.fnir[at], apart.fpir[at]) for column, apart in report.differentials.items()]
    _below(found, [f"FNIR, {column}: {ratio_in_words(fnir)}" for column, fnir, _ in ratios])
    _below(false, [f"FPIR, {column}: {ratio_in_words(fpir)}" for column, _, fpir in ratios])
    if shifts is not None:
        _shifts(shifts, report, at, [(column, value) for column, value, *_ in rows], point)


@dataclass(frozen=True, slots=True)
class _Row:
    """A group's rate; ``known`` if it is a group at all, ``sure`` if it has the searches to show the rate."""

    count: int
    rate: float
    bounds: tuple[float, float]
    known: bool
    sure: bool


def _rates(axes: Any, rows: list[_Row], whole: float, best: float) -> None:
    """One panel of rates; ``best`` is the end of the axis at which a group without an error lies.

    The axis reaches as far as the bounds of groups that are known and have :data:`SCALE` searches, if there are any;
    the line of the others may leave it, and their bounds are written beside it.
    """
    scale = [row for row in rows if row.known and row.count >= SCALE] or [row for row in rows if row.count]
    ends = [abs(bound - best) for row in scale for bound in row.bounds]
    reach = min(max([*ends, 1e-6]) * (1 + MARGIN), 1.02) if ends else 1.02
    for place, row in enumerate(rows):
        if not row.count:
            axes.text(0.5, place, "no searches", transform=_across(axes), fontsize=8, color=FAINT, va="center")
            continue
        perfect, (low, high), colour = row.rate == best, row.bounds, SURE if row.sure else UNSURE
        bound = low if best else high
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        if perfect:  # one-sided: an end bar at the bound, where the truth may still lie
            axes.plot(bound, place, marker="|", color=colour, markersize=9, markeredgewidth=2)
            words = f"{row.rate:.0%}, {'at least' if best else 'at most'} {bound:.1%}"
        else:
            words = f"{row.rate:.1%} ({low:.1%} to {high:.1%})"
        words += "" if row.sure else ", too few"
        fill = "none" if perfect else "full"
        axes.plot(row.rate, place, "o", color=colour, markersize=6, fillstyle=fill, clip_on=False)
        where, side = (0.02, "left") if best else (0.98, "right")
        axes.text(where, place - 0.3, words, transform=_across(axes), fontsize=7.5, color=INK, ha=side, va="center")
    if not math.isnan(whole):
        axes.axvline(whole, color=FAINT, linewidth=0.8, linestyle="--")
    room = reach * MARGIN
    axes.set_xlim((best - reach, best + room) if best else (-room, reach))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %" if -1e-9 <= value <= 1 + 1e-9 else "")
    _frame(axes, len(rows))


def _shifts(axes: Any, report: Report, at: int, rows: list[tuple[str, str]], point: Point) -> None:
    """Two marks a group: the median of mated scores, and the threshold that the group would need by itself."""
    drawn = []
    for place, (column, value) in enumerate(rows):
        group = report.differentials[column].groups[value]
        kinds = ((group.mated_shift, SURE, -0.12, "o"), (group.threshold_shift[at], UNSURE, 0.12, "D"))
        for shift, colour, off, marker in kinds:
            if shift.difference is None:
                continue
            if shift.ci95 is not None:
                axes.plot(shift.ci95, [place + off] * 2, color=colour, linewidth=2)
                drawn += [abs(end) for end in shift.ci95]
            axes.plot(shift.difference, place + off, marker=marker, color=colour, markersize=5)
            drawn.append(abs(shift.difference))
        if group.mated_shift.difference is None and group.threshold_shift[at].difference is None:
            axes.text(0.5, place, "too few", transform=_across(axes), fontsize=8, color=FAINT, va="center")
    reach = max([*drawn, 1e-3]) * (1 + MARGIN)
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color=FAINT, linewidth=0.8, linestyle="--")
    axes.set_yticks([])
    axes.set_title("Score shift against everybody, 95 %", fontsize=10)
    rate = point.fpir if point.fpir_target is None else point.fpir_target
    axes.set_xlabel(f"● median of mated scores\n◆ own threshold for FPIR {rate:.4g}", fontsize=8, color=FAINT)
    _frame(axes, len(rows))


def _frame(axes: Any, count: int) -> None:
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_yticks([])
    axes.set_ylim(count - 0.4, -0.7)


def _below(axes: Any, lines: list[str]) -> None:
    """Words under a panel, folded into its width."""
    axes.set_xlabel(
        "\n".join("\n".join(textwrap.wrap(line, LINE, break_on_hyphens=False)) for line in lines),
        fontsize=8,
        color=FAINT,
    )


def _across(axes: Any) -> Any:
    """Coordinates: share of the width, row."""
    return axes.get_yaxis_transform()


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
