"""What a whole passage does against a threshold that was measured with single pictures. No I/O.

A tail (:mod:`edge.evaluate.tail`) counts searches of one picture. A van folds the pictures of a passage into one
template, searches after each, and asks for several votes. Whether that raises more or fewer false alerts than one
search is measured here: a passage's *level* is the highest threshold at which it would still raise an alert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock
from edge.config import DecisionSection
from edge.custody.retention import Custodian
from edge.evaluate.strangers import Scoring, Second, first, listed
from edge.match.calibration import Passages
from edge.match.relative import Relative
from edge.match.template import TrackTemplate

__all__ = [
    "NEVER",
    "Finding",
    "Found",
    "Judge",
    "Levels",
    "Listed",
    "Passage",
    "as_searches",
    "compare",
    "find",
    "from_pictures",
    "levels",
    "own_levels",
    "search",
]

NEVER = -3.0
"""Level of a passage that raises no alert at any threshold: it had fewer searches than there must be votes."""

LENGTHS, COUNTED_LISTS, COUNTED_BUDGETS = (4, 8, 16, 32), (10, 30, 100), (100, 1000)
ENOUGH_PEOPLE = 5
"""People who alert, from which on the bounds of a multiple mean something."""

UNMEASURED = 11.0
"""As which a passage counts where nobody has pictures enough to measure it: more than any half of LFW's people gave."""

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
        threshold: score.
        people: different people searched.
        passages: passages searched, each in every list.
        lists: lists.
        share: of passages and lists that raise an alert at the threshold.
        alerting_people: whose passages these are; with few of them the bounds say too little.
        ratio: share over budget.
        ratio_bounds: its bounds.
        rise: by how much the threshold would have to rise for the budget to be kept; below 0 when it is kept.
        rise_bounds: its bounds.
    """

    kind: str
    entries: int
    fpir: float
    threshold: float
    people: int
    passages: int
    lists: int
    share: float
    alerting_people: int
    ratio: float
    ratio_bounds: tuple[float, float]
    rise: float
    rise_bounds: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        """Its numbers, rounded to what they are worth."""
        rounded: dict[str, object] = {
            name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()
        }
        return rounded | {name: [round(v, 4) for v in getattr(self, name)] for name in ("ratio_bounds", "rise_bounds")}


@dataclass(frozen=True, slots=True)
class Found:
    """How often somebody on the list is found in their own name. Bounds are 95 %, by resampling people.

    Attributes:
        threshold: score.
        people: different people searched.
        single: share of single pictures that reach it.
        single_bounds: its bounds.
        passage: share of passages that raise an alert.
        passage_bounds: its bounds.
    """

    threshold: float
    people: int
    single: float
    single_bounds: tuple[float, float]
    passage: float
    passage_bounds: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        """Its numbers, rounded to what they are worth."""
        rounded: dict[str, object] = {
            name: round(getattr(self, name), 4) for name in ("threshold", "single", "passage")
        }
        bounds = {name: [round(v, 4) for v in getattr(self, name)] for name in ("single_bounds", "passage_bounds")}
        return {"people": self.people} | rounded | bounds


@dataclass(frozen=True, slots=True)
class Listed:
    """People who may be put on lists, one template each.

    Attributes:
        templates: (m, d) float32 of length 1.
        person: (m,) numbers, all different.
    """

    templates: NDArray[np.float32]
    person: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judge:
    """How a van judges a passage.

    Attributes:
        rules: votes and window.
        relative: how scores are made.
        second: a second embedder's part in them; templates then hold its numbers, too.
    """

    rules: DecisionSection
    relative: Relative
    second: Second | None = None


def from_pictures(
    templates: NDArray[np.float32],
    person: NDArray[np.int64],
    length: int,
    *,
    draws: int,
    clock: Clock,
    second: Second | None = None,
    seed: int = 0,
) -> tuple[list[Passage], NDArray[np.int64]]:
    """Passages put together from pictures of one person, folded by the van's own template, all with weight 1.

    Args:
        templates: (n, d) of length 1, one per picture.
        person: (n,) whose picture it is.
        length: pictures in a passage; people with fewer are left out.
        draws: passages of each person, each of ``length`` of their pictures in a new order.
        clock: for the custody of the template.
        second: where a second embedder's numbers begin: they are folded by themselves, and begin anew with the first's.
        seed: of the draw.

    Returns:
        The passages, and (p,) for each the number of a picture of the same person that is not in it, from which they
        could have been enrolled; -1 where there is none.
    """
    random = np.random.default_rng(seed)
    custodian = Custodian(clock)
    passages: list[Passage] = []
    spare: list[int] = []
    for number in np.unique(person):
        mine = np.flatnonzero(person == number)
        for _ in range(draws if len(mine) >= length else 0):
            order = random.permutation(mine)
            spare.append(int(order[length]) if len(order) > length else -1)
            pictures = templates[order[:length]]
            probes, begun = np.empty_like(pictures), np.zeros(length, np.bool_)
            parts = [slice(None)] if second is None else [slice(second.at), slice(second.at, None)]
            folded = [(part, TrackTemplate(custodian, uuid4())) for part in parts]
            for at, vector in enumerate(pictures):
                for part, template in folded:
                    if begun[at]:  # the first embedder said so
                        template.erase()
                    begun[at] |= template.fold(vector[part], 1.0)
                    with template.probe() as probe:
                        probes[at, part] = probe.array
            for _, template in folded:
                template.erase()
            passages.append(Passage(int(number), pictures, probes, begun))
    return passages, np.array(spare, np.int64)


def levels(
    best: NDArray[np.float32], name: NDArray[np.int64], begun: NDArray[np.bool_], rules: DecisionSection
) -> NDArray[np.float32]:
    """The highest threshold at which :class:`edge.match.decide.Decider` raises an alert for a passage.

    At a search, that is the lower of its own score and the ``votes``-th highest among those searches of the window
    in which the same subject was first; over the passage, the highest of these. Cool-down is left aside.

    Args:
        best: (t, lists) score of the first candidate of each search.
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
    passages: Sequence[Passage], people: Listed, entries: int, judge: Judge, *, lists: int, seed: int = 0
) -> Levels:
    """Searches each passage in random lists that do not hold its own person.

    Args:
        passages: at least one.
        people: of whom lists are made.
        entries: people on a list, at most as many as there are.
        judge: of passages.
        lists: how many; people are dealt to disjoint lists, and dealt anew when they run out.
        seed: of the lists, which are the same for every passage.
    """
    random, count = np.random.default_rng(seed), len(people.person)
    per_deal = min(count // entries, lists)
    deals = [
        random.permutation(count)[: per_deal * entries].reshape(per_deal, entries) for _ in range(-(-lists // per_deal))
    ]
    pictures, probes = (np.concatenate([getattr(one, name) for one in passages]) for name in ("pictures", "probes"))
    person, lengths = np.array([(one.person, len(one.probes)) for one in passages], np.int64).T
    starts, whose = np.cumsum(lengths) - lengths, np.repeat(person, lengths)
    alone, best = np.empty((2, len(probes), lists), np.float32)
    name = np.empty((len(probes), lists), np.int64)
    for number, deal in enumerate(np.concatenate(deals)[:lists]):
        on = listed(people.templates[deal], judge.relative, judge.second)
        row = {int(person): at for at, person in enumerate(people.person[deal])}
        own = np.array([row.get(int(person), -1) for person in whose], np.int64)
        alone[:, number] = first(on, pictures, own)[0]
        best[:, number], name[:, number] = first(on, probes, own)
    parts = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    judged = [levels(best[p], name[p], one.begun, judge.rules) for p, one in zip(parts, passages, strict=True)]
    return Levels(person, alone[starts], np.stack(judged), np.stack([alone[p].max(0) for p in parts]))


def own_levels(
    passages: Sequence[Passage], enrolled: NDArray[np.float32], people: Listed, judge: Judge
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The highest thresholds at which people on the list are found: by their first picture, and by their passage.

    Args:
        passages: of people who are on the list.
        enrolled: (p, d) of length 1, the entry of each passage's person, from a picture that is not in it.
        people: the list, on which a person's own template is replaced by their entry.
        judge: of passages.
    """
    single, whole = [], []
    on = listed(people.templates, judge.relative, judge.second)
    for passage, entry in zip(passages, enrolled, strict=True):
        own = int(np.flatnonzero(people.person == passage.person)[0])
        scored = on.with_another(own, entry)

        def named(
            rows: NDArray[np.float32], own: int = own, score: Scoring = scored
        ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            scores = score(rows)
            name = scores.argmax(1)
            # Another one first is no vote for this person, and no lower threshold makes it one.
            return np.where(name == own, scores.max(1), np.float32(NEVER))[:, None], name[:, None]

        single.append(float(named(passage.pictures[:1])[0][0, 0]))
        whole.append(float(levels(*named(passage.probes), passage.begun, judge.rules)[0]))
    return np.array(single, np.float32), np.array(whole, np.float32)


def as_searches(
    templates: NDArray[np.float32],
    person: NDArray[np.int64],
    people: Listed,
    judge: Judge,
    threshold: Callable[[float, int], float],
    *,
    clock: Clock,
    seed: int = 0,
) -> Passages:
    """As how many searches of one picture a passage counts: the highest bound that enough people stand behind.

    Args:
        templates: (n, d) of length 1, one per picture.
        person: (n,) whose picture it is.
        people: of whom lists are made.
        judge: of passages.
        threshold: what single pictures need for a budget and a list's length.
        clock: for the custody of templates.
        seed: of the draws.

    Returns:
        With :data:`UNMEASURED` searches where too few people have pictures enough.
    """
    rows: list[tuple[int, int, int, int, int, float, float, float]] = []
    for length in LENGTHS:
        made, _ = from_pictures(templates, person, length, draws=4, clock=clock, second=judge.second, seed=seed)
        for entries in [n for n in COUNTED_LISTS if made and n <= len(people.person)]:
            found = search(made, people, entries, judge, lists=max(8, 2000 // entries), seed=seed)
            for one_in in COUNTED_BUDGETS:
                one = compare(found, "passage", threshold(1 / one_in, entries), 1 / one_in, entries, seed=seed)
                figures = (round(one.ratio, 2), round(one.ratio_bounds[0], 2), round(one.ratio_bounds[1], 2))
                rows.append((length, one.people, one.alerting_people, entries, one_in, *figures))
    sure = [row[-1] for row in rows if row[2] >= ENOUGH_PEOPLE]
    return Passages(searches=max(1.0, *sure) if sure else UNMEASURED, measured=tuple(rows))


def compare(found: Levels, kind: str, threshold: float, fpir: float, entries: int, *, seed: int = 0) -> Finding:
    """How often one kind of search raises an alert at a threshold, against the budget.

    Args:
        found: of lists of ``entries`` people.
        kind: ``single``, ``passage`` or ``any_picture``.
        threshold: score.
        fpir: the budget.
        entries: people on each list.
        seed: of the resampling.
    """
    values: NDArray[np.float32] = getattr(found, kind)
    owner, times, passages_of = _resample(found.person, seed)
    people, lists = len(passages_of), values.shape[1]
    above = np.bincount(owner, (values >= threshold).mean(1)) / passages_of
    # Every list and passage of a person weighs so much that people count alike; the highest levels first, as many as
    # are needed for a share of five times the budget.
    flat = values.ravel()
    kept = min(len(flat), int(5 * fpir * len(flat)) + 1000)
    order = np.argpartition(-flat, kept - 1)[:kept]
    order = order[np.argsort(-flat[order])]
    whose = owner[order // lists]
    weight = 1 / passages_of[whose] / lists / people

    def needed(drawn: NDArray[np.int64]) -> float:
        reached = np.cumsum(weight * drawn[whose])
        return float(flat[order[min(int(np.searchsorted(reached, fpir, "right")), kept - 1)]])

    return Finding(
        kind=kind,
        entries=entries,
        fpir=fpir,
        threshold=threshold,
        people=people,
        passages=len(values),
        lists=lists,
        share=float(above.mean()),
        alerting_people=int((above > 0).sum()),
        ratio=float(above.mean() / fpir),
        ratio_bounds=_bounds((times @ above) / people / fpir),
        rise=needed(np.ones(people, np.int64)) - threshold,
        rise_bounds=_bounds([needed(drawn) - threshold for drawn in times]),
    )


def find(
    person: NDArray[np.int64],
    single: NDArray[np.float32],
    passage: NDArray[np.float32],
    threshold: float,
    *,
    seed: int = 0,
) -> Found:
    """How often people on the list are found at a threshold.

    Args:
        person: (p,) whose passages these are.
        single: (p,) as :func:`own_levels` gives them.
        passage: (p,) likewise.
        threshold: score.
        seed: of the resampling.
    """
    owner, times, passages_of = _resample(person, seed)
    rates, bounds = [], []
    for values in (single, passage):
        reached = np.bincount(owner, values >= threshold) / passages_of
        rates.append(float(reached.mean()))
        bounds.append(_bounds((times @ reached) / len(passages_of)))
    return Found(threshold, len(passages_of), rates[0], bounds[0], rates[1], bounds[1])


def _resample(person: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which person each passage belongs to, counted from 0; how often each is drawn, by replicate; passages of each."""
    people, owner = np.unique(person, return_inverse=True)
    times = np.random.default_rng(seed).multinomial(len(people), np.full(len(people), 1 / len(people)), REPLICATES)
    return owner.astype(np.int64), times.astype(np.int64), np.bincount(owner).astype(np.int64)


def _bounds(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    lower, upper = np.percentile(np.asarray(values), (2.5, 97.5))
    return float(lower), float(upper)
