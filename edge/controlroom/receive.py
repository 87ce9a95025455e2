"""One session at the broker: what comes is judged and stored, confirmed to the van, told, and acknowledged.

Messages that wait together are stored in one transaction (:mod:`edge.controlroom.intake`). Then, and only then, each
alert among them gets its receipt (:mod:`edge.alert.receipt`), for the first or for the tenth time: the van lets it
go. Then it is told, and last the messages are acknowledged. Whatever ends this process in between, the alert is in
the store.

A full disk makes the receiver wait, and then it acknowledges nothing, so that the broker keeps what it could not
store. A damaged store, and every fault that nobody thought of, ends the worker and with it the process.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from edge.alert import topics
from edge.alert.link import (
    FAILED,
    IN_FLIGHT,
    NO_SUBSCRIBER,
    Broker,
    Event,
    Link,
    LinkLost,
    SessionWatch,
    raise_if_ended,
    refused,
)
from edge.alert.publish import LinkState
from edge.alert.receipt import Held, sign_receipts
from edge.clock import NS_PER_S, Clock, SystemClock
from edge.controlroom.checkpoints import CHECKPOINTS
from edge.controlroom.config import ControlConfig
from edge.controlroom.events import Arrived, LinkChanged, ReceiverEvent, Refused, VanCheckpoint, VanHealth, VanState
from edge.controlroom.intake import Intake
from edge.controlroom.numbering import Acceptance, Verdict
from edge.controlroom.store import AlertStore
from edge.errors import BrokerUnavailable, EdgeError, StoreDamaged
from edge.records import AlertRef
from edge.trust.keys import DecryptionKeys, KnownSigners, SigningKey
from edge.trust.tls import client_context
from edge.worker import JOIN_S, Supervisor, Worker

__all__ = [
    "Arrived",
    "LinkChanged",
    "Receiver",
    "ReceiverEvent",
    "Refused",
    "VanCheckpoint",
    "VanHealth",
    "VanState",
    "connect",
]

FROM_VANS = (topics.ALERT, topics.STATE, topics.HEALTH, topics.CHECKPOINT)


class Outgoing(Protocol):
    """Messages for the vans, kept until the broker has acknowledged them."""

    def outgoing(self) -> list[tuple[int, str, bytes]]:
        """What waits, oldest first: number, topic and payload."""
        ...

    def sent(self, number: int) -> None:
        """It has been acknowledged."""
        ...

    def standing(self, *, every: bool = False) -> list[tuple[str, str, bytes]]:
        """What the broker is to keep and has not acknowledged, or ``every`` such message: van, topic and payload."""
        ...

    def stood(self, van: str, payload: bytes) -> None:
        """It has been acknowledged."""
        ...

    def sending(self) -> AbstractContextManager[bool]:
        """Whether it is for this end to send, while this is entered."""
        ...


class Receiver:
    """A worker that keeps one session at the broker and tells ``on_event`` what comes.

    Args:
        broker: where.
        name: client identifier; the broker keeps a session under it.
        intake: judges and stores what comes.
        on_event: called on the receiver's thread, one call at a time; it may take its time if it calls :meth:`beat`
            meanwhile. What it raises ends the worker, unless it is an :class:`edge.errors.EnvironmentFault`.
        signing: signs receipts. None: gives none, as whoever only listens.
        outgoing: what is to be sent to the vans; :meth:`wake` when there is more.
        session_s: how long the broker keeps alerts while we are away.
        backoff_s: shortest and longest wait between attempts.
        clock: for the moment of a receipt.
    """

    IDLE_S, GATHER_S, ROUND_NS = 5.0, 0.15, 60 * NS_PER_S
    HELD_UP_S = 0.5
    TAKEN_OVER_S = 30.0
    """How long another program keeps our session before we take it back: a person has time to see why."""
    SILENT_S = 120.0
    """Longer than the broker's name, its TCP and TLS and the answer to CONNECT may take, one after the other."""

    def __init__(
        self,
        broker: Broker,
        name: str,
        intake: Intake,
        on_event: Callable[[ReceiverEvent], None],
        *,
        signing: SigningKey | None,
        outgoing: Outgoing | None = None,
        session_s: int = 86_400,
        backoff_s: tuple[float, float] = (0.5, 15.0),
        clock: Clock | None = None,
    ) -> None:
        self._broker = broker
        self._name = name
        self.intake = intake
        self._tell = on_event
        self._signing = signing
        self._session_s = session_s
        self._backoff_s = backoff_s
        self._clock: Clock = clock or SystemClock()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._outgoing = outgoing
        self._fresh = True
        self._stood = False
        """Whether this connection's broker keeps what it is to keep."""
        self._held_up = False
        """Whether another room was sending when there was something to send; it may have been about to end."""
        self._link: Link | None = None
        """While the broker has accepted it."""
        self._checkpoint = b""
        self._worker: Worker | None = None
        self._told_leftovers = False
        self._session = SessionWatch(self._clock)
        self._state = LinkState.STOPPED
        self._trouble: EdgeError | None = None

    @property
    def trouble(self) -> EdgeError | None:
        """What a person must do something about, if anything."""
        return self._trouble

    def start(self, supervisor: Supervisor) -> None:
        """Begin receiving; returns at once. Whatever ends the worker is told to ``supervisor``."""
        self._told_leftovers = False
        self._worker = supervisor.start("receiver", self._run, silent_s=self.SILENT_S)

    def wake(self) -> None:
        """There is something to send."""
        self._events.put(("wake", None))

    def announce(self, checkpoint: str) -> None:
        """Publish a checkpoint of the control room's audit log: now, or when there is a connection again."""
        self._checkpoint = checkpoint.encode("ascii")
        link = self._link
        if link is not None:
            link.tell(topics.topic(topics.CONTROL_ROOM, topics.CHECKPOINT), self._checkpoint)

    def beat(self) -> None:
        """For ``on_event``: there is progress, although it takes its time."""
        if self._worker is not None:
            self._worker.beat()

    def stop(self, timeout: float = JOIN_S) -> bool:
        """Say goodbye to the broker and end; the broker keeps what comes meanwhile. False when it hangs.

        Args:
            timeout: seconds that this may take.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return True
        worker.ask_to_stop()
        self.wake()
        return worker.stop(timeout)

    # -- on the receiver's thread ----------------------------------------------------------------

    def _run(self, worker: Worker) -> None:
        failures = 0
        while not worker.stopping:
            worker.beat()
            wait_s = min(self._backoff_s[1], self._backoff_s[0] * 2 ** min(failures, 16))
            link = self._new_link(worker)
            try:
                self._tell_leftovers()
                link.open()
                link.ask_for(*(topics.of_all(kind) for kind in FROM_VANS))
                failures = 0
                self._session.accepted()
                self._link = link
                if self._checkpoint:
                    self.announce(self._checkpoint.decode("ascii"))
                self._serve(link, worker)
            except LinkLost as lost:
                if self._session.lost(lost):
                    wait_s = self.TAKEN_OVER_S
                    self._set(LinkState.REFUSED, self._taken_over())
                else:
                    self._set(LinkState.AWAY)
            except StoreDamaged:
                raise
            except EdgeError as error:
                self._set(LinkState.REFUSED, error)
            finally:
                self._link = None
                self._events = queue.SimpleQueue()  # whoever waits to put into the former one gives up
                link.close()
            if not worker.stopping:
                worker.wait(wait_s)
                failures += 1
        self._set(LinkState.STOPPED)

    def _tell_leftovers(self) -> None:
        """What was stored before the last end and is not shown yet."""
        if not self._told_leftovers:
            for left in self.intake.store.unshown():
                self._tell(Arrived(left.alert, Acceptance(Verdict.NEW), left.received_at))
            self._told_leftovers = True

    def _taken_over(self) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"broker {self._broker.host}:{self._broker.port}",
            f"another program uses this control room's connection (as {self._name})",
            f"Stop the other program; this one connects again after {self.TAKEN_OVER_S:.0f} s",
        )

    def _new_link(self, worker: Worker) -> Link:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._events = events
        return Link(
            self._broker,
            self._name,
            events,
            on_message=lambda message: self._queue(worker, events, message),
            session_s=self._session_s,
            manual_ack=True,
        )

    def _queue(self, worker: Worker, events: queue.SimpleQueue[Event], message: Any) -> None:
        """On the network thread: let a broker with a long queue wait in its socket and not in our memory.

        A receive maximum would be the protocol's way, but mosquitto 2.0.11 exceeds it and then stalls.
        """
        while events.qsize() >= 2 * IN_FLIGHT and events is self._events and not worker.stopping:
            time.sleep(0.005)
        events.put(("message", message))

    def _serve(self, link: Link, worker: Worker) -> None:
        rounded, self._fresh, self._stood, online, looked = -self.ROUND_NS, True, False, False, 0
        while not worker.stopping:
            worker.beat()
            if self._clock.monotonic_ns() - rounded >= self.ROUND_NS:
                rounded = self._clock.monotonic_ns()
                if (refusal := self.intake.refresh_vans()) is not None:
                    self._tell(refusal)
                self._send(link)
            event: Event = ("nothing", None)
            with contextlib.suppress(queue.Empty):
                soon = self._held_up or self.intake.waits_for_another
                event = self._events.get(timeout=self.HELD_UP_S if soon else self.IDLE_S)
            raise_if_ended(event)
            kind, content = event
            if kind == "subscribed":
                if content[1] >= FAILED:
                    raise refused("subscription to the vans' alerts", content[1])
                online = True
            if online:
                self._set(LinkState.ONLINE, self._taken_over() if self._session.contended else None)
            if self.intake.waits_for_another and self._clock.monotonic_ns() - looked >= self.HELD_UP_S * NS_PER_S:
                looked = self._clock.monotonic_ns()
                self._confirm(link, [(each.ref, each.digest) for each in self.intake.orphans()])
            if kind == "wake" or self._held_up:
                self._send(link)
            if kind == "message":
                self._take(link, worker, content)

    def _send(self, link: Link) -> None:
        """Send what waits for the vans, each van's in order; a van that the broker does not know gets it later.

        What the broker is to keep is said with each new connection, in case it has lost it.
        """
        if self._outgoing is None:
            return
        with self._outgoing.sending() as ours:
            self._held_up = not ours
            if ours:
                self._send_waiting(link, self._outgoing)

    def _send_waiting(self, link: Link, outgoing: Outgoing) -> None:
        for van, topic, payload in outgoing.standing(every=not self._stood):
            self.beat()
            reason = link.publish(topic, payload, retain=True)
            if reason >= FAILED:
                raise refused(f"publishing to {topic}", reason)
            outgoing.stood(van, payload)
        self._stood = True
        unheard: set[str] = set()
        for number, topic, payload in outgoing.outgoing():
            if topic in unheard:
                continue
            self.beat()
            reason = link.publish(topic, payload, expiry_s=self._session_s)
            if reason >= FAILED:
                raise refused(f"publishing to {topic}", reason)
            if reason == NO_SUBSCRIBER:
                unheard.add(topic)
            else:
                outgoing.sent(number)

    def _take(self, link: Link, worker: Worker, first: Any) -> None:
        """Take in one message and those that wait behind it: stored together, confirmed, told, then acknowledged.

        Right after connecting a moment is given for them to gather, so that they can be put in order.
        """
        if self._fresh:
            self._fresh = False
            worker.wait(self.GATHER_S)
        messages, later = [first], []
        while len(messages) < IN_FLIGHT and not self._events.empty():
            event = self._events.get()
            if event[0] == "message":
                messages.append(event[1])
            else:
                later.append(event)
        found = self.intake.judge(messages)
        self._confirm(link, [(each.alert.ref, each.digest) for each in found.stored])
        for happened in found.events:
            self._tell(happened)
        for message in messages:
            link.acknowledge(message)
        for event in later:
            self._events.put(event)

    def _confirm(self, link: Link, stored: Sequence[tuple[AlertRef, str]]) -> None:
        """Give each van its receipt for what is in the store now; one that is lost is asked for by a repeat."""
        if self._signing is None:
            return
        for van in {ref.van for ref, _ in stored}:
            mine = [Held(alert_id=ref.alert_id, digest=digest) for ref, digest in stored if ref.van == van]
            for receipt in sign_receipts(van, mine, self._clock.now(), self._signing):
                link.tell(topics.topic(van, topics.RECEIPT), receipt)

    def _set(self, state: LinkState, trouble: EdgeError | None = None) -> None:
        changed = (state, str(trouble)) != (self._state, str(self._trouble))
        self._state, self._trouble = state, trouble
        if changed:
            self._tell(LinkChanged(state, trouble))


def connect(
    config: ControlConfig,
    name: str,
    store: AlertStore,
    on_event: Callable[[ReceiverEvent], None],
    *,
    confirms: bool = True,
    clock: Clock | None = None,
    **options: Any,
) -> Receiver:
    """A receiver as the configuration says, not yet started.

    Args:
        config: the control room's file.
        name: see :class:`Receiver`.
        store: where alerts are kept.
        on_event: see :class:`Receiver`.
        confirms: whether it gives the vans receipts; the broker lets nobody but the control room itself.
        clock: see :class:`Receiver`.
        options: see :class:`Receiver`.

    Raises:
        KeyUnusable: a key or certificate is missing, damaged or readable by others.
    """
    base = Path(config.base)
    signing = SigningKey.load(config.keys.signing, base)
    intake = Intake(
        store,
        DecryptionKeys.load(config.keys.decryption, base),
        KnownSigners.load(config.path(config.keys.vans)),
        vans_file=config.path(config.keys.vans),
        checkpoints=config.path(config.store.directory) / CHECKPOINTS,
        room=KnownSigners.of([signing.public_jwk(owner=topics.CONTROL_ROOM)]),
        clock=clock,
    )
    tls = client_context(config.broker.ca, config.broker.certificate, config.broker.certificate_key, base)
    return Receiver(
        Broker(config.broker.host, config.broker.port, tls),
        name,
        intake,
        on_event,
        signing=signing if confirms else None,
        session_s=config.broker.session_h * 3600,
        clock=clock,
        **options,
    )
