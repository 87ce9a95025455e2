"""The one place where the van's state is held, changed and shown.

Whatever happens is an event of :mod:`edge.state`; the board reduces it and shows the result everywhere at once: to the
journal, to the service manager, to a file in memory that the crew's page and ``lfr-edge status`` read, and to whoever
listens, such as the publisher. The file lies in memory, so that a full disk cannot keep an old state on the page, and
it is written from the first step of a start, so that the page also says why a van does not start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge.clock import Clock
from edge.config import Config
from edge.errors import EdgeError, StoreUnavailable
from edge.state import Condition, Event, VanState, reduce
from edge.system import notify
from edge.system.health import Health, Reason, read_status, write_status
from edge.system.journal import get_logger

__all__ = ["StatusBoard", "status_file"]

log = get_logger("state")
STATUS_FILE = "status.json"
SERVICE_FOLDER = Path("/run/lfr-edge")
"""The unit's ``RuntimeDirectory``: in memory, kept when the service ends."""
_NUMBERS = re.compile(r"\d+")
MEMORY = Path("/dev/shm")  # noqa: S108 - the folder below it is ours alone, and checked to be


def status_file(config: Config, *, make: bool = False) -> Path:
    """Where a van's service says how it is; the same for every process that asks with this configuration.

    Args:
        config: the van's.
        make: make the folder, or refuse one of somebody else: for the service, which writes. Readers touch nothing.

    Raises:
        StoreUnavailable: the folder cannot be made, or belongs to somebody else.
    """
    if config.store.runtime:
        folder = config.path(config.store.runtime)
    elif SERVICE_FOLDER.is_dir():
        folder = SERVICE_FOLDER
    else:
        van = hashlib.sha256(str(config.path(config.store.directory).resolve()).encode()).hexdigest()[:16]
        own = MEMORY / f"lfr-edge-{os.getuid()}"
        if make:
            _own_folder(own)
        folder = own / van
    if make:
        _own_folder(folder)
    return folder / STATUS_FILE


def _own_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StoreUnavailable(
            str(folder), f"cannot be made ({error.strerror})", "Check who owns the folder above it"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.getuid(), 0}:
        raise StoreUnavailable(
            str(folder), "belongs to another user of this machine", "Remove it, or name another folder as store.runtime"
        )


class StatusBoard:
    """See the module. Its methods may be called from any thread.

    Args:
        config: the van's.
        clock: for the moment of each writing.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._file = status_file(config, make=True)
        self._lock = threading.RLock()
        self._state = VanState()
        self._listeners: list[Callable[[VanState], None]] = []
        self._health = Health(
            van=config.van.id, deployment=config.deployment.id, state=str(Condition.STARTING), at=clock.now(),
            before=self._why_it_failed(),
        )  # fmt: skip

    def _why_it_failed(self) -> str:
        """Why the last run failed, so that a service that is started again and again does not hide it."""
        with contextlib.suppress(EdgeError):
            last = read_status(self._file)
            if last.state == Condition.FAILED:
                return last.why
            if last.state == Condition.STARTING and last.before:
                return last.before
            if last.state != Condition.ENDED:
                return f"it was cut off without a word at {last.at.astimezone():%H:%M:%S}"
        return ""

    @property
    def state(self) -> VanState:
        """What the van is now."""
        return self._state

    @property
    def health(self) -> Health:
        """What was shown last."""
        return self._health

    def listen(self, listener: Callable[[VanState], None]) -> None:
        """Call ``listener`` with the state, now and after every change; it must be quick."""
        self._listeners.append(listener)
        listener(self._state)

    def take(self, *events: Event) -> VanState:
        """Take in what has happened, and show what the van is now. Never raises: see :meth:`show`."""
        with self._lock:
            before = self._state
            for event in events:
                self._state = reduce(self._state, event)
            after = self._state
            if after == before:
                return after
            with contextlib.suppress(EdgeError):  # a file that cannot be written must not hide the cause
                self.show()
            if _outline(after) == _outline(before):  # the same trouble in newer words, such as another age in seconds
                return after
            say = log.info if after.condition in {Condition.MATCHING, Condition.STARTING} else log.warning
            say(str(after.condition), why=after.why, parts=[t.part for t in after.troubles])
            notify.status(f"{after.condition}: {after.why}" if after.why else str(after.condition))
            for listener in self._listeners:
                listener(after)
        return after

    def show(self, counters: Health | None = None) -> None:
        """Write the file, with newer counters if there are any.

        Raises:
            StoreUnavailable: it cannot be written: nobody would see what the van is.
        """
        with self._lock:
            state = self._state
            begun = state.phase is not Condition.STARTING
            self._health = msgspec.structs.replace(
                counters or self._health,
                state=str(state.condition),
                why=state.why,
                reasons=tuple(Reason(str(t.part), t.why, t in state.blocking) for t in state.troubles),
                before="" if begun else self._health.before,
                at=self._clock.now(),
            )
            write_status(self._file, self._health)


def _outline(state: VanState) -> object:
    """What of a state is worth telling anew."""
    words = _NUMBERS.sub("#", state.why)
    return (state.phase, words, state.condition, tuple((t.part, t.key, t.blocks) for t in state.troubles))
