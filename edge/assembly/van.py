"""A van as a parts list: what the service is made of, in the order in which it is put together.

Nothing here starts to match: :class:`edge.appliance.Appliance` does, once every part is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.alert.discovery import description
from edge.alert.outbox import Damage, Outbox
from edge.alert.publish import Broker, LinkState, Publisher
from edge.alert.repair import open_outbox
from edge.alert.retention import DEFAULT_RETENTION, Sweeper, shred_set_aside
from edge.alert.submit import AlertSubmitter
from edge.assembly.mandate import Whereabouts, load_models, load_second, mandated, open_audit, whereabouts
from edge.audit_trail import AuditTrail
from edge.clock import Clock
from edge.config import Config
from edge.custody.memory import MemoryProtection, protect
from edge.custody.retention import Custodian
from edge.deployment.guard import MAY_PASS, Guard
from edge.deployment.mandate import Mandate
from edge.deployment.permit import Permit
from edge.errors import CustodyBreached, EdgeError, PolicyRefusal, VideoUnreadable
from edge.match.decide import NEAR, Decider
from edge.match.index import Index
from edge.match.second import SecondOpinion, pair_digest, taken_apart
from edge.pipeline import Pipeline
from edge.records import Alert, ErasureReceipt
from edge.sight.capture import Capture
from edge.sight.detect import Detector
from edge.sight.live import LiveView
from edge.sight.source import Source, SourceKind, source_kind
from edge.sight.upright import SAMPLES, upright_turn
from edge.system.journal import get_logger
from edge.trust.keys import KnownSigners, Recipients, SigningKey
from edge.trust.secret import read_secret
from edge.trust.tls import client_context
from edge.worker import Supervisor

__all__ = ["Listener", "Van", "assemble"]

OUTBOX_FILE = "outbox.db"


class Listener(Protocol):
    """Whoever is told what happens to the parts; :class:`edge.appliance.Appliance` is."""

    def answered(self, error: EdgeError | None) -> None:
        """The guard has an answer: None for a yes."""

    def over(self, error: PolicyRefusal) -> None:
        """Matching must end for good."""

    def camera(self, what: str, why: str) -> None:
        """What :class:`edge.sight.capture.Capture` tells of the camera and of its pictures."""

    def link(self, state: LinkState, error: EdgeError | None) -> None:
        """The connection to the control room has changed."""

    def incoming(self, kind: str, payload: bytes) -> None:
        """A message for this van came; called on the network thread."""

    def disbelieved(self, kind: str, error: EdgeError) -> None:
        """A message for this van was refused."""

    def forgotten(self, receipt: ErasureReceipt) -> None:
        """A passage was forgotten."""

    def alerted(self, alert: Alert) -> None:
        """An alert was committed."""

    def breached(self, breach: CustodyBreached) -> None:
        """Something biometric outlived its deadline."""

    def damaged(self, damage: Damage) -> None:
        """The outbox was found damaged and was made anew from what could be read."""

    def unswept(self, error: EdgeError) -> None:
        """Alerts that are due could not be deleted."""

    def progress(self) -> None:
        """The pipeline has done a turn."""


@dataclass(frozen=True, slots=True)
class Van:
    """The parts, in the order in which they are made; see each module.

    Attributes:
        memory: what the operating system has granted.
        control_rooms: whose decisions and receipts are believed.
        trail: writes the audit log.
        model: digest of the embedder, or of the pair.
        here: what tells position and time.
        mandate: may this van match?
        outbox: alerts on their way.
        publisher: sends them.
        custodian: holds whatever is biometric.
        capture: the camera.
        live: the picture for the crew, in which nobody can be known.
        permit: leave to match, two seconds at a time.
        pipeline: the path of one face.
        retention: deletes alerts that are due.
        guard: asks the mandate and grants the permit.
    """

    memory: MemoryProtection
    control_rooms: KnownSigners
    trail: AuditTrail
    model: str
    here: Whereabouts
    mandate: Mandate
    outbox: Outbox
    publisher: Publisher
    custodian: Custodian
    capture: Capture
    live: LiveView
    permit: Permit
    pipeline: Pipeline
    retention: Sweeper
    guard: Guard


def assemble(
    config: Config,
    clock: Clock,
    listener: Listener,
    *,
    workers: Supervisor,
    parts: ExitStack,
    step: Callable[[str], None],
) -> Van:
    """Make a van from its configuration. Only what tells position and time is started.

    Args:
        config: checked.
        clock: the machine's, or one turned by hand.
        listener: is told what happens.
        workers: start what runs by itself.
        parts: takes what must be closed at the end, in whatever order things fail.
        step: told what is being made, for the crew's page.

    Raises:
        EdgeError: something is missing or wrong; ``parts`` closes what was opened before it.
    """
    base, state, alert = Path(config.base), config.path(config.store.directory), config.alert
    step("protecting the memory")
    memory = protect(config.memory)

    step("reading keys")
    signer = SigningKey.load(alert.signing_key, base)
    control_rooms = KnownSigners.load(config.path(alert.control_rooms))
    recipients = Recipients.load(config.path(alert.recipients))
    tls = client_context(alert.ca, alert.certificate, alert.certificate_key, base)

    step("opening the audit log")
    here = whereabouts(config, clock, workers, parts)
    audit = open_audit(config, clock, signer, here.clock_trust)
    parts.callback(audit.close)
    trail = AuditTrail(audit, clock, recipients.key_ids)

    step("loading the models")
    (detector, embedder), other = load_models(config), load_second(config)
    model = pair_digest(embedder.digest, "" if other is None else other.digest)

    step("fetching authority and list")
    held = mandated(config, clock, audit, here, parts, model=model, wipe=config.repository.wipe)
    try:
        store = held.mandate.start()
    except MAY_PASS:  # the guard asks again and says so; a list that is over is destroyed by now
        store = held.lists.open(model=model)
    limits = held.mandate.limits
    matrix = store.matrix()
    vectors, theirs = matrix.vectors, None
    if other is not None:
        vectors, theirs = taken_apart(matrix.vectors, embedder.dimension)
    index = Index(
        matrix.references,
        vectors,
        method=config.watchlist.index,
        exact_up_to=config.watchlist.exact_up_to,
        relative=held.relative,
    )
    parts.callback(index.erase)
    second = None
    if other is not None and theirs is not None:
        opinion = SecondOpinion(index, matrix.references, theirs, relative=held.relative, share=held.second)
        parts.callback(opinion.erase)
        second = (other, opinion)

    step("opening the outbox")
    outbox = open_outbox(
        state / OUTBOX_FILE,
        read_secret(config.store.key, base),
        config.van.id,
        now=clock.now(),
        limit=config.store.outbox_limit,
    )
    parts.callback(outbox.close)
    while (damage := outbox.damage()) is not None:
        trail.damaged("outbox", damage)
        listener.damaged(damage)
        outbox.told(damage)
    publisher = Publisher(
        outbox,
        Broker(alert.host, alert.port, tls),
        config.van.id,
        receipts_by=control_rooms if alert.confirmed_by == "control-room" else None,
        described=dict([description(alert.discovery, config.van.id)] if alert.discovery else []),
        on_state=listener.link,
        on_message=listener.incoming,
        on_refused=listener.disbelieved,
        clock=clock,
        clock_confirmed=here.clock_trust.confirmed,
    )
    audit.publish_to(publisher.announce)

    custodian = Custodian(clock, on_receipt=listener.forgotten, on_breach=listener.breached)
    capture = Capture(
        config.camera,
        custodian,
        clock,
        source=config.source(),
        turn=_turn(config, detector, custodian),
        on_event=listener.camera,
    )
    permit = Permit(clock)
    quality = config.quality
    live = LiveView(custodian, clock, clear_px=quality.min_eye_distance, sure=quality.min_score)
    pipeline = Pipeline(
        config=config,
        clock=clock,
        source=capture,
        detector=detector,
        embedder=embedder,
        index=index,
        subjects=store,
        decider=Decider(config.decision, limits=limits, near=NEAR if second is None else 0.0),
        limits=held.mandate.limits_for,
        custodian=custodian,
        sink=AlertSubmitter(outbox, signer, recipients, publisher, allowed=permit.require),
        permit=permit,
        second=second,
        model=model,
        on_turn=listener.progress,
        on_alert=listener.alerted,
        on_seen=live.see,
        retention=held.mandate.retention or DEFAULT_RETENTION,
    )
    held.lists.on_removed(pipeline.remove)
    retention = Sweeper(
        {
            "outbox": lambda now, _: outbox.drop_expired(now),
            "damaged outbox": shred_set_aside(
                state / OUTBOX_FILE, held_before=timedelta(seconds=config.alert.expiry_s)
            ),
        },
        clock=clock,
        audit=audit,
        retention=lambda: held.mandate.retention,
        clock_confirmed=here.clock_trust.confirmed,
        on_error=listener.unswept,
    )
    guard = Guard(held.mandate, permit, on_answer=listener.answered, on_over=listener.over)
    return Van(
        memory=memory,
        control_rooms=control_rooms,
        trail=trail,
        model=model,
        here=here,
        mandate=held.mandate,
        outbox=outbox,
        publisher=publisher,
        custodian=custodian,
        capture=capture,
        live=live,
        permit=permit,
        pipeline=pipeline,
        retention=retention,
        guard=guard,
    )


def _turn(config: Config, detector: Detector, custodian: Custodian) -> int:
    """Degrees to the right by which the pictures are turned: as configured, or as a film's faces stand upright."""
    if config.camera.turn != "auto":
        return int(config.camera.turn)
    source = config.source()
    if source_kind(source) is not SourceKind.FILE:
        return 0

    def sampled(turn: int) -> Iterator[NDArray[np.uint8]]:
        film = Source(source, SourceKind.FILE, config.camera, turn)
        try:
            yield from film.sample(SAMPLES)
        finally:
            film.close()

    try:
        turn = upright_turn(sampled, detector, custodian)
    except VideoUnreadable:
        return 0  # the camera's start says it
    if turn:
        get_logger("assembly").info("film_turned", degrees=turn)
    return turn
