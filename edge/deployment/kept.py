"""What a van keeps of its deployment over a restart: its authority, which is read before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from edge.errors import AuthorityInvalid
from edge.trust.audit import AuditEntry
from edge.trust.authority import Authority, parse_authority
from edge.trust.history import copies
from edge.watchlist.destruction import UNNAMED, destroy_keys

__all__ = ["AUTHORITY_FILE", "ENDED", "deployments_here", "end_what_is_over", "kept_authority"]

AUTHORITY_FILE = "authority.json"
ENDED = "the authority ended"


def end_what_is_over(state: Path, lists: Path, *, now: datetime, clock_confirmed: Callable[[], bool]) -> None:
    """Destroy the key of a list that an authority left which is over, or that none stands behind, whatever comes now.

    The first thing of every start, before a log or a store is opened: a disk that is full must not keep a list alive.
    On the word of a clock that nothing vouches for nothing is destroyed:
    :meth:`edge.deployment.mandate.Mandate.check` does it once something does.

    Raises:
        StoreUnavailable: a key could not be overwritten.
    """
    try:
        last = parse_authority((state / AUTHORITY_FILE).read_bytes())
    except (FileNotFoundError, AuthorityInvalid):
        destroy_keys(lists, UNNAMED)  # nobody could say when it has to end
        return
    except OSError:
        return  # it may be readable the next time
    if now >= last.ends and clock_confirmed():
        destroy_keys(lists, ENDED)


def kept_authority(state: Path) -> Authority | None:
    """The authority that was accepted last, if it is kept and can be read."""
    try:
        return parse_authority((state / AUTHORITY_FILE).read_bytes())
    except (OSError, AuthorityInvalid):
        return None


def deployments_here(entries: Iterable[AuditEntry], state: Path) -> set[str]:
    """The deployments that are on this van: whose list came and was not destroyed, and whose authority is kept."""
    found = {copy.deployment for copy in copies(entries).values() if not copy.destroyed}
    kept = kept_authority(state)
    return found if kept is None else found | {kept.deployment}
