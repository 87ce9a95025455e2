"""When a resemblance becomes an alert."""

from __future__ import annotations

from uuid import uuid4

import pytest

from edge.config import DecisionSection
from edge.match.decide import NEAR, Decider
from edge.records import NOBODY, Candidate, Limits, Outcome, SearchResult

SECOND = 1_000_000_000
HALF = Limits(score=0.5, similarity=0.4)


def found(reference: str, score: float, similarity: float = 0.95) -> SearchResult:
    return SearchResult((Candidate(reference, similarity, score),), exact=True)


def outcomes(decider: Decider, *results: SearchResult, at: int = 0) -> list[Outcome]:
    track = uuid4()
    return [decider.decide(track, result, at).outcome for result in results]


def test_one_lucky_frame_raises_nothing() -> None:
    decider = Decider(DecisionSection(votes=3, window=5), limits=HALF)
    assert outcomes(decider, found("A", 0.9), found("A", 0.1), found("A", 0.1)) == [
        Outcome.GATHERING,
        Outcome.NO_MATCH,
        Outcome.NO_MATCH,
    ]


def test_k_of_n_searches_that_agree_raise_one_alert_per_passage() -> None:
    decider = Decider(DecisionSection(votes=3, window=5, cooldown_s=0), limits=HALF)
    sequence = [found("A", 0.6), found("A", 0.3), found("A", 0.6), found("A", 0.6), found("A", 0.7)]
    assert outcomes(decider, *sequence)[-2:] == [Outcome.ALERT, Outcome.COOLING_DOWN]


def test_votes_for_different_subjects_do_not_add_up() -> None:
    decider = Decider(DecisionSection(votes=3, window=5), limits=HALF)
    sequence = [found("A", 0.6), found("B", 0.6), found("A", 0.6), found("B", 0.6)]
    assert Outcome.ALERT not in outcomes(decider, *sequence)


def test_votes_leave_the_window() -> None:
    decider = Decider(DecisionSection(votes=3, window=3), limits=HALF)
    sequence = [found("A", 0.6), found("A", 0.6), found("A", 0.1), found("A", 0.6), found("A", 0.6)]
    assert Outcome.ALERT not in outcomes(decider, *sequence)


def test_the_threshold_itself_is_enough_and_just_below_is_not() -> None:
    decider = Decider(DecisionSection(votes=1, window=1), limits=HALF)
    assert outcomes(decider, found("A", 0.4999)) == [Outcome.NO_MATCH]
    assert outcomes(decider, found("A", 0.5)) == [Outcome.ALERT]


def test_a_score_is_not_enough_without_the_similarity_that_the_authority_asks_for() -> None:
    decider = Decider(DecisionSection(votes=1, window=1), limits=HALF)
    assert outcomes(decider, found("A", 0.9, similarity=0.3999)) == [Outcome.NO_MATCH]
    assert outcomes(decider, found("A", 0.9, similarity=0.4)) == [Outcome.ALERT]


def test_limits_that_change_hold_from_the_next_search_on() -> None:
    decider = Decider(DecisionSection(votes=2, window=5), limits=HALF)
    track = uuid4()
    assert decider.decide(track, found("A", 0.6), 0).outcome is Outcome.GATHERING
    decider.limits = Limits(score=0.7, similarity=0.4)
    assert decider.decide(track, found("A", 0.6), 0).outcome is Outcome.NO_MATCH
    decider.limits = NOBODY
    assert decider.decide(track, found("A", 1.0, similarity=1.0), 0).outcome is Outcome.NO_MATCH


def test_a_subject_cools_down_over_passages_and_then_may_alert_again() -> None:
    decider = Decider(DecisionSection(votes=1, window=1, cooldown_s=30), limits=HALF)
    assert outcomes(decider, found("A", 0.9), at=0) == [Outcome.ALERT]
    assert outcomes(decider, found("A", 0.9), at=29 * SECOND) == [Outcome.COOLING_DOWN]
    assert outcomes(decider, found("B", 0.9), at=29 * SECOND) == [Outcome.ALERT]
    assert outcomes(decider, found("A", 0.9), at=31 * SECOND) == [Outcome.ALERT]


