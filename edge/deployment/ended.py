"""Which deployments are over on this van, and since when: so that none comes back by a restart or a stick left in.

The audit log is the record, and it is there before it is needed: the line that says that a list came onto this van was
pushed to the device before the list was in force. A list that came once and is not here any more has ended its
deployment, unless the log says that it went for a reason for which it may be fetched again
(:data:`edge.watchlist.destruction.PASSING`). So nothing has to be written for an end to last: neither a full disk nor a
power cut at any moment can lose it, and no clock is asked. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge.errors import DeploymentOver
from edge.trust.audit import AuditEntry
from edge.trust.events import Event
from edge.watchlist.destruction import PASSING

__all__ = ["End", "end_of", "refusal", "said_already"]

MINUTES = len("2026-03-01T10:00")


@dataclass(frozen=True, slots=True)
class End:
    """When and why a deployment ended on this van.

    Attributes:
        deployment: which.
        at: as the van's clock said, ISO 8601, UTC. For words only: nothing is judged by it.
        cause: why, as the log says.
        seq: the log's entry that says so.
    """

    deployment: str
    at: str
    cause: str
    seq: int


def end_of(entries: Iterable[AuditEntry], deployment: str) -> End | None:
    """The first end of a deployment in a van's log; None while it has not ended here.

    Whether it was its time, a withdrawal, or a crew that retired it makes no difference.
    """
    copies: set[str] = set()
    for entry in entries:
        if entry.event == Event.LIST_IMPORTED and entry.deployment == deployment:
            copies.add(str(entry.data["copy"]))
        over = (entry.event == Event.AUTHORITY_ENDED and entry.data["authority"] == deployment) or (
            entry.event == Event.LIST_DESTROYED and entry.data["copy"] in copies and entry.data["cause"] not in PASSING
        )
        if over:
            return End(deployment, entry.at, str(entry.data["cause"]), entry.seq)
    return None


def refusal(end: End) -> DeploymentOver:
    """What the crew reads when a deployment that is over is asked for again."""
    when = end.at[:MINUTES].replace("T", " ")
    return DeploymentOver(
        f"deployment {end.deployment}",
        f"has ended on this van at {when} UTC ({end.cause}) and does not come back",
        "Ask the office for a new authority, with a new name for the deployment",
    )


def said_already(entries: Iterable[AuditEntry], error: DeploymentOver) -> bool:
    """Whether the last thing of note in the log is this same refusal: a service that starts again says it once."""
    passing = {Event.CLOCK_UNCONFIRMED, Event.CLOCK_CONFIRMED, Event.LOG_REPAIRED}
    last = next((entry for entry in reversed([*entries]) if entry.event not in passing), None)
    return (
        last is not None
        and last.event == Event.REFUSED
        and (last.data["error"], last.data["cause"]) == (type(error).__name__, error.cause)
    )
