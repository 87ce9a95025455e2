"""Open-set identification by ISO/IEC 19795: from templates to FPIR and TPIR with intervals. Pure.

FPIR: share of non-mated searches in which anybody of the list reaches the threshold.
TPIR: share of mated searches in which the right person is first and reaches the threshold.
A probe without a face cannot raise an alert: it counts as a search that found nobody, so failures to acquire
lower TPIR and FPIR alike, and a person whose enrolment failed can never be found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.evaluate.strangers import Second, listed
from edge.match.relative import Relative

__all__ = ["Point", "Searches", "chosen", "clopper_pearson", "points", "search", "threshold_for"]

NOBODY = -2.0
"""The score of a search that could not be made: below every other."""

BLOCK = 512
"""Probes compared at once: bounds the memory to 512 × gallery size × 4 bytes."""


@dataclass(frozen=True, slots=True)
class Searches:
    """What each probe found.

    Attributes:
        best: (n,) float32, score of the first candidate; NOBODY where the search could not be made.
        right: (n,) bool, whether the first candidate is the probe's own person; False throughout for non-mated probes.
        person: (n,) int, number of the person whom the probe shows, for resampling by person.
    """

    best: NDArray[np.float32]
    right: NDArray[np.bool_]
    person: NDArray[np.int64]

    def take(self, which: NDArray[np.bool_]) -> Searches:
        """Only some of them."""
        return Searches(self.best[which], self.right[which], self.person[which])


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the DET curve.

    Attributes:
        fpir_target: the FPIR asked for, or None if a threshold was given.
        threshold: score that a candidate must reach.
        fpir: measured, 0..1; nan without non-mated searches.
        fpir_ci95: Clopper–Pearson.
        tpir: measured, 0..1; nan without mated searches.
        tpir_ci95: Clopper–Pearson at this threshold: exact if searches were independent.
        tpir_ci95_person: bootstrap over people with the threshold drawn anew each time: wider where people give several
            probes and where the threshold itself is uncertain; None if not asked for.
    """

    fpir_target: float | None
    threshold: float
    fpir: float
    fpir_ci95: tuple[float, float]
    tpir: float
    tpir_ci95: tuple[float, float]
    tpir_ci95_person: tuple[float, float] | None = None
    searches: int = 0

    @property
    def shown(self) -> bool:
        """Whether so many searches can show an FPIR like this: at least one of them may alert within the target."""
        return self.fpir_target is None or self.needed <= self.searches

    @property
    def needed(self) -> int:
        """Non-mated searches from which the target can be shown at all."""
        return 0 if self.fpir_target is None else math.ceil(1 / self.fpir_target - 1e-9)


def chosen(points: Sequence[Point]) -> Point:
    """The point of the rarest FPIR that the searches can show, or the first."""
    shown = [point for point in points if point.shown]
    return min(shown, key=lambda point: point.fpir_target or 1.0) if shown else points[0]


def search(
    probes: NDArray[np.float32],
    made: NDArray[np.bool_],
    probe_person: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_person: NDArray[np.int64],
    *,
    leave_out: bool = False,
    relative: Relative | None = None,
    second: Second | None = None,
) -> Searches:
    """Searches every probe in the gallery.

    Args:
        probes: (n, d) of length 1; rows that were not made may hold anything.
        made: (n,) whether the probe has a template.
        probe_person: (n,) number of the person shown.
        gallery: (m, d) of length 1.
        gallery_person: (m,) number of the person enrolled.
        leave_out: take the probe's own person out of the list first, which makes it a non-mated search.
        relative: score by likeness to this entry beyond the rest of the list, instead of by the cosine.
        second: a second embedder's part in list-relative scores; probes and gallery then hold its numbers, too.
    """
    n = len(probes)
    best, right = np.full(n, NOBODY, np.float32), np.zeros(n, bool)
    if len(gallery):
        row = {int(number): at for at, number in enumerate(gallery_person)}
        if relative is not None and leave_out and len(row) < len(gallery):
            raise BadInput("the gallery", "has several pictures of one person", "Enrol one picture of each")
        on = None if relative is None else listed(gallery, relative, second)
        for start in range(0, n, BLOCK):
            part = slice(start, start + BLOCK)
            own = probe_person[part, None] == gallery_person[None]
            if on is None:
                scores = probes[part] @ gallery.T
                if leave_out:
                    scores[own] = NOBODY
            else:
                mine = [row.get(int(number), -1) if leave_out else -1 for number in probe_person[part]]
                scores = np.maximum(on.scores(probes[part], np.array(mine, np.int64)), NOBODY)
            first = scores.argmax(1)
            rows = np.arange(len(scores))
            best[part], right[part] = scores[rows, first], own[rows, first] & (not leave_out)
    best[~made], right[~made] = NOBODY, False
    return Searches(best, right, probe_person)


