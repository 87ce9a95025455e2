"""What a whole passage does against a threshold that was measured with single pictures. No I/O.

A tail (:mod:`edge.evaluate.tail`) counts searches of one picture. A van folds the pictures of a passage into one
template, searches after each, and asks for several votes. Whether that raises more or fewer false alerts than one
search is measured here: a passage's *level* is the highest threshold at which it would still raise an alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock
from edge.config import DecisionSection
from edge.custody.retention import Custodian
from edge.match.calibration import ImpostorTail
from edge.match.template import TrackTemplate

__all__ = ["NEVER", "Finding", "Levels", "Passage", "compare", "from_pictures", "levels", "search"]

NEVER = -1.0
"""Level of a passage that raises no alert at any threshold: it had fewer searches than there must be votes."""

REPLICATES = 500
"""Resamplings of people; the 2.5 and 97.5 % bounds then rest on twelve of them each."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One person passing once.

    Attributes:
        person: who it is, for lists that must not hold them and for resampling; a number of the gallery's people, or
            one below 0 for somebody whom the gallery does not hold.
        pictures: (t, d) float32 of length 1, the embedding of each picture that was searched.
        probes: (t, d) float32 of length 1, the template as it was searched after each picture.
        begun: (t,) whether the template began anew with this picture, which voids the votes before it.
    """

    person: int
    pictures: NDArray[np.float32]
    probes: NDArray[np.float32]
    begun: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Levels:
    """The highest threshold at which something would raise an alert, for every passage and list.

    Attributes:
        person: (p,) whose passage it is.
        single: (p, lists) the first picture alone.
        passage: (p, lists) the whole passage by the van's rules.
        any_picture: (p, lists) the best of its pictures, each searched alone and without votes: an upper bound of what
            single pictures do.
    """

    person: NDArray[np.int64]
    single: NDArray[np.float32]
    passage: NDArray[np.float32]
    any_picture: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a kind of search did at one threshold, people counting alike. Bounds are 95 %, by resampling people.

    Attributes:
        kind: ``single``, ``passage`` or ``any_picture``, as in :class:`Levels`.
        entries: people on each list.
        fpir: the budget.
        judged_as: the list size whose tail gave the threshold.
        threshold: similarity.
        people: different people searched.
        passages: passages searched, each in every list.
        lists: lists.
        share: of passages and lists that raise an alert at the threshold.
        ratio: share over budget.
        ratio_bounds: its bounds.
        rise: by how much the threshold would have to rise for the budget to be kept; below 0 when it is kept.
        rise_bounds: its bounds.
    """

    kind: str
    entries: int
    fpir: float
    judged_as: int
    threshold: float
    people: int
    passages: int
    lists: int
    share: float
    ratio: float
    ratio_bounds: tuple[float, float]
    rise: float
    rise_bounds: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        """Its numbers, rounded to what they are worth."""
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}
        for name in ("ratio_bounds", "rise_bounds"):
            rounded[name] = [round(v, 4) for v in getattr(self, name)]
        return rounded


