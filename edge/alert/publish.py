"""From the outbox to the broker, in order, until the broker has acknowledged every alert.

:class:`Link` is one MQTT connection from its beginning to its end: it never reconnects by itself and keeps no
queue, so that what is undelivered stands in one place only, the outbox. :class:`Publisher` is a thread that
opens links, backs off with jitter between them, and sends one alert at a time: the next goes out when the one
before has been acknowledged, so the order is that of the sequence over any number of failures.

An acknowledgement counts only with a reason code of success. "No matching subscribers" is none: nobody would
ever see that alert, so it stays and is sent again.
"""

from __future__ import annotations

import contextlib
import queue
import random
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.alert import topics
from edge.alert.outbox import Outbox, Pending
from edge.alert.status import HealthBody, StateBody
from edge.clock import Clock, SystemClock
from edge.errors import BrokerUnavailable, EdgeError

__all__ = ["Broker", "Link", "LinkLost", "LinkState", "Publisher", "Will"]

KEEPALIVE_S = 20
ANSWER_S = 20.0
"""How long the broker may take to answer a CONNECT, SUBSCRIBE or PUBLISH before the link counts as dead."""
NO_SUBSCRIBER = 0x10
UNSUPPORTED_VERSION = 0x84
TLS_ALERT = re.compile(r"\[SSL: (?:SSLV3|TLSV1|TLSV13)_ALERT_(\w+)\]")
FAILED = 0x80
"""Reason codes from here on are failures (MQTT 5, 2.4)."""
PERSON_MUST_ACT = {
    0x84: "does not speak MQTT 5 or 3.1.1",
    0x85: "does not accept this client's identifier",
    0x86: "does not accept this client's certificate",
    0x87: "does not authorise this client",
    0x8A: "has banned this client",
    0x90: "does not accept this topic",
    0x95: "does not accept a message of this size",
}


class LinkLost(Exception):
    """A connection ended or was not answered in time; nothing is known to be wrong but the way."""


