"""What the van is, now: one state with its reasons, made from everything that happens. Pure.

Everything that can keep the van from matching is a *part* with a slot of its own: the permission, each camera, the
list, the clock, custody, the disk, the link, the service itself. :func:`reduce` takes one event in; a trouble of one
part never hides or ends a trouble of another, so a camera that comes back cannot turn a refused van green. Pages, the
journal, MQTT and ``lfr-edge status`` read the result and nothing else.

::

    STARTING ──Began──▶ MATCHING ◀──── troubles that block come and go ────▶ NOT MATCHING
        │                   │                                                     │
        └───────────────────┴──Ended──▶ ENDED        anything ──Failed──▶ FAILED ─┘

A state that has ended or failed says so for good; ``Failed`` after ``Ended`` still counts, because the reason that a
person must act on is the later one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = [
    "Began",
    "Condition",
    "Ended",
    "Event",
    "Failed",
    "Fine",
    "Part",
    "Starting",
    "Trouble",
    "VanState",
    "reduce",
]


class Part(StrEnum):
    """What can be in trouble, in the order in which a person is told."""

    SERVICE = "service"
    CUSTODY = "custody"
    CLOCK = "clock"
    PERMISSION = "permission"
    LIST = "list"
    CAMERA = "camera"
    DISK = "disk"
    LINK = "link"


_ORDER = tuple(Part)


class Condition(StrEnum):
    """The one word for all of it."""

    STARTING = "starting"
    MATCHING = "matching"
    NOT_MATCHING = "not matching"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part is in trouble from now on.

    Attributes:
        part: which.
        why: in words that a constable understands, with what to do.
        blocks: whether the van must not, or cannot, match while it lasts. Otherwise it goes on and says so.
        key: tells parts of one kind apart: the identifier of a camera, and behind a ``/`` what of it is meant.
    """

    part: Part
    why: str
    blocks: bool = True
    key: str = ""


@dataclass(frozen=True, slots=True)
class Fine:
    """A part is in no trouble (any more)."""

    part: Part
    key: str = ""


@dataclass(frozen=True, slots=True)
class Starting:
    """The service has begun a step of its start."""

    step: str


@dataclass(frozen=True, slots=True)
class Began:
    """The start is done: from now on the parts say how it is."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The service has ended as it should; ``why`` says what ended it."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The service could not start, or had to stop."""

    why: str


Event = Trouble | Fine | Starting | Began | Ended | Failed


@dataclass(frozen=True, slots=True)
class VanState:
    """What the van is. Made by :func:`reduce`; begins as ``VanState()``.

    Attributes:
        condition: the one word.
        what: the step of a start that is under way; why it ended or failed.
        troubles: of every part, the most important first.
        cameras: identifiers of the cameras that deliver.
    """

    phase: Condition = Condition.STARTING
    what: str = ""
    troubles: tuple[Trouble, ...] = ()
    cameras: frozenset[str] = frozenset()

    @property
    def condition(self) -> Condition:
        if self.phase is Condition.MATCHING and self.blocking:
            return Condition.NOT_MATCHING
        return self.phase

    @property
    def blocking(self) -> tuple[Trouble, ...]:
        """The troubles that keep the van from matching. One camera of several that is lost does not."""
        return tuple(t for t in self.troubles if t.blocks and not (t.part is Part.CAMERA and self.cameras))

    @property
    def warnings(self) -> tuple[Trouble, ...]:
        """The troubles in spite of which it matches."""
        blocking = self.blocking
        return tuple(t for t in self.troubles if t not in blocking)

    @property
    def why(self) -> str:
        """The reason for the condition in one line; empty while it matches and all is well."""
        if self.phase is not Condition.MATCHING:
            return self.what
        first = (*self.blocking, *self.warnings)
        return first[0].why if first else ""


def reduce(state: VanState, event: Event) -> VanState:
    """What the van is after ``event``.

    Troubles are kept by part and key: a later one of the same part and key takes the place of the earlier one, and
    only ``Fine`` for that part and key ends it. Nothing but ``Failed`` changes what has ended; nothing changes what has
    failed: the first failure is the cause, and what follows from it is not.
    """
    if state.phase is Condition.FAILED or (state.phase is Condition.ENDED and not isinstance(event, Failed)):
        return state
    match event:
        case Trouble(part=part, key=key):
            kept = _without(state.troubles, part, key)
            troubles = tuple(sorted((*kept, event), key=lambda t: (_ORDER.index(t.part), t.key)))
            cameras = state.cameras - {_camera(key)} if part is Part.CAMERA and event.blocks else state.cameras
            return replace(state, troubles=troubles, cameras=cameras)
        case Fine(part=part, key=key):
            left = _without(state.troubles, part, key)
            still = any(t.part is part and t.blocks and _camera(t.key) == _camera(key) for t in left)
            cameras = state.cameras | {_camera(key)} if part is Part.CAMERA and not still else state.cameras
            return replace(state, troubles=left, cameras=cameras)
        case Starting(step=step):
            return replace(state, what=step) if state.phase is Condition.STARTING else state
        case Began():
            return replace(state, phase=Condition.MATCHING, what="")
        case Ended(why=why):
            return replace(state, phase=Condition.ENDED, what=why)
        case Failed(why=why):
            return replace(state, phase=Condition.FAILED, what=why)


def _without(troubles: tuple[Trouble, ...], part: Part, key: str) -> tuple[Trouble, ...]:
    return tuple(t for t in troubles if (t.part, t.key) != (part, key))


def _camera(key: str) -> str:
    """The camera that a trouble's key names: one that delivers and shows nothing but black does not deliver."""
    return key.partition("/")[0]
