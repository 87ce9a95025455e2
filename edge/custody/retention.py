"""Who holds what, until when: the custodian gives out handles, sweeps them, and writes receipts.

Every handle on the van comes from one :class:`Custodian`. Its sweeper erases what reaches its
deadline; a handle that is found *past* its deadline means that some stage broke the design, and trips
the fail-closed purge: everything is overwritten, ``on_breach`` is called, and nothing new is given out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from numpy.typing import NDArray

from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.custody.erase import Biometric, Kind
from edge.errors import CustodyBreached
from edge.records import ErasureCause, ErasureReceipt
from edge.worker import Supervisor, Worker

__all__ = ["Custodian", "CustodyTotals"]

SWEEP_MS = 100
"""How often the sweeper looks; also how long before its deadline it may erase a handle."""
SILENT_S = 5.0
"""A sweep that takes longer is a sweeper that hangs: nobody's deadline would be kept."""


@dataclass(slots=True)
class _Passage:
    first_seen_ns: int
    last_seen_ns: int
    handles: int = 0
    matched: bool = False


@dataclass(frozen=True, slots=True)
class CustodyTotals:
    """Counters since the start; numbers only, fit for a journal or a metric.

    Attributes:
        live: handles that hold something now.
        given: handles given out.
        erased: handles overwritten.
        overdue: handles found past their deadline. Anything but 0 is a breach.
        passages: passages closed with a receipt.
        longest_held_ms: longest time from the last frame of an unmatched passage to its erasure.
    """

    live: int
    given: int
    erased: int
    overdue: int
    passages: int
    longest_held_ms: float


