"""One MQTT connection, from its beginning to its end: the only module that knows paho.

A :class:`Link` never reconnects by itself and keeps no queue, so that what is undelivered stands in one place
only: the outbox on the van, the broker's session towards the control room.

Nothing dies on its network thread unseen: what the owner's callback raises comes to the owner's own thread as a
``failed`` event, and a fault inside paho ends the connection as a :class:`LinkLost`. The owner reads events with
:meth:`Link.wait`, or from the queue and through :func:`raise_if_ended`.
"""

from __future__ import annotations

import queue
import re
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.alert import topics
from edge.clock import NS_PER_S, Clock
from edge.errors import BrokerUnavailable

__all__ = [
    "FAILED",
    "IN_FLIGHT",
    "NO_SUBSCRIBER",
    "Broker",
    "Event",
    "Link",
    "LinkLost",
    "MQTTMessage",
    "SessionTakenOver",
    "SessionWatch",
    "VersionRefused",
    "Will",
    "raise_if_ended",
    "refused",
]

KEEPALIVE_S = 20
ANSWER_S = 20.0
"""How long the broker may take to answer a CONNECT, SUBSCRIBE or PUBLISH before the link counts as dead."""
NO_SUBSCRIBER = 0x10
IN_FLIGHT = 50
"""Messages that are taken in together. Not asked of the broker: mosquitto 2.0.11 exceeds such a limit and stalls."""
CLOSE_S = 5.0
"""How long the network thread may take to end; one that does not is left behind and ends with the process."""
TAKEN_OVER = 0x8E
"""MQTT 5, 3.14.2.1: another client connected under our identifier."""
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
    """A connection ended or was not answered in time; nothing is known to be wrong but the network.

    Attributes:
        reason: the reason code with which the connection was closed; None when it was not closed but fell silent or
            failed on our side.
    """

    def __init__(self, message: str, reason: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class SessionTakenOver(LinkLost):
    """Another program connected under our name, and the broker gave it our session: see :class:`SessionWatch`."""


class VersionRefused(BrokerUnavailable):
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
"""``("connected"|"closed", reason)``, ``("acked"|"subscribed", (packet id, reason))``, ``("failed", exception)``, or
what the owner puts there. The reason of ``closed`` is None when the network thread itself failed."""


def raise_if_ended(event: Event) -> None:
    """Raise what an event says of the connection's end; every other event passes.

    Raises:
        SessionTakenOver: another program has our session now.
        LinkLost: the connection ended.
        Exception: whatever the owner's callback raised on the network thread.
    """
    kind, content = event
    if kind == "failed":
        raise content
    if kind != "closed":
        return
    if content is None:
        raise LinkLost("the connection failed on this side")
    if content == TAKEN_OVER:
        raise SessionTakenOver("another program took this connection over", content)
    raise LinkLost("the broker closed the connection", content)


class SessionWatch:
    """Tells a session that another program takes away from a network that breaks.

    A broker that follows MQTT 5 says so (:class:`SessionTakenOver`). mosquitto 2.0.11 does not, nor does MQTT 3.1.1:
    they close the connection without a word, and again right after each new one, because the other program comes back
    as quickly as we do. Three times running within ten seconds of being accepted is what no failing network does.

    Args:
        clock: for how long a connection was held.
    """

    SHORT_S, TIMES = 10.0, 3

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_ns: int | None = None
        self._times = 0

    @property
    def contended(self) -> bool:
        """Whether another program uses our name; until a connection has been held for longer than ten seconds."""
        if self._since_ns is not None and self._held_s() > self.SHORT_S:
            self._times = 0
        return self._times >= self.TIMES

    def accepted(self) -> None:
        """The broker has accepted a new connection."""
        self._since_ns = self._clock.monotonic_ns()

    def lost(self, error: LinkLost) -> bool:
        """The connection ended; whether another program has the session now."""
        if isinstance(error, SessionTakenOver):
            self._times = self.TIMES
        elif self._since_ns is not None:
            closed_soon = error.reason is not None and self._held_s() <= self.SHORT_S
            self._times = self._times + 1 if closed_soon else 0
        self._since_ns = None
        return self._times >= self.TIMES

    def _held_s(self) -> float:
        return (self._clock.monotonic_ns() - (self._since_ns or 0)) / NS_PER_S


class _Client(Client):
    """paho's client, whose network thread says so when it dies."""

    def __init__(self, on_death: Callable[[Exception], None], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._on_death = on_death

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:  # noqa: FBT001, FBT002 - paho's
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # noqa: BLE001 - handed on: the owner loses the link and opens another
            self._on_death(error)
            return MQTTErrorCode.MQTT_ERR_UNKNOWN

    def end(self) -> None:
        """As ``loop_stop``, which waits for ever, and which fails when the thread ends at the same moment."""
        thread = self._thread
        self._thread_terminate = True
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)


class Link:
    """One connection to the broker.

    Args:
        broker: where to.
        client_id: who we are; a second link of the same name takes over from the first.
        events: where everything that happens on the network thread is told.
        on_message: called on the network thread with each message. What it raises becomes a ``failed`` event, and the
            message is not acknowledged: the broker brings it again with the next link of this session.
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
        self._client = _Client(
            self._died,
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=session_s == 0 if version == 4 else None,
            protocol=MQTTv5 if version == 5 else MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,  # paho acknowledges even what its callback could not take in
        )
        self._owner_acknowledges = manual_ack
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
            self._client.on_message = lambda _c, _u, message: self._hand_over(on_message, message)

    def open(self) -> None:
        """Connect and wait for the broker's answer.

        Raises:
            LinkLost: nobody answers, or the connection broke.
            BrokerUnavailable: the broker or its certificate is wrong, or it refuses us: a person must act.
        """
        where = f"broker {self._broker.host}:{self._broker.port}"
        options: dict[str, Any] = {}
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._session_s
            options = {"clean_start": self._session_s == 0, "properties": properties}
        try:
            self._client.connect(self._broker.host, self._broker.port, KEEPALIVE_S, **options)
        except ssl.SSLCertVerificationError as error:
            raise BrokerUnavailable(
                where,
                f"shows a certificate that cannot be trusted ({error.verify_message})",
                "Check the broker's name and alert.ca in the configuration",
            ) from None
        except (OSError, ValueError) as error:
            raise LinkLost(f"{where} cannot be reached ({error})") from None
        self._client.loop_start()
        try:
            reason = self.wait("connected")
        except LinkLost as lost:
            if lost.reason is None:
                raise
            said = f" ({self._tls_alert})" if self._tls_alert else ""
            raise BrokerUnavailable(
                where,
                f"closed the connection at once, as brokers do when they do not accept a certificate{said}",
                "Check that the certificate is of this site, in date and not revoked; otherwise enrol again",
            ) from None
        if reason == UNSUPPORTED_VERSION:
            raise VersionRefused(where, PERSON_MUST_ACT[reason], "Update the broker")
        if reason >= FAILED:
            raise refused(where, reason)

    def _hand_over(self, on_message: Callable[[MQTTMessage], None], message: MQTTMessage) -> None:
        try:
            on_message(message)
        except Exception as error:  # noqa: BLE001 - handed on to the thread that must answer for it
            self._events.put(("failed", error))
        else:
            if not self._owner_acknowledges:
                self.acknowledge(message)

    def _died(self, _: Exception) -> None:
        self._events.put(("closed", None))

    def _listen_for_alert(self, _client: Client, _data: Any, _level: int, line: str) -> None:
        # With TLS 1.3 a server judges our certificate after the handshake has ended for us: the only trace of
        # its refusal is an alert on the first read, which paho tells nobody but its log.
        if found := TLS_ALERT.search(line):
            self._tls_alert = found[1].lower().replace("_", " ")

    def wait(self, kind: str, packet: int | None = None) -> int:
        """Wait for one event and return its reason code; what else happens meanwhile is kept for later.

        Raises:
            LinkLost: the connection ended first, or no answer came in time.
            Exception: what the owner's callback raised on the network thread.
        """
        aside: list[Event] = []
        try:
            while True:
                try:
                    found, content = self._events.get(timeout=ANSWER_S)
                except queue.Empty:
                    raise LinkLost("the broker does not answer") from None
                raise_if_ended((found, content))
                if found != kind:
                    aside.append((found, content))
                elif packet is None:
                    return int(content)
                elif content[0] == packet:
                    return int(content[1])
        finally:
            for event in aside:
                self._events.put(event)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> int:
        """Publish with QoS 1 and return the reason code of the acknowledgement.

        Raises:
            LinkLost: the connection ended before it came; the message may or may not have arrived.
        """
        properties = None
        if self.version == 5 and expiry_s is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return self.wait("acked", sent.mid)

    def tell(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 0: it may be lost."""
        self._client.publish(topic, payload, qos=0, retain=retain)

    def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1.

        Raises:
            LinkLost: no answer.
            BrokerUnavailable: the broker refuses: its access rules must be corrected.
        """
        _, mid = self._client.subscribe(self._wanted(filters))
        reason = self.wait("subscribed", mid)
        if reason >= FAILED:
            raise refused(f"subscription to {', '.join(filters)}", reason)

    def ask_for(self, *filters: str) -> None:
        """Subscribe with QoS 1 without waiting: the answer comes as an event, behind what the broker kept for us."""
        self._client.subscribe(self._wanted(filters))

    def _wanted(self, filters: Iterable[str]) -> list[tuple[str, int]] | list[tuple[str, SubscribeOptions]]:
        """What the broker was made to keep on a topic of a kind that is never kept does not come again and again."""
        unkept = set(topics.KINDS) - set(topics.RETAINED)
        if self.version == 4:  # MQTT 3.1.1 cannot say so
            return [(name, 1) for name in filters]
        return [
            (name, SubscribeOptions(qos=1, retainHandling=2 if name.rpartition("/")[2] in unkept else 0))
            for name in filters
        ]

    def acknowledge(self, message: MQTTMessage) -> None:
        """Tell the broker that a message is safe with us; for the owner to call only with ``manual_ack``."""
        self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """Say goodbye, so that the will stays unsaid, and end the network thread."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.end()


def refused(thing: str, reason: int) -> BrokerUnavailable:
    """The error for a reason code of failure."""
    cause = PERSON_MUST_ACT.get(reason, f"refused the connection (reason code 0x{reason:02x})")
    return BrokerUnavailable(thing, cause, "Check the certificate and the broker's access rules")
