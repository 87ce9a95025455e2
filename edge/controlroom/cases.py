"""What people may do with an alert, and in which order. Rules only: no store, no clock, no page.

An alert begins as ``new``. Whoever opens it has ``seen`` it. After looking long enough, an operator or an
engagement officer decides ``engage`` or ``do not engage`` and says why; before the case is closed the
decision may be changed, with a reason again. Only an engagement officer, who was there, closes it with the
outcome. There is no way to decide on several at once, and nothing is decided by the score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from edge.errors import BadInput, PolicyRefusal
from edge.officers import Officer, Role
from edge.records import AGE_BANDS, Alert, AlertRef

__all__ = [
    "ETHNICITIES",
    "SEXES",
    "Case",
    "Demographics",
    "NotYours",
    "Result",
    "State",
    "TooSoon",
    "close",
    "decide",
    "due_for_escalation",
    "escalate",
    "open_case",
    "require_unchanged",
    "see",
]

REASON_LENGTH = (3, 500)
SEXES = ("female", "male", "not recorded")
ETHNICITIES = ("Asian", "Black", "mixed", "other", "white", "not recorded")
"""As the force's officer recorded it; for the anonymised record of incorrect alerts only."""


class TooSoon(PolicyRefusal):
    """A decision came before the pictures had been looked at for the minimum time."""


class NotYours(PolicyRefusal):
    """The officer's role, or the state of the case, does not allow this step."""


class State(StrEnum):
    """How far a case is."""

    NEW = "new"
    SEEN = "seen"
    ENGAGE = "engage"
    DO_NOT_ENGAGE = "do not engage"
    CLOSED = "closed"


class Result(StrEnum):
    """What came of a case."""

    ARREST = "arrest"
    OTHER_DISPOSAL = "other disposal"
    NO_ACTION = "no action"


