"""What a whole passage does at a threshold: by the van's own rules, and counted by people."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.clock import SystemClock
from edge.config import DecisionSection
from edge.evaluate import passages as whole
from edge.evaluate.extract import Recipe
from edge.match.decide import Decider
from edge.match.relative import Relative
from edge.records import Candidate, Limits, Outcome, SearchResult
from tests.faces import ROOT, needs_faces
from tests.sim import van
from tests.sim.footage import watch
from tests.sim.street import ENROLLED

COSINE = Relative(probe=0.0, entry=0.0)


def _alerts(
    best: NDArray[Any], name: NDArray[Any], begun: NDArray[Any], rules: DecisionSection, threshold: float
) -> bool:
    """Whether the van's decider raises an alert."""
    decider, track = Decider(rules, limits=Limits(threshold, 0.0)), uuid4()
    alerted = False
    for score, who, anew in zip(best, name, begun, strict=True):
        if anew:
            decider.forget_votes(track)
        result = SearchResult((Candidate(str(who), 0.95, float(score)),), exact=True)
        alerted |= decider.decide(track, result, 0).outcome is Outcome.ALERT
    return alerted


@pytest.mark.parametrize("rules", [DecisionSection(), DecisionSection(votes=1, window=1), DecisionSection(votes=5)])
def test_a_passage_raises_an_alert_up_to_its_level_and_not_above(rules: DecisionSection) -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        length = int(random.integers(1, 12))
        best = random.uniform(0.2, 0.9, (length, 1)).astype(np.float32)
        name = random.integers(0, 2, (length, 1))
        begun = random.uniform(size=length) < 0.15
        level = float(whole.levels(best, name, begun, rules)[0])
        if level == whole.NEVER:
            assert not _alerts(best[:, 0], name[:, 0], begun, rules, 0.2)
        else:
            assert _alerts(best[:, 0], name[:, 0], begun, rules, level)
            assert not _alerts(best[:, 0], name[:, 0], begun, rules, level + 1e-4)


