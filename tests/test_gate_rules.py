"""What the gate holds, and which threshold it asks for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edge.deployment.gate import Gate, ListFacts
from edge.errors import AuthorityInvalid, AuthorityMissing, ThresholdTooLow, ThresholdUnsupported
from edge.records import NOBODY, Candidate, Limits
from edge.trust.authority import authority_digest
from tests.test_gate import HERE, LIST, MODEL, NOW, written
from tests.test_gate import gate as a_gate


@dataclass(frozen=True)
class Needs:
    threshold: float


class Measured:
    """A calibration that needs more for a rarer false alert and for a longer list; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []
        self.scene_similarity = 0.5

    def threshold(self, fpir: float, entries: int, *, several: bool = False) -> Needs:
        self.asked.append((fpir, entries))
        if entries > 1000:
            raise ThresholdUnsupported("the threshold", "is not supported", "Shorten the list")
        return Needs((0.1 if several else 0.0) + 0.4 + (0.2 if fpir < 1 / 5000 else 0.0) + entries / 10_000)


@pytest.fixture
def measured() -> Measured:
    return Measured()


@pytest.fixture
def gate(measured: Measured) -> Gate:
    return a_gate(calibration=measured)


def ask(gate: Gate, threshold: float, entries: int = 500, similarity: float = 0.95) -> object:
    return gate.check(NOW, HERE, ListFacts(LIST, entries, entries), model=MODEL, limits=Limits(threshold, similarity))


def test_a_gate_holds_the_authority_that_it_took_up_last_and_its_name(gate: Gate) -> None:
    assert (gate.authority, gate.digest) == (None, "")
    first, second = written(), written(deployment="D-2")
    assert gate.load(first).deployment == "D-1"
    assert gate.load(second) is gate.authority
    assert gate.authority is not None
    assert gate.authority.deployment == "D-2"
    assert gate.digest == authority_digest(second)
    gate.unload()
    assert (gate.authority, gate.digest) == (None, "")


def test_an_authority_that_is_none_leaves_none(gate: Gate) -> None:
    gate.load(written())
    with pytest.raises(AuthorityInvalid):
        gate.load(b"{")
    assert (gate.authority, gate.digest) == (None, "")


def test_without_an_authority_there_is_no_threshold(gate: Gate) -> None:
    with pytest.raises(AuthorityMissing):
        gate.lowest(500)


@pytest.mark.parametrize(
    ("budget", "entries", "lowest"),
    [(4000, 500, 0.45), (6000, 500, 0.65), (6000, 1000, 0.7)],
    ids=["the budget", "a rarer false alert", "a longer list"],
)
@pytest.mark.parametrize("floor", [0.3, 0.9])
def test_the_lowest_limits_are_the_budgets_score_and_the_higher_of_floor_and_scene(
    floor: float, budget: int, entries: int, lowest: float, gate: Gate
) -> None:
    gate.load(written(threshold_floor=floor, budget_one_in=budget))
    limits = gate.lowest(entries)
    assert (limits.score, limits.similarity) == (pytest.approx(lowest), max(floor, 0.5))


def test_a_list_with_several_pictures_of_somebody_needs_a_higher_score(gate: Gate) -> None:
    gate.load(written())
    one, several = gate.lowest(500), gate.lowest(500, several=True)
    assert several.score == pytest.approx(one.score + 0.1)
    assert ask(gate, one.score) is gate.authority
    with pytest.raises(ThresholdUnsupported):
        gate.check(NOW, HERE, ListFacts(LIST, 500, 501), model=MODEL, limits=Limits(one.score, 0.95))


def test_a_list_longer_than_was_measured_is_matched_with_nobody(gate: Gate) -> None:
    gate.load(written())
    assert gate.lowest(1001) == NOBODY
    assert not NOBODY.reached_by(Candidate("R-1", 1.0, 1.0))


def test_what_is_lowest_is_allowed_and_anything_below_it_is_not(gate: Gate) -> None:
    gate.load(written(threshold_floor=0.3))
    lowest = gate.lowest(500)
    assert ask(gate, lowest.score, similarity=lowest.similarity) is gate.authority
    with pytest.raises(ThresholdUnsupported):
        ask(gate, lowest.score - 1e-9, similarity=lowest.similarity)
    with pytest.raises(ThresholdUnsupported, match=r"strangers in one scene may reach 0\.500"):
        ask(gate, lowest.score, similarity=lowest.similarity - 1e-9)
    gate.load(written(threshold_floor=0.7))
    with pytest.raises(ThresholdTooLow):
        ask(gate, lowest.score, similarity=0.7 - 1e-9)


def test_a_model_that_was_not_measured_matches_nobody() -> None:
    gate = a_gate(calibration=None)
    gate.load(written())
    assert gate.lowest(500) == NOBODY
    with pytest.raises(ThresholdUnsupported):
        ask(gate, 1.0)


def test_the_budget_of_another_authority_is_reckoned_anew(gate: Gate, measured: Measured) -> None:
    gate.load(written(threshold_floor=0.3, budget_one_in=4000))
    assert gate.lowest(500).score == pytest.approx(0.45)
    gate.load(written(threshold_floor=0.3, budget_one_in=6000))
    assert gate.lowest(500).score == pytest.approx(0.65)
    assert measured.asked == [(1 / 4000, 500), (1 / 6000, 500)]


def test_the_calibration_is_asked_once_for_a_list_and_again_when_somebody_left_it(
    gate: Gate, measured: Measured
) -> None:
    gate.load(written())
    for entries in (500, 500, 499, 1001, 1001):
        gate.lowest(entries)
    assert [entries for _, entries in measured.asked] == [500, 499, 1001]
