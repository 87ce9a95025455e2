"""How the van is doing, its state and counters: for the page, for ``lfr-edge status`` and for the health topic.

Nothing here can describe a person: every field is a number, a moment or a word of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from edge.errors import BadInput, StoreUnavailable
from edge.files import replace_file
from edge.parsing import json_as

__all__ = ["Health", "Reason", "Spread", "read_status", "spread", "write_status"]


class Spread(Struct, frozen=True):
    """How a number was spread; all None when there was nothing to count."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None


def spread(values: Sequence[float], digits: int = 1) -> Spread:
    """Median, 99th percentile and maximum of ``values``."""
    if not values:
        return Spread()
    p50, p99 = np.percentile(values, [50, 99])
    return Spread(round(float(p50), digits), round(float(p99), digits), round(float(max(values)), digits))


class Reason(Struct, frozen=True):
    """One part that is in trouble.

    Attributes:
        part: a :class:`edge.state.Part`.
        why: in words.
        blocks: whether the van does not match because of it.
    """

    part: str
    why: str
    blocks: bool


class Health(Struct, frozen=True, kw_only=True):
    """State and counters since the start.

    Attributes:
        van, deployment: who speaks.
        state: a :class:`edge.state.Condition`: starting, matching, not matching, ended, failed.
        why: in words, when it is not matching.
        reasons: every part that is in trouble, the most important first.
        before: why the service failed the last time it ran, while it starts again.
        at: when this was written, UTC.
        frames, dropped: frames processed, and frames overwritten by newer ones.
        unreadable: frames and pictures that the source lost or that could not be decoded.
        given_up: frames whose deadline came before this machine was done with them: it is too slow, or stalls.
        fps: frames per second processed over the whole run.
        faces_seen: passages.
        embedded: faces searched.
        refused: faces not searched, by reason.
        alerts: alerts raised; undelivered: alerts that wait in the outbox.
        erasure_ms: from a passage's last frame to the erasure of all of it, unmatched passages only.
        nonmatch_overdue: handles that outlived their deadline. Anything but 0 stops the van.
        list_entries: people who are searched for.
        threshold: the score that an alert needs.
        memory_locked: whether nothing of this process can reach swap.
    """

    van: str
    deployment: str
    state: str
    at: datetime
    why: str = ""
    reasons: tuple[Reason, ...] = ()
    before: str = ""
    frames: int = 0
    dropped: int = 0
    unreadable: int = 0
    given_up: int = 0
    fps: float = 0.0
    faces_seen: int = 0
    embedded: int = 0
    refused: dict[str, int] = {}
    alerts: int = 0
    undelivered: int = 0
    erasure_ms: Spread = Spread()
    nonmatch_overdue: int = 0
    stage_ms: dict[str, float] = {}
    list_entries: int = 0
    threshold: float = 0.0
    memory_locked: bool = False


def write_status(path: Path, health: Health) -> None:
    """Replace the status file in one step, so that a reader never sees half of it.

    Raises:
        StoreUnavailable: the folder cannot be written.
    """
    try:
        replace_file(path, msgspec.json.encode(health), durable=False)
    except OSError as error:
        raise StoreUnavailable(
            str(path), f"cannot be written ({error.strerror})", "Check the memory's space and the folder's owner"
        ) from None


def read_status(path: Path) -> Health:
    """What the service wrote last.

    Raises:
        BadInput: the service has not run here, or the file is damaged.
    """
    try:
        return json_as(path.read_bytes(), Health)
    except OSError:
        raise BadInput(str(path), "is not there: the service has not run here yet", "Start it: lfr-edge run") from None
    except msgspec.MsgspecError:
        raise BadInput(str(path), "is damaged", "Restart the service: it writes the file again") from None
