"""The life of a van's service: put it together, watch, and put everything away, whatever happens.

:class:`Appliance` runs on the main thread and owns no stage: :mod:`edge.assembly.van` makes the parts, each runs in a
worker of its own (:mod:`edge.worker`), and what happens to them comes back as events for the one state
(:mod:`edge.state`). It fails closed: whatever is missing or wrong at start is an error with a next step and nothing
runs; a part that fails while running closes the permit to match first, and is spoken of afterwards.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from edge.alert import topics
from edge.alert.adjudication import ADJUDICATION
from edge.alert.outbox import Damage
from edge.alert.publish import LinkState
from edge.alert.status import HealthBody
from edge.assembly.crew import crew_hatch
from edge.assembly.troubles import JUDGED, OFFLINE, camera_event, part_of
from edge.assembly.van import Van, assemble
from edge.clock import Clock, SystemClock
from edge.config import Config
from edge.errors import (
    AuthorityEnded,
    CustodyBreached,
    EdgeError,
    PolicyRefusal,
    StoreUnavailable,
    VideoUnreadable,
    WorkerFailed,
    for_crew,
)
from edge.records import Alert, ErasureReceipt
from edge.state import Began, Ended, Event, Failed, Fine, Part, Starting, Trouble
from edge.system import notify
from edge.system.board import StatusBoard
from edge.system.health import Health, spread
from edge.system.journal import get_logger
from edge.worker import Supervisor, Worker

__all__ = ["Appliance"]

log = get_logger("appliance")
TICK_S = 0.1
STATUS_EVERY_S = 1.0
PROVE_EVERY_S = 10.0
"""A disk that takes nothing any more is known before there is an alert to be kept."""
REPORT_SILENT_S = 10.0
RECEIPTS_KEPT = 100_000
"""Erasure times kept for the spread; a busy day has fewer passages."""
PIPELINE_SILENT_S = 60.0
"""One frame takes seconds on the slowest machine there is, an emulated one."""
DELIVER_AT_END_S = 20.0
"""How long a stopping van waits for the broker; what is undelivered stays in the outbox."""
DELIVER_AT_FAILURE_S = 1.0
_CAMERA = "1"
_LEASE = "lease"
PUT_AWAY_S = 80.0
PUT_AWAY_AT_FAILURE_S = 12.0
"""A process that has not put everything away by then, because something hangs, is ended: its memory goes with it."""


class Appliance:
    """One van's service. Use it as a context manager; :meth:`run` blocks until the end.

    Args:
        config: the checked configuration.
        clock: the machine's, or one turned by hand in tests.
        on_receipt: told of every passage that was forgotten.
        on_alert: told of every alert that was accepted.

    Raises:
        EdgeError: on entering, for whatever is missing or wrong; nothing is left running, and the status says why.
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
        self._proven = 0.0
        self._begun = 0.0
        self._over: PolicyRefusal | None = None
        self._ended = threading.Event()
        self._told_to_stop = False
        self._failure_noted = False
        self._pipeline: Worker | None = None
        self._reporter: Worker | None = None
        self._van: Van | None = None
        self._close = ExitStack()
        self.board = StatusBoard(config, self._clock)
        self.workers = Supervisor(self._worker_failed)

    # -- start and stop ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            parts.callback(self.workers.call_off)
            parts.enter_context(self.workers.strangers())
            try:
                self._van = assemble(
                    self._config, self._clock, self, workers=self.workers, parts=parts, step=self._step
                )
                self._start(self._van, parts)
            except AuthorityEnded as error:  # nothing is wrong: it is over
                self.board.take(Ended(for_crew(error)))
                raise
            except EdgeError as error:
                self.board.take(Failed(for_crew(error)))
                raise
            except KeyboardInterrupt:
                self.board.take(Ended("It was told to stop"))
                raise
            except BaseException as error:
                self.board.take(Failed(f"The start was broken off ({type(error).__name__}). Call the engineer."))
                raise
            self._close = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def _step(self, what: str) -> None:
        if self._told_to_stop:
            raise KeyboardInterrupt
        self._raise_failure()
        self.board.take(Starting(what))

    def _start(self, van: Van, parts: ExitStack) -> None:
        """Start what runs by itself. The guard's first answer comes before the first frame."""
        self._step("opening the camera")
        self.board.take(Trouble(Part.CAMERA, f"{van.capture.name} has not delivered a picture yet", key=_CAMERA))
        van.custodian.start(self.workers)
        parts.callback(van.custodian.stop)
        van.retention.start(self.workers)
        parts.callback(van.retention.stop)
        van.guard.ask()
        parts.callback(van.capture.stop)  # first: a start that fails may have begun to read
        van.capture.start(self.workers)
        van.guard.start(self.workers)
        parts.callback(van.guard.stop)
        self.board.listen(lambda state: van.publisher.say(str(state.condition), state.why))
        van.publisher.start(self.workers)
        parts.callback(van.publisher.stop)
        parts.enter_context(crew_hatch(self._config, van, self.board, self._clock, self.workers))

    @property
    def van(self) -> Van:
        """The parts; there once the context is entered."""
        assert self._van is not None
        return self._van

    def run(self) -> Health:
        """Watch until the source ends or :meth:`stop` is called; returns the counters of the whole run.

        Raises:
            EdgeError: matching had to stop; everything held was erased before this is raised.
        """
        van = self.van
        self._begun = time.monotonic()
        end: Ended | Failed = Failed("The service was broken off")
        try:
            self._raise_failure()
            van.trail.started(van.model, van.pipeline.threshold)
            self.board.take(Began())
            notify.ready(f"{self.board.state.condition}: {van.capture.name}, {van.pipeline.listed} on the list")
            self._pipeline = self.workers.start("pipeline", self._match, silent_s=PIPELINE_SILENT_S)
            self._reporter = self.workers.start("report", self._reports, silent_s=REPORT_SILENT_S)
            self._supervise()
            end = Failed(str(self.incomplete)) if self.incomplete else Ended(self._why_it_ended())
        except EdgeError as error:
            end = Failed(for_crew(error))
            if self.workers.failure is None:
                van.trail.refused(error)
            raise
        except Exception as error:
            self.workers.fail("main", error)
            if (failure := self.workers.failure) is None:
                raise
            end = Failed(for_crew(failure))
            raise failure from error
        finally:
            self._put_away(end)
        self._raise_failure()  # what failed while everything was put away
        return self.health()

    @property
    def incomplete(self) -> VideoUnreadable | None:
        """What of a film or a folder could not be read, once :meth:`run` has returned because it ended."""
        return None if self._over is not None or not self.van.capture.ended else self.van.capture.incomplete

    def stop(self) -> None:
        """Ask :meth:`run` to return, or a start to break off; safe in a signal handler."""
        self._told_to_stop = True
        if self._van is not None:
            self._van.pipeline.stop()

    def _match(self, worker: Worker) -> None:
        self.van.pipeline.run()
        self._ended.set()
        while not worker.wait(STATUS_EVERY_S):
            pass

    def _supervise(self) -> None:
        """On the main thread: look after every worker until matching has ended. Nothing here waits for a disk."""
        while not self._ended.is_set():
            self.workers.wait(TICK_S)
            self.workers.check()
            self._raise_failure()
            self.van.capture.watch()
            self._watch_permit()
            notify.alive()
        if self._over is None and self.van.capture.error is not None:
            raise self.van.capture.error

    def _reports(self, worker: Worker) -> None:
        """Say once a second how it stands; find out before an alert has to be kept whether the disk would take it."""
        while not worker.stopping:
            if time.monotonic() - self._proven >= PROVE_EVERY_S:
                self.van.outbox.prove()
                self._proven = time.monotonic()
            self._report()
            worker.wait(STATUS_EVERY_S)

    def _raise_failure(self) -> None:
        failure = self.workers.failure
        if failure is not None:
            raise failure.__cause__ if isinstance(failure.__cause__, EdgeError) else failure

    def _watch_permit(self) -> None:
        """A permit that ran out although nobody said no: the guard hangs, and nobody is matched."""
        refused = any(t.part in JUDGED and t.blocks and t.key != _LEASE for t in self.board.state.troubles)
        if refused or self.van.permit.valid:
            self.board.take(Fine(Part.PERMISSION, key=_LEASE))
        else:
            self.board.take(Trouble(Part.PERMISSION, "Nobody has confirmed that matching is allowed.", key=_LEASE))

    def _why_it_ended(self) -> str:
        if self._over is not None:
            return str(self._over)
        return "The source has ended" if self.van.capture.ended else "It was told to stop"

    def _put_away(self, end: Ended | Failed) -> None:
        """Match nobody, erase everything, write down why; a step that fails does not keep the next from being done."""
        van = self.van
        why = end.why
        in_time = isinstance(end, Ended) or self.incomplete is not None
        deliver_s = DELIVER_AT_END_S if in_time else DELIVER_AT_FAILURE_S
        pipeline, reporter = self._pipeline, self._reporter
        steps: list[Callable[[], object]] = [
            lambda: self.workers.end_in_time(PUT_AWAY_S if in_time else PUT_AWAY_AT_FAILURE_S, WorkerFailed.exit_code),
            van.permit.close,
            lambda: self.board.take(end),
            lambda: notify.stopping(why),
            van.pipeline.stop,
            van.capture.stop,
            lambda: pipeline.stop() if pipeline is not None else None,
            lambda: reporter.stop() if reporter is not None else None,
            van.custodian.purge,
            lambda: van.trail.turn(van.custodian.totals().overdue, final=True),
            self._note_failure,
            lambda: van.trail.stopped(why),
            lambda: self._deliver(deliver_s),
            self._note_failure,
            lambda: self.board.show(self._counters()),
        ]
        for step in steps:
            try:
                step()
            except EdgeError as error:
                log.error("putting_away", why=str(error))
            except Exception as error:  # noqa: BLE001 - it is taken in as a failure, and the next step is done
                self.workers.fail("main", error)

    def _note_failure(self) -> None:
        failure = self.workers.failure
        if failure is not None and not self._failure_noted:
            self._failure_noted = True
            self.van.trail.failed(failure)

    def _deliver(self, longest_s: float) -> None:
        if not self.van.publisher.wait_empty(longest_s):
            log.warning("alerts_wait", undelivered=self.van.outbox.counters().waiting)

    # -- what it says of itself --------------------------------------------------------------------

    def health(self) -> Health:
        """State and counters as they were shown last."""
        return self.board.health

    def _report(self) -> None:
        """Once a second: the status, the audit log's minute, the counters for the control room."""
        van = self.van
        van.trail.turn(van.custodian.totals().overdue)
        health = self._counters()
        self.board.show(health)
        box = van.outbox.counters()
        van.publisher.report(
            HealthBody(
                van=health.van,
                at=health.at,
                frames=health.frames,
                frames_dropped=health.dropped,
                faces=health.faces_seen,
                erased=van.custodian.totals().passages,
                overdue=health.nonmatch_overdue,
                alerts=health.alerts,
                alerts_delivered=box.delivered,
                alerts_expired=box.expired,
                alerts_waiting=box.waiting,
            )
        )

    def _counters(self) -> Health:
        van = self.van
        counts, totals, captured = van.pipeline.counts, van.custodian.totals(), van.capture.counts()
        ran = time.monotonic() - self._begun
        return Health(
            van=self._config.van.id,
            deployment=self._config.deployment.id,
            state=str(self.board.state.condition),
            at=self._clock.now(),
            frames=counts.frames,
            dropped=captured.dropped,
            unreadable=captured.unreadable,
            given_up=counts.given_up,
            fps=round(counts.frames / ran, 2) if ran > 0 else 0.0,
            faces_seen=counts.faces_seen,
            embedded=counts.embedded,
            refused=dict(counts.refused),
            alerts=counts.alerts,
            undelivered=van.outbox.counters().waiting,
            erasure_ms=spread(list(self._held_ms)),
            nonmatch_overdue=totals.overdue,
            stage_ms={stage: round(spent, 1) for stage, spent in counts.stage_ms.items()},
            list_entries=van.pipeline.listed,
            threshold=van.pipeline.threshold,
            memory_locked=van.memory.locked,
        )

    # -- what happens to it: edge.assembly.van.Listener ---------------------------------------------

    def _worker_failed(self, failure: WorkerFailed) -> None:
        """A worker died, ended or hangs. On whichever thread that was found: first nobody is matched any more."""
        self.workers.end_in_time(PUT_AWAY_AT_FAILURE_S, WorkerFailed.exit_code)
        if self._van is not None:
            self._van.permit.close()
        log.critical("worker_failed", why=str(failure))
        cause = failure.__cause__
        self.board.take(Failed(for_crew(cause if isinstance(cause, EdgeError) else failure)))

    def answered(self, error: EdgeError | None) -> None:
        part = None if error is None else part_of(error)
        events: list[Event] = [Fine(each) for each in JUDGED if each is not part]
        if error is not None and part is not None:
            events.append(Trouble(part, for_crew(error)))
        self.board.take(*events)

    def over(self, error: PolicyRefusal) -> None:
        """Matching must end for good; when the authority is over, the mandate has destroyed the list already."""
        self._over = error
        self.board.take(Trouble(Part.PERMISSION, for_crew(error)))
        self.van.pipeline.forget_list()
        self.van.pipeline.stop()

    def camera(self, what: str, why: str) -> None:
        event = camera_event(_CAMERA, what, why)
        self.board.take(event)
        if self._van is not None:
            try:
                self._van.trail.camera(event)
                self.board.take(Fine(Part.DISK, key="camera"))
            except StoreUnavailable as error:  # the disk is full: that stops matching by itself, and not the camera
                self.board.take(Trouble(Part.DISK, for_crew(error), blocks=False, key="camera"))

    def link(self, state: LinkState, error: EdgeError | None) -> None:
        if error is not None:
            part = Part.DISK if isinstance(error, StoreUnavailable) else Part.LINK
            known = any(t.part is part and t.why == for_crew(error) for t in self.board.state.troubles)
            self.board.take(Trouble(part, for_crew(error), blocks=False, key="outbox"))
            if not known and self._van is not None:
                self._van.trail.refused(error)
        elif state in OFFLINE:
            self.board.take(Trouble(Part.LINK, f"{OFFLINE[state]}.", blocks=False, key="outbox"))
        else:
            self.board.take(Fine(Part.LINK, key="outbox"), Fine(Part.DISK, key="outbox"))
        log.info("broker", state=state.value, why=str(error) if error else "")

    def forgotten(self, receipt: ErasureReceipt) -> None:
        self.van.trail.forgotten(receipt)
        if not receipt.matched:
            self._held_ms.append(receipt.held_after_last_seen_ms)
        if self._on_receipt is not None:
            self._on_receipt(receipt)

    def alerted(self, alert: Alert) -> None:
        self.van.trail.alert(alert)
        if self._on_alert is not None:
            self._on_alert(alert)

    def breached(self, breach: CustodyBreached) -> None:
        self.van.permit.close()
        self.board.take(Trouble(Part.CUSTODY, for_crew(breach)))
        self.van.trail.breached(breach)
        self.van.pipeline.stop()

    def incoming(self, kind: str, payload: bytes) -> None:
        """A message for this van; what it raises comes back to :meth:`disbelieved`. Called on the network thread."""
        if kind == topics.REVOCATION:
            for revocation in self.van.mandate.revoke(payload):
                log.info("revoked", reference=revocation.reference)
        elif kind == topics.ADJUDICATION:
            self.van.trail.adjudicated(ADJUDICATION.read(payload, self.van.control_rooms, self._config.van.id))

    def disbelieved(self, kind: str, error: EdgeError) -> None:
        log.warning("message_refused", topic=kind, why=str(error))
        self.van.trail.disbelieved(error)

    def damaged(self, damage: Damage) -> None:
        log.error("outbox_was_damaged", kept=damage.file, carried=damage.carried, lost=damage.lost)
        why = (
            f"The store of waiting alerts was damaged: {damage.carried} were saved, {damage.lost} were lost. "
            "Tell the control room and the engineer."
        )
        self.board.take(Trouble(Part.DISK, why, blocks=False, key="damage"))

    def unswept(self, error: EdgeError) -> None:
        self.board.take(Trouble(Part.DISK, for_crew(error), blocks=False, key="retention"))
        self.van.trail.refused(error)

    def progress(self) -> None:
        if self._pipeline is not None:
            self._pipeline.beat()