class Custodian:
    """Gives out every biometric handle and proves that each is gone.

    Args:
        clock: for deadlines.
        on_receipt: called for every closed passage.
        on_breach: called once, when something outlived its deadline and everything was purged.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_receipt: Callable[[ErasureReceipt], None] | None = None,
        on_breach: Callable[[CustodyBreached], None] | None = None,
    ) -> None:
        self._clock = clock
        self._on_receipt = on_receipt
        self._on_breach = on_breach
        self._lock = threading.RLock()
        self._live: dict[int, Biometric] = {}
        self._passages: dict[UUID, _Passage] = {}
        self._given = 0
        self._erased = 0
        self._overdue = 0
        self._closed = 0
        self._longest_ms = 0.0
        self._breach: CustodyBreached | None = None
        self._sweeper: Worker | None = None

    # -- handles -------------------------------------------------------------------------------

    def hold(self, kind: Kind, array: NDArray[Any], *, track_id: UUID | None = None) -> Biometric:
        """Adopt an array. From now on it lives only behind the handle that comes back.

        Raises:
            CustodyBreached: custody was breached before; the array is overwritten, not kept.
            RecordInvalid: see :class:`edge.custody.erase.Biometric`.
        """
        with self._lock:
            if self._breach is not None:
                array.fill(0)
                raise self._breach
            seen_ns = self._last_seen(track_id)
            handle = Biometric(
                kind, array, self._clock, track_id=track_id, seen_ns=seen_ns, on_erased=self._note_erased
            )
            self._live[id(handle)] = handle
            self._given += 1
            if track_id is not None and track_id in self._passages:
                self._passages[track_id].handles += 1
            return handle

    def needed(self, handle: Biometric) -> None:
        """Start a template's limit anew, from the last picture of its passage.

        Raises:
            RecordInvalid, BiometricErased: see :meth:`edge.custody.erase.Biometric.needed`.
        """
        with self._lock:
            handle.needed(self._last_seen(handle.track_id))

    def _last_seen(self, track_id: UUID | None) -> int | None:
        passage = self._passages.get(track_id) if track_id is not None else None
        return None if passage is None else passage.last_seen_ns

    def _note_erased(self, handle: Biometric, cause: ErasureCause) -> None:
        with self._lock:
            self._live.pop(id(handle), None)
            self._erased += 1
            if cause is ErasureCause.OVERDUE:
                self._overdue += 1
        if cause is ErasureCause.OVERDUE:
            self._trip(handle.kind)

    # -- passages ------------------------------------------------------------------------------

    def seen(self, track_id: UUID, captured_ns: int) -> None:
        """Note that a passage was seen in the frame captured at ``captured_ns``."""
        with self._lock:
            passage = self._passages.get(track_id)
            if passage is None:
                self._passages[track_id] = _Passage(captured_ns, captured_ns)
            else:
                passage.last_seen_ns = captured_ns

    def matched(self, track_id: UUID) -> None:
        """Note that a passage raised an alert: its receipt says so."""
        with self._lock:
            if track_id in self._passages:
                self._passages[track_id].matched = True

    def close(self, track_id: UUID, cause: ErasureCause = ErasureCause.TRACK_ENDED) -> ErasureReceipt | None:
        """Erase whatever is left of a passage and hand out its receipt; None for an unknown one."""
        with self._lock:
            for handle in [h for h in self._live.values() if h.track_id == track_id]:
                handle.erase(cause)
            passage = self._passages.pop(track_id, None)
            if passage is None:
                return None
            receipt = ErasureReceipt(
                track_id=track_id,
                cause=cause,
                matched=passage.matched,
                first_seen_ns=passage.first_seen_ns,
                last_seen_ns=passage.last_seen_ns,
                erased_ns=self._clock.monotonic_ns(),
                handles=passage.handles,
            )
            self._closed += 1
            if not receipt.matched:
                self._longest_ms = max(self._longest_ms, receipt.held_after_last_seen_ms)
        if self._on_receipt is not None:
            self._on_receipt(receipt)
        return receipt

    # -- deadlines -----------------------------------------------------------------------------

    def sweep(self) -> None:
        """Erase what reaches its deadline before the next sweep; trip the purge for what is past it."""
        now = self._clock.monotonic_ns()
        with self._lock:
            due = [h for h in self._live.values() if h.deadline_ns <= now + 2 * SWEEP_MS * NS_PER_MS]
        for handle in due:
            handle.erase(ErasureCause.OVERDUE if handle.deadline_ns < now else ErasureCause.DEADLINE)

    def purge(self, cause: ErasureCause = ErasureCause.PURGE) -> None:
        """Erase everything now and close every passage."""
        with self._lock:
            for handle in list(self._live.values()):
                handle.erase(cause)
            for track_id in list(self._passages):
                self.close(track_id, cause)

    def _trip(self, kind: Kind) -> None:
        with self._lock:
            if self._breach is not None:
                return
            self._breach = CustodyBreached(
                f"a {kind.label}",
                f"outlived its limit of {kind.limit_ns / NS_PER_S:g} s; everything was erased and matching stopped",
                "Restart the service and keep the journal of the last minute",
            )
            breach = self._breach
            self.purge()
        if self._on_breach is not None:
            self._on_breach(breach)

    @property
    def breach(self) -> CustodyBreached | None:
        """Why custody is closed, or None while all is well."""
        return self._breach

    def start(self, workers: Supervisor) -> None:
        """Start the sweeper. Stop it with :meth:`stop`."""
        self._sweeper = workers.start("custody", self._run, silent_s=SILENT_S)

    def _run(self, worker: Worker) -> None:
        while not worker.wait(SWEEP_MS / 1000):
            self.sweep()

    def stop(self) -> None:
        """Stop the sweeper and erase everything."""
        if self._sweeper is not None:
            self._sweeper.stop()
            self._sweeper = None
        self.purge(ErasureCause.SHUTDOWN)

    def totals(self) -> CustodyTotals:
        with self._lock:
            return CustodyTotals(
                live=len(self._live),
                given=self._given,
                erased=self._erased,
                overdue=self._overdue,
                passages=self._closed,
                longest_held_ms=self._longest_ms,
            )
