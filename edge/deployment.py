"""One deployment as the van holds it: its authority, its list, its place and its end.

The appliance asks :meth:`Deployment.check` before it matches and every second while it does. What the
answer rests on is brought onto the van by :meth:`Deployment.fetch` (``lfr-edge fetch``), from a stick or
over HTTPS, and kept so that a restart needs neither. The stored authority is believed only if the audit
log, which the van signs, says that exactly this file was accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from edge.clock import Clock
from edge.config import Config
from edge.custody.shred import fsync_folder, shred
from edge.errors import AuthorityMissing, ConfigInvalid, EdgeError, KeyUnusable, StoreUnavailable
from edge.match.arrival import fetch_authority, fetch_list, fetch_revocations
from edge.match.bundle import identity_of
from edge.match.calibration import ImpostorTail, ThresholdEstimate
from edge.match.identity import DestructionReceipt
from edge.match.keeper import ListKeeper
from edge.match.watchlist import WatchlistStore
from edge.sight.card import default_directory, split
from edge.system.position import Whereabouts
from edge.trust.audit import AuditLog, read_log
from edge.trust.authority import Authority, authority_digest
from edge.trust.events import Event
from edge.trust.gate import Gate, ListFacts
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.repository import VanRepository
from edge.trust.revocation import apply_all
from edge.trust.secret import read_secret

__all__ = ["Deployment", "Fetched", "open_audit"]

AUDIT_FILE = "audit.jsonl"
AUTHORITY_FILE = "authority.json"
REPOSITORY_FOLDER = "repository"
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd makes it when a time server has set the clock since the start."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What :meth:`Deployment.fetch` brought.

    Attributes:
        authority: the deployment's, accepted.
        entries: people on the list after all revocations.
        watchlist: the list's identity.
        revoked: references that left it.
    """

    authority: Authority
    entries: int
    watchlist: str
    revoked: tuple[str, ...]


def open_audit(
    config: Config, clock: Clock, signer: SigningKey, publish: Callable[[str], None] | None = None
) -> AuditLog:
    """This van's audit log, to be written.

    Raises:
        StoreUnavailable: it cannot be written, or another process writes it.
    """
    path = config.path(config.store.directory) / AUDIT_FILE
    audit = AuditLog(path, van=config.van.id, clock=clock, signer=signer, publish=publish)
    audit.deployment = config.deployment.id
    return audit


class _Calibration:
    """The measured tail; for a list shorter than any that was measured, the shortest: it errs on the safe side."""

    def __init__(self, tail: ImpostorTail) -> None:
        self._tail = tail

    def threshold(self, fpir: float, entries: int) -> ThresholdEstimate:
        return self._tail.threshold(fpir, max(entries, self._tail.tails[0].entries))


def calibration_of(config: Config) -> _Calibration:
    """What was measured of the configured embedder's false alerts.

    Raises:
        ThresholdUnsupported: nothing was: no budget can be promised.
        ModelRejected: the file is damaged.
    """
    models = config.models
    folder = config.path(models.directory) if models.directory else default_directory()
    return _Calibration(ImpostorTail.load(folder / split(models.embedder)[0]))


