"""From the broker to the inbox: verify, decrypt, take in once, show gaps, refuse what is not right, go on.

The rules of :meth:`Receiver.judge`, in order; the first that fails refuses the message:

1. the topic is one of the contract, and of a kind that vans send;
2. an alert passes :func:`edge.alert.message.open_alert` (size, shape, decryption, signature, body, envelope);
3. the van that signed it is the van of the topic;
4. it has not expired;
5. it is not known yet (:mod:`edge.controlroom.inbox`), otherwise it is counted as a duplicate.

An alert that is in the store, for the first or for the tenth time, gets a receipt (:mod:`edge.alert.receipt`): only
then does the van let it go.

A refused message is counted by reason, reported, and acknowledged, so that it cannot stand in the way of the
next. Nothing that arrives may end the receiver; only a full disk makes it wait, and then it acknowledges
nothing, so that the broker keeps what it could not store.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from edge.alert import topics
from edge.alert.link import FAILED, IN_FLIGHT, NO_SUBSCRIBER, Broker, Event, Link, LinkLost, refused
from edge.alert.message import open_alert
from edge.alert.publish import LinkState
from edge.alert.receipt import sign_receipts
from edge.alert.status import read_health, read_state
from edge.clock import NS_PER_S, Clock, SystemClock
from edge.controlroom.checkpoints import CHECKPOINTS, keep_checkpoint
from edge.controlroom.config import ControlConfig
from edge.controlroom.events import Arrived, LinkChanged, ReceiverEvent, Refused, VanCheckpoint, VanHealth, VanState
from edge.controlroom.inbox import Acceptance, Inbox, Verdict
from edge.errors import AlertRejected, EdgeError, EnvironmentFault, SignatureInvalid
from edge.records import Alert
from edge.trust.keys import DecryptionKeys, KnownSigners, SigningKey
from edge.trust.tls import client_context

__all__ = [
    "Arrived",
    "Counts",
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


@dataclass(slots=True)
class Counts:
    """What the receiver has seen since it started.

    Attributes:
        accepted: alerts taken in.
        duplicates: alerts that were known already.
        refused: messages not believed, by class of error.
    """

    accepted: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Outgoing(Protocol):
    """Messages for the vans, kept until the broker has acknowledged them."""

    def outgoing(self) -> list[tuple[int, str, bytes]]:
        """What waits, oldest first: number, topic and payload."""
        ...

    def sent(self, number: int) -> None:
        """It has been acknowledged."""
        ...


class Message(Protocol):
    """What the receiver reads of a message; :class:`paho.mqtt.client.MQTTMessage` is one."""

    @property
    def topic(self) -> str: ...

    payload: bytes


class Receiver:
    """A thread that keeps one session at the broker and tells ``on_event`` what comes.

    Args:
        broker: where.
        name: client identifier; the broker keeps a session under it.
        inbox: where alerts go.
        decryption: this control room's private keys.
        vans: whose alerts are believed.
        vans_file: the key set that ``vans`` was read from; read again within a minute of a change, so that a van is
            believed or revoked without a restart.
        on_event: called on the receiver's thread, one call at a time; may take its time, must not raise.
        signing: signs receipts.
        checkpoints: folder for the checkpoints of the vans' audit logs; None keeps none.
        outgoing: what is to be sent to the vans; :meth:`wake` when there is more.
        session_s: how long the broker keeps alerts while we are away.
        retention: how long the inbox keeps an alert.
        backoff_s: shortest and longest wait between attempts.
        clock: for expiry and retention.
    """

    IDLE_S, GATHER_S, SWEEP_NS = 5.0, 0.15, 60 * NS_PER_S

    def __init__(  # noqa: PLR0917
        self,
        broker: Broker,
        name: str,
        inbox: Inbox,
        decryption: DecryptionKeys,
        vans: KnownSigners,
        on_event: Callable[[ReceiverEvent], None],
        *,
        signing: SigningKey,
        outgoing: Outgoing | None = None,
        vans_file: Path | None = None,
        checkpoints: Path | None = None,
        session_s: int = 86_400,
        retention: timedelta = timedelta(hours=24),
        backoff_s: tuple[float, float] = (0.5, 15.0),
        clock: Clock | None = None,
    ) -> None:
        self._broker = broker
        self._name = name
        self._inbox = inbox
        self._decryption = decryption
        self._vans = vans
        self._tell = on_event
        self._signing = signing
        self._session_s = session_s
        self._retention = retention
        self._backoff_s = backoff_s
        self._clock: Clock = clock or SystemClock()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._outgoing = outgoing
        self._fresh = True
        self._vans_file = vans_file
        self._vans_changed = _changed_at(vans_file)
        self._checkpoints = checkpoints
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = LinkState.STOPPED
        self._trouble: EdgeError | None = None
        self.counts = Counts()

    @property
    def trouble(self) -> EdgeError | None:
        """What a person must mend, if anything."""
        return self._trouble

    def start(self) -> None:
        """Begin receiving; returns at once."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to send."""
        self._events.put(("wake", None))

    def stop(self) -> None:
        """Say goodbye to the broker and end; the broker keeps what comes meanwhile."""
        self._stopping.set()
        self.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def judge(self, message: Message) -> ReceiverEvent | None:
        """Apply the rules of the module to one message; None is a duplicate.

        Raises:
            EdgeError: the message is refused (:class:`AlertRejected`, :class:`SignatureInvalid`).
            StoreUnavailable: it could not be stored.
        """
        opened = self._open(message)
        return self._accept(opened) if isinstance(opened, Alert) else opened

    def _open(self, message: Message) -> Alert | VanState | VanHealth | VanCheckpoint:
        """Rules 1 to 4."""
        try:
            name = message.topic
        except UnicodeDecodeError:
            raise AlertRejected("topic", "is not UTF-8", "Check who publishes there") from None
        van, kind = topics.parse(name)
        if kind == topics.STATE:
            return VanState(read_state(message.payload, van))
        if kind == topics.HEALTH:
            return VanHealth(read_health(message.payload, van))
        if kind == topics.CHECKPOINT:
            return keep_checkpoint(self._checkpoints, van, message.payload, self._vans)
        if kind != topics.ALERT:
            raise AlertRejected(f"topic {name}", "is not one that vans send on", "Check the broker's access rules")
        alert = open_alert(message.payload, self._decryption, self._vans)
        if alert.van != van:
            raise SignatureInvalid(f"alert of {alert.van}", f"came on the topic of {van}", "Check who sent it")
        if alert.expires_at <= self._clock.now():
            raise AlertRejected(
                f"alert {alert.alert_id} of {van}", f"expired at {alert.expires_at:%H:%M:%S} UTC", "Do not act on it"
            )
        return alert

    def _accept(self, alert: Alert) -> Arrived | None:
        """Rule 5."""
        now = self._clock.now()
        acceptance = self._inbox.accept(alert, now)
        if acceptance.verdict is Verdict.DUPLICATE:
            self.counts.duplicates += 1
            return None
        self.counts.accepted += 1
        return Arrived(alert, acceptance, now)

    def refresh_vans(self) -> None:
        """Read the vans' key set again if its file has changed; a damaged one is reported and the former kept."""
        changed = _changed_at(self._vans_file)
        if self._vans_file is None or changed == self._vans_changed:
            return
        self._vans_changed = changed
        try:
            self._vans = KnownSigners.load(self._vans_file)
        except EdgeError as error:
            self._tell(Refused(str(self._vans_file), error))

    # -- on the receiver's thread ----------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        for left in self._inbox.unshown():
            self._tell(Arrived(left.alert, Acceptance(Verdict.NEW), left.received_at))
        while not self._stopping.is_set():
            link = self._new_link()
            try:
                link.open()
                link.ask_for(*(topics.of_all(kind) for kind in FROM_VANS))
                failures = 0
                self._serve(link)
            except LinkLost:
                self._set(LinkState.AWAY)
            except EdgeError as error:
                self._set(LinkState.REFUSED, error)
            finally:
                self._events = queue.SimpleQueue()  # whoever waits to put into the former one gives up
                link.close()
            if not self._stopping.is_set():
                self._stopping.wait(min(self._backoff_s[1], self._backoff_s[0] * 2 ** min(failures, 16)))
                failures += 1
        self._set(LinkState.STOPPED)

    def _new_link(self) -> Link:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._events = events
        return Link(
            self._broker,
            self._name,
            events,
            on_message=lambda message: self._queue(events, message),
            session_s=self._session_s,
            manual_ack=True,
        )

    def _queue(self, events: queue.SimpleQueue[Event], message: Any) -> None:
        """On the network thread: let a broker with a long queue wait in its socket and not in our memory.

        A receive maximum would be the protocol's way, but mosquitto 2.0.11 exceeds it and then stalls.
        """
        while events.qsize() >= 2 * IN_FLIGHT and events is self._events and not self._stopping.is_set():
            self._stopping.wait(0.005)
        events.put(("message", message))

    def _serve(self, link: Link) -> None:
        swept, self._fresh = -self.SWEEP_NS, True
        while not self._stopping.is_set():
            if self._clock.monotonic_ns() - swept >= self.SWEEP_NS:
                self._inbox.erase_due(self._clock.now(), self._retention)
                swept = self._clock.monotonic_ns()
                self.refresh_vans()
                self._send(link)
            with contextlib.suppress(queue.Empty):
                kind, content = self._events.get(timeout=self.IDLE_S)
                if kind == "closed":
                    raise LinkLost("the broker closed the connection")
                if kind == "subscribed":
                    if content[1] >= FAILED:
                        raise refused("subscription to the vans' alerts", content[1])
                    self._set(LinkState.ONLINE)
                if kind == "wake":
                    self._send(link)
                if kind == "message":
                    self._take(link, content)

    def _send(self, link: Link) -> None:
        """Send what waits for the vans, each van's in order; a van that the broker does not know gets it later."""
        unheard: set[str] = set()
        for number, topic, payload in self._outgoing.outgoing() if self._outgoing else ():
            if topic in unheard:
                continue
            reason = link.publish(topic, payload, expiry_s=self._session_s)
            if reason >= FAILED:
                raise refused(f"publishing to {topic}", reason)
            if reason == NO_SUBSCRIBER:
                unheard.add(topic)
            elif self._outgoing:
                self._outgoing.sent(number)

    def _take(self, link: Link, first: Any) -> None:
        """Take in one message and those that wait behind it: stored together, confirmed, told, then acknowledged.

        A broker that was restarted may hand out what it kept in another order: within what waits together, each
        van's alerts are put back into theirs, so right after connecting a moment is given for them to gather.
        """
        if self._fresh:
            self._fresh = False
            self._stopping.wait(self.GATHER_S)
        messages, later = [first], []
        while len(messages) < IN_FLIGHT and not self._events.empty():
            event = self._events.get()
            if event[0] == "message":
                messages.append(event[1])
            else:
                later.append(event)
        opened = [self._opened(message) for message in messages]
        alerts = sorted((each for each in opened if isinstance(each, Alert)), key=lambda a: (a.raised_at, a.sequence))
        found: list[ReceiverEvent | None] = [each for each in opened if not isinstance(each, Alert)]
        with self._inbox.batch():
            found += [self._accept(alert) for alert in alerts]
        self._confirm(link, alerts)
        for happened in found:
            if happened is not None:
                self._tell(happened)
        for message in messages:
            link.acknowledge(message)
        for event in later:
            self._events.put(event)

    def _confirm(self, link: Link, alerts: Sequence[Alert]) -> None:
        """Give each van its receipt for what is in the store now; one that is lost is asked for by a repeat."""
        for van in {alert.van for alert in alerts}:
            mine = [alert.alert_id for alert in alerts if alert.van == van]
            for receipt in sign_receipts(van, mine, self._clock.now(), self._signing):
                link.tell(topics.topic(van, topics.RECEIPT), receipt)

    def _opened(self, message: Any) -> Alert | VanState | VanHealth | VanCheckpoint | Refused:
        try:
            return self._open(message)
        except EnvironmentFault:
            raise
        except EdgeError as error:
            self.counts.refused[type(error).__name__] += 1
            return Refused(_printable(message), error)
        except Exception as error:  # noqa: BLE001 - whatever a message provokes, the next one must be read
            self.counts.refused[type(error).__name__] += 1
            unread = AlertRejected("message", f"could not be read ({type(error).__name__})", "Report this as a fault")
            return Refused(_printable(message), unread)

    def _set(self, state: LinkState, trouble: EdgeError | None = None) -> None:
        changed = (state, str(trouble)) != (self._state, str(self._trouble))
        self._state, self._trouble = state, trouble
        if changed:
            self._tell(LinkChanged(state, trouble))


def _changed_at(path: Path | None) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns if path is not None else 0
    return -1


def _printable(message: Any) -> str:
    try:
        return "".join(c if c.isprintable() else "?" for c in message.topic[:120])
    except UnicodeDecodeError:
        return "(not UTF-8)"


def connect(
    config: ControlConfig, name: str, inbox: Inbox, on_event: Callable[[ReceiverEvent], None], **options: Any
) -> Receiver:
    """A receiver as the configuration says, not yet started.

    Raises:
        KeyUnusable: a key or certificate is missing, damaged or readable by others.
    """
    base = Path(config.base)
    tls = client_context(config.broker.ca, config.broker.certificate, config.broker.certificate_key, base)
    return Receiver(
        Broker(config.broker.host, config.broker.port, tls),
        name,
        inbox,
        DecryptionKeys.load(config.keys.decryption, base),
        KnownSigners.load(config.path(config.keys.vans)),
        on_event,
        signing=SigningKey.load(config.keys.signing, base),
        vans_file=config.path(config.keys.vans),
        checkpoints=config.path(config.store.directory) / CHECKPOINTS,
        session_s=config.broker.session_h * 3600,
        retention=timedelta(hours=config.store.retention_h),
        **options,
    )
