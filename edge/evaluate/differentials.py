"""How groups of people fare against each other, in the terms of ISO/IEC 19795-10. Pure.

A *false positive differential* is a difference between groups in FPIR at one threshold, a *false negative differential*
one in FNIR = 1 - TPIR. Both are given as the ratio of the highest group to the lowest, and of the highest to the
geometric mean of all (the measure that NIST IR 8429 prefers). Groups are compared at the thresholds of everybody,
because a street has one threshold for all.

Intervals come from resampling people: every figure of every group from the same draws, because the groups share a list
and a threshold. Where fewer than :data:`FEW` people of a group had the event, resampling misleads, and the exact
interval of a ratio of two Poisson rates stands instead (conditional on their sum; people counted, not searches). The
two extremes are picked after the fact among all pairs of groups, so the level of their interval is 1 - 0.05/pairs:
95 % for whichever two they had turned out to be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge.evaluate.measure import NOBODY, Searches, clopper_pearson

__all__ = [
    "UNKNOWN",
    "Differential",
    "Draws",
    "Events",
    "Group",
    "Groups",
    "Rate",
    "Shift",
    "Values",
    "compare",
    "differential",
    "shift",
]

UNKNOWN = "unknown"
"""The value of whoever's group the manifest does not say: reported, but no group that could be compared."""
FEW = 10
"""People with the event below whom resampling is not trusted with a ratio."""
ENOUGH = 5
"""Events above a quantile below which resampling cannot see past the highest score."""
FACTOR = 2.0
"""What a comparison should be able to tell from no difference."""
BLOCK = 100
"""Replicates handled at once: bounds the memory to 400 bytes for each score."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its Clopper-Pearson bounds.

    Attributes:
        events: how often it happened.
        trials: how often it could have.
        rate: 0..1; None without trials.
        ci95: its bounds; None without trials. One-sided in effect where ``rate`` is 0 or 1.
        people: different people to whom it happened.
    """

    events: int
    trials: int
    rate: float | None
    ci95: tuple[float, float] | None
    people: int = 0


@dataclass(frozen=True, slots=True)
class Events:
    """Trials of one kind.

    Attributes:
        happened: (n,) bool.
        person: (n,) number of the person concerned.
        group: (n,) their group.
    """

    happened: NDArray[np.bool_]
    person: NDArray[np.int64]
    group: NDArray[np.str_]

    def rate(self, group: str | None = None) -> Rate:
        """Of one group, or of everybody."""
        mine = np.ones(len(self.group), bool) if group is None else self.group == group
        events, trials = int(self.happened[mine].sum()), int(mine.sum())
        if not trials:
            return Rate(0, 0, None, None)
        people = len(np.unique(self.person[mine & self.happened]))
        return Rate(events, trials, events / trials, clopper_pearson(events, trials), people)


@dataclass(frozen=True, slots=True)
class Differential:
    """How far apart groups are in one rate.

    Attributes:
        compared: the groups that were.
        too_few: those with so few trials that nothing could be expected to happen at everybody's rate.
        highest: the group with the highest rate; None with fewer than two groups, or where it happened to nobody.
        lowest: the one with the lowest.
        ratio: highest to lowest; None where that divides by nothing.
        ratio_ci95: its bounds; the upper is None where there is none, both are where nothing can be said.
        over_mean: highest to the geometric mean of the groups compared; None where one of them is 0.
        events: how often it happened in all.
        needed: trials of each group with which a factor of two could be told from none at everybody's rate.
        shown: whether these trials show something: that the groups differ, or their ratio within a factor of two.
    """

    compared: tuple[str, ...]
    too_few: tuple[str, ...]
    highest: str | None
    lowest: str | None
    ratio: float | None
    ratio_ci95: tuple[float | None, float | None]
    over_mean: float | None
    events: int
    needed: int
    shown: bool


