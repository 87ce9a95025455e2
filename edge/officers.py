"""Who works with a van or in a control room: number, role, and until when their training is in date. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from edge.errors import PolicyRefusal

__all__ = ["Officer", "Role", "TrainingLapsed", "require_trained"]


class TrainingLapsed(PolicyRefusal):
    """An officer's training for live facial recognition is no longer in date."""


class Role(StrEnum):
    """What an officer is there for."""

    OPERATOR = "operator"
    ENGAGEMENT = "engagement officer"


@dataclass(frozen=True, slots=True)
class Officer:
    """Who is signed in.

    Attributes:
        number: badge or staff number, never a name.
        role: see :class:`Role`.
        trained_until: last day on which the training is in date.
    """

    number: str
    role: Role
    trained_until: date


def require_trained(officer: Officer, today: date) -> None:
    """Refuse an officer whose training has lapsed.

    Raises:
        TrainingLapsed: it has.
    """
    if officer.trained_until < today:
        raise TrainingLapsed(
            f"officer {officer.number}",
            f"was trained until {officer.trained_until}",
            "Ask whoever keeps the list of officers to record your renewed training",
        )