@pytest.mark.parametrize(
    ("after_ns", "outcome"),
    [
        (30 * SECOND - 1, Outcome.COOLING_DOWN),
        (30 * SECOND, Outcome.ALERT),
        (30 * SECOND + 1, Outcome.ALERT),
    ],
    ids=["just before", "exactly at", "just after"],
)
@pytest.mark.parametrize("began_ns", [0, 7 * SECOND])
def test_the_cool_down_is_over_exactly_when_it_says(began_ns: int, after_ns: int, outcome: Outcome) -> None:
    decider = Decider(DecisionSection(votes=1, window=1, cooldown_s=30), limits=HALF)
    assert outcomes(decider, found("A", 0.9), at=began_ns) == [Outcome.ALERT]
    assert outcomes(decider, found("A", 0.9), at=began_ns + after_ns) == [outcome]


def test_an_alert_that_was_held_back_does_not_begin_the_cool_down_anew() -> None:
    decider = Decider(DecisionSection(votes=1, window=1, cooldown_s=30), limits=HALF)
    assert outcomes(decider, found("A", 0.9), at=0) == [Outcome.ALERT]
    assert outcomes(decider, found("A", 0.9), at=29 * SECOND) == [Outcome.COOLING_DOWN]
    assert outcomes(decider, found("A", 0.9), at=30 * SECOND) == [Outcome.ALERT]


def test_an_alert_that_was_withdrawn_may_be_raised_with_the_next_frame() -> None:
    decider = Decider(DecisionSection(votes=1, window=1, cooldown_s=30), limits=HALF)
    track, other = uuid4(), uuid4()
    decider.decide(other, found("B", 0.9), 0)
    first = decider.decide(track, found("A", 0.9), 0)
    decider.withdraw(first)
    assert decider.decide(track, found("A", 0.9), SECOND).outcome is Outcome.ALERT
    assert decider.decide(track, found("A", 0.9), SECOND).outcome is Outcome.COOLING_DOWN
    assert decider.decide(other, found("B", 0.9), SECOND).outcome is Outcome.COOLING_DOWN, "it is another's alert"
    assert outcomes(decider, found("B", 0.9), at=SECOND) == [Outcome.COOLING_DOWN]


def test_withdrawing_a_decision_that_named_nobody_changes_nothing() -> None:
    decider = Decider(DecisionSection(votes=1, window=1, cooldown_s=30), limits=HALF)
    assert outcomes(decider, found("A", 0.9)) == [Outcome.ALERT]
    decider.withdraw(decider.decide(uuid4(), found("A", 0.1), 0))
    assert outcomes(decider, found("A", 0.9)) == [Outcome.COOLING_DOWN]


def test_nothing_of_a_passage_is_kept_when_it_has_ended() -> None:
    decider = Decider(DecisionSection(votes=2, window=3, cooldown_s=0), limits=HALF)
    track = uuid4()
    first = [decider.decide(track, found("A", 0.9), 0).outcome for _ in range(3)]
    assert first == [Outcome.GATHERING, Outcome.ALERT, Outcome.COOLING_DOWN]
    decider.forget(track)
    again = [decider.decide(track, found("A", 0.9), 0).outcome for _ in range(3)]
    assert again == first, "neither its votes nor its alert were kept"


def test_a_decision_says_what_it_rests_on() -> None:
    decider = Decider(DecisionSection(votes=3, window=5), limits=HALF)
    track = uuid4()
    decider.decide(track, found("A", 0.9), 0)
    decider.decide(track, found("B", 0.7), 0)
    decision = decider.decide(track, found("A", 0.6, similarity=0.8), 0)
    assert (decision.track_id, decision.reference, decision.similarity) == (track, "A", 0.8)
    assert decision.score == 0.6
    assert (decision.threshold, decision.votes, decision.window) == (0.5, 2, 3)
    below = decider.decide(track, found("C", 0.4), 0)
    assert (below.reference, below.score, below.votes, below.window) == (None, 0.4, 0, 4)


