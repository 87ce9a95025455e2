"""What of the broker's messages is believed, and stored.

The rules of :meth:`Intake.judge`, in order; the first that fails refuses the message:

1. the topic is one of the contract, and of a kind that vans send;
2. an alert passes :func:`edge.alert.message.open_alert` (size, shape, decryption, signature, body, envelope);
3. the van that signed it is the van of the topic;
4. it has not expired;
5. it is not known yet (:mod:`edge.controlroom.store`), otherwise it is counted as a duplicate; another alert with the
   identifier of one of the same van is refused.

A refused message is counted by reason and reported; it does not stand in the way of the next. Nor does an alert that
provokes a fault of this program where it is stored: the broker would bring it again with every start.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from edge.alert import topics
from edge.alert.message import open_alert
from edge.alert.receipt import message_digest
from edge.alert.status import read_health, read_state
from edge.clock import Clock, SystemClock
from edge.controlroom.checkpoints import keep_checkpoint
from edge.controlroom.events import Arrived, ReceiverEvent, Refused, VanCheckpoint, VanHealth, VanState
from edge.controlroom.numbering import Acceptance, Verdict
from edge.controlroom.store import AlertStore
from edge.errors import AlertRejected, EdgeError, EnvironmentFault, SignatureInvalid
from edge.records import Alert, AlertRef
from edge.trust.keys import DecryptionKeys, KnownSigners

__all__ = ["Counts", "Intake", "Judgement", "Message", "Opened"]

ORPHANED = timedelta(seconds=60)
"""For so long it is looked whether the room that took an alert in is still there; then the van has its receipt."""
HEARD_ONCE = 20_000
"""Alerts of other rooms that are remembered. One that is forgotten is confirmed at its second repeat."""


@dataclass(slots=True)
class Counts:
    """What has come since the start.

    Attributes:
        accepted: alerts taken in.
        duplicates: alerts that were known already.
        refused: messages not believed, by class of error.
    """

    accepted: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Message(Protocol):
    """What is read of a message; :class:`paho.mqtt.client.MQTTMessage` is one."""

    @property
    def topic(self) -> str: ...

    payload: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """An authentic alert, and the digest of the message that it came in (:func:`edge.alert.receipt.message_digest`)."""

    alert: Alert
    digest: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An alert that another room took in.

    Attributes:
        ref: which.
        digest: of the message that it came in.
        room: that took it in.
        at: when it came here.
        settled: whether that room was found gone, and this one has confirmed the alert.
    """

    ref: AlertRef
    digest: str
    room: str
    at: datetime
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a batch of messages turned out to be.

    Attributes:
        events: what is to be told, in order; a duplicate is not told.
        stored: alerts that are in the store now, each of which is to be confirmed to its van, by this room.
    """

    events: tuple[ReceiverEvent, ...]
    stored: tuple[Opened, ...]


class Intake:
    """Judges messages and stores the alerts among them.

    Args:
        store: where alerts go.
        decryption: this control room's private keys.
        vans: whose alerts are believed.
        vans_file: the key set that ``vans`` was read from; :meth:`refresh_vans` reads it again when it has changed.
        checkpoints: folder for the checkpoints of the audit logs of the vans and of the control room; None keeps none.
        room: the control room's own key, by which its checkpoints are believed.
        clock: for expiry and the moment of arrival.
    """

    def __init__(
        self,
        store: AlertStore,
        decryption: DecryptionKeys,
        vans: KnownSigners,
        *,
        vans_file: Path | None = None,
        checkpoints: Path | None = None,
        room: KnownSigners | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.store = store
        self._decryption = decryption
        self._vans = vans
        self._vans_file = vans_file
        self._vans_changed = _changed_at(vans_file)
        self._checkpoints = checkpoints
        self._room = room or KnownSigners.of([])
        self._clock: Clock = clock or SystemClock()
        self.counts = Counts()
        self._heard_once: dict[AlertRef, Elsewhere] = {}
        """Alerts that another room took in, and that came here once since."""

    def judge(self, messages: Sequence[Message]) -> Judgement:
        """Apply the rules of the module to messages that arrived together, and store the alerts among them.

        A broker that was restarted may hand out what it kept in another order: each van's alerts are put back into
        theirs.

        Raises:
            StoreDamaged, StoreUnavailable: none of them was stored, and none may be confirmed or acknowledged.
        """
        opened = [self._opened(message) for message in messages]
        alerts = [each for each in opened if isinstance(each, Opened)]
        alerts.sort(key=lambda each: (each.alert.raised_at, each.alert.sequence))
        now = self._clock.now()
        faults: list[Refused] = []
        try:
            taken = self._stored(alerts, now)
        except EdgeError:
            raise
        except Exception:  # noqa: BLE001 - one of them provoked it: that one is refused, the others are stored
            taken, faults = self._one_by_one(alerts, now)
        stored = [(each, how) for each, how in taken if how.verdict is not Verdict.CONTRADICTION]
        new = [Arrived(each.alert, how, now) for each, how in stored if how.verdict is not Verdict.DUPLICATE]
        refused = [self._contradiction(each.alert) for each, how in taken if how.verdict is Verdict.CONTRADICTION]
        self.counts.accepted += len(new)
        self.counts.duplicates += len(stored) - len(new)
        others = [each for each in opened if not isinstance(each, Opened)]
        confirmed = tuple(each for each, how in stored if self._is_ours(each, how))
        return Judgement((*others, *faults, *refused, *new), confirmed)

    def _is_ours(self, each: Opened, how: Acceptance) -> bool:
        """Whether to confirm this alert: of rooms that share a store, whoever took it in does.

        Where it comes again the van had no receipt: then every room confirms it.
        """
        ref = each.alert.ref
        if not how.elsewhere or ref in self._heard_once:
            return True
        self._heard_once[ref] = Elsewhere(ref, each.digest, how.elsewhere, self._clock.now())
        while len(self._heard_once) > HEARD_ONCE:
            del self._heard_once[next(iter(self._heard_once))]
        return False

    def _stored(self, alerts: Sequence[Opened], now: datetime) -> list[tuple[Opened, Acceptance]]:
        with self.store.writing():
            return [(each, self.store.accept(each.alert, each.digest, now)) for each in alerts]

    def _one_by_one(
        self, alerts: Sequence[Opened], now: datetime
    ) -> tuple[list[tuple[Opened, Acceptance]], list[Refused]]:
        """As :meth:`_stored`, and a refusal of each that cannot be: its van keeps it, for it gets no receipt."""
        taken: list[tuple[Opened, Acceptance]] = []
        faults: list[Refused] = []
        for each in alerts:
            try:
                taken += self._stored([each], now)
            except EdgeError:
                raise
            except Exception as error:  # noqa: BLE001 - see judge
                self.counts.refused[AlertRejected.__name__] += 1
                unstored = AlertRejected(
                    f"alert {each.alert.alert_id} of {each.alert.van}",
                    f"could not be stored ({type(error).__name__})",
                    "Call the van and the engineer: nobody has seen this alert",
                )
                faults.append(Refused(topics.topic(each.alert.van, topics.ALERT), unstored))
        return taken, faults

    def orphans(self) -> list[Elsewhere]:
        """Alerts that another room took in a moment ago, and that room is gone: it may have given no receipt.

        Each is named once.

        Raises:
            StoreUnavailable: it cannot be known.
        """
        since = self._clock.now() - ORPHANED
        fresh = [each for each in self._heard_once.values() if each.at >= since and not each.settled]
        gone = {room for room in {each.room for each in fresh} if not self.store.alive(room)}
        found = [each for each in fresh if each.room in gone]
        for each in found:
            self._heard_once[each.ref] = replace(each, settled=True)
        return found

    @property
    def waits_for_another(self) -> bool:
        """Whether there may be :meth:`orphans` soon."""
        last = next(reversed(self._heard_once.values()), None)
        return last is not None and last.at >= self._clock.now() - ORPHANED

    def _contradiction(self, alert: Alert) -> Refused:
        error = AlertRejected(
            f"alert {alert.alert_id} of {alert.van}",
            "has the identifier of another alert of that van, which is on the page",
            "Call the van: somebody may be using its keys",
        )
        self.counts.refused[type(error).__name__] += 1
        return Refused(topics.topic(alert.van, topics.ALERT), error)

    def _open(self, message: Message) -> Opened | VanState | VanHealth | VanCheckpoint:
        """Rules 1 to 4.

        Raises:
            AlertRejected, SignatureInvalid: the message is refused.
            EnvironmentFault: it could not be judged.
        """
        try:
            name = message.topic
        except UnicodeDecodeError:
            raise AlertRejected("topic", "is not valid text", "Check who publishes there") from None
        van, kind = topics.parse(name)
        if kind == topics.STATE:
            return VanState(read_state(message.payload, van))
        if kind == topics.HEALTH:
            return VanHealth(read_health(message.payload, van))
        if kind == topics.CHECKPOINT:
            signers = self._room if van == topics.CONTROL_ROOM else self._vans
            return keep_checkpoint(self._checkpoints, van, message.payload, signers)
        if kind != topics.ALERT:
            raise AlertRejected(f"topic {name}", "is not one that vans send on", "Check the broker's access rules")
        alert = open_alert(message.payload, self._decryption, self._vans)
        if alert.van != van:
            raise SignatureInvalid(f"alert of {alert.van}", f"came on the topic of {van}", "Check who sent it")
        if alert.expires_at <= self._clock.now():
            raise AlertRejected(
                f"alert {alert.alert_id} of {van}", f"expired at {alert.expires_at:%H:%M:%S} UTC", "Do not act on it"
            )
        return Opened(alert, message_digest(message.payload))

    def _opened(self, message: Message) -> Opened | VanState | VanHealth | VanCheckpoint | Refused:
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

    def refresh_vans(self) -> Refused | None:
        """Read the vans' key set again if its file has changed; a damaged one is refused and the former kept."""
        changed = _changed_at(self._vans_file)
        if self._vans_file is None or changed == self._vans_changed:
            return None
        self._vans_changed = changed
        try:
            self._vans = KnownSigners.load(self._vans_file)
        except EdgeError as error:
            return Refused(str(self._vans_file), error)
        return None


def _changed_at(path: Path | None) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns if path is not None else 0
    return -1


def _printable(message: Message) -> str:
    try:
        return "".join(c if c.isprintable() else "?" for c in message.topic[:120])
    except UnicodeDecodeError:
        return "(not UTF-8)"
