"""How many pictures of a person are worth enrolling, and how they are best kept: each, their mean, or both.

Measured from video to video, which is nearer to a street than photographs are: people are enrolled from frames of one
video and pass in others, in which light, camera and years differ; people who are not enrolled pass as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.evaluate.measure import threshold_for
from edge.evaluate.strangers import Second
from edge.match.relative import Relative

__all__ = ["WAYS", "Clip", "Found", "compare"]

Templates = NDArray[np.float32]
WAYS = ("one", "each", "mean", "each and mean")
"""One picture; several, of which the best counts; several as one mean; several and their mean, the best counting."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One video of one person.

    Attributes:
        person: who.
        enrolled: ``(n, d)``, a template of each frame as it would be enrolled, each of length 1.
        seen: ``(n, d)``, a template of each frame as it would be seen in the street.
    """

    person: str
    enrolled: Templates
    seen: Templates


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, over all draws.

    Attributes:
        way: one of :data:`WAYS`.
        score: ``cosine``, ``list-relative`` or ``both``, which is list-relative by two embedders.
        entries: people on the list.
        tpir: by FPIR: the mean of the draws, and the lowest and highest of them.
    """

    way: str
    score: str
    entries: int
    tpir: dict[float, tuple[float, float, float]]


def compare(
    clips: Sequence[Clip],
    fill: Templates,
    entries: int,
    *,
    targets: Sequence[float] = (0.1, 0.03, 0.01),
    draws: int = 10,
    seed: int = 0,
    relative: Relative | None = None,
    second: Second | None = None,
) -> list[Found]:
    """Measure every way on the same draws; in each, half of the people are on the list and the others are strangers.

    Args:
        clips: two or more of each person.
        fill: ``(m, d)``, others who are on the list and do not pass.
        entries: length of the list; as many of ``fill`` as it takes.
        targets: FPIR to report at.
        draws: random halves.
        seed: of the draws.
        relative: list-relative scores besides; an entry's likeness to others is that of its mean, and so is whose
            double it is.
        second: a second embedder's part in a third score; templates then hold its numbers, too.
    """
    random = np.random.default_rng(seed)
    people = sorted({clip.person for clip in clips})
    rates: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(draws):
        listed = set(random.permutation(people)[: len(people) // 2])
        first = {name: next(clip for clip in clips if clip.person == name) for name in sorted(listed)}
        passing = [clip for clip in clips if clip is not first.get(clip.person)]
        others = fill[: max(0, entries - len(first))]
        own = np.array([sorted(listed).index(clip.person) if clip.person in listed else -1 for clip in passing])
        for way, score, scores in _scored(list(first.values()), others, passing, relative, second):
            best, right = scores.max(1), scores.argmax(1) == own
            strangers = best[own < 0].astype(np.float32)
            found = []
            for target in targets:
                at = threshold_for(strangers, target)
                found.append(float((right & (best >= at))[own >= 0].mean()))
            rates.setdefault((way, score), []).append(found)
    made = []
    for (way, score), each in rates.items():
        table = np.array(each)
        tpir = {
            target: (float(column.mean()), float(column.min()), float(column.max()))
            for target, column in zip(targets, table.T, strict=True)
        }
        made.append(Found(way, score, entries, tpir))
    return made


def _scored(
    first: Sequence[Clip],
    others: Templates,
    passing: Sequence[Clip],
    relative: Relative | None,
    second: Second | None,
) -> Iterator[tuple[str, str, Templates]]:
    """``(passages, entries)`` scores of each way; the people of ``first`` are the first entries."""
    mine = slice(None if second is None else second.at)
    theirs = None if second is None else _cosines(first, others, passing, slice(second.at, None))
    for way, (cosines, listed) in _cosines(first, others, passing, mine).items():
        yield way, "cosine", cosines
        if relative is None:
            continue
        likeness, _, doubles = relative.of_list(listed)
        scores = relative.scores(cosines, likeness, doubles)
        yield way, "list-relative", scores
        if second is not None and theirs is not None:
            to_theirs, rows = theirs[way]
            likeness, _ = relative.neighbours(rows, np.arange(len(rows)), doubles)
            other = relative.scores(to_theirs, likeness, doubles)
            yield way, "both", np.asarray((1 - second.share) * scores + second.share * other, np.float32)


def _cosines(
    first: Sequence[Clip], others: Templates, passing: Sequence[Clip], part: slice
) -> dict[str, tuple[Templates, Templates]]:
    """For each way the ``(passages, entries)`` cosines by one embedder, and the entries' own templates or means."""
    probes = np.stack([_mean(clip.seen[:, part]) for clip in passing])
    enrolled, fill = [clip.enrolled[:, part] for clip in first], np.ascontiguousarray(others[:, part])
    rest = probes @ fill.T
    one, mean = np.stack([rows[0] for rows in enrolled]), np.stack([_mean(rows) for rows in enrolled])
    each = np.stack([(probes @ rows.T).max(1) for rows in enrolled], axis=1)
    to_mean = probes @ mean.T
    ways = {"one": probes @ one.T, "each": each, "mean": to_mean, "each and mean": np.maximum(each, to_mean)}
    return {
        way: (np.concatenate([cosines, rest], axis=1), np.concatenate([one if way == "one" else mean, fill]))
        for way, cosines in ways.items()
    }


def _mean(rows: Templates) -> Templates:
    total = rows.sum(0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)
