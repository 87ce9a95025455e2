"""How groups compare, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge.commandline import say, table
from edge.evaluate.differentials import UNKNOWN, Differential, Groups, Rate, Shift
from edge.evaluate.measure import Point, chosen

__all__ = ["print_differentials", "ratio_in_words", "telling"]


def print_differentials(column: str, found: Groups, points: Sequence[Point]) -> None:
    """Prints the ratios at each threshold, then every group's rates and shifts at the rarest that can be shown."""
    rows = []
    for point, fpir, fnir in zip(points, found.fpir, found.fnir, strict=True):
        rows.append([f"{point.threshold:.3f}", ratio_in_words(fpir), ratio_in_words(fnir)])
    title = f"Differentials by {column}: highest group to lowest"
    table(("threshold", "FPIR (false positive)", "FNIR (false negative)"), rows, title=title)
    for name, rate in (("enrol", found.failure_to_enrol), ("acquire", found.failure_to_acquire)):
        say(f"Failure to {name}: {ratio_in_words(rate, 'pictures')}.")
    few = [
        f"{name}: {', '.join(sorted(missing))}"
        for name, many in (("FPIR", found.fpir), ("FNIR", found.fnir))
        if (missing := {value for one in many for value in one.too_few})
    ]
    if few:
        say(f"Too few to be compared at some threshold: {'; '.join(few)}.")
    at = telling({column: found}, points)
    point, rows = points[at], []
    for value, group in found.groups.items():
        rates = (group.fpir[at], group.fnir[at], group.failure_to_enrol, group.failure_to_acquire)
        mated, other = group.fnir[at].trials, group.fpir[at].trials
        shifts = (
            _shift(group.mated_shift, mated),
            _shift(group.nonmated_shift, other),
            _shift(group.threshold_shift[at], other),
        )
        rows.append([value, *map(_rate, rates), *shifts, _time(group.milliseconds)])
    title = f"Groups by {column} at {point.threshold:.3f}: rates with 95 %, shifts of scores against everybody"
    heads = ("FPIR", "FNIR", "failure to enrol", "failure to acquire", "mated", "non-mated", "threshold", "ms")
    table((column, *heads), rows, title=title)
    say(
        "mated, non-mated: of the median score. threshold: the one that the group by itself would need for the same "
        "FPIR, less everybody's. ms: median time of a picture; – where all came from the cache."
    )


def telling(columns: Mapping[str, Groups], points: Sequence[Point]) -> int:
    """The point at which groups are best looked at: the rarest at which all of them show their own threshold.

    Failing that, the rarest at which all can be compared; failing that, the rarest that everybody together shows.
    """
    at = {point.threshold: index for index, point in reversed(list(enumerate(points)))}
    found = [group for column in columns.values() for value, group in column.groups.items() if value != UNKNOWN]
    searched = [group for group in found if any(rate.trials for rate in group.fpir)]
    shown = [i for i in at.values() if searched and all(g.threshold_shift[i].value is not None for g in searched)]
    compared = [i for i in at.values() if columns and not any(column.fpir[i].too_few for column in columns.values())]
    for some in (shown, compared):
        usable = [points[i] for i in some if points[i].shown]
        if usable:
            return list(points).index(chosen(usable))
    return list(points).index(chosen(points))


def ratio_in_words(found: Differential, trials: str = "searches") -> str:
    """``2.1 (1.5 to 3.0): F to M``, or why there is none."""
    low, high = found.ratio_ci95
    if len(found.compared + found.too_few) < 2:
        return "only one group"
    if found.highest is None or low is None:
        if found.events:
            few = f"cannot be shown with so few of {', '.join(found.too_few)}"
            return f"{few}; it takes about {found.needed:,} {trials} of each"
        return f"cannot be shown with so few: it happened to nobody; it takes {found.needed:,} {trials} of each or more"
    pair = f"{found.highest} to {found.lowest}"
    if found.ratio is None:
        text = f"at least {low:.1f}: {pair}, where it happened to nobody"
    else:
        text = f"{found.ratio:.1f} ({low:.1f} to {'no bound' if high is None else f'{high:.1f}'}): {pair}"
    if not found.shown:
        text = f"cannot be shown with so few: {text}; it takes about {found.needed:,} {trials} of each"
    return text


def _rate(rate: Rate) -> str:
    if rate.rate is None or rate.ci95 is None:
        return "–"
    return f"{rate.rate:.1%} ({rate.ci95[0]:.1%} to {rate.ci95[1]:.1%})"


def _shift(shift: Shift, count: int, digits: int = 3) -> str:
    if shift.difference is None:
        return f"too few: {shift.needed:,} needed" if 0 < count < shift.needed else "–"
    if shift.ci95 is None:
        return f"{shift.difference:+.{digits}f}"
    return f"{shift.difference:+.{digits}f} ({shift.ci95[0]:+.{digits}f} to {shift.ci95[1]:+.{digits}f})"


def _time(shift: Shift) -> str:
    return "–" if shift.value is None else f"{shift.value:.0f}, {_shift(shift, 1, 0)}"