@dataclass(frozen=True, slots=True)
class Demographics:
    """Of the person an incorrect alert was about; says nothing by which anybody could be found."""

    age_band: str = "unknown"
    sex: str = "not recorded"
    ethnicity: str = "not recorded"

    def __post_init__(self) -> None:
        for name, known in (("age_band", AGE_BANDS), ("sex", SEXES), ("ethnicity", ETHNICITIES)):
            if getattr(self, name) not in known:
                raise BadInput(name.replace("_", " "), "is not one of the choices", f"Choose one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Case:
    """An alert and what people made of it. Holds no picture, so that it may outlive them for the record.

    Attributes:
        alert_id: the alert.
        van: who raised it.
        deployment: during which deployment.
        sequence: its number.
        raised_at: when the decision fell on the van.
        received_at: when it arrived here.
        similarity: cosine of probe and subject.
        threshold: what the score had to reach; without a score, the similarity.
        score: how far the similarity stood out from the list; None from a van of before contract 1.2.
        state: see :class:`State`.
        engaged: whether somebody was at any time asked to engage.
        escalated_at: when it had been left unseen for too long.
        seen_at: when it was first opened, by :attr:`seen_by`.
        decision: what was last decided, engage or do not engage; stays when the case is closed.
        decided_at: when that was, by :attr:`decided_by` and for :attr:`reason`.
        closed_at: when it was closed, by :attr:`closed_by`.
        correct: whether it was the person on the list; None when that was never found out.
        result: what came of it.
        demographics: only of an incorrect alert.
    """

    alert_id: UUID
    van: str
    deployment: str
    sequence: int
    raised_at: datetime
    received_at: datetime
    similarity: float
    threshold: float
    state: State = State.NEW
    engaged: bool = False
    escalated_at: datetime | None = None
    seen_at: datetime | None = None
    seen_by: str = ""
    decided_at: datetime | None = None
    decided_by: str = ""
    reason: str = ""
    closed_at: datetime | None = None
    closed_by: str = ""
    correct: bool | None = None
    result: Result | None = None
    demographics: Demographics | None = None
    score: float | None = None
    decision: State | None = None

    @property
    def ref(self) -> AlertRef:
        return AlertRef(self.van, self.alert_id)

    @property
    def decided(self) -> State | None:
        """The last decision; for a case that was closed before it was kept, whether anybody was asked to engage."""
        if self.decided_at is None:
            return None
        return self.decision or (State.ENGAGE if self.engaged else State.DO_NOT_ENGAGE)


def open_case(alert: Alert, received_at: datetime) -> Case:
    """The case of an alert that has just arrived."""
    return Case(
        alert.alert_id, alert.van, alert.deployment, alert.sequence, alert.raised_at, received_at,
        alert.similarity, alert.threshold, score=alert.score,
    )  # fmt: skip


def require_unchanged(case: Case, was: str) -> None:
    """Refuse whoever decides on a case that is not any more what their page showed.

    Args:
        case: as it stands.
        was: when the decision that was shown was taken (ISO 8601), or ``none``.

    Raises:
        NotYours: somebody has decided meanwhile.
    """
    if was != (case.decided_at.isoformat() if case.decided_at else "none"):
        raise NotYours(
            f"alert no. {case.sequence} of {case.van}",
            f"was decided meanwhile by {case.decided_by or 'somebody else'}: your decision was not recorded",
            "Read what was decided; you may change it, with your reason",
        )


def see(case: Case, officer: Officer, now: datetime) -> Case:
    """Somebody opened the alert."""
    if case.state is not State.NEW:
        return case
    return replace(case, state=State.SEEN, seen_at=now, seen_by=officer.number)


def decide(
    case: Case, officer: Officer, *, engage: bool, reason: str, looked: timedelta, minimum: timedelta, now: datetime
) -> Case:
    """A person decides whether to engage.

    Args:
        case: as it stands.
        officer: who decides; either role may.
        engage: the decision.
        reason: why.
        looked: for how long this officer has had both pictures in front of them.
        minimum: how long that must be.
        now: when.

    Raises:
        TooSoon: the pictures were not looked at for long enough.
        NotYours: the case is closed, or nobody has opened it.
        BadInput: there is no reason.
    """
    thing = f"alert no. {case.sequence} of {case.van}"
    if case.state is State.CLOSED:
        raise NotYours(thing, "is closed", "Read its outcome; a closed alert cannot be changed")
    if case.state is State.NEW:
        raise NotYours(thing, "has not been opened", "Open it and look at both pictures")
    if looked < minimum:
        raise TooSoon(
            thing,
            f"has been looked at for {looked.total_seconds():.0f} of at least {minimum.total_seconds():.0f} seconds",
            "Compare both pictures, then decide",
        )
    decision = State.ENGAGE if engage else State.DO_NOT_ENGAGE
    return replace(
        case,
        state=decision,
        decision=decision,
        engaged=case.engaged or engage,
        decided_at=now,
        decided_by=officer.number,
        reason=_reason(reason),
    )


def close(
    case: Case,
    officer: Officer,
    *,
    correct: bool | None,
    result: Result,
    demographics: Demographics | None,
    now: datetime,
) -> Case:
    """The engagement officer records the outcome.

    Raises:
        NotYours: another role, or nothing was decided yet, or it is closed already.
        BadInput: an arrest without an engagement, or demographics of a person who was no incorrect alert.
    """
    thing = f"alert no. {case.sequence} of {case.van}"
    if officer.role is not Role.ENGAGEMENT:
        raise NotYours(
            thing, "can be closed by an engagement officer only", "Ask the engagement officer who was there to close it"
        )
    if case.state not in {State.ENGAGE, State.DO_NOT_ENGAGE}:
        if case.closed_at is not None:
            raise NotYours(thing, "is closed already", "Read its outcome; a closed alert cannot be changed")
        raise NotYours(thing, "has no decision yet", "Record the decision first, then the outcome")
    if result is not Result.NO_ACTION and not case.engaged:
        raise BadInput(
            thing,
            f"cannot end in {result}: nobody was asked to engage",
            "Choose another outcome, or correct the decision",
        )
    if demographics is not None and correct is not False:
        raise BadInput(
            thing, "gives details of the person although the alert was not incorrect", "Leave the details out"
        )
    return replace(
        case,
        state=State.CLOSED,
        closed_at=now,
        closed_by=officer.number,
        correct=correct,
        result=result,
        demographics=demographics,
    )


def due_for_escalation(case: Case, now: datetime, after: timedelta) -> bool:
    """Whether an alert has been left unseen for too long and nobody was told so yet."""
    return case.state is State.NEW and case.escalated_at is None and now - case.received_at >= after


def escalate(case: Case, now: datetime, after: timedelta) -> Case:
    """Nobody opened the alert for ``after``; a case that was opened meanwhile stays as it is."""
    return replace(case, escalated_at=now) if due_for_escalation(case, now, after) else case


def _reason(text: str) -> str:
    tidy = " ".join(text.split())
    shortest, longest = REASON_LENGTH
    if not shortest <= len(tidy) <= longest:
        raise BadInput("reason", f"has {len(tidy)} characters", f"Write {shortest} to {longest} characters")
    return tidy
