"""What the appliance asks of its authority, its list and its log: one object from the start to the receipt.

:meth:`Mandate.start` brings everything in and returns the list when matching is allowed; :meth:`Mandate.check` is
asked every second while it runs; :meth:`Mandate.revoke` takes what MQTT brings; :meth:`Mandate.finish` destroys the
list. When the authority is over, the list is destroyed before the refusal is raised: whatever the caller does next, it
is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from edge.clock import NS_PER_S, Clock
from edge.custody.shred import shred
from edge.deployment.ended import end_of, refusal, said_already
from edge.deployment.fetch import accept_authority, fetch_list, fetch_revocations
from edge.deployment.gate import Gate, ListFacts
from edge.deployment.kept import AUTHORITY_FILE, ENDED, end_what_is_over, kept_authority
from edge.deployment.position import PositionSource
from edge.deployment.withdrawals import Withdrawals
from edge.errors import (
    AuthorityEnded,
    AuthorityMissing,
    AuthorityWithdrawn,
    EdgeError,
    MetadataExpired,
    PolicyRefusal,
    RepositoryUnavailable,
    SignatureInvalid,
    StoreUnavailable,
    WatchlistGone,
)
from edge.files import replace_file
from edge.records import NOBODY, Limits
from edge.trust.audit import AuditLog, read_log
from edge.trust.authority import Authority, authority_digest
from edge.trust.events import Event
from edge.trust.keys import KnownSigners
from edge.trust.repository import VanRepository
from edge.trust.revocation import Revocation, apply_all, lines_of
from edge.watchlist.bundle import AgeIdentity
from edge.watchlist.destruction import UNNAMED
from edge.watchlist.identity import DestructionReceipt
from edge.watchlist.lifecycle import ListLifecycle
from edge.watchlist.store import WatchlistStore

__all__ = ["Mandate", "VanFacts"]

EXPIRY_EVERY_NS = 60 * NS_PER_S
MOST_APPLIED = 10_000
"""Lines of revocations that are remembered; a list has seldom more than some hundred."""
WITHDRAWN = "the authority was withdrawn"


@dataclass(frozen=True, slots=True)
class VanFacts:
    """What does not change while the service runs.

    Attributes:
        van: the van's identity.
        deployment: which it is out for.
        model: digest of the embedder.
        score: the configured score that an alert needs; None for the lowest that the budget allows at the list's size.
        similarity: the configured similarity that it needs besides; None for the lowest that is allowed.
    """

    van: str
    deployment: str
    model: str
    score: float | None = None
    similarity: float | None = None


class Mandate:
    """See the module. Its methods are called from one thread; :meth:`revoke` may come from another.

    Args:
        facts: who this is and what it runs.
        folder: where the accepted authority is kept, for a restart without the stick.
        clock: the wall clock is the one that the authority is judged by.
        audit: open.
        keeper: of the list; not recovered yet.
        gate: without an authority yet.
        positions: where the van is.
        repository: the stick or the server.
        identity: the van's age key.
        revokers: who may take somebody off the list.
        wipe: the stick's folder, when its bundle is for this van alone and is to be overwritten after the import.
        on_refused: told of each refusal once, for the crew's page.
    """

    def __init__(
        self,
        facts: VanFacts,
        *,
        folder: Path,
        clock: Clock,
        audit: AuditLog,
        keeper: ListLifecycle,
        gate: Gate,
        positions: PositionSource,
        repository: VanRepository,
        identity: AgeIdentity,
        revokers: KnownSigners,
        wipe: Path | None = None,
        on_refused: Callable[[EdgeError], None] | None = None,
    ) -> None:
        self._facts = facts
        self._folder = folder
        self._clock = clock
        self._audit = audit
        self._keeper = keeper
        self._gate = gate
        self._positions = positions
        self._repository = repository
        self._identity = identity
        self._revokers = revokers
        self._wipe = wipe
        self._on_refused = on_refused
        self._refused = ""
        self._began = False
        self._ended_for = ""
        self._expired_at_ns = 0
        self._applied: set[bytes] = set()
        """Digests of lines of revocations that need no second look: no list is taken in while this van runs."""
        self._withdrawals = Withdrawals(folder, revokers, facts.deployment)

    # -- start ---------------------------------------------------------------------------------

    def start(self) -> WatchlistStore:
        """Bring in authority, list and revocations, and return the list when matching is allowed now.

        A stick that is gone, or whose state was up to date when it was taken in and is not any more, is no hindrance
        after a restart: the authority that was accepted and the list that is in force still hold.

        Raises:
            PolicyRefusal: one of its kinds; a list whose authority is over has been destroyed then.
            EdgeError: whatever else keeps the van from starting.
        """
        end_what_is_over(
            self._folder, self._keeper.folder, now=self._clock.now(), clock_confirmed=self._gate.clock_confirmed
        )
        self._keeper.recover()
        self._refuse_what_is_over()
        try:
            authority = self._fetch()
            said = fetch_revocations(self._repository, self._facts.deployment)
            self._withdrawals.take(said)
            if self._keeper.held() not in {None, authority.watchlist}:
                self._keeper.destroy(UNNAMED)  # its own authority is forgotten, and with it when it has to end
            if self._clock.now() < authority.ends and self._withdrawals.end(authority) is None:
                fetch_list(
                    self._repository,
                    self._keeper,
                    authority,
                    self._identity,
                    van=self._facts.van,
                    model=self._facts.model,
                    work=self._folder,
                    wipe=self._wipe,
                )
                self._apply(said)
        except RepositoryUnavailable:
            if self._gate.authority is None:
                self._restore()
        except MetadataExpired as error:
            self._go_on(error)
        except PolicyRefusal as error:
            self._note(error)
            raise
        self.check()
        return self._keeper.open(model=self._facts.model)

    def _refuse_what_is_over(self) -> None:
        """Before anything is asked of a stick or a server: what has ended here does not come back.

        Raises:
            DeploymentOver: the deployment has ended on this van; nothing of it is left then.
        """
        entries = read_log(self._audit.path)
        end = end_of(entries, self._facts.deployment)
        if end is None:
            return
        withdrawn = end.cause == WITHDRAWN and self._withdrawals.last
        error = refusal(replace(end, cause=f"the authority {withdrawn}") if withdrawn else end)
        self._keeper.destroy_of(self._facts.deployment, end.cause)
        kept = kept_authority(self._folder)
        if kept is not None and kept.deployment == self._facts.deployment:
            shred(self._folder / AUTHORITY_FILE)
        if said_already(entries, error):
            self._refused = type(error).__name__
        self._note(error)
        raise error

    def _fetch(self) -> Authority:
        self._repository.refresh()
        name = f"authorities/{self._facts.deployment}.json"
        content = self._repository.read(name)
        authority = accept_authority(content, self._gate, self._audit, name)
        try:
            replace_file(self._folder / AUTHORITY_FILE, content)
        except OSError as error:
            raise StoreUnavailable(
                str(self._folder / AUTHORITY_FILE),
                f"cannot be written ({error.strerror})",
                "Check that the disk is not full or failing",
            ) from None
        return authority

    def _go_on(self, expired: MetadataExpired) -> None:
        """With the authority and the list that were accepted in time.

        Raises:
            MetadataExpired: there are none: what was held back until it lapsed is not taken in.
        """
        try:
            if self._gate.authority is None:
                self._restore()
            if self._gate.authority is not None and self._keeper.held() == self._gate.authority.watchlist:
                return
        except AuthorityMissing:
            pass
        self._gate.unload()
        self._note(expired)
        raise expired

    def _restore(self) -> None:
        """Take up the authority of before the restart, if it is the one that the log says was accepted."""
        try:
            content = (self._folder / AUTHORITY_FILE).read_bytes()
        except OSError:
            raise AuthorityMissing(
                f"deployment {self._facts.deployment}",
                "has no authority on this van",
                "Plug in the stick from the intelligence unit",
            ) from None
        accepted = [e.data for e in read_log(self._audit.path) if e.event == Event.AUTHORITY_ACCEPTED]
        known = accepted[-1] if accepted else {"digest": "", "authority": ""}
        if known["digest"] != authority_digest(content) or known["authority"] != self._facts.deployment:
            raise AuthorityMissing(
                f"deployment {self._facts.deployment}",
                "was never accepted on this van",
                "Plug in the stick from the intelligence unit",
            )
        self._gate.load(content)
        self._audit.deployment = self._facts.deployment

    # -- while running -------------------------------------------------------------------------

    def check(self) -> Authority:
        """Return the authority when matching is allowed at this moment; also lets entries expire, once a minute.

        Raises:
            AuthorityEnded: it is over, and the list has been destroyed.
            PolicyRefusal: any other kind: stop matching; ask again in a second.
            EdgeError: the list cannot be read, or the log cannot be written: likewise.
        """
        try:
            authority = self._judge()
        except EdgeError as error:
            over = error if isinstance(error, AuthorityEnded) else self._over_nevertheless(error)
            if over is not None:
                raise over from self._end(over)
            self._note(error)
            raise
        self._refused, self._began = "", True
        return authority

    def _end(self, over: AuthorityEnded) -> EdgeError | None:
        """Destroy the list, then note why; what hindered the notes, if anything did.

        Raises:
            StoreUnavailable: the list's key is still there. To be asked again.
        """
        trouble: EdgeError | None = None
        try:
            self.finish(WITHDRAWN if isinstance(over, AuthorityWithdrawn) else self._ended_for or ENDED)
        except EdgeError as error:
            if not self._keeper.sealed:
                raise
            trouble = error
        try:
            self._note(over)
        except EdgeError as error:
            trouble = error
        return trouble

    def _over_nevertheless(self, error: EdgeError) -> AuthorityEnded | None:
        """A list that cannot be read must not hide that the authority is over: then it is to be destroyed."""
        if isinstance(error, PolicyRefusal):
            return None
        now, position = self._clock.now(), self._positions.position()
        try:
            self._gate.check(now, position, None, model=self._facts.model, limits=NOBODY)
        except AuthorityEnded as ended:
            return ended
        except PolicyRefusal:
            return None
        return None

    def _judge(self) -> Authority:
        authority = self._gate.authority
        if self._ended_for:
            raise AuthorityEnded(
                f"deployment {self._facts.deployment}",
                f"is over: {self._ended_for}",
                "Ask the office for a new authority, with a new name for the deployment",
            )
        if authority is not None:
            self._withdrawals.judge(authority)
        now, monotonic = self._clock.now(), self._clock.monotonic_ns()
        due = self._expired_at_ns == 0 or monotonic - self._expired_at_ns >= EXPIRY_EVERY_NS
        if due and self._gate.clock_confirmed():
            self._expired_at_ns = monotonic
            self._keeper.expire()
        facts, position = self._list_facts(), self._positions.position()  # somebody may leave the list meanwhile
        return self._gate.check(now, position, facts, model=self._facts.model, limits=self._limits_for(facts))

    @property
    def limits(self) -> Limits:
        """What a candidate must reach with the list as it is; see :meth:`limits_for`."""
        return self._limits_for(self._list_facts())

    def _limits_for(self, facts: ListFacts | None) -> Limits:
        return self.limits_for(facts.entries, facts.pictures) if facts else self.limits_for(1, 1)

    def limits_for(self, entries: int, pictures: int) -> Limits:
        """What a candidate must reach with so many on the list: as configured, else the lowest that is allowed.

        A configured figure is judged until it is allowed once. A list that has become shorter since may need more than
        that, and then it is asked for: nobody's leaving may end the deployment.

        Raises:
            AuthorityMissing: it follows from an authority, and there is none.
        """
        lowest = self._gate.lowest(entries, several=pictures > entries)
        score, similarity = self._facts.score, self._facts.similarity
        limits = Limits(
            score=lowest.score if score is None else score,
            similarity=lowest.similarity if similarity is None else similarity,
        )
        if not self._began or lowest == NOBODY:
            return limits
        return Limits(max(limits.score, lowest.score), max(limits.similarity, lowest.similarity))

    @property
    def authority(self) -> Authority | None:
        """The authority that is held, judged or not."""
        return self._gate.authority

    @property
    def retention(self) -> timedelta | None:
        """How long alerts may be kept; None without an authority."""
        authority = self._gate.authority
        return None if authority is None else timedelta(hours=authority.retention_h)

    def _list_facts(self) -> ListFacts | None:
        try:
            store = self._keeper.open()
        except WatchlistGone:
            return None
        store.touch()  # a list that is only remembered is none
        return ListFacts(store.digest, len(store), store.pictures())

    def _note(self, error: EdgeError) -> None:
        """Write a refusal down when it is another than the last: asked every second, said once."""
        kind = type(error).__name__
        if kind == self._refused:
            return
        self._refused = kind
        self._audit.record(Event.REFUSED, {"error": kind, "thing": error.thing[:1000], "cause": error.cause[:1000]})
        if self._on_refused is not None:
            self._on_refused(error)

    def revoke(self, message: bytes) -> tuple[Revocation, ...]:
        """Apply revocations as MQTT brings them, one per line; returns those that changed something.

        The broker says them again with every connection: a line that was taken in is passed over then. A withdrawal
        ends matching with the next :meth:`check`, within half a second.

        Raises:
            SignatureInvalid: one must not be believed, or there are too many; the others are applied.
            StoreUnavailable: a withdrawal could not be written down; it holds until the next start.
        """
        fresh = [token for token in lines_of(message) if _digest(token) not in self._applied]
        if len(self._applied) > MOST_APPLIED:  # of whoever has the broker, who may say new nonsense for ever
            self._applied.clear()
        try:
            done = self._apply(fresh)
        except SignatureInvalid:
            self._applied.update(map(_digest, fresh))  # the others were applied; what is wrong was said once
            raise
        self._applied.update(map(_digest, fresh))
        return done

    def _apply(self, tokens: Sequence[bytes]) -> tuple[Revocation, ...]:
        return apply_all(
            tokens,
            self._revokers,
            deployment=self._facts.deployment,
            remove=self._keeper.remove,
            withdraw=lambda token, _: self._withdrawals.take([token]),
        )

    # -- the end -------------------------------------------------------------------------------

    def end(self, cause: str) -> None:
        """Have the next :meth:`check` end the deployment for good and destroy the list; from any thread.

        Args:
            cause: why, in words; it goes into the receipt.
        """
        self._ended_for = cause

    def finish(self, cause: str) -> DestructionReceipt | None:
        """Destroy the list and forget the authority; None when there was no list. Safe to repeat."""
        authority = self._gate.authority
        try:
            receipt = self._keeper.destroy(cause)
        finally:  # a log that cannot be written must not keep an authority alive
            if authority is not None and self._keeper.sealed:
                self._gate.unload()
                shred(self._folder / AUTHORITY_FILE)
        if authority is not None:
            self._audit.record(Event.AUTHORITY_ENDED, {"authority": authority.deployment, "cause": cause})
            self._audit.checkpoint()
        return receipt


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()