def from_pictures(
    templates: NDArray[np.float32], person: NDArray[np.int64], length: int, *, draws: int, clock: Clock, seed: int = 0
) -> list[Passage]:
    """Passages put together from pictures of one person, folded by the van's own template, all with weight 1.

    Args:
        templates: (n, d) of length 1, one per picture.
        person: (n,) whose picture it is.
        length: pictures in a passage; people with fewer are left out.
        draws: passages of each person, each of ``length`` of their pictures in a new order.
        clock: for the custody of the template.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    custodian = Custodian(clock, on_receipt=lambda _: None)
    passages = []
    for number in np.unique(person):
        mine = np.flatnonzero(person == number)
        for _ in range(draws if len(mine) >= length else 0):
            pictures = templates[random.permutation(mine)[:length]]
            template = TrackTemplate(custodian, uuid4())
            probes, begun = np.empty_like(pictures), np.zeros(length, np.bool_)
            for at, vector in enumerate(pictures):
                begun[at] = template.fold(vector, 1.0)
                with template.probe() as probe:
                    probes[at] = probe.array
            template.erase()
            passages.append(Passage(int(number), pictures, probes, begun))
    return passages


def levels(
    best: NDArray[np.float32], name: NDArray[np.int64], begun: NDArray[np.bool_], rules: DecisionSection
) -> NDArray[np.float32]:
    """The highest threshold at which :class:`edge.match.decide.Decider` raises an alert for a passage.

    At a search, that is the lower of its own similarity and the ``votes``-th highest among those searches of the window
    in which the same subject was first; over the passage, the highest of these. Cool-down is left aside.

    Args:
        best: (t, lists) similarity of the first candidate of each search.
        name: (t, lists) which entry that was.
        begun: (t,) whether the votes before this search are void.
        rules: votes and window.
    """
    highest = np.full(best.shape[1], NEVER, np.float32)
    start = 0
    for at in range(len(best)):
        start = at if begun[at] else max(start, at - rules.window + 1)
        if at - start + 1 < rules.votes:
            continue
        agreeing = np.where(name[start : at + 1] == name[at], best[start : at + 1], np.float32(NEVER))
        agreed = np.partition(agreeing, -rules.votes, axis=0)[-rules.votes]
        highest = np.maximum(highest, np.minimum(best[at], agreed))
    return highest


def search(
    passages: Sequence[Passage],
    gallery: NDArray[np.float32],
    gallery_person: NDArray[np.int64],
    entries: int,
    rules: DecisionSection,
    *,
    lists: int,
    seed: int = 0,
) -> Levels:
    """Searches each passage in random lists that do not hold its own person.

    Args:
        passages: at least one.
        gallery: (m, d) of length 1, one row per person.
        gallery_person: (m,) numbers, all different.
        entries: people on a list, at most m.
        rules: votes and window.
        lists: how many; people are dealt to disjoint lists, and dealt anew when they run out.
        seed: of the lists, which are the same for every passage.
    """
    random = np.random.default_rng(seed)
    per_deal = min(len(gallery) // entries, lists)
    deals = [random.permutation(len(gallery))[: per_deal * entries] for _ in range(-(-lists // per_deal))]

    def first(rows: NDArray[np.float32], person: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores = rows @ gallery.T
        scores[:, gallery_person == person] = NEVER
        dealt = [scores[:, deal].reshape(len(rows), per_deal, entries) for deal in deals]
        best = np.concatenate([part.max(2) for part in dealt], axis=1)[:, :lists]
        name = np.concatenate([part.argmax(2) for part in dealt], axis=1)[:, :lists]
        return best, name

    single, whole, any_picture = [], [], []
    for passage in passages:
        alone, _ = first(passage.pictures, passage.person)
        single.append(alone[0])
        any_picture.append(alone.max(0))
        whole.append(levels(*first(passage.probes, passage.person), passage.begun, rules))
    person = np.array([passage.person for passage in passages], np.int64)
    return Levels(person, np.stack(single), np.stack(whole), np.stack(any_picture))


def compare(
    found: Levels, kind: str, tail: ImpostorTail, fpir: float, entries: int, judged_as: int, *, seed: int = 0
) -> Finding:
    """How often one kind of search raises an alert at a tail's threshold, against the budget.

    Args:
        found: of lists of ``entries`` people.
        kind: ``single``, ``passage`` or ``any_picture``.
        tail: of the embedder.
        fpir: the budget.
        entries: people on each list.
        judged_as: the list size whose threshold is tried.
        seed: of the resampling.

    Raises:
        ThresholdUnsupported: the tail gives no threshold for this budget and size.
    """
    values: NDArray[np.float32] = getattr(found, kind)
    threshold = tail.of_one_picture(fpir, judged_as).threshold
    people, owner = np.unique(found.person, return_inverse=True)
    passages_of = np.bincount(owner)
    above = np.bincount(owner, (values >= threshold).mean(1)) / passages_of
    draws = np.random.default_rng(seed).multinomial(len(people), np.full(len(people), 1 / len(people)), REPLICATES)
    ratios = (draws @ above) / len(people) / fpir
    # Every list and passage of a person weighs so much that people count alike; sorted from the highest level down.
    weight = np.repeat(1 / passages_of[owner] / values.shape[1], values.shape[1])
    flat = values.ravel()
    kept = min(len(flat), int(20 * fpir * len(flat)) + 1000)
    order = np.argpartition(-flat, kept - 1)[:kept]
    order = order[np.argsort(-flat[order])]
    whose = np.repeat(owner, values.shape[1])[order]

    def needed(times: NDArray[np.int64]) -> float:
        reached = np.cumsum(weight[order] * times[whose]) / len(people)
        return float(flat[order[min(int(np.searchsorted(reached, fpir, "right")), kept - 1)]])

    rises = [needed(times) - threshold for times in draws]
    return Finding(
        kind=kind,
        entries=entries,
        fpir=fpir,
        judged_as=judged_as,
        threshold=threshold,
        people=len(people),
        passages=len(values),
        lists=values.shape[1],
        share=float(above.mean()),
        ratio=float(above.mean() / fpir),
        ratio_bounds=_bounds(ratios),
        rise=needed(np.ones(len(people), np.int64)) - threshold,
        rise_bounds=_bounds(rises),
    )


def _bounds(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    lower, upper = np.percentile(np.asarray(values), (2.5, 97.5))
    return float(lower), float(upper)