class _VersionRefused(BrokerUnavailable):
    """The broker does not speak this version of MQTT."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how to prove who we are.

    Attributes:
        host: name or address, as in its certificate.
        port: TCP port.
        tls: see :func:`edge.trust.tls.client_context`.
    """

    host: str
    port: int
    tls: ssl.SSLContext = field(repr=False)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us when we fall silent."""

    topic: str
    payload: bytes = field(repr=False)


Event = tuple[str, Any]
"""``("connected"|"closed", reason)``, ``("acked"|"subscribed", (packet id, reason))`` or ``("wake", None)``."""


class Link:
    """One connection to the broker.

    Args:
        broker: where to.
        client_id: who we are; a second link of the same name takes over from the first.
        events: where everything that happens on the network thread is told.
        on_message: called on the network thread with each message; it must not raise.
        will: see :class:`Will`.
        session_s: how long the broker keeps what it owes us while we are away.
        manual_ack: whether the owner acknowledges messages itself, with :meth:`acknowledge`.
        version: 5, or 4 for MQTT 3.1.1.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        events: queue.SimpleQueue[Event],
        *,
        on_message: Callable[[MQTTMessage], None] | None = None,
        will: Will | None = None,
        session_s: int = 0,
        manual_ack: bool = False,
        version: int = 5,
    ) -> None:
        self._broker = broker
        self._events = events
        self._session_s = session_s
        self.version = version
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=session_s == 0 if version == 4 else None,
            protocol=MQTTv5 if version == 5 else MQTTv311,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        self._client.tls_set_context(broker.tls)
        self._client.connect_timeout = ANSWER_S
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self._client.on_connect = lambda _c, _u, _f, reason, _p: events.put(("connected", reason.value))
        self._client.on_disconnect = lambda _c, _u, _f, reason, _p: events.put(("closed", reason.value))
        self._client.on_publish = lambda _c, _u, mid, reason, _p: events.put(("acked", (mid, reason.value)))
        self._client.on_subscribe = lambda _c, _u, mid, reasons, _p: events.put(
            ("subscribed", (mid, max(reason.value for reason in reasons)))
        )
        self._tls_alert: str | None = None
        self._client.on_log = self._listen_for_alert
        if on_message is not None:
            self._client.on_message = lambda _c, _u, message: on_message(message)

    def open(self) -> None:
        """Connect and wait for the broker's answer.

        Raises:
            LinkLost: nobody answers, or the connection broke.
            BrokerUnavailable: the broker or its certificate is wrong, or it refuses us: a person must act.
        """
        where = f"broker {self._broker.host}:{self._broker.port}"
        options: dict[str, Any] = {}
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._session_s
            options = {"clean_start": self._session_s == 0, "properties": properties}
        try:
            self._client.connect(self._broker.host, self._broker.port, KEEPALIVE_S, **options)
        except ssl.SSLCertVerificationError as error:
            raise BrokerUnavailable(
                where, f"shows a certificate that cannot be trusted ({error.verify_message})", "Check alert.ca and host"
            ) from None
        except (OSError, ValueError) as error:
            raise LinkLost(f"{where} cannot be reached ({error})") from None
        self._client.loop_start()
        try:
            reason = self.wait("connected")
        except LinkLost:
            if self._tls_alert is None:
                raise
            raise BrokerUnavailable(
                where,
                f"refuses our certificate ({self._tls_alert})",
                "Check that it is of this site, in date and not revoked; else enrol again",
            ) from None
        if reason == UNSUPPORTED_VERSION:
            raise _VersionRefused(where, PERSON_MUST_ACT[reason], "Update the broker")
        if reason >= FAILED:
            raise _refused(where, reason)

    def _listen_for_alert(self, _client: Client, _data: Any, _level: int, line: str) -> None:
        # With TLS 1.3 a server judges our certificate after the handshake has ended for us: the only trace of
        # its refusal is an alert on the first read, which paho tells nobody but its log.
        if found := TLS_ALERT.search(line):
            self._tls_alert = found[1].lower().replace("_", " ")

    def wait(self, kind: str, packet: int | None = None) -> int:
        """Wait for one event, and return its reason code; a wake-up meanwhile is put back.

        Raises:
            LinkLost: the connection ended first, or no answer came in time.
        """
        woken = False
        try:
            while True:
                try:
                    found, content = self._events.get(timeout=ANSWER_S)
                except queue.Empty:
                    raise LinkLost("the broker does not answer") from None
                if found == "closed":
                    raise LinkLost("the broker closed the connection")
                if found == "wake":
                    woken = True
                elif found == kind and packet is None:
                    return int(content)
                elif found == kind and content[0] == packet:
                    return int(content[1])
        finally:
            if woken:
                self._events.put(("wake", None))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> int:
        """Publish with QoS 1 and return the reason code of the acknowledgement.

        Raises:
            LinkLost: the connection ended before it came; the message may or may not have arrived.
        """
        properties = None
        if self.version == 5 and expiry_s is not None:
            properties = Properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expiry_s
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return self.wait("acked", sent.mid)

    def tell(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 0: it may be lost."""
        self._client.publish(topic, payload, qos=0)

    def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1.

        Raises:
            LinkLost: no answer.
            BrokerUnavailable: the broker refuses: its access rules must be mended.
        """
        _, mid = self._client.subscribe([(name, 1) for name in filters])
        reason = self.wait("subscribed", mid)
        if reason >= FAILED:
            raise _refused(f"subscription to {', '.join(filters)}", reason)

    def acknowledge(self, message: MQTTMessage) -> None:
        """Tell the broker that a message is safe with us (with ``manual_ack``)."""
        self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """Say goodbye, so that the will stays unsaid, and end the network thread."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()


def _refused(thing: str, reason: int) -> BrokerUnavailable:
    cause = PERSON_MUST_ACT.get(reason, f"refuses (reason code 0x{reason:02x})")
    return BrokerUnavailable(thing, cause, "Check the certificate and the broker's access rules")


class LinkState(StrEnum):
    """How the way to the control room is."""

    CONNECTING = "connecting"
    ONLINE = "online"
    UNHEARD = "unheard"
    """The broker is there, but no control room listens; retried by itself."""
    AWAY = "away"
    """The broker cannot be reached; retried by itself."""
    REFUSED = "refused"
    """A person must act; retried nevertheless."""
    STOPPED = "stopped"


StateCallback = Callable[[LinkState, EdgeError | None], None]


class Publisher:
    """The thread that empties the outbox.

    Args:
        outbox: what to send.
        broker: where to.
        van: who we are, as in our certificate.
        on_state: told of every change of state, with the error where a person must act.
        on_message: told of messages for the van, as ``(kind, payload)``; called on the network thread.
        backoff_s: shortest and longest wait between attempts.
        clock: for expiry.
    """

    IDLE_S: Final = 5.0
    UNHEARD_S: Final = 2.0

    def __init__(
        self,
        outbox: Outbox,
        broker: Broker,
        van: str,
        *,
        on_state: StateCallback | None = None,
        on_message: Callable[[str, bytes], None] | None = None,
        backoff_s: tuple[float, float] = (0.5, 30.0),
        clock: Clock | None = None,
    ) -> None:
        self._outbox = outbox
        self._broker = broker
        self._van = van
        self._on_state = on_state
        self._on_message = on_message
        self._backoff_s = backoff_s
        self._clock: Clock = clock or SystemClock()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self._failures = 0
        self._version = 5
        self._link: Link | None = None
        self._thread: threading.Thread | None = None
        self.state = LinkState.STOPPED
        self.trouble: EdgeError | None = None
        """What a person must mend, while :attr:`state` is ``refused``."""

    def start(self) -> None:
        """Begin sending; returns at once."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye to the broker and end; what is undelivered stays in the outbox."""
        self._stopping.set()
        self.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """Look into the outbox: there is something new."""
        self._events.put(("wake", None))

    def wait_empty(self, timeout: float) -> bool:
        """Wait until everything is delivered or expired; whether that came about within ``timeout`` seconds."""
        with self._progress:
            return self._progress.wait_for(lambda: self._outbox.counters().waiting == 0, timeout)

    def report(self, health: HealthBody) -> None:
        """Publish counters if there is a connection; they are not worth keeping otherwise."""
        link = self._link
        if link is not None and self.state is LinkState.ONLINE:
            link.tell(topics.topic(self._van, topics.HEALTH), msgspec.json.encode(health))

    # -- on the publisher's thread ---------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._set(LinkState.CONNECTING if self._failures == 0 else self.state)
                self._serve()
            except LinkLost:
                self._set(LinkState.AWAY)
            except EdgeError as error:
                self._set(LinkState.REFUSED, error)
            finally:
                self._hang_up()
            self._drop_expired()
            self._pause()
        self._set(LinkState.STOPPED)

    def _serve(self) -> None:
        """Open one link and send over it until it ends or we stop."""
        self._events = events = queue.SimpleQueue()
        self._link = link = Link(
            self._broker,
            self._van,
            events,
            on_message=self._incoming,
            will=Will(topics.topic(self._van, topics.STATE), self._state_body("lost")),
            session_s=86_400 if self._on_message else 0,
            version=self._version,
        )
        if self._stopping.is_set():
            return
        try:
            link.open()
        except _VersionRefused:
            self._version = 4 if self._version == 5 else 5  # for the next attempt; 4 is MQTT 3.1.1
            raise
        self._check(link.publish(topics.topic(self._van, topics.STATE), self._state_body("online"), retain=True))
        if self._on_message:
            link.subscribe(*(topics.topic(self._van, kind) for kind in (topics.ADJUDICATION, topics.REVOCATION)))
        self._set(LinkState.ONLINE)
        while not self._stopping.is_set():
            self._drop_expired()
            pending = self._outbox.next()
            if pending is None:
                self._failures = 0
                self._idle(events, self.IDLE_S)
            elif self._send(link, pending):
                self._set(LinkState.ONLINE)
            else:
                self._set(LinkState.UNHEARD)
                self._idle(events, min(self.UNHEARD_S, self._backoff_s[1]))

    def _send(self, link: Link, pending: Pending) -> bool:
        left = max(1, int(pending.expires_at - self._clock.now().timestamp()))
        reason = link.publish(topics.topic(self._van, topics.ALERT), pending.message, expiry_s=left)
        if reason == NO_SUBSCRIBER:
            return False
        self._check(reason)
        self._outbox.delivered(pending.sequence)
        self._failures = 0
        self._told()
        return True

    def _check(self, reason: int) -> None:
        if reason >= FAILED:
            raise _refused(f"publishing as {self._van}", reason)

    def _idle(self, events: queue.SimpleQueue[Event], longest: float) -> None:
        with contextlib.suppress(queue.Empty):
            kind, _ = events.get(timeout=longest)
            if kind == "closed":
                raise LinkLost("the broker closed the connection")

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        if self._stopping.is_set() and self.state is LinkState.ONLINE:
            with contextlib.suppress(LinkLost):
                link.publish(topics.topic(self._van, topics.STATE), self._state_body("offline"), retain=True)
        link.close()

    def _drop_expired(self) -> None:
        try:
            gone = self._outbox.drop_expired(self._clock.now())
        except EdgeError as error:
            self._set(LinkState.REFUSED, error)
            return
        if gone:
            self._told()

    def _pause(self) -> None:
        if self._stopping.is_set():
            return
        shortest, longest = self._backoff_s
        wait = min(longest, shortest * 2 ** min(self._failures, 16))
        self._failures += 1
        self._stopping.wait(wait * random.uniform(0.5, 1.0))

    def _incoming(self, message: MQTTMessage) -> None:
        with contextlib.suppress(EdgeError, UnicodeDecodeError):
            van, kind = topics.parse(message.topic)
            if self._on_message and van == self._van:
                self._on_message(kind, message.payload)

    def _state_body(self, state: str) -> bytes:
        body = {"v": 1, "van": self._van, "state": state, "since": self._clock.now(), "detail": ""}
        return msgspec.json.encode(msgspec.convert(body, StateBody))

    def _told(self) -> None:
        with self._progress:
            self._progress.notify_all()

    def _set(self, state: LinkState, trouble: EdgeError | None = None) -> None:
        changed = (state, str(trouble)) != (self.state, str(self.trouble))
        self.state, self.trouble = state, trouble
        if changed and self._on_state is not None:
            self._on_state(state, trouble)
