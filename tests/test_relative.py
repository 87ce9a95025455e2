"""List-relative scores are what their formula says, whatever the list's length, and favour nobody's origin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import RecordInvalid
from edge.evaluate.measure import search
from edge.match.relative import Relative

RNG = np.random.default_rng(3)


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def by_the_formula(probe: NDArray[np.float32], gallery: NDArray[np.float32], how: Relative) -> NDArray[np.float64]:
    """One probe, entry by entry, as the module's first lines say it."""
    scores = []
    for g, entry in enumerate(gallery):
        others = gallery[(gallery @ entry < how.one_person) & (np.arange(len(gallery)) != g)]
        of_probe = np.maximum(np.sort(others @ probe)[-how.nearest :], 0).sum() / how.nearest
        of_entry = np.maximum(np.sort(others @ entry)[-how.nearest :], 0).sum() / how.nearest
        scores.append(float(probe @ entry) - how.probe * of_probe - how.entry * of_entry)
    return np.array(scores)


@pytest.mark.parametrize("middle", [0.0, 0.5], ids=["some are opposite", "all are alike"])
@pytest.mark.parametrize("entries", [1, 2, 5, 10, 11, 12, 3000])
def test_scores_are_what_the_formula_says_at_every_length_of_list(entries: int, middle: float) -> None:
    how = Relative(probe=0.4, entry=0.3)
    gallery, probes = unit(RNG.standard_normal((entries, 32)) + middle), unit(RNG.standard_normal((7, 32)) + middle)
    likeness, _, doubles = how.of_list(gallery)
    found = how.scores(probes @ gallery.T, likeness, doubles)
    for row, probe in zip(found, probes, strict=True):
        expected = by_the_formula(probe, gallery, how)
        assert row == pytest.approx(expected, abs=1e-5)
        assert how.ranking(gallery @ probe, likeness, doubles) == pytest.approx(expected, abs=1e-5)


def test_of_several_lists_each_is_scored_as_if_it_were_alone() -> None:
    how = Relative(probe=0.4, entry=0.3)
    lists = [unit(RNG.standard_normal((40, 16)) + 0.3) for _ in range(3)]
    probes = unit(RNG.standard_normal((5, 16)) + 0.3)
    together = how.scores(
        np.stack([probes @ one.T for one in lists], axis=1), np.stack([how.of_entries(one) for one in lists])
    )
    assert together.shape == (5, 3, 40)
    for number, one in enumerate(lists):
        assert together[:, number] == pytest.approx(how.scores(probes @ one.T, how.of_entries(one)), abs=1e-6)
    assert how.scores(np.zeros((5, 0), np.float32), np.zeros(0, np.float32)).shape == (5, 0)


@pytest.mark.parametrize("entries", [1, 2, 5, 10, 11, 12, 300])
def test_one_probe_is_ranked_by_the_same_scores(entries: int) -> None:
    how = Relative(probe=0.4, entry=0.3)
    gallery, probe = unit(RNG.standard_normal((entries, 32))), unit(RNG.standard_normal((1, 32)))
    cosines, likeness = probe @ gallery.T, how.of_entries(gallery)
    cosines[0, entries // 2] = -np.inf if entries > 2 else cosines[0, entries // 2]
    assert how.ranking(cosines[0], likeness) == pytest.approx(how.scores(cosines, likeness)[0], abs=1e-6)


def test_ties_are_ranked_by_the_same_scores() -> None:
    how, cosines = Relative(nearest=3), np.array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.2, -0.1]], np.float32)
    likeness = np.zeros(7, np.float32)
    assert how.ranking(cosines[0], likeness) == pytest.approx(how.scores(cosines, likeness)[0], abs=1e-6)


def test_nothing_is_ever_added_and_nothing_taken_off_an_entry_that_is_alone() -> None:
    how = Relative()
    for entries in (1, 3, 50):
        gallery, probes = unit(RNG.standard_normal((entries, 8))), unit(RNG.standard_normal((20, 8)))
        cosines = probes @ gallery.T
        scores = how.scores(cosines, how.of_entries(gallery))
        assert (scores <= cosines + 1e-6).all()
        if entries == 1:
            assert scores == pytest.approx(cosines)


