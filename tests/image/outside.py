"""What a control room hears of the emulated van, in the order in which it came, while the van's own words are read."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from edge.alert.publish import LinkState
from edge.alert.status import HealthBody, StateBody
from edge.controlroom.receive import Arrived, LinkChanged, ReceiverEvent, VanHealth, VanState
from edge.controlroom.to_vans import read_lines
from edge.records import Alert
from tests.broker import Site
from tests.image.qemu import Van

__all__ = ["ControlRoom", "control_room"]

Found = TypeVar("Found")


class ControlRoom:
    """A receiver with the control room's certificate and store. Make one with :func:`control_room`.

    Attributes:
        alerts: that arrived.
        states: every word about what the van is.
        health: the newest counters.
    """

    def __init__(self, site: Site, name: str) -> None:
        self.alerts: list[Alert] = []
        self.states: list[StateBody] = []
        self.health: HealthBody | None = None
        self._store = site.store(name)
        self._online = threading.Event()
        self.receiver = site.receiver(self._hear, store=self._store, outgoing=self._store.to_vans)
        self.receiver.start(site.supervisor)
        assert self._online.wait(15)

    def _hear(self, event: ReceiverEvent) -> None:
        match event:
            case Arrived(alert=alert):
                self.alerts.append(alert)
            case VanState(body=body):
                self.states.append(body)
                words = f"{body.state}, {body.condition}{': ' if body.detail else ''}{body.detail}"
                print(f"outside: {words}", file=sys.stderr, flush=True)
            case VanHealth(body=body):
                self.health = body
            case LinkChanged(state=LinkState.ONLINE):
                self._online.set()

    def until(self, van: Van, found: Callable[[], Found | bool | None], what: str, longest_s: float = 300) -> Found:
        """Whatever ``found`` finds; fails after ``longest_s`` of this machine's seconds, with what was heard last."""
        deadline = time.monotonic() + longest_s
        while not (answer := found()):
            assert time.monotonic() < deadline, (
                f"{what}: not seen; {self.states[-3:]}, {self.health}; {van.text[-2000:]}"
            )
            van._read(0.2)
        return answer  # type: ignore[return-value]

    def becomes(self, van: Van, condition: str, longest_s: float = 300) -> StateBody:
        """The first word from now on that the van is ``condition``, or its last word when that says so."""
        since = max(0, len(self.states) - 1)
        said = lambda: next((s for s in self.states[since:] if s.condition == condition), None)  # noqa: E731
        return self.until(van, said, condition, longest_s)

    def counters(self, van: Van, is_so: Callable[[HealthBody], bool], what: str, longest_s: float = 300) -> HealthBody:
        """The first counters of which ``is_so`` says yes."""
        return self.until(van, lambda: self.health if self.health and is_so(self.health) else None, what, longest_s)

    def say(self, van: str, signed: Path) -> None:
        """Hand signed revocations or a withdrawal over for a van, as ``lfr-control revoke`` does."""
        self._store.to_vans.stand(van, read_lines(signed.read_bytes()), by="0001")
        self.receiver.wake()


@contextlib.contextmanager
def control_room(site: Site, name: str) -> Iterator[ControlRoom]:
    """A control room that listens."""
    room = ControlRoom(site, name)
    try:
        yield room
    finally:
        room.receiver.stop()
        room._store.close()