@dataclass(frozen=True, slots=True)
class Shift:
    """How far one quantile of a group lies from that of everybody.

    Attributes:
        value: the group's quantile.
        difference: the group's less everybody's; None where the group cannot show the quantile.
        ci95: of the difference; None where resampling cannot give it.
        needed: values from which the quantile can be shown.
    """

    value: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    needed: int


@dataclass(frozen=True, slots=True)
class Group:
    """What one group met.

    Attributes:
        fpir: at each threshold.
        fnir: at each threshold; 1 - TPIR.
        failure_to_enrol: pictures of the gallery that gave no template.
        failure_to_acquire: probes that gave none.
        mated_shift: of the median of the right person's score.
        nonmated_shift: of the median of the best score of a search by somebody who is not on the list.
        threshold_shift: at each threshold: the one that the group by itself would need for the same FPIR, less
            everybody's.
        milliseconds: of the median time from picture to template; empty where pictures came from a cache.
    """

    fpir: list[Rate]
    fnir: list[Rate]
    failure_to_enrol: Rate
    failure_to_acquire: Rate
    mated_shift: Shift
    nonmated_shift: Shift
    threshold_shift: list[Shift]
    milliseconds: Shift


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of one column of a manifest, and how far apart they are; lists have one item for each threshold."""

    groups: dict[str, Group]
    fpir: list[Differential]
    fnir: list[Differential]
    failure_to_enrol: Differential
    failure_to_acquire: Differential


@dataclass(frozen=True, slots=True)
class Draws:
    """Resamplings of people, the same for every figure.

    Attributes:
        people: (p,) their numbers, rising.
        times: (r, p) how often each was drawn in each replicate.
    """

    people: NDArray[np.int64]
    times: NDArray[np.uint8] = field(repr=False)

    @classmethod
    def make(cls, people: NDArray[np.int64], replicates: int, seed: int) -> Draws:
        """Draws everybody with replacement, as often as asked."""
        known = np.unique(people)
        random = np.random.default_rng(seed)
        times = np.empty((replicates, len(known)), np.uint8)
        for row in times:
            row[:] = np.minimum(np.bincount(random.integers(len(known), size=len(known)), minlength=len(known)), 255)
        return cls(known, times)

    def sums(self, of_each: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of ``(p,)`` numbers over the people drawn, in each replicate."""
        parts = [self.times[at : at + BLOCK] @ of_each for at in range(0, len(self.times), BLOCK)]
        return np.concatenate([*parts, np.zeros(0)])

    def of(self, person: NDArray[np.int64]) -> NDArray[np.int64]:
        """The columns of these people in ``times``."""
        return np.searchsorted(self.people, person)


@dataclass(frozen=True, slots=True)
class Values:
    """Scores or times: (n,) values, people and groups."""

    value: NDArray[np.float64]
    person: NDArray[np.int64]
    group: NDArray[np.str_]


def compare(
    *,
    mated: tuple[Searches, NDArray[np.str_]],
    nonmated: tuple[Searches, NDArray[np.str_]],
    enrolled: Events,
    acquired: Events,
    milliseconds: Values,
    wanted: Sequence[tuple[float, float]],
    draws: Draws,
) -> Groups:
    """Compares the groups of one column.

    Args:
        mated: the searches and the group of each.
        nonmated: theirs.
        enrolled: failures to enrol among the pictures of the gallery.
        acquired: failures to acquire among the probes.
        milliseconds: from picture to template.
        wanted: threshold and FPIR of each point; the FPIR is that at which a group's own threshold is sought.
        draws: of people; with no replicates only exact intervals are given.
    """
    (yes, of_yes), (no, of_no) = mated, nonmated
    false = [Events(no.best >= np.float32(at), no.person, of_no) for at, _ in wanted]
    missed = [Events(~(yes.right & (yes.best >= np.float32(at))), yes.person, of_yes) for at, _ in wanted]
    own = Values(np.where(yes.right, yes.best, NOBODY).astype(np.float64), yes.person, of_yes)
    best = Values(no.best.astype(np.float64), no.person, of_no)
    names = sorted({*of_yes.tolist(), *of_no.tolist(), *enrolled.group.tolist()})
    medians = [shift(values, names, 0.5, draws, enough=ENOUGH) for values in (own, best, milliseconds)]
    thresholds = [shift(best, names, fpir, draws, enough=ENOUGH) for _, fpir in wanted]
    groups = {
        name: Group(
            fpir=[events.rate(name) for events in false],
            fnir=[events.rate(name) for events in missed],
            failure_to_enrol=enrolled.rate(name),
            failure_to_acquire=acquired.rate(name),
            mated_shift=medians[0][name],
            nonmated_shift=medians[1][name],
            threshold_shift=[at[name] for at in thresholds],
            milliseconds=medians[2][name],
        )
        for name in names
    }
    return Groups(
        groups,
        [differential(events, draws) for events in false],
        [differential(events, draws) for events in missed],
        differential(enrolled, draws),
        differential(acquired, draws),
    )


