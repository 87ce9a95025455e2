"""From the outbox to the control room, in order, until the control room says that it holds every alert.

:class:`Publisher` is a worker that opens links, backs off with jitter between them, and sends one alert at a
time: the next goes out when the broker has acknowledged the one before, so the order is that of the sequence over
any number of failures.

An acknowledgement counts only with a reason code of success. "No matching subscribers" is none: nobody would
ever see that alert, so it stays and is sent again.

Nor does an acknowledgement end an alert's stay on the van: a broker may die before it has saved what it
acknowledged. The alert goes on a *receipt*, which the control room signs once the alert is in its own store, word for
word (:mod:`edge.alert.receipt`). Until then everything that is not yet confirmed is sent again, from the oldest on,
with every new link and after a wait that doubles; the control room knows repeats by their identifiers. No more than
:attr:`Publisher.WINDOW` alerts are unconfirmed at the broker: the others wait in the outbox, where they are safe.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from edge.alert import topics
from edge.alert.link import (
    FAILED,
    NO_SUBSCRIBER,
    Broker,
    Event,
    Link,
    LinkLost,
    MQTTMessage,
    SessionWatch,
    VersionRefused,
    Will,
    raise_if_ended,
    refused,
)
from edge.alert.outbox import Outbox, Pending
from edge.alert.receipt import RECEIPT, Held
from edge.alert.status import HealthBody, StateBody
from edge.clock import NS_PER_S, Clock, SystemClock
from edge.errors import BrokerUnavailable, EdgeError, EnvironmentFault, StoreDamaged
from edge.trust.keys import KnownSigners
from edge.worker import Supervisor, Worker

__all__ = ["SESSION_S", "Broker", "LinkState", "Publisher"]

SESSION_S = 86_400
"""For so long the broker keeps what it owes a van that is away."""
SILENT_S = 120.0
"""Looking up the broker's name, connecting and waiting for an answer may take a minute; two are a thread that hangs."""
STOP_S = 25.0
"""How long an answer of the broker that is waited for may hold up the end."""
TAKEN_OVER_S = 300.0
"""A link that has lived for so long is ours alone: until then a person is told of the other machine."""
TAKEN_OVER_FAILURES = 8
"""The wait before it is taken back is as if so many attempts had failed: two machines must not fight for it."""
MAX_DETAIL = 200


class LinkState(StrEnum):
    """How the connection to the control room is."""

    CONNECTING = "connecting"
    ONLINE = "online"
    UNHEARD = "unheard"
    """The broker is there, but no control room listens; retried by itself."""
    UNCONFIRMED = "unconfirmed"
    """The broker has alerts for which no control room has given its receipt yet; repeated by itself."""
    AWAY = "away"
    """The broker cannot be reached; retried by itself."""
    REFUSED = "refused"
    """A person must act; retried nevertheless."""
    STOPPED = "stopped"


LINKED = frozenset({LinkState.ONLINE, LinkState.UNHEARD, LinkState.UNCONFIRMED})
"""The states in which there is a connection to the broker."""

StateCallback = Callable[[LinkState, EdgeError | None], None]


