"""The life of a van's service: protect memory, check itself, open the list, watch, and put everything away.

:class:`Appliance` builds the parts from the configuration and owns their order of start and stop. It
fails closed: whatever is missing or wrong at start is an error with a next step and nothing runs; a
part that fails while running stops matching first and speaks afterwards.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Self

from edge.alert import topics
from edge.alert.adjudication import ADJUDICATION
from edge.alert.discovery import description
from edge.alert.publish import Broker, LinkState, Publisher
from edge.alert.repair import open_outbox
from edge.alert.retention import DEFAULT_RETENTION, Sweeper, shred_set_aside
from edge.alert.status import HealthBody
from edge.alert.submit import AlertSubmitter
from edge.assembly import load_models, mandated, open_audit
from edge.audit_trail import AuditTrail
from edge.clock import Clock, SystemClock
from edge.config import Config
from edge.custody.memory import MemoryProtection, protect
from edge.custody.retention import Custodian
from edge.deployment.guard import MAY_PASS, Guard
from edge.errors import CustodyBreached, EdgeError, PolicyRefusal
from edge.match.decide import Decider
from edge.match.index import Index
from edge.pipeline import Pipeline
from edge.records import Alert, ErasureReceipt
from edge.sight.capture import Capture
from edge.system import notify
from edge.system.health import Health, spread, write_status
from edge.system.journal import get_logger
from edge.trust.keys import KnownSigners, Recipients, SigningKey
from edge.trust.secret import read_secret
from edge.trust.tls import client_context
from edge.watchlist.lifecycle import ListLifecycle
from edge.watchlist.store import WatchlistStore

__all__ = ["Appliance"]

log = get_logger("appliance")
STATUS_EVERY_S = 1.0
RECEIPTS_KEPT = 100_000
"""Erasure times kept for the spread; a busy day has fewer passages."""
OUTBOX_FILE = "outbox.db"
STATUS_FILE = "status.json"
DELIVER_AT_END_S = 20.0
"""How long a stopping van waits for the broker; what is undelivered stays in the outbox."""


class Appliance:
    """One van's service. Use it as a context manager; :meth:`run` blocks until the end.

    Args:
        config: the checked configuration.
        clock: the machine's, or one turned by hand in tests.
        on_receipt: told of every passage that was forgotten.
        on_alert: told of every alert that was accepted.

    Raises:
        EdgeError: on entering, for whatever is missing or wrong; nothing is left running.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        on_receipt: Callable[[ErasureReceipt], None] | None = None,
        on_alert: Callable[[Alert], None] | None = None,
    ) -> None:
        self._config = config
        self._clock: Clock = clock or SystemClock()
        self._on_receipt = on_receipt
        self._on_alert = on_alert
        self._held_ms: deque[float] = deque(maxlen=RECEIPTS_KEPT)
        self._state = "starting"
        self._why = ""
        self._written = 0.0
        self._begun = 0.0
        self._memory: MemoryProtection | None = None
        self._close = ExitStack()

    # -- start and stop ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            self._start(parts)
            self._close = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def _start(self, parts: ExitStack) -> None:
        config, base = self._config, Path(self._config.base)
        self._memory = protect(config.memory)
        self._state_folder = config.path(config.store.directory)

        signer = SigningKey.load(config.alert.signing_key, base)
        audit = open_audit(config, self._clock, signer, self._publish_checkpoint)
        parts.callback(audit.close)
        self._control_rooms = KnownSigners.load(config.path(config.alert.control_rooms))
        recipients = Recipients.load(config.path(config.alert.recipients))
        self.audit_trail = AuditTrail(audit, self._clock, recipients.key_ids)
        self.detector, self.embedder = load_models(config)
        held = mandated(
            config,
            self._clock,
            audit,
            parts,
            model=self.embedder.digest,
            wipe=config.repository.wipe,
            on_removed=self._left_the_list,
        )
        self.mandate = held.mandate
        store = self._take_up(held.keeper)
        matrix = store.matrix()
        index = Index(
            matrix.references, matrix.vectors, method=config.watchlist.index, exact_up_to=config.watchlist.exact_up_to
        )
        parts.callback(index.erase)

        outbox = open_outbox(
            self._state_folder / OUTBOX_FILE,
            read_secret(config.store.key, base),
            config.van.id,
            now=self._clock.now(),
            limit=config.store.outbox_limit,
        )
        parts.callback(outbox.close)
        while (damage := outbox.damage()) is not None:
            log.error("outbox_was_damaged", kept=damage.file, carried=damage.carried, lost=damage.lost)
            self.audit_trail.damaged("outbox", damage)
            outbox.told(damage)
        self.outbox = outbox
        alert = config.alert
        tls = client_context(alert.ca, alert.certificate, alert.certificate_key, base)
        self.publisher = Publisher(
            outbox,
            Broker(alert.host, alert.port, tls),
            config.van.id,
            receipts_by=self._control_rooms if alert.confirmed_by == "control-room" else None,
            described=dict([description(alert.discovery, config.van.id)] if alert.discovery else []),
            on_state=self._link,
            on_message=self._incoming,
            on_refused=self._disbelieved,
            clock=self._clock,
        )
        desk = AlertSubmitter(outbox, signer, recipients, self.publisher)

        self.custodian = Custodian(self._clock, on_receipt=self._receipt, on_breach=self._breach)
        self.custodian.start()
        parts.callback(self.custodian.stop)
        self.capture = Capture(
            config.camera, self.custodian, self._clock, source=config.source(), on_event=self._camera
        )
        self.pipeline = Pipeline(
            config=config,
            clock=self._clock,
            source=self.capture,
            detector=self.detector,
            embedder=self.embedder,
            index=index,
            subjects=store,
            decider=Decider(config.decision, threshold=self._threshold),
            custodian=self.custodian,
            sink=desk,
            on_turn=self._turn,
            on_alert=self._alert,
            retention=self._retention() or DEFAULT_RETENTION,
        )
        sweeper = Sweeper(
            {
                "outbox": lambda now, _: outbox.drop_expired(now),
                "damaged outbox": shred_set_aside(
                    self._state_folder / OUTBOX_FILE, held_before=timedelta(seconds=config.alert.expiry_s)
                ),
            },
            clock=self._clock,
            audit=audit,
            retention=self._retention,
        )
        sweeper.start()
        parts.callback(sweeper.stop)
        self.guard = Guard(self.mandate, self.pipeline, on_change=self._permitted, on_over=self._over)
        self.guard.ask()
        self.capture.start()
        parts.callback(self.capture.stop)
        self.guard.start()
        parts.callback(self.guard.stop)
        self.publisher.start()
        parts.callback(self.publisher.stop)

    def run(self) -> Health:
        """Watch until the source ends or :meth:`stop` is called; returns the counters of the whole run.

        Raises:
            EdgeError: matching had to stop; everything held was erased before this is raised.
        """
        self._begun = time.monotonic()
        if self._state == "starting":
            self._state = "watching"
        log.info("watching", source=self._config.camera.source, templates=self.pipeline.listed)
        notify.ready(f"{self._state} {self._config.camera.source} for {self.pipeline.listed} templates")
        self.audit_trail.started(self.embedder.digest, self._threshold)
        try:
            self.pipeline.run()
            if self.capture.error is not None:
                raise self.capture.error
            if not self._why:
                self._state, self._why = (
                    "stopped",
                    "the source has ended" if self.capture.ended else "it was told to stop",
                )
        except EdgeError as error:
            self._state, self._why = "refused", str(error)
            self.audit_trail.refused(error)
            raise
        finally:
            notify.stopping(self._why or "stopped")
            ran = time.monotonic() - self._begun
            self.capture.stop()
            self.custodian.purge()
            self.audit_trail.turn(self.custodian.totals().overdue, final=True)
            self.audit_trail.stopped(self._why)
            if not self.publisher.wait_empty(DELIVER_AT_END_S):
                log.warning("alerts_wait", undelivered=self.outbox.counters().waiting)
            self._write(self.health(ran))
        return self.health(ran)

    def stop(self) -> None:
        """Ask :meth:`run` to return; safe in a signal handler."""
        self.pipeline.stop()

    # -- what it says of itself --------------------------------------------------------------------

    def health(self, ran_s: float | None = None) -> Health:
        """The counters as they stand."""
        counts, totals = self.pipeline.counts, self.custodian.totals()
        ran = ran_s if ran_s is not None else time.monotonic() - self._begun
        return Health(
            van=self._config.van.id,
            deployment=self._config.deployment.id,
            state=self._state,
            why=self._why,
            at=self._clock.now(),
            frames=counts.frames,
            dropped=self.capture.counts().dropped,
            given_up=counts.given_up,
            fps=round(counts.frames / ran, 2) if ran > 0 else 0.0,
            faces_seen=counts.faces_seen,
            embedded=counts.embedded,
            refused=dict(counts.refused),
            alerts=counts.alerts,
            undelivered=self.outbox.counters().waiting,
            erasure_ms=spread(list(self._held_ms)),
            nonmatch_overdue=totals.overdue,
            stage_ms={stage: round(spent, 1) for stage, spent in counts.stage_ms.items()},
            list_entries=self.pipeline.listed,
            threshold=self._threshold,
            memory_locked=self._memory.locked if self._memory else False,
        )

    def _turn(self) -> None:
        notify.alive()
        now = time.monotonic()
        if now - self._written < STATUS_EVERY_S:
            return
        self._written = now
        self.audit_trail.turn(self.custodian.totals().overdue)
        health = self.health()
        self._write(health)
        box = self.outbox.counters()
        self.publisher.report(
            HealthBody(
                van=health.van,
                at=health.at,
                frames=health.frames,
                frames_dropped=health.dropped,
                faces=health.faces_seen,
                erased=self.custodian.totals().passages,
                overdue=health.nonmatch_overdue,
                alerts=health.alerts,
                alerts_delivered=box.delivered,
                alerts_expired=box.expired,
                alerts_waiting=box.waiting,
            )
        )

    def _write(self, health: Health) -> None:
        write_status(self._state_folder / STATUS_FILE, health)

    def _receipt(self, receipt: ErasureReceipt) -> None:
        self.audit_trail.forgotten(receipt)
        if not receipt.matched:
            self._held_ms.append(receipt.held_after_last_seen_ms)
        if self._on_receipt is not None:
            self._on_receipt(receipt)

    def _alert(self, alert: Alert) -> None:
        self.audit_trail.alert(alert)
        if self._on_alert is not None:
            self._on_alert(alert)

    def _breach(self, breach: CustodyBreached) -> None:
        log.critical("custody_breached", why=str(breach))
        self.audit_trail.breached(breach)
        self.pipeline.stop()

    # -- authority, revocation, end ------------------------------------------------------------------

    def _take_up(self, keeper: ListLifecycle) -> WatchlistStore:
        """The list, if this van may match now or may come to it by waiting; one that is over is destroyed by now."""
        try:
            store = self.mandate.start()
        except MAY_PASS as error:
            log.warning("waiting", why=str(error))
            store = keeper.open(model=self.embedder.digest)
        self._threshold = self.mandate.threshold
        return store

    def _retention(self) -> timedelta | None:
        authority = self.mandate.authority
        return None if authority is None else timedelta(hours=authority.retention_h)

    def _permitted(self, error: PolicyRefusal | None) -> None:
        self._state, self._why = ("watching", "") if error is None else ("refused", str(error))
        notify.status(self._why or "watching")
        if error is None:
            log.info("permitted")
        else:
            log.warning("refused", why=str(error))

    def _over(self, error: PolicyRefusal) -> None:
        """Matching must end for good; when the authority is over, the mandate has destroyed the list already."""
        self._state, self._why = "stopped", str(error)
        self.pipeline.forget_list()
        self.pipeline.stop()

    def _publish_checkpoint(self, checkpoint: str) -> None:
        publisher: Publisher | None = getattr(self, "publisher", None)
        if publisher is not None:
            publisher.announce(checkpoint)

    def _incoming(self, kind: str, payload: bytes) -> None:
        """A message for this van; what it raises comes back to :meth:`_disbelieved`. Called on the network thread."""
        if kind == topics.REVOCATION:
            revocation = self.mandate.revoke(payload)
            if revocation is not None:
                log.info("revoked", reference=revocation.reference)
        elif kind == topics.ADJUDICATION:
            self.audit_trail.adjudicated(ADJUDICATION.read(payload, self._control_rooms, self._config.van.id))

    def _disbelieved(self, kind: str, error: EdgeError) -> None:
        log.warning("message_refused", topic=kind, why=str(error))
        self.audit_trail.refused(error)

    def _left_the_list(self, reference: str) -> None:
        pipeline: Pipeline | None = getattr(self, "pipeline", None)
        if pipeline is not None:
            pipeline.remove(reference)

    # -- what happens to it --------------------------------------------------------------------------

    def _camera(self, what: str, why: str) -> None:
        self._state, self._why = ("camera lost", why) if what == "lost" else ("watching", "")
        notify.status(why)
        log.warning("camera", what=what, why=why)

    def _link(self, state: LinkState, error: EdgeError | None) -> None:
        log.info("broker", state=state.value, why=str(error) if error else "")
