"""Was this person on a list? Answered from the audit log's bare references, long after every list is gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge.trust.audit import AuditEntry
from edge.trust.events import Event

__all__ = ["Listing", "was_listed"]


@dataclass(frozen=True, slots=True)
class Listing:
    """One time that a reference was on a list.

    Attributes:
        deployment: during which deployment.
        van: on which van.
        watchlist: identity of the list.
        since: when the van imported it, ISO 8601, UTC.
        until: when the entry or the whole list was destroyed; None when the log does not say so.
        cause: why it ended; empty while it has not.
    """

    deployment: str
    van: str
    watchlist: str
    since: str
    until: str | None
    cause: str


def was_listed(entries: Iterable[AuditEntry], reference: str) -> tuple[Listing, ...]:
    """Every time ``reference`` was on a list, in the order of the log."""
    found: list[Listing] = []
    open_at: dict[tuple[str, str], int] = {}
    for entry in entries:
        key = (entry.van, str(entry.data.get("list", "")))
        if entry.event == Event.LIST_IMPORTED and reference in entry.data["references"]:
            open_at[key] = len(found)
            found.append(Listing(entry.deployment, entry.van, key[1], entry.at, None, ""))
        ends = entry.event == Event.LIST_DESTROYED or (
            entry.event == Event.ENTRY_REMOVED and entry.data["reference"] == reference
        )
        if ends and key in open_at:
            at = open_at.pop(key)
            began = found[at]
            found[at] = Listing(
                began.deployment, began.van, began.watchlist, began.since, entry.at, str(entry.data["cause"])
            )
    return tuple(found)
