"""How an authentic alert is taken in: new or not, and what its number says of those before it.

A number that was skipped is remembered until it arrives. A van whose outbox was made anew starts again from 1; that is
reported and its numbering begins afresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge.records import Alert
from edge.trust.sealed import Connection

__all__ = ["Acceptance", "Verdict", "follow"]

MOST_MISSING = 1000
"""Missing numbers remembered per jump; of a larger jump the first are."""
MOST_OF_A_VAN = 10_000
"""Missing numbers remembered of one van; beyond, the lowest are forgotten. A van that was taken over can leave out as
many as it likes, and each of them costs room and time."""


class Verdict(StrEnum):
    """What an authentic alert turned out to be."""

    NEW = "new"
    LATE = "late"
    """Its number had been missing."""
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"
    """Another alert of this van has its identifier already; nothing was stored."""
    RESTARTED = "restarted"
    """The van's numbering began again."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How an alert was taken in.

    Attributes:
        verdict: see :class:`Verdict`.
        missing: first and last number that were skipped right before this one, or None.
        elsewhere: the other room that took it in, of several that share a store; otherwise empty.
    """

    verdict: Verdict
    missing: tuple[int, int] | None = None
    elsewhere: str = ""


def follow(db: Connection, alert: Alert) -> Acceptance:
    """Follow the van's numbering."""
    row = db.execute("SELECT last FROM vans WHERE van = ?", (alert.van,)).fetchone()
    if row is None or alert.sequence > row[0]:
        # A van that was never heard here may have spoken before: its first number is no gap.
        db.execute(
            "INSERT INTO vans (van, last) VALUES (?, ?) ON CONFLICT (van) DO UPDATE SET last = excluded.last",
            (alert.van, alert.sequence),
        )
        if row is None or alert.sequence == row[0] + 1:
            return Acceptance(Verdict.NEW)
        first, last = row[0] + 1, alert.sequence - 1
        listed = range(first, min(last, first + MOST_MISSING - 1) + 1)
        db.executemany(
            "INSERT INTO missing (van, sequence) VALUES (?, ?) ON CONFLICT DO NOTHING", ((alert.van, n) for n in listed)
        )
        db.execute(
            "DELETE FROM missing WHERE van = ? AND sequence <= "
            "(SELECT sequence FROM missing WHERE van = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
            (alert.van, alert.van, MOST_OF_A_VAN),
        )
        return Acceptance(Verdict.NEW, (first, last))
    if db.execute("DELETE FROM missing WHERE van = ? AND sequence = ?", (alert.van, alert.sequence)).rowcount:
        return Acceptance(Verdict.LATE)
    db.execute("UPDATE vans SET last = ? WHERE van = ?", (alert.sequence, alert.van))
    db.execute("DELETE FROM missing WHERE van = ?", (alert.van,))
    return Acceptance(Verdict.RESTARTED)