def _people(count: int, pictures: int, spread: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Directions of people, and pictures of each about it."""
    random = np.random.default_rng(1)
    middles = random.normal(size=(count, 24))
    rows = np.repeat(middles, pictures, axis=0) + spread * random.normal(size=(count * pictures, 24))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), np.repeat(np.arange(count), pictures)


def test_a_passage_holds_one_persons_pictures_and_leaves_one_to_enrol_from() -> None:
    rows, person = _people(5, 4, 0.3)
    made, spare = whole.from_pictures(rows, person, 3, draws=2, clock=SystemClock())
    assert [passage.person for passage in made] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    for passage, other in zip(made, spare, strict=True):
        mine = {row.tobytes() for row in passage.pictures}
        assert mine < {row.tobytes() for row in rows[person == passage.person]}
        assert rows[other].tobytes() not in mine
        assert person[other] == passage.person
        np.testing.assert_allclose(passage.probes[0], passage.pictures[0], atol=1e-6)
        mean = passage.pictures.sum(0)
        np.testing.assert_allclose(passage.probes[-1], mean / np.linalg.norm(mean), atol=1e-5)
    assert not whole.from_pictures(rows, person, 5, draws=2, clock=SystemClock())[0]
    assert set(whole.from_pictures(rows, person, 4, draws=1, clock=SystemClock())[1]) == {-1}


def test_nobody_is_searched_in_a_list_that_holds_them() -> None:
    rows, person = _people(40, 4, 0.05)
    made, _ = whole.from_pictures(rows, person, 3, draws=1, clock=SystemClock())
    found = whole.search(
        made, whole.Listed(rows[::4], person[::4]), 10, whole.Judge(DecisionSection(votes=1), COSINE), lists=9
    )
    assert found.passage.shape == (40, 9)
    assert found.any_picture.max() < 0.95, "their own pictures are alike to more than 0.95"
    own_single, own_passage = whole.own_levels(
        made, rows[::4], whole.Listed(rows[::4], person[::4]), whole.Judge(DecisionSection(), COSINE)
    )
    assert min(own_single.min(), own_passage.min()) > 0.95


def test_the_threshold_risen_by_what_is_reported_keeps_the_budget() -> None:
    rows, person = _people(200, 5, 0.6)
    made, _ = whole.from_pictures(rows, person, 5, draws=2, clock=SystemClock())
    found = whole.search(
        made, whole.Listed(rows[::5], person[::5]), 20, whole.Judge(DecisionSection(), COSINE), lists=30
    )
    one = whole.compare(found, "passage", 0.5, 0.02, 20)
    assert one.ratio > 1
    assert one.ratio_bounds[0] < one.ratio < one.ratio_bounds[1]
    assert one.rise > 0
    risen = whole.compare(found, "passage", one.threshold + one.rise + 1e-6, 0.02, 20)
    assert risen.ratio == pytest.approx(1, abs=0.02)
    assert (
        whole.compare(found, "any_picture", 0.5, 0.02, 20).share > whole.compare(found, "single", 0.5, 0.02, 20).share
    )


def test_somebody_is_found_only_where_nobody_else_on_the_list_stands_out_more() -> None:
    rows, person = _people(60, 5, 0.3)
    people = whole.Listed(rows[::5].copy(), person[::5])
    made, spare = whole.from_pictures(rows, person, 4, draws=1, clock=SystemClock())
    judge = whole.Judge(DecisionSection(), Relative())
    _, found = whole.own_levels(made, rows[spare], people, judge)
    assert (found > whole.NEVER).all()
    people.templates[1] = made[0].probes[-1]  # somebody else looks exactly like the first
    _, hidden = whole.own_levels(made[:1], rows[spare[:1]], people, judge)
    assert hidden[0] < found[0]


def test_a_passage_counts_as_what_enough_people_show_and_as_four_where_nobody_can() -> None:
    rows, person = _people(110, 16, 0.9)
    judge = whole.Judge(DecisionSection(), COSINE)
    people = whole.Listed(rows[::16], person[::16])
    levels = np.sort((rows @ people.templates.T + 0)[person[:, None] != people.person[None]])
    asked: list[tuple[float, int]] = []

    def threshold(fpir: float, entries: int) -> float:
        asked.append((fpir, entries))
        return float(levels[int(len(levels) * (1 - fpir / entries))])

    counted = whole.as_searches(rows, person, people, judge, threshold, clock=SystemClock())
    assert {row[0] for row in counted.measured} == {4, 8, 16}, "nobody has 32 pictures"
    assert {row[1] for row in counted.measured} == {110}
    sure = [row[-1] for row in counted.measured if row[2] >= whole.ENOUGH_PEOPLE]
    assert counted.searches == max(1.0, *sure)
    few = whole.as_searches(rows[::16], person[::16], people, judge, threshold, clock=SystemClock())
    assert (few.searches, few.measured) == (whole.UNMEASURED, ())


def test_people_count_alike_however_many_passages_they_have() -> None:
    person = np.array([0, 0, 0, 1])
    values = np.array([[0.9], [0.9], [0.9], [0.1]], np.float32)
    found = whole.Levels(person, values, values, values)
    assert whole.compare(found, "passage", 0.5, 0.01, 10).share == pytest.approx(0.5)
    assert whole.find(person, values[:, 0], values[:, 0], 0.5).passage == pytest.approx(0.5)


@needs_faces
@pytest.mark.faces
@pytest.mark.slow
def test_a_video_gives_the_passages_that_the_van_searches() -> None:
    clip: Path = ROOT / "video" / "asl" / "want.mkv"
    recipe = Recipe("centerface:640x384-int8", ("mobilefacenet:dynamic-int8",))
    (passage,) = watch(clip, recipe, person=-1)
    seen = van.watch(clip, van.enrolled(ENROLLED), config=van.a_config(clip))
    assert len(passage.probes) == seen.counts.embedded > 10
    assert passage.begun[0]
    np.testing.assert_allclose(np.linalg.norm(passage.probes, axis=1), 1, atol=1e-4)