def differential(events: Events, draws: Draws) -> Differential:
    """The ratio of the highest group's rate to the lowest's.

    A group is compared if at everybody's rate at least one event is expected of its trials, or if its own lower bound
    lies above that rate: a small group that fares badly is never left out for being small.
    """
    whole = events.rate()
    count = whole.events
    rates = {str(name): events.rate(str(name)) for name in np.unique(events.group) if name != UNKNOWN}
    compared = {n: r for n, r in rates.items() if _comparable(r, whole)}
    too_few = tuple(n for n in rates if n not in compared)
    pairs = max(len(rates) * (len(rates) - 1) // 2, 1)
    confidence = 1 - 0.05 / pairs
    needed = _needed(whole, confidence)
    # Among equals the one with most trials, which says most.
    ordered = sorted(compared, key=lambda n: (compared[n].rate or 0.0, compared[n].trials))
    if len(compared) < 2 or not compared[ordered[-1]].events:
        return Differential(tuple(compared), too_few, None, None, None, (None, None), None, count, needed, shown=False)
    bottom = compared[ordered[0]].rate
    lowest = max((n for n in ordered[:-1] if compared[n].rate == bottom), key=lambda n: compared[n].trials)
    highest = ordered[-1]
    high, low = compared[highest], compared[lowest]
    assert high.rate is not None
    assert low.rate is not None
    ratio = high.rate / low.rate if low.events else None
    if min(high.people, low.people) >= FEW and len(draws.times):
        bounds = _resampled(events, highest, lowest, draws, confidence)
    else:
        bounds = _exact(high, low, confidence)
    over = None
    if low.events:
        over = high.rate / math.exp(sum(math.log(r.rate or 1.0) for r in compared.values()) / len(compared))
    below, above = bounds
    shown = below > 1 or (above is not None and above <= FACTOR**2 * below)
    return Differential(tuple(compared), too_few, highest, lowest, ratio, bounds, over, count, needed, shown)


def _comparable(rate: Rate, whole: Rate) -> bool:
    if rate.ci95 is None or whole.rate is None:
        return False
    return rate.trials * whole.rate >= 1 - 1e-9 or rate.ci95[0] > whole.rate


def _needed(whole: Rate, confidence: float) -> int:
    """Trials of each of two groups that tell k events from 2 k: z √(1/k + 1/2k) ≤ ln 2, k at two thirds of the rate."""
    rate = whole.rate if whole.events else (whole.ci95 or (0.0, 1.0))[1]
    assert rate
    deviations = NormalDist().inv_cdf((1 + confidence) / 2)
    events = (1 + 1 / FACTOR) * (deviations / math.log(FACTOR)) ** 2
    return math.ceil(events / (rate * 2 / (1 + FACTOR)))


def _resampled(
    events: Events, highest: str, lowest: str, draws: Draws, confidence: float
) -> tuple[float, float | None]:
    """Bounds of the ratio from draws of people."""
    rates = []
    for group in (highest, lowest):
        mine = events.group == group
        column = draws.of(events.person[mine])
        count = len(draws.people)
        happened = np.bincount(column, weights=events.happened[mine], minlength=count).astype(np.float64)
        tried = np.bincount(column, minlength=count).astype(np.float64)
        rates.append((draws.sums(happened), draws.sums(tried)))
    (up, up_of), (down, down_of) = rates
    usable = (up_of > 0) & (down_of > 0)
    up, up_of, down, down_of = up[usable], up_of[usable], down[usable], down_of[usable]
    found = np.full(len(up), np.inf)
    np.divide(up * down_of, up_of * down, out=found, where=down > 0)
    found.sort()
    if not len(found):
        return 0.0, None
    at = [int(share * (len(found) - 1)) for share in ((1 - confidence) / 2, (1 + confidence) / 2)]
    low, high = float(found[at[0]]), float(found[min(at[1] + 1, len(found) - 1)])
    return (low if math.isfinite(low) else 0.0), (high if math.isfinite(high) else None)


def _exact(high: Rate, low: Rate, confidence: float) -> tuple[float, float | None]:
    """Bounds of the ratio of two rates with few events: the share of all events that fell on the first is binomial.

    People are counted, as somebody's searches go wrong together; the bounds are then set around the ratio of searches.
    """
    share = clopper_pearson(high.people, high.people + low.people, confidence)
    scale = low.trials / high.trials
    if low.people:
        scale *= (high.events / high.people) / (low.events / low.people)
    below, above = (s / (1 - s) * scale if s < 1 else None for s in share)
    return below or 0.0, above


def shift(values: Values, names: Sequence[str], above: float, draws: Draws, *, enough: int = 1) -> dict[str, Shift]:
    """How far each group's quantile lies from everybody's.

    Args:
        values: what is compared.
        names: the groups.
        above: share of the values that may lie above the quantile: 0.5 for the median, the FPIR for a threshold. The
            quantile is the highest of the values that satisfies this when ties are left aside.
        draws: of people.
        enough: values that must be expected above the quantile.
    """
    needed = math.ceil(enough / above - 1e-9) if above > 0 else 0
    one = np.ones((1, len(draws.people)), np.uint8)
    everybody = np.ones(len(values.value), bool)
    whole, drawn = (_quantile(values, everybody, above, draws, times) for times in (one, draws.times))
    found = {}
    for name in names:
        mine = values.group == name
        if above <= 0 or mine.sum() < max(needed, 1):
            found[name] = Shift(None, None, None, needed)
            continue
        value = float(_quantile(values, mine, above, draws, one)[0])
        difference = value - float(whole[0])
        if not math.isfinite(difference):
            found[name] = Shift(None, None, None, needed)
            continue
        apart = _quantile(values, mine, above, draws, draws.times) - drawn
        ends = None
        if len(apart) and np.isfinite(apart).all() and len(np.unique(values.person[mine])) >= ENOUGH:
            low, high = np.percentile(apart, [2.5, 97.5])
            ends = (float(low), float(high))
        found[name] = Shift(value, difference, ends, needed)
    return found


def _quantile(
    values: Values, mine: NDArray[np.bool_], above: float, draws: Draws, times: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """The quantile in each replicate; nan where nobody was drawn or the search could not be made."""
    order = np.argsort(-values.value[mine], kind="stable")
    ordered, column = values.value[mine][order], draws.of(values.person[mine])[order]
    found = np.full(len(times), math.nan)
    for start in range(0, len(times) if len(ordered) else 0, BLOCK):
        passed = np.cumsum(times[start : start + BLOCK][:, column], axis=1, dtype=np.int32)
        total = passed[:, -1]
        first = (passed > (above * total + 1e-9)[:, None]).argmax(1)
        found[start : start + BLOCK] = np.where(total > 0, ordered[first], math.nan)
    found[found <= NOBODY] = math.nan
    return found
