"""What the page's templates are given: cases and alerts in the words that people read. No store, no page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from edge.controlroom.cases import ETHNICITIES, SEXES, Case, Result, State
from edge.controlroom.summaries import Line
from edge.officers import Officer
from edge.records import AGE_BANDS, Alert

__all__ = ["Card", "cards", "counts", "detail", "outcome_words"]

REFERENCE_EYES = 0.24
"""Distance of the eyes in the list's picture, as a share of its width. The office cuts every picture at the same margin
round the face. Measured on 136 pictures of LFW and 3 portraits: median 0.239, nine of ten between 0.217 and 0.266."""
EYES = (0.05, 0.6)
"""A share of the probe's width that its eye distance may be; beyond that, the figure says nothing about the picture."""
GROUPS = {
    State.NEW: "Unseen",
    State.SEEN: "Opened, not decided",
    State.ENGAGE: "Engaged: no outcome recorded yet",
    State.DO_NOT_ENGAGE: "Not engaged: to be closed",
    State.CLOSED: "Closed in the last ten minutes",
}


@dataclass(frozen=True, slots=True)
class Card:
    """One alert in the list.

    Attributes:
        ref: how the page names it.
        state: its case's.
        escalated: it was left unseen for too long.
        says: the state, or the decision and who took it.
        waits: what the time beside it means.
        age_s: seconds since then; None for a closed case.
        raised_at: when the decision fell on the van.
        which: van and number.
        summary: category, place and reference, while the alert is held.
        group: the heading it stands under.
    """

    ref: str
    state: State
    escalated: bool
    says: str
    waits: str
    age_s: int | None
    raised_at: datetime
    which: str
    category: str
    place: str
    reference: str
    held: bool
    group: str


def cards(lines: Sequence[Line], now: datetime) -> list[Card]:
    """The cards of a list, in its order."""
    return [_card(line, now) for line in lines]


def _card(line: Line, now: datetime) -> Card:
    case, summary = line.case, line.summary
    since: datetime | None
    escalated = case.state is State.NEW and case.escalated_at is not None
    match case.state:
        case State.NEW:
            says, waits, since = ("escalated: unseen" if escalated else "unseen"), "waits", case.received_at
        case State.SEEN:
            says, waits, since = f"opened by {case.seen_by}", "waits", case.received_at
        case State.CLOSED:
            says, waits, since = f"{_decided(case)}; {outcome_words(case)}", "", None
        case _:
            says, waits, since = _decided(case), "no outcome for", case.decided_at
    return Card(
        ref=str(case.ref),
        state=case.state,
        escalated=escalated,
        says=says,
        waits=waits,
        age_s=None if since is None else max(0, int((now - since).total_seconds())),
        raised_at=case.raised_at,
        which=f"{case.van} no. {case.sequence}",
        category=summary.category if summary else "",
        place=summary.place if summary else "",
        reference=summary.reference if summary else "",
        held=summary is not None,
        group=GROUPS[case.state],
    )


def counts(lines: Sequence[Line]) -> dict[str, int]:
    """What stands above the list: how many nobody has opened, and how many engagements have no outcome."""
    states = [line.case.state for line in lines]
    return {"unseen": states.count(State.NEW), "engaged": states.count(State.ENGAGE)}


def _decided(case: Case) -> str:
    return f"{case.decided} by {case.decided_by}" if case.decided else "closed without a decision"


def outcome_words(case: Case) -> str:
    """What came of a closed case: whether it was the person, and what was done."""
    known = {True: "a correct alert", False: "an incorrect alert", None: "never found out whether correct"}
    return f"{known[case.correct]}, {case.result}"


def detail(case: Case, alert: Alert | None, officer: Officer, *, now: datetime, left_s: float) -> dict[str, Any]:
    """What the open alert shows.

    Args:
        case: its case.
        alert: None once it was erased.
        officer: who looks.
        now: for ages.
        left_s: seconds until this officer may decide.
    """
    waiting = case.decided_at if case.state in {State.ENGAGE, State.DO_NOT_ENGAGE} else case.received_at
    return {
        "case": case,
        "alert": alert,
        "officer": officer,
        "look_ms": max(0, int(left_s * 1000)),
        "words": _likeness(alert) if alert else "",
        "age": _age(alert.image_taken if alert else None, now),
        "age_s": max(0, int((now - waiting).total_seconds())) if waiting else 0,
        "outcome": outcome_words(case) if case.closed_at else "",
        "lookalikes": alert.lookalikes if alert else (),
        "reference_eyes": REFERENCE_EYES,
        "eye_range": EYES,
        "results": [str(result) for result in Result],
        "demographics": [
            ("age_band", "Age", AGE_BANDS),
            ("sex", "Sex", SEXES),
            ("ethnicity", "Ethnicity", ETHNICITIES),
        ],
    }


def _likeness(alert: Alert) -> str:
    over = (alert.similarity if alert.score is None else alert.score) - alert.threshold
    if over < 0.03:
        return f"just above the threshold, by {over:.3f}"
    return f"{over:.3f} above the threshold" if over < 0.15 else f"well above the threshold, by {over:.3f}"


def _age(taken: str | None, now: datetime) -> str:
    try:
        day = date.fromisoformat(taken or "")
    except ValueError:
        return "date not known: it may be old"
    years = (now.date() - day).days / 365.25
    return f"taken on {day}, {int(years)} years ago" if years >= 2 else f"taken on {day}"
