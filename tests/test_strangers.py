"""A stranger who happens to be enrolled is scored as on a list that lacks them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.clock import SystemClock
from edge.config import DecisionSection
from edge.errors import BadInput
from edge.evaluate.measure import search
from edge.evaluate.passages import Judge, Listed, from_pictures
from edge.evaluate.passages import search as search_passages
from edge.evaluate.strangers import List
from edge.evaluate.tail import measure
from edge.match.relative import Relative

RANDOM = np.random.default_rng(8)


def people(count: int) -> NDArray[np.float32]:
    rows = RANDOM.standard_normal((count, 24)) + 0.3
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("entries", [2, 5, 11, 12, 13, 200])
def test_nobody_finds_their_own_entry_nor_does_it_count_as_a_neighbour(entries: int) -> None:
    relative, gallery, probes = Relative(), people(entries), people(entries)
    found = List(gallery, relative).scores(probes, np.arange(entries))
    for own, row in enumerate(found):
        rest = np.delete(gallery, own, axis=0)
        likeness, _, doubles = relative.of_list(rest)
        expected = relative.scores(probes[own : own + 1] @ rest.T, likeness, doubles)[0]
        assert row[own] == -np.inf
        assert np.delete(row, own) == pytest.approx(expected, abs=1e-5)


def test_somebody_who_is_not_on_the_list_is_scored_on_the_whole_of_it() -> None:
    relative, gallery, probes = Relative(), people(60), people(9)
    likeness, _, doubles = relative.of_list(gallery)
    assert doubles, "as among people who look alike"
    expected = relative.scores(probes @ gallery.T, likeness, doubles)
    assert List(gallery, relative).scores(probes, np.full(9, -1)) == pytest.approx(expected, abs=1e-6)


def test_an_evaluation_that_leaves_people_out_leaves_them_out_of_the_neighbours_too() -> None:
    relative, gallery, probes = Relative(), people(80), people(80)
    person, made = np.arange(80), np.ones(80, bool)
    best = search(probes, made, person, gallery, person, leave_out=True, relative=relative).best
    assert best == pytest.approx(List(gallery, relative).scores(probes, person).max(1), abs=1e-6)


def test_several_pictures_of_somebody_who_is_to_be_left_out_are_refused() -> None:
    gallery, person, made = people(6), np.array([0, 0, 1, 2, 3, 4]), np.ones(6, bool)
    with pytest.raises(BadInput, match="several pictures of one person"):
        search(gallery, made, person, gallery, person, leave_out=True, relative=Relative())


def test_tail_and_passages_do_so_too() -> None:
    relative, gallery, person = Relative(), people(2500), np.arange(2500)
    best = List(gallery, relative).scores(gallery, person).max(1)
    whole = measure(gallery, person, gallery, person, relative, sizes=())[0]
    assert (whole.entries, whole.searches) == (2500, 2500)
    assert whole.start == pytest.approx(np.sort(best)[-round(whole.share * 2500) - 1], abs=1e-5)
    made, _ = from_pictures(gallery[:50], person[:50], 1, draws=1, clock=SystemClock())
    found = search_passages(made, Listed(gallery, person), 2500, Judge(DecisionSection(), relative), lists=1)
    assert np.sort(found.single[:, 0]) == pytest.approx(np.sort(best[:50]), abs=1e-5)
