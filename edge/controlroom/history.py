"""What can be asked of the closed cases that are still held. Rules only: no store, no clock, no page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from edge.controlroom.cases import Case, Result, State
from edge.controlroom.summaries import Line
from edge.errors import BadInput

__all__ = ["OUTCOMES", "Asked", "Found", "read_asked", "search"]

MOST_FOUND = 100
"""Cases that are shown at once."""

LONGEST_WORDS = 100
OUTCOMES: dict[str, Callable[[Case], bool]] = {
    "engaged": lambda case: case.decided is State.ENGAGE,
    "not engaged": lambda case: case.decided is State.DO_NOT_ENGAGE,
    "correct alert": lambda case: case.correct is True,
    "incorrect alert": lambda case: case.correct is False,
    "never found out": lambda case: case.correct is None,
    "arrest": lambda case: case.result is Result.ARREST,
    "other disposal": lambda case: case.result is Result.OTHER_DISPOSAL,
    "no action": lambda case: case.result is Result.NO_ACTION,
}
"""What the history can be narrowed to, as the page offers it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which closed cases somebody wants to see; what is empty is not asked.

    Attributes:
        words: every one of them must be in the reference, category, place, van, number, reason or officers' numbers.
        van: which raised it.
        category: of the subject.
        outcome: a key of :data:`OUTCOMES`.
        since: raised then or later.
        until: raised then or earlier.
    """

    words: tuple[str, ...] = ()
    van: str = ""
    category: str = ""
    outcome: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def named(self) -> list[str]:
        """Which questions were put, for the audit log; not what was typed, which may be a name."""
        return [name for name in ("words", "van", "category", "outcome", "since", "until") if getattr(self, name)]


def read_asked(form: dict[str, str]) -> Asked:
    """The fields of the page's form.

    Raises:
        BadInput: a time that is none, words that are too long, an outcome that is not offered.
    """
    words = form.get("words", "")
    if len(words) > LONGEST_WORDS:
        raise BadInput("the search", f"has {len(words)} characters", f"Write {LONGEST_WORDS} or fewer")
    outcome = form.get("outcome", "")
    if outcome and outcome not in OUTCOMES:
        raise BadInput("the outcome", "is not one of the choices", f"Choose one of {', '.join(OUTCOMES)}")
    return Asked(
        words=tuple(words.casefold().split()),
        van=form.get("van", ""),
        category=form.get("category", ""),
        outcome=outcome,
        since=_moment(form.get("since", "")),
        until=_moment(form.get("until", "")),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What was found.

    Attributes:
        lines: the newest first, :data:`MOST_FOUND` at most.
        count: how many there are.
        vans: of every case that could have been found, for the form.
        categories: likewise.
    """

    lines: tuple[Line, ...]
    count: int
    vans: tuple[str, ...]
    categories: tuple[str, ...]


def search(closed: Iterable[Line], asked: Asked) -> Found:
    """Those of the closed cases that are asked for."""
    held = [line for line in closed if line.summary is not None]
    found = sorted((line for line in held if _matches(line, asked)), key=lambda line: line.case.raised_at, reverse=True)
    vans = {line.case.van for line in held}
    categories = {line.summary.category for line in held if line.summary is not None}
    return Found(tuple(found[:MOST_FOUND]), len(found), tuple(sorted(vans)), tuple(sorted(categories)))


def _matches(line: Line, asked: Asked) -> bool:
    """Whether a line is asked for; one whose alert was erased never is."""
    case, summary = line.case, line.summary
    if summary is None:
        return False
    text = " ".join(
        (summary.reference, summary.category, summary.place, case.van, f"{case.van} no. {case.sequence}", case.reason,
         case.decided_by, case.closed_by)
    ).casefold()  # fmt: skip
    return (
        all(word in text for word in asked.words)
        and asked.van in {"", case.van}
        and asked.category in {"", summary.category}
        and (not asked.outcome or OUTCOMES[asked.outcome](case))
        and (asked.since is None or case.raised_at >= asked.since)
        and (asked.until is None or case.raised_at <= asked.until)
    )


def _moment(text: str) -> datetime | None:
    """What a browser sends for a day and a time, in this machine's zone."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise BadInput("the time", "is not a day and a time", "Give it like 2026-05-01T14:30") from None
