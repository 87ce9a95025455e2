"""The parts of a van that several commands need, built from the configuration: models, mandate, list, log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from edge.clock import Clock, SystemClock
from edge.config import Config
from edge.custody.shred import shred
from edge.deployment.clock_trust import built_at, clock_confirmed, clock_floor
from edge.deployment.gate import Gate
from edge.deployment.mandate import AUTHORITY_FILE, Mandate, VanFacts
from edge.deployment.position import FixedSite, Gpsd, PositionSource
from edge.errors import AuditBroken, KeyUnusable, WatchlistGone
from edge.match.calibration import ImpostorTail
from edge.sight.card import default_directory, split
from edge.sight.detect import Detector
from edge.sight.embed import Embedder
from edge.sight.runtime import Model
from edge.sight.runtime import load as load_model
from edge.trust.audit import AuditLog
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.place import Position
from edge.trust.repository import VanRepository
from edge.trust.secret import read_secret
from edge.watchlist.bundle import identity_of
from edge.watchlist.identity import DestructionReceipt
from edge.watchlist.lifecycle import ListLifecycle, destroy_everything

__all__ = ["AUDIT_FILE", "Mandated", "at_rest", "load_models", "mandated", "open_audit", "retire"]

AUDIT_FILE = "audit.jsonl"
REPOSITORY_FOLDER = "repository"


def load_models(config: Config) -> tuple[Detector, Embedder]:
    """The detector and the embedder that the configuration names, checked against their cards.

    Raises:
        ModelRejected: a pack is missing, or is not what its card says.
        RuntimeUnavailable: the runtime is not installed.
    """
    models = config.models
    directory = config.path(models.directory) if models.directory else None

    def load(reference: str, kind: Literal["detector", "embedder"]) -> Model:
        return load_model(reference, directory=directory, kind=kind, runtime=models.runtime, threads=models.threads)

    detector = Detector(load(models.detector, "detector"), score=config.detector.score, iou=config.detector.iou)
    return detector, Embedder(load(models.embedder, "embedder"))


def open_audit(
    config: Config, clock: Clock, signer: SigningKey, publish: Callable[[str], None] | None = None
) -> AuditLog:
    """This van's audit log, to be written. Where somebody has tampered with it, no list may stay on the van.

    Raises:
        StoreUnavailable: it cannot be written, or another process writes it.
        AuditBroken: it was tampered with; every list has been destroyed before this is raised.
    """
    path = config.path(config.store.directory) / AUDIT_FILE
    try:
        audit = AuditLog(path, van=config.van.id, clock=clock, signer=signer, publish=publish)
    except AuditBroken:
        destroy_everything(config.path(config.watchlist.folder))
        raise
    audit.deployment = config.deployment.id
    return audit


class _Nowhere:
    """No position is configured: nothing that is bound to a place may run."""

    def position(self) -> Position | None:
        return None


@dataclass(frozen=True, slots=True)
class Mandated:
    """A mandate and what it stands on.

    Attributes:
        mandate: is asked.
        keeper: holds the list.
    """

    mandate: Mandate
    keeper: ListLifecycle


def mandated(
    config: Config,
    clock: Clock,
    audit: AuditLog,
    parts: ExitStack,
    *,
    model: str,
    source: str | None = None,
    wipe: bool = False,
    on_removed: Callable[[str], None] | None = None,
) -> Mandated:
    """The mandate of a van as its configuration describes it; ``parts`` closes what it opens.

    Args:
        config: the van's.
        clock: for everything with a date.
        audit: open.
        parts: takes the callbacks that end threads and close files.
        model: digest of the embedder that runs.
        source: a stick's folder or an address, instead of the configured one.
        wipe: overwrite the list on the stick after the import.
        on_removed: told each reference that leaves the list.
    """
    base, state = Path(config.base), config.path(config.store.directory)
    source = source or config.repository.source
    if source and not source.startswith("https://"):
        source = str(config.path(source))
    repository = VanRepository(
        state / REPOSITORY_FOLDER,
        source or str(state / "no-repository-is-configured"),
        _root_of_trust(config),
        ca=config.path(config.repository.ca) if config.repository.ca else None,
    )
    secret = config.watchlist.device_secret
    keeper = ListLifecycle(
        config.path(config.watchlist.folder),
        clock=clock,
        audit=audit,
        device_secret=read_secret(secret, base) if secret else b"",
        on_removed=on_removed,
    )
    parts.callback(keeper.close)
    positions, satellite_time = _positions(config, clock, parts)
    directory = config.path(config.models.directory) if config.models.directory else default_directory()
    gate = Gate(
        config.van.id,
        calibration=ImpostorTail.load(directory / split(config.models.embedder)[0], model),
        clock_floor=clock_floor(built=built_at(), log=audit.path, published=repository.published_at()),
        clock_confirmed=lambda: (
            not config.clock.require_confirmed or clock_confirmed(clock.now(), satellite_time=satellite_time())
        ),
    )
    revokers = config.path(config.watchlist.revokers)
    mandate = Mandate(
        VanFacts(config.van.id, config.deployment.id, model, config.decision.threshold),
        folder=state,
        clock=clock,
        audit=audit,
        keeper=keeper,
        gate=gate,
        positions=positions,
        repository=repository,
        identity=identity_of(read_secret(config.watchlist.identity, base), config.watchlist.identity),
        revokers=KnownSigners.load(revokers) if revokers.exists() else KnownSigners.of([]),
        wipe=Path(source) if wipe and source and not source.startswith("https://") else None,
    )
    return Mandated(mandate, keeper)


def _root_of_trust(config: Config) -> bytes:
    path = config.path(config.repository.root)
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(
            str(path), f"cannot be read ({error.strerror})", "Copy root.json from this van's enrolment"
        ) from None


def _positions(config: Config, clock: Clock, parts: ExitStack) -> tuple[PositionSource, Callable[[], datetime | None]]:
    if config.position.gpsd:
        host, _, port = config.position.gpsd.rpartition(":")
        receiver = Gpsd(clock, host=host, port=int(port))
        receiver.start()
        parts.callback(receiver.stop)
        return receiver, receiver.satellite_time
    if config.position.fixed is not None:
        return FixedSite(*config.position.fixed, clock), lambda: None
    return _Nowhere(), lambda: None


@contextmanager
def at_rest(config: Config, *, source: str | None = None, wipe: bool = False) -> Iterator[Mandated]:
    """The mandate of a van whose service is not running.

    Raises:
        StoreUnavailable: the service is running: it holds the audit log.
    """
    clock = SystemClock()
    with ExitStack() as parts:
        audit = open_audit(config, clock, SigningKey.load(config.alert.signing_key, Path(config.base)))
        parts.callback(audit.close)
        _, embedder = load_models(config)
        yield mandated(config, clock, audit, parts, model=embedder.digest, source=source, wipe=wipe)


def retire(config: Config, cause: str) -> DestructionReceipt:
    """Destroy the list: its key, then the store; a list that no longer opens is destroyed all the same.

    Raises:
        WatchlistGone: there is no list.
        StoreUnavailable: a file could not be overwritten, or the service is running.
    """
    clock = SystemClock()
    audit = open_audit(config, clock, SigningKey.load(config.alert.signing_key, Path(config.base)))
    try:
        keeper = ListLifecycle(config.path(config.watchlist.folder), clock=clock, audit=audit)
        keeper.recover()
        receipt = keeper.destroy(cause)
        shred(config.path(config.store.directory) / AUTHORITY_FILE)
    finally:
        audit.close()
    if receipt is None:
        raise WatchlistGone("the watchlist", "there is no list to destroy", "Nothing is left to do")
    return receipt
