"""What a van says of itself besides alerts: whether it is there, and counters. Nothing of any passer-by.

Both travel unsigned: the broker vouches for the van by its certificate, and no decision rests on them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

from edge.errors import AlertRejected
from edge.names import Name
from edge.parsing import DecodeError, json_as

__all__ = ["MAX_STATUS", "HealthBody", "StateBody", "read_health", "read_state"]

MAX_STATUS = 16 * 1024
"""Bytes of a state or health message."""

Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class StateBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether a van is there. ``lost`` is its last will: the broker says it when the van falls silent."""

    v: Annotated[Literal[1], Meta(description="version of this body")] = 1
    van: Annotated[Name, Meta(description="the van's identity")]
    state: Literal["online", "offline", "lost"]
    since: Annotated[datetime, Meta(tz=True, description="when the van said so; for lost, when it had connected")]
    condition: Annotated[
        Literal["", "starting", "matching", "not matching", "ended", "failed"],
        Meta(description="what the van does, as its own page says; empty where the broker speaks for it"),
    ] = ""
    detail: Annotated[str, Meta(max_length=200, description="why, for people")] = ""


class HealthBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counters since the start of the service."""

    v: Annotated[Literal[1], Meta(description="version of this body")] = 1
    van: Annotated[Name, Meta(description="the van's identity")]
    at: Annotated[datetime, Meta(tz=True, description="when these counters were read")]
    frames: Annotated[Count, Meta(description="frames processed")] = 0
    frames_dropped: Annotated[Count, Meta(description="frames that a newer one overtook")] = 0
    faces: Annotated[Count, Meta(description="passages of a face through the zone of recognition")] = 0
    erased: Annotated[Count, Meta(description="passages erased")] = 0
    overdue: Annotated[Count, Meta(description="erasures past their deadline")] = 0
    alerts: Annotated[Count, Meta(description="alerts raised")] = 0
    alerts_delivered: Annotated[Count, Meta(description="alerts that a control room confirmed")] = 0
    alerts_expired: Annotated[Count, Meta(description="alerts dropped undelivered because they were stale")] = 0
    alerts_waiting: Annotated[Count, Meta(description="alerts in the outbox")] = 0


Body = TypeVar("Body", StateBody, HealthBody)


def read_state(message: bytes, van: str) -> StateBody:
    """Read a state message that came on the topic of ``van``.

    Raises:
        AlertRejected: too large, malformed, or of another van.
    """
    return _checked(_decode(StateBody, message), van)


def read_health(message: bytes, van: str) -> HealthBody:
    """Read a health message that came on the topic of ``van``.

    Raises:
        AlertRejected: too large, malformed, or of another van.
    """
    return _checked(_decode(HealthBody, message), van)


def _decode(kind: type[Body], message: bytes) -> Body:
    if len(message) > MAX_STATUS:
        raise AlertRejected(
            "status message", f"is too long: {len(message)} bytes, {MAX_STATUS} are allowed", "Check who sent it"
        )
    try:
        return json_as(message, kind)
    except DecodeError:
        raise AlertRejected("status message", "is not a message of version 1", "Check who sent it") from None


def _checked(body: Body, van: str) -> Body:
    if body.van != van:
        raise AlertRejected(f"status message of {van}", f"says that it comes from {body.van}", "Check who sent it")
    return body