def threshold_for(best: NDArray[np.float32], fpir: float) -> float:
    """The lowest threshold at which at most that share of non-mated searches raises an alert.

    It lies just above the first score that must not pass. With a target below 1/n that is the highest of all: the
    measured FPIR is then 0, and only its upper bound says something.
    """
    allowed = math.floor(fpir * len(best) + 1e-9)
    if allowed >= len(best):
        return float(NOBODY)
    ordered = np.sort(best)[::-1]
    return float(np.nextafter(ordered[allowed], np.float32(np.inf)))


def points(
    mated: Searches,
    nonmated: Searches,
    targets: Sequence[float],
    *,
    threshold: float | None = None,
    replicates: int = 0,
    seed: int = 0,
) -> list[Point]:
    """One point per target, or a single one at a given threshold."""
    wanted: list[tuple[float | None, float]] = (
        [(t, threshold_for(nonmated.best, t)) for t in targets] if threshold is None else [(None, threshold)]
    )
    intervals = _by_person(mated, nonmated, wanted, replicates, seed) if replicates else [None] * len(wanted)
    made = []
    for (target, at), interval in zip(wanted, intervals, strict=True):
        false, true = int((nonmated.best >= at).sum()), int((mated.right & (mated.best >= at)).sum())
        n_false, n_true = len(nonmated.best), len(mated.best)
        made.append(
            Point(
                fpir_target=target,
                threshold=at,
                fpir=false / n_false if n_false else math.nan,
                fpir_ci95=clopper_pearson(false, n_false),
                tpir=true / n_true if n_true else math.nan,
                tpir_ci95=clopper_pearson(true, n_true),
                tpir_ci95_person=interval,
                searches=n_false,
            )
        )
    return made


def _by_person(
    mated: Searches, nonmated: Searches, wanted: Sequence[tuple[float | None, float]], replicates: int, seed: int
) -> list[tuple[float, float] | None]:
    """95 % percentile bootstrap of TPIR: people are drawn with replacement, thresholds follow from the draw."""
    random = np.random.default_rng(seed)
    if not len(mated.best) or not len(nonmated.best):
        return [None] * len(wanted)
    order = np.argsort(-nonmated.best, kind="stable")
    sorted_best = nonmated.best[order]
    mated_people, mated_index = np.unique(mated.person, return_inverse=True)
    other_people, other_index = np.unique(nonmated.person[order], return_inverse=True)
    found = np.empty((replicates, len(wanted)))
    for replicate in range(replicates):
        weight = random.multinomial(len(other_people), np.full(len(other_people), 1 / len(other_people)))[other_index]
        passed = np.cumsum(weight)
        hits = random.multinomial(len(mated_people), np.full(len(mated_people), 1 / len(mated_people)))[mated_index]
        for column, (target, given) in enumerate(wanted):
            at = np.float32(given)
            if target is not None:
                # The first score whose inclusion would exceed the budget is the one to lie above.
                first = int(np.searchsorted(passed, target * passed[-1] + 1e-9, side="right"))
                at = np.nextafter(sorted_best[min(first, len(sorted_best) - 1)], np.float32(np.inf))
            found[replicate, column] = hits[mated.right & (mated.best >= at)].sum() / max(hits.sum(), 1)
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a proportion (Clopper and Pearson, 1934).

    Args:
        k: successes, 0..n.
        n: trials; with none the interval is (0, 1).
        confidence: 0..1.
    """
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else _solve(lambda p: 1 - _binomial_cdf(k - 1, n, p), tail)
    high = 1.0 if k == n else _solve(lambda p: -_binomial_cdf(k, n, p), -tail)
    return low, high


def _solve(rising: object, target: float) -> float:
    """The p in 0..1 at which a rising function reaches the target, by halving."""
    assert callable(rising)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2


def _binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X ≤ k) for X binomial(n, p), summed in logarithms."""
    if p <= 0 or p >= 1:
        return 1.0 if p <= 0 else 0.0
    i = np.arange(k + 1, dtype=np.float64)
    choose = math.lgamma(n + 1) - _log_factorial(k)[: k + 1] - _log_factorial(n)[n - k : n + 1][::-1]
    return float(min(1.0, np.exp(choose + i * math.log(p) + (n - i) * math.log1p(-p)).sum()))


def _log_factorial(n: int) -> NDArray[np.float64]:
    """Log 0!, log 1!, … log n!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))])