class Deployment:
    """See the module. One process holds it at a time; its methods may be called from any thread.

    Args:
        config: the van's.
        clock: for everything with a date.
        audit: every change is written there.
        whereabouts: where the van is.
        model: digest of the embedder that runs.
        on_removed: told each reference that leaves the list.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        audit: AuditLog,
        *,
        whereabouts: Whereabouts,
        model: str,
        on_removed: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._audit = audit
        self._whereabouts = whereabouts
        self._model = model
        self._state = config.path(config.store.directory)
        secret = config.watchlist.device_secret
        self.keeper = ListKeeper(
            config.path(config.watchlist.folder),
            clock=clock,
            audit=audit,
            device_secret=read_secret(secret, Path(config.base)) if secret else b"",
            on_removed=on_removed,
        )
        self.keeper.recover()
        self.calibration = calibration_of(config)
        self._threshold = config.decision.threshold
        self.gate = Gate(
            config.van.id,
            calibration=self.calibration,
            clock_floor=self._last_moment(),
            clock_confirmed=SYNCHRONISED.exists if config.clock.require_synchronised else lambda: True,
        )
        self._store: WatchlistStore | None = None

    def _last_moment(self) -> datetime:
        """The latest moment that is certainly past: the last entry of the audit log."""
        entries = read_log(self._audit.path)
        return datetime.fromisoformat(entries[-1].at) if entries else self._clock.now() - timedelta(days=36_500)

    # -- bringing it onto the van ------------------------------------------------------------------

    def fetch(self, source: str | None = None, *, wipe: bool = False) -> Fetched:
        """Bring authority, list and revocations from the repository, in that order.

        Args:
            source: a stick's folder or an ``https://`` address, instead of the configured one.
            wipe: overwrite the list's bundle on the stick after the import.

        Raises:
            PolicyRefusal: whatever the repository, the authority or the list is refused for; the state before stays.
            ConfigInvalid: no source is configured.
        """
        config = self._config
        source = source or config.repository.source
        if not source:
            raise ConfigInvalid("key repository.source", "is not set", "Set it, or give --from")
        if not source.startswith("https://"):
            source = str(config.path(source))
        repository = VanRepository(
            self._state / REPOSITORY_FOLDER,
            source,
            _read(config.path(config.repository.root)),
            ca=config.path(config.repository.ca) if config.repository.ca else None,
        )
        repository.refresh()
        name = config.deployment.id
        content = repository.read(f"authorities/{name}.json")
        authority = fetch_authority(repository, self.gate, name, self._audit)
        self._keep(content)
        identity = identity_of(read_secret(config.watchlist.identity, Path(config.base)), config.watchlist.identity)
        store = fetch_list(
            repository,
            self.keeper,
            authority,
            identity,
            van=config.van.id,
            model=self._model,
            work=self._state,
            wipe=Path(source) if wipe and not source.startswith("https://") else None,
        )
        revoked = fetch_revocations(repository, self.keeper, self._revokers(), name)
        return Fetched(authority, len(store), store.digest, revoked)

    def _keep(self, content: bytes) -> None:
        path = self._state / AUTHORITY_FILE
        beside = path.with_suffix(".new")
        try:
            beside.write_bytes(content)
            beside.replace(path)
            fsync_folder(self._state)
        except OSError as error:
            raise StoreUnavailable(str(path), f"cannot be written ({error.strerror})", "Check the disk") from None

    def _revokers(self) -> KnownSigners:
        path = self._config.path(self._config.watchlist.revokers)
        return KnownSigners.load(path) if path.exists() else KnownSigners.of([])

    # -- holding it --------------------------------------------------------------------------------

    def take_up(self) -> WatchlistStore:
        """Load the authority that was accepted and open its list.

        Raises:
            AuthorityMissing: none was fetched, or the file is not the one that was accepted.
            WatchlistGone: there is no list.
        """
        path = self._state / AUTHORITY_FILE
        try:
            content = path.read_bytes()
        except OSError:
            raise AuthorityMissing(
                "the deployment", "nobody has authorised it", "Fetch the signed authority: lfr-edge fetch"
            ) from None
        accepted = [
            entry.data["digest"] for entry in read_log(self._audit.path) if entry.event == Event.AUTHORITY_ACCEPTED
        ]
        if not accepted or accepted[-1] != authority_digest(content):
            raise AuthorityMissing(
                str(path), "is not the authority that this van accepted last", "Fetch it again: lfr-edge fetch"
            )
        authority = self.gate.load(content, str(path))
        if authority.deployment != self._config.deployment.id:
            raise AuthorityMissing(
                f"deployment {self._config.deployment.id}",
                f"has no authority; the one on this van is for {authority.deployment}",
                "Fetch the signed authority: lfr-edge fetch",
            )
        self._audit.deployment = authority.deployment
        self._store = self.keeper.open(model=self._model)
        if self._config.decision.threshold is None:
            needed = self.calibration.threshold(1 / authority.budget_one_in, max(1, len(self._store)))
            self._threshold = max(authority.threshold_floor, needed.threshold)
        return self._store

    @property
    def threshold(self) -> float:
        """The similarity in force: the configured one, or what floor and budget require at this list's size."""
        if self._threshold is None:
            raise AuthorityMissing("the threshold", "follows from an authority", "Fetch one: lfr-edge fetch")
        return self._threshold

    def check(self) -> Authority:
        """May this van match now?

        Raises:
            PolicyRefusal: no, and exactly why.
        """
        now = self._clock.now()
        facts = None
        if self._store is not None:
            facts = ListFacts(self._store.digest, len(self._store))
        return self.gate.check(
            now, self._whereabouts.position(now), facts, model=self._model, threshold=self._threshold or 0.0
        )

    def revoke(self, token: bytes) -> tuple[str, ...]:
        """Apply a revocation that came over the network; returns who left the list.

        Raises:
            SignatureInvalid: it is not to be believed.
        """
        return apply_all([token], self._revokers(), deployment=self._config.deployment.id, remove=self.keeper.remove)

    def end(self, cause: str) -> DestructionReceipt | None:
        """Destroy the list and forget the authority; None when there was no list."""
        self._store = None
        receipt = self.keeper.destroy(cause)
        authority = self.gate.authority
        if authority is not None:
            self._audit.record(Event.AUTHORITY_ENDED, {"authority": authority.deployment, "cause": cause})
        self.gate.unload()
        with suppress(EdgeError, OSError):
            shred(self._state / AUTHORITY_FILE)
        return receipt


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(
            str(path), f"cannot be read ({error.strerror})", "Copy root.json from the enrolment of this van"
        ) from None