def test_a_probe_whose_own_entry_is_taken_out_is_scored_as_if_it_were_not_on_the_list() -> None:
    how = Relative()
    gallery, probe = unit(RNG.standard_normal((40, 32))), unit(RNG.standard_normal((1, 32)))
    cosines = probe @ gallery.T
    cosines[0, 7] = -np.inf
    found = how.scores(cosines, how.of_entries(gallery))
    assert found[0, 7] == -np.inf
    rest = np.delete(gallery, 7, axis=0)
    expected = how.scores(probe @ rest.T, np.delete(how.of_entries(gallery), 7))
    assert np.delete(found[0], 7) == pytest.approx(expected[0], abs=1e-5)


def test_strangers_of_an_origin_that_the_list_holds_are_not_stopped_more_often_than_others() -> None:
    """Two made-up origins, one of whose people are alike to the model; half of the list is of that one."""
    rng = np.random.default_rng(3)
    alike, at_large = rng.standard_normal(64) * 0.3, np.zeros(64)

    def people(count: int, origin: NDArray[np.float64]) -> NDArray[np.float32]:
        return unit(rng.standard_normal((count, 64)) + origin)

    gallery = np.concatenate([people(200, alike), people(200, at_large)])
    strangers = np.concatenate([people(2000, alike), people(2000, at_large)])
    person, owner, made = np.arange(4000) + 10_000, np.arange(400), np.ones(4000, bool)
    apart = {}
    for how in (None, Relative()):
        best = search(strangers, made, person, gallery, owner, relative=how).best
        at = np.quantile(best, 0.98)
        shares = (best[:2000] >= at).mean(), (best[2000:] >= at).mean()
        apart[how] = max(shares) / max(min(shares), 1e-4)
    assert apart[None] > 5
    assert apart[Relative()] < 2


@pytest.mark.parametrize("entries", [12, 60])
def test_doubles_leave_everybody_who_is_on_the_list_as_if_they_were_not(entries: int) -> None:
    """And so nobody who adds doubles raises anybody's score, nor lowers that of whom they are doubles of."""
    how = Relative()
    gallery, probes = unit(RNG.standard_normal((entries, 96))), unit(RNG.standard_normal((20, 96)))
    probes[0] = unit(gallery[:1] + 0.5 * probes[:1])[0]
    copies = unit(gallery[0] + 0.06 * RNG.standard_normal((30, 96)))
    longer = np.concatenate([gallery, copies])
    likeness, _, doubles = how.of_list(longer)
    alone = how.scores(probes @ gallery.T, how.of_entries(gallery))
    among = how.scores(probes @ longer.T, likeness, doubles)
    assert among[:, 0] == pytest.approx(alone[:, 0], abs=1e-5)
    assert (among[:, 1:entries] <= alone[:, 1:] + 1e-5).all()
    assert sorted(doubles) == [0, *range(entries, entries + 30)]


def test_whoever_has_no_double_is_scored_to_the_bit_as_before() -> None:
    how, never = Relative(), Relative(one_person=1.0)
    gallery, probes = unit(RNG.standard_normal((300, 96))), unit(RNG.standard_normal((9, 96)))
    likeness, least, doubles = how.of_list(gallery)
    assert not doubles
    assert (likeness == never.of_list(gallery)[0]).all()
    assert (least == never.of_list(gallery)[1]).all()
    for probe in probes:
        cosines = gallery @ probe
        assert (how.ranking(cosines, likeness, doubles) == how.ranking(cosines, likeness)).all()


def test_who_is_taken_for_ones_double_is_replaced_by_the_next_and_moves_a_score_by_no_more_than_that() -> None:
    how, never = Relative(), Relative(one_person=1.0)
    gallery, probes = unit(RNG.standard_normal((200, 96))), unit(RNG.standard_normal((50, 96)))
    gallery[1] = unit(0.8 * gallery[:1] + 0.6 * gallery[1:2])[0]
    likeness, _, doubles = how.of_list(gallery)
    assert sorted(doubles) == [0, 1]
    before = never.scores(probes @ gallery.T, never.of_entries(gallery))
    rise = how.scores(probes @ gallery.T, likeness, doubles) - before
    to_twin = np.maximum(probes @ gallery[1], 0)
    assert (rise[:, 0] >= -1e-6).all()
    assert (rise[:, 0] <= 0.04 * (float(gallery[0] @ gallery[1]) + to_twin) + 1e-6).all()
    assert rise[:, 2:] == pytest.approx(0, abs=1e-6)


def test_a_list_that_is_nearly_one_person_is_refused_before_it_takes_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.match.doubles.MOST_PAIRS", 100)
    with pytest.raises(RecordInvalid, match="pairs of its references"):
        Relative().of_list(unit(np.ones((16, 8)) + 0.01 * RNG.standard_normal((16, 8))))
