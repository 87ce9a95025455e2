"""What happens to the parts of a van, as troubles of its state: which part is meant, and in which words."""

from __future__ import annotations

from edge.alert.publish import LinkState
from edge.errors import (
    ClockUntrusted,
    EdgeError,
    KeyUnusable,
    StoreDamaged,
    StoreUnavailable,
    WatchlistGone,
    WatchlistNotNamed,
    WatchlistUnreadable,
)
from edge.state import Part

__all__ = ["JUDGED", "OFFLINE", "part_of"]

_LIST = (WatchlistGone, WatchlistNotNamed, WatchlistUnreadable, StoreDamaged, KeyUnusable)
JUDGED = (Part.CLOCK, Part.PERMISSION, Part.LIST, Part.DISK)
"""The parts that the guard's answers speak of."""
OFFLINE = {
    LinkState.CONNECTING: "There is no connection to the broker yet: alerts wait in the van",
    LinkState.AWAY: "The broker cannot be reached: alerts wait in the van. Check the network connection",
    LinkState.UNHEARD: "No control room is listening: alerts wait in the van. Call the control room",
    LinkState.UNCONFIRMED: "The control room has not confirmed an alert: it stays in the van. Call the control room",
}


def part_of(error: EdgeError) -> Part:
    """Which part an answer of the guard speaks of."""
    if isinstance(error, ClockUntrusted):
        return Part.CLOCK
    if isinstance(error, StoreUnavailable):
        return Part.DISK
    return Part.LIST if isinstance(error, _LIST) else Part.PERMISSION