class Publisher:
    """The worker that empties the outbox.

    Args:
        outbox: what to send.
        broker: where to.
        van: who we are, as in our certificate.
        receipts_by: the control rooms whose receipts let an alert go. None: the broker's acknowledgement does, for a
            control room that gives none, and what the broker loses is lost.
        described: what else is said, retained, with each new link: topic to payload. A broker that refuses one of
            these is reported, and alerts go on.
        on_state: told of every change of state, with the error where a person must act.
        on_message: told of other messages for the van, as ``(kind, payload)``; called on the network thread.
        on_refused: told of messages for the van that were not believed: ours that are no receipt of what we sent, and
            those for which ``on_message`` raised an :class:`EdgeError`; called on the network thread or on our own.
        backoff_s: shortest and longest wait between attempts.
        repeat_s: shortest and longest wait for a receipt until what is unconfirmed is sent again over the same link.
        clock: for expiry and waits.
        clock_confirmed: whether the clock may be believed; while it may not, no alert expires by it.
    """

    IDLE_S: Final = 5.0
    UNHEARD_S: Final = 2.0
    CONFIRM_S: Final = 10.0
    """A receipt that takes longer is worth telling the crew."""
    WINDOW: Final = 50

    def __init__(
        self,
        outbox: Outbox,
        broker: Broker,
        van: str,
        *,
        receipts_by: KnownSigners | None,
        described: Mapping[str, bytes] | None = None,
        on_state: StateCallback | None = None,
        on_message: Callable[[str, bytes], None] | None = None,
        on_refused: Callable[[str, EdgeError], None] | None = None,
        backoff_s: tuple[float, float] = (0.5, 30.0),
        repeat_s: tuple[float, float] = (60.0, 900.0),
        clock: Clock | None = None,
        clock_confirmed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._outbox = outbox
        self._broker = broker
        self._van = van
        self._receipts_by = receipts_by
        self._described = described or {}
        self._on_state = on_state
        self._on_message = on_message
        self._on_refused = on_refused
        self._backoff_s = backoff_s
        self._repeat_s = repeat_s
        self._clock: Clock = clock or SystemClock()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._clock_confirmed = clock_confirmed
        self._progress = threading.Condition()
        self._failures = 0
        self._version = 5
        self._link: Link | None = None
        self._worker: Worker | None = None
        self._session = SessionWatch(self._clock)
        self._accepted_ns = 0
        """When the broker accepted the link; 0 before."""
        self._taken = False
        """Whether another machine uses our identity, as far as the last links tell."""
        self._condition: tuple[str, str] = ("", "")
        """What the van is, and why, as the control room is told."""
        self._through = 0
        """The last number that the broker has acknowledged since the round began."""
        self._oldest: int | None = None
        """The lowest number that the broker has acknowledged and no receipt has come for."""
        self._since_ns = 0
        """Since when that one is waited for, or was sent again."""
        self._patience_s = repeat_s[0]
        self.state = LinkState.STOPPED
        self.trouble: EdgeError | None = None
        """What a person must correct, while :attr:`state` is ``refused``."""

    def start(self, workers: Supervisor) -> None:
        """Begin sending; returns at once."""
        self._worker = workers.start("publisher", self._run, silent_s=SILENT_S)

    def stop(self) -> None:
        """Say goodbye to the broker and end; what is undelivered stays in the outbox."""
        if self._worker is not None:
            self._worker.ask_to_stop()
            self.wake()
            self._worker.stop(STOP_S)
            self._worker = None

    def wake(self) -> None:
        """Look into the outbox: there is something new."""
        self._events.put(("wake", None))

    def wait_empty(self, timeout: float) -> bool:
        """Wait until everything is confirmed or expired; whether that came about within ``timeout`` seconds."""
        with self._progress:
            return self._progress.wait_for(lambda: self._outbox.counters().waiting == 0, timeout)

    def say(self, condition: str, why: str) -> None:
        """Tell the control room what the van is from now on, and why; the broker keeps the newest.

        At once, whatever this worker waits for: a disk that hangs must not keep it back. Then with an acknowledgement.
        """
        if (condition, why) != self._condition:
            self._condition = (condition, why)
            self._events.put(("state", None))
            self._tell(topics.STATE, self._state_body("online"), retain=True)

    def report(self, health: HealthBody) -> None:
        """Publish counters if there is a connection; they are not worth keeping otherwise."""
        self._tell(topics.HEALTH, msgspec.json.encode(health))

    def announce(self, checkpoint: str) -> None:
        """Publish a checkpoint of the audit log if there is a connection; the next one vouches for all before it."""
        self._tell(topics.CHECKPOINT, checkpoint.encode("ascii"))

    def _tell(self, kind: str, payload: bytes, *, retain: bool = False) -> None:
        link = self._link
        if link is not None and self.state in LINKED:
            link.tell(topics.topic(self._van, kind), payload, retain=retain)

    # -- on the publisher's thread ---------------------------------------------------------------

    def _run(self, worker: Worker) -> None:
        while not worker.stopping:
            worker.beat()
            try:
                if self._failures == 0:
                    self._set(LinkState.CONNECTING)
                else:  # until the attempt has succeeded, what a person was told still holds
                    self._set(self.state, self.trouble)
                self._serve(worker)
            except StoreDamaged:
                raise
            except LinkLost as lost:
                self._lost(lost)
            except EdgeError as error:
                self._set(LinkState.REFUSED, error)
            finally:
                self._hang_up(worker)
            self._drop_expired()
            self._pause(worker)
        self._set(LinkState.STOPPED)

    def _serve(self, worker: Worker) -> None:
        """Open one link and send over it until it ends or we stop."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._events, self._accepted_ns = events, 0
        self._link = link = Link(
            self._broker,
            self._van,
            events,
            on_message=self._incoming,
            will=Will(topics.topic(self._van, topics.STATE), self._state_body("lost")),
            session_s=SESSION_S if self._on_message else 0,
            version=self._version,
        )
        if worker.stopping:
            return
        try:
            link.open()
        except VersionRefused:
            self._version = 4 if self._version == 5 else 5  # for the next attempt; 4 is MQTT 3.1.1
            raise
        self._accepted_ns = self._clock.monotonic_ns()
        self._session.accepted()
        worker.beat()
        self._tell_state(link)
        for topic, payload in self._described.items():
            worker.beat()
            reason = link.publish(topic, payload, retain=True)
            if reason >= FAILED and self._on_refused:
                self._on_refused(topic, refused(f"publishing to {topic}", reason))
        kinds = [topics.RECEIPT] if self._receipts_by is not None else []
        kinds += [topics.ADJUDICATION, topics.REVOCATION] if self._on_message else []
        if kinds:
            link.subscribe(*(topics.topic(self._van, kind) for kind in kinds))
        self._set(LinkState.ONLINE)
        self._through, self._oldest = 0, None
        while not worker.stopping:
            worker.beat()
            if self._taken and self._held_long_enough():
                self._set(self.state)
            self._drop_expired()
            unconfirmed = self._outbox.waiting(self._through)
            pending = self._outbox.next(self._through) if unconfirmed < self.WINDOW else None
            if pending is None:
                self._failures = 0
                self._idle(link, events, self._wait_s(unconfirmed))
            elif self._send(link, pending):
                self._take_receipts(link, events)
            else:
                self._set(LinkState.UNHEARD)
                self._idle(link, events, min(self.UNHEARD_S, self._backoff_s[1]))

    def _wait_s(self, unconfirmed: int) -> float:
        """How long nothing needs doing; begins anew with the oldest when its receipt has been waited for long enough.

        What counts is the oldest: receipts for later alerts must not hide that an earlier one was lost on its way.
        """
        now = self._clock.monotonic_ns()
        oldest = self._outbox.oldest() if unconfirmed else None
        if oldest != self._oldest:
            self._oldest, self._since_ns, self._patience_s = oldest, now, self._repeat_s[0]
            self._set(LinkState.ONLINE)
        if oldest is None:
            return self.IDLE_S
        silent_s = (now - self._since_ns) / NS_PER_S
        if silent_s >= self._patience_s:
            self._through, self._since_ns = 0, now
            self._patience_s = min(2 * self._patience_s, self._repeat_s[1])
            return 0.0
        if silent_s >= self.CONFIRM_S:
            self._set(LinkState.UNCONFIRMED)
        next_step = self._patience_s if silent_s >= self.CONFIRM_S else min(self.CONFIRM_S, self._patience_s)
        return min(self.IDLE_S, next_step - silent_s)

    def _send(self, link: Link, pending: Pending) -> bool:
        left = None
        if self._clock_confirmed():  # by a clock that is wrong the broker would drop it at once
            left = max(1, int(pending.expires_at - self._clock.now().timestamp()))
        reason = link.publish(topics.topic(self._van, topics.ALERT), pending.message, expiry_s=left)
        if reason == NO_SUBSCRIBER:
            return False
        self._check(reason)
        self._failures = 0
        if self.state is not LinkState.UNCONFIRMED:
            self._set(LinkState.ONLINE)
        if self._receipts_by is None:
            self._delivered(pending.alert_id)
        else:
            self._through = pending.sequence
        return True

    def _delivered(self, *alerts: UUID) -> None:
        if self._outbox.delivered(*alerts):
            self._told()

    def _confirmed(self, receipt: Sequence[Held]) -> None:
        """Let go what the control room holds just as we sent it."""
        ours, strangers = self._outbox.recognised(receipt)
        for error in strangers:
            if self._on_refused:
                self._on_refused(topics.RECEIPT, error)
        self._delivered(*ours)

    def _take_receipts(self, link: Link, events: queue.SimpleQueue[Event]) -> None:
        """What has come while an alert went out."""
        while not events.empty():
            self._idle(link, events, 0.0)

    def _check(self, reason: int) -> None:
        if reason >= FAILED:
            raise refused(f"publishing as {self._van}", reason)

    def _tell_state(self, link: Link) -> None:
        self._check(link.publish(topics.topic(self._van, topics.STATE), self._state_body("online"), retain=True))

    def _idle(self, link: Link, events: queue.SimpleQueue[Event], longest: float) -> None:
        """Wait for one event, ``longest`` seconds at most, and take it in."""
        with contextlib.suppress(queue.Empty):
            kind, content = events.get(timeout=longest)
            raise_if_ended((kind, content))
            if kind == "receipt":
                self._confirmed(content)
            if kind == "state":
                self._tell_state(link)

    def _hang_up(self, worker: Worker) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        if worker.stopping and self.state in LINKED:
            with contextlib.suppress(LinkLost):
                link.publish(topics.topic(self._van, topics.STATE), self._state_body("offline"), retain=True)
        link.close()

    def _drop_expired(self) -> None:
        if not self._clock_confirmed():
            return
        try:
            gone = self._outbox.drop_expired(self._clock.now())
        except StoreDamaged:
            raise
        except EdgeError as error:
            self._set(LinkState.REFUSED, error)
            return
        if gone:
            self._told()

    def _pause(self, worker: Worker) -> None:
        if worker.stopping:
            return
        shortest, longest = self._backoff_s
        wait = min(longest, shortest * 2 ** min(self._failures, 16))
        self._failures += 1
        worker.wait(wait * random.uniform(0.5, 1.0))

    def _incoming(self, message: MQTTMessage) -> None:
        """On the network thread. What it raises is not the message's fault: it was not done, and comes again."""
        kind = "unknown"
        try:
            van, kind = topics.parse(message.topic)
            if van != self._van:
                return
            if kind == topics.RECEIPT:
                if self._receipts_by is not None:
                    receipt = RECEIPT.read(bytes(message.payload), self._receipts_by, self._van)
                    self._events.put(("receipt", receipt.alerts))
            elif self._on_message:
                self._on_message(kind, bytes(message.payload))
        except UnicodeDecodeError:
            return
        except EnvironmentFault:
            raise
        except EdgeError as error:
            if self._on_refused:
                self._on_refused(kind, error)

    def _state_body(self, state: str) -> bytes:
        condition, why = self._condition if state != "lost" else ("", "")
        body = {
            "v": 1, "van": self._van, "state": state, "since": self._clock.now(),
            "condition": condition, "detail": why[:MAX_DETAIL],
        }  # fmt: skip
        return msgspec.json.encode(msgspec.convert(body, StateBody))

    def _told(self) -> None:
        with self._progress:
            self._progress.notify_all()

    def _lost(self, lost: LinkLost) -> None:
        """A link has ended: by itself, or because another machine has taken it over."""
        self._taken = self._session.lost(lost) or (self._taken and lost.reason is not None)
        if self._taken:
            self._failures = TAKEN_OVER_FAILURES
            self._set(LinkState.REFUSED, self._taken_over())
        else:
            self._set(LinkState.AWAY)

    def _held_long_enough(self) -> bool:
        return self._accepted_ns > 0 and self._clock.monotonic_ns() - self._accepted_ns > TAKEN_OVER_S * NS_PER_S

    def _taken_over(self) -> EdgeError:
        return BrokerUnavailable(
            f"the connection of {self._van}",
            "is closed again and again: another machine may be using the same certificate",
            "Look for a second machine with this van's identity; if there is one, revoke the certificate",
        )

    def _set(self, state: LinkState, trouble: EdgeError | None = None) -> None:
        if self._held_long_enough():
            self._taken = False
        if self._taken and trouble is None and state in LINKED:
            trouble = self._taken_over()  # to have it back for a moment is no end of it
        changed = (state, str(trouble)) != (self.state, str(self.trouble))
        self.state, self.trouble = state, trouble
        if changed and self._on_state is not None:
            self._on_state(state, trouble)