def test_forgotten_votes_must_be_gathered_anew() -> None:
    decider = Decider(DecisionSection(votes=2, window=3), limits=HALF)
    track = uuid4()
    decider.decide(track, found("A", 0.9), 0)
    decider.forget_votes(track)
    assert decider.decide(track, found("A", 0.9), 0).outcome is Outcome.GATHERING


def test_an_empty_search_is_no_match() -> None:
    decider = Decider(DecisionSection(), limits=HALF)
    decision = decider.decide(uuid4(), SearchResult((), exact=True), 0)
    assert decision.outcome is Outcome.NO_MATCH
    assert decision.similarity is None
    assert decision.reference is None


@pytest.mark.parametrize(
    ("score", "similarity", "near"),
    [
        (0.45, 0.35, True),
        (HALF.score - NEAR, HALF.similarity - NEAR, True),
        (0.9, 0.9, True),
        (0.43, 0.9, False),
        (0.9, 0.33, False),
    ],
    ids=[
        "just below both limits",
        "as far below as may be",
        "above both",
        "too far below the score",
        "too far below the similarity",
    ],
)
def test_whoever_nearly_reaches_both_limits_is_worth_a_closer_look(score: float, similarity: float, near: bool) -> None:
    assert Decider(DecisionSection(), limits=HALF).near(uuid4(), found("A", score, similarity), 0) is near


def test_nobody_is_near_a_list_of_nobody_or_limits_that_nobody_reaches() -> None:
    assert not Decider(DecisionSection(), limits=HALF).near(uuid4(), SearchResult((), exact=True), 0)
    assert not Decider(DecisionSection(), limits=NOBODY).near(uuid4(), found("A", 1.0, 1.0), 0)


def test_a_track_that_has_alerted_is_not_looked_at_more_closely_any_more() -> None:
    decider, track = Decider(DecisionSection(votes=1, window=1), limits=HALF), uuid4()
    assert decider.near(track, found("A", 0.6), 0)
    decision = decider.decide(track, found("A", 0.6), 0)
    assert decision.outcome is Outcome.ALERT
    assert not decider.near(track, found("A", 0.6), 0)
    decider.withdraw(decision)
    assert decider.near(track, found("A", 0.6), 0), "an alert that was not raised may still be"


def test_a_subject_that_cools_down_is_not_looked_at_more_closely_in_another_track_until_it_is_over() -> None:
    decider = Decider(DecisionSection(votes=1, window=1, cooldown_s=30), limits=HALF)
    assert outcomes(decider, found("A", 0.6), at=0) == [Outcome.ALERT]
    other = uuid4()
    assert not decider.near(other, found("A", 0.6), 29 * SECOND)
    assert decider.near(other, found("B", 0.6), 29 * SECOND)
    assert decider.near(other, found("A", 0.6), 30 * SECOND)


def test_what_was_found_in_the_cool_down_without_a_closer_look_is_no_vote_after_it() -> None:
    decider = Decider(DecisionSection(votes=2, window=5, cooldown_s=30), limits=HALF)
    assert outcomes(decider, *[found("A", 0.9)] * 2, at=0) == [Outcome.GATHERING, Outcome.ALERT]
    track = uuid4()
    for _ in range(3):
        assert decider.decide(track, found("A", 0.9), 29 * SECOND).outcome is Outcome.COOLING_DOWN
    after = [decider.decide(track, found("A", 0.9), 31 * SECOND).outcome for _ in range(2)]
    assert after == [Outcome.GATHERING, Outcome.ALERT]


def test_a_track_that_went_over_to_somebody_else_on_the_list_alerts_for_them_too() -> None:
    decider, track = Decider(DecisionSection(votes=1, window=1, cooldown_s=30), limits=HALF), uuid4()
    assert decider.decide(track, found("A", 0.9), 0).outcome is Outcome.ALERT
    decider.forget_votes(track)
    assert decider.decide(track, found("B", 0.9), 0).outcome is Outcome.COOLING_DOWN, "nothing says it is another face"
    decider.forget_votes(track, contradicted=True)
    assert decider.decide(track, found("A", 0.9), 0).outcome is Outcome.COOLING_DOWN
    assert decider.decide(track, found("B", 0.9), 0).outcome is Outcome.ALERT
