"""What a receiver tells: one small record per thing that happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from edge.alert.publish import LinkState
from edge.alert.status import HealthBody, StateBody
from edge.controlroom.numbering import Acceptance
from edge.errors import EdgeError
from edge.records import Alert

__all__ = ["Arrived", "LinkChanged", "ReceiverEvent", "Refused", "VanCheckpoint", "VanHealth", "VanState"]


@dataclass(frozen=True, slots=True)
class Arrived:
    """An authentic alert was taken in for the first time."""

    alert: Alert
    acceptance: Acceptance
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """A message was not believed.

    Attributes:
        topic: where it came.
        error: why; holds nothing of its content.
    """

    topic: str
    error: EdgeError


@dataclass(frozen=True, slots=True)
class VanState:
    """A van came, went, or fell silent."""

    body: StateBody


@dataclass(frozen=True, slots=True)
class VanHealth:
    """A van's counters."""

    body: HealthBody


@dataclass(frozen=True, slots=True)
class VanCheckpoint:
    """A van vouched for its audit log so far; kept, so that nobody can cut the end off unseen."""

    van: str


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The connection to the broker changed; ``trouble`` is set where a person must act."""

    state: LinkState
    trouble: EdgeError | None


ReceiverEvent = Arrived | Refused | VanState | VanHealth | VanCheckpoint | LinkChanged
