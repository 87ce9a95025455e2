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
from edge.state import Event, Fine, Part, Trouble

__all__ = ["JUDGED", "OFFLINE", "camera_event", "part_of"]

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


_CAMERA = {
    "lost": ("", True),
    "unusable": ("/picture", True),
    "poor": ("/picture", False),
    "less": ("/mode", False),
}
"""What a camera tells of itself: what is in trouble, and whether nobody is matched while it is."""
_CAMERA_FINE = {"delivers": "", "back": "", "clear": "/picture", "as-asked": "/mode"}


def camera_event(camera: str, what: str, why: str) -> Event:
    """What :class:`edge.sight.capture.Capture` tells of a camera with that identifier, as an event of the state."""
    if what in _CAMERA_FINE:
        return Fine(Part.CAMERA, key=camera + _CAMERA_FINE[what])
    of_it, blocks = _CAMERA[what]
    return Trouble(Part.CAMERA, why, blocks=blocks, key=camera + of_it)
