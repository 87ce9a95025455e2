"""What the audit log can say: a fixed catalogue of events, each with fixed fields.

The names are a contract with overseers: an event is never renamed and its fields never change their
meaning. Fields hold text, whole numbers and lists of text only. There is no field in which a template,
a picture or the name of a person could be put.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from edge.errors import SOFTWARE_FAULT, RecordInvalid

__all__ = ["FIELDS", "Event", "check_fields"]

MAX_TEXT = 1000


class Event(StrEnum):
    """One kind of thing that happened. The value is the stable identifier."""

    STARTED = "lfr.started"
    STOPPED = "lfr.stopped"
    REFUSED = "lfr.refused"
    LOG_REPAIRED = "audit.repaired"
    AUTHORITY_ACCEPTED = "authority.accepted"
    AUTHORITY_ENDED = "authority.ended"
    LIST_IMPORTED = "list.imported"
    LIST_DESTROYED = "list.destroyed"
    ENTRY_CONSULTED = "entry.consulted"
    ENTRY_REMOVED = "entry.removed"
    ENTRY_ABSENT = "entry.absent"
    ALERT_SENT = "alert.sent"
    ALERT_ADJUDICATED = "alert.adjudicated"
    ALERTS_DELETED = "alerts.deleted"
    ERASURES = "erasure.totals"
    CUSTODY_BREACHED = "custody.breached"
    SERVICE_FAILED = "service.failed"
    STORE_DAMAGED = "store.damaged"
    CAMERA_TROUBLE = "camera.trouble"
    CAMERA_FINE = "camera.fine"
    CLOCK_UNCONFIRMED = "clock.unconfirmed"
    CLOCK_CONFIRMED = "clock.confirmed"
    SIGNED_IN = "officer.signed-in"
    SIGNED_OUT = "officer.signed-out"
    SIGN_IN_REFUSED = "officer.refused"
    STAFF_CHANGED = "officer.changed"
    ALERT_VIEWED = "alert.viewed"
    HISTORY_VIEWED = "history.viewed"
    SESSIONS_VIEWED = "sessions.viewed"
    REVOCATIONS_HANDED_OVER = "revocations.handed-over"


FIELDS: dict[Event, dict[str, type]] = {
    Event.STARTED: {"version": str, "model": str, "threshold_micro": int},
    Event.STOPPED: {"cause": str},
    Event.REFUSED: {"error": str, "thing": str, "cause": str},
    Event.LOG_REPAIRED: {"bytes": int},
    Event.AUTHORITY_ACCEPTED: {"authority": str, "digest": str, "starts": str, "ends": str},
    Event.AUTHORITY_ENDED: {"authority": str, "cause": str},
    Event.LIST_IMPORTED: {"list": str, "copy": str, "entries": int, "references": list},
    Event.LIST_DESTROYED: {"list": str, "copy": str, "cause": str, "entries": int, "files": list, "destroyed_at": str},
    Event.ENTRY_CONSULTED: {"list": str, "reference": str, "by": str, "purpose": str},
    Event.ENTRY_REMOVED: {"list": str, "copy": str, "reference": str, "cause": str},
    Event.ENTRY_ABSENT: {"list": str, "reference": str, "cause": str},
    Event.ALERT_SENT: {"alert": str, "reference": str, "to": list},
    Event.ALERT_ADJUDICATED: {"alert": str, "verdict": str, "by": str},
    Event.ALERTS_DELETED: {"store": str, "count": int, "cause": str},
    Event.ERASURES: {"from": str, "to": str, "count": int, "longest_ms": int, "overdue": int},
    Event.CUSTODY_BREACHED: {"cause": str},
    Event.SERVICE_FAILED: {"part": str, "cause": str},
    Event.STORE_DAMAGED: {"store": str, "kept": str, "carried": int, "lost": str},
    Event.CAMERA_TROUBLE: {"camera": str, "what": str, "cause": str},
    Event.CAMERA_FINE: {"camera": str, "what": str},
    Event.CLOCK_UNCONFIRMED: {},
    Event.CLOCK_CONFIRMED: {"by": str},
    Event.SIGNED_IN: {"by": str, "role": str, "from": str},
    Event.SIGNED_OUT: {"by": str, "cause": str},
    Event.SIGN_IN_REFUSED: {"by": str, "error": str, "from": str, "unlogged": int},
    Event.STAFF_CHANGED: {"officer": str, "change": str, "by": str, "at": str},
    Event.ALERT_VIEWED: {"alert": str, "what": str, "by": str},
    Event.HISTORY_VIEWED: {"by": str, "asked": list, "alerts": list},
    Event.SESSIONS_VIEWED: {"by": str},
    Event.REVOCATIONS_HANDED_OVER: {"van": str, "count": int, "by": str},
}
"""Name and type of every field of every event; all are required. ``threshold_micro`` is a millionth of
the score that an alert needs. ``copy`` tells one import of a list from another of the same list on the same van.
``by`` is a role or a badge number, never a name. ``part`` is the worker that failed. ``kept`` is the name of the
damaged file, ``carried`` how many rows of it were saved, and ``lost`` says in words what could not be. ``what`` is the
part of the camera that is in trouble (``connection``, ``picture``, ``mode``), ``cause`` what the crew was told.
``from`` of a sign-in is an address; ``asked`` names the questions that were put to the history, not what was typed;
``unlogged`` counts the refused ones before it that were too many to be written one by one."""


def check_fields(event: Event, fields: Mapping[str, Any]) -> None:
    """Refuse a field that the catalogue does not have, lacks or types otherwise.

    Raises:
        RecordInvalid: says which.
    """
    wanted = FIELDS[event]
    if set(fields) != set(wanted):
        odd = sorted(set(fields) ^ set(wanted))
        raise RecordInvalid(
            f"audit event {event}", f"has other fields than it should: {', '.join(odd)}", SOFTWARE_FAULT
        )
    for name, kind in wanted.items():
        value = fields[name]
        good = type(value) is kind
        if good and kind is list:
            good = all(type(item) is str and len(item) <= MAX_TEXT for item in value)
        if good and kind is str:
            good = len(value) <= MAX_TEXT
        if not good:
            raise RecordInvalid(f"audit event {event}.{name}", f"must be {kind.__name__} of text", SOFTWARE_FAULT)
