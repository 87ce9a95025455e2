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
        score: ``cosine`` or ``list-relative``.
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
    """
    random = np.random.default_rng(seed)
    people = sorted({clip.person for clip in clips})
    rates: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(draws):
        listed = set(random.permutation(people)[: len(people) // 2])
        first = {name: next(clip for clip in clips if clip.person == name) for name in sorted(listed)}
        passing = [clip for clip in clips if clip is not first.get(clip.person)]
        probes = np.stack([_mean(clip.seen) for clip in passing])
        own = np.array([sorted(listed).index(clip.person) if clip.person in listed else -1 for clip in passing])
        others = fill[: max(0, entries - len(first))]
        for way, score, scores in _scored(list(first.values()), others, probes, relative):
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
    first: Sequence[Clip], others: Templates, probes: Templates, relative: Relative | None
) -> Iterator[tuple[str, str, Templates]]:
    """``(passages, entries)`` scores of each way; the people of ``first`` are the first entries."""
    rest = probes @ others.T
    one = np.stack([clip.enrolled[0] for clip in first])
    mean = np.stack([_mean(clip.enrolled) for clip in first])
    each = np.stack([(probes @ clip.enrolled.T).max(1) for clip in first], axis=1)
    to_mean = probes @ mean.T
    for way, mine in (
        ("one", probes @ one.T),
        ("each", each),
        ("mean", to_mean),
        ("each and mean", np.maximum(each, to_mean)),
    ):
        cosines = np.concatenate([mine, rest], axis=1)
        yield way, "cosine", cosines
        if relative is not None:
            likeness, _, doubles = relative.of_list(np.concatenate([one if way == "one" else mean, others]))
            yield way, "list-relative", relative.scores(cosines, likeness, doubles)


def _mean(rows: Templates) -> Templates:
    total = rows.sum(0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)
