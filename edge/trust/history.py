"""Was this person on a list? Answered from the audit log's bare references, long after every list is gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edge.trust.audit import AuditEntry
from edge.trust.events import Event

__all__ = ["CopyState", "Listing", "copies", "was_listed"]


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
        key = (entry.van, str(entry.data.get("copy", "")))
        if entry.event == Event.LIST_IMPORTED and reference in entry.data["references"]:
            open_at[key] = len(found)
            found.append(Listing(entry.deployment, entry.van, str(entry.data["list"]), entry.at, None, ""))
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


@dataclass(frozen=True, slots=True)
class CopyState:
    """What the log knows of one import of a list.

    Attributes:
        copy: which import.
        order: its place in the log.
        watchlist: identity of the list.
        deployment: for which deployment.
        references: still on it.
        destroyed: whether its destruction is in the log.
    """

    copy: str
    order: int
    watchlist: str
    deployment: str
    references: tuple[str, ...]
    destroyed: bool


def copies(entries: Iterable[AuditEntry]) -> dict[str, CopyState]:
    """Every import of a list in a log, and what became of it."""
    found: dict[str, CopyState] = {}
    gone: dict[str, set[str]] = {}
    for entry in entries:
        copy = str(entry.data.get("copy", ""))
        if entry.event == Event.LIST_IMPORTED:
            names = tuple(entry.data["references"])
            found[copy] = CopyState(copy, entry.seq, str(entry.data["list"]), entry.deployment, names, destroyed=False)
        elif entry.event == Event.ENTRY_REMOVED:
            gone.setdefault(copy, set()).add(str(entry.data["reference"]))
        elif entry.event == Event.LIST_DESTROYED and copy in found:
            found[copy] = replace(found[copy], destroyed=True)
    return {
        copy: replace(state, references=tuple(r for r in state.references if r not in gone.get(copy, ())))
        for copy, state in found.items()
    }
