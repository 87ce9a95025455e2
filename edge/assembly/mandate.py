"""May this van match, and what with? Mandate, list, log and models from the configuration.

The service needs them, and so do the commands that run while it does not: :func:`at_rest` and :func:`retire`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.clock import Clock, SystemClock
from edge.config import Config
from edge.custody.shred import shred
from edge.deployment.clock_trust import ClockTrust, built_at, clock_floor, ends_unconfirmed
from edge.deployment.gate import Gate
from edge.deployment.kept import AUTHORITY_FILE, deployments_here, end_what_is_over
from edge.deployment.mandate import Mandate, VanFacts
from edge.deployment.position import FixedSite, Gpsd, PositionSource
from edge.errors import AuditBroken, EdgeError, KeyUnusable, StoreUnavailable, WatchlistGone
from edge.match.calibration import ImpostorTail
from edge.match.relative import Relative
from edge.match.second import pair_digest
from edge.sight.card import default_directory, split
from edge.sight.detect import Detector
from edge.sight.embed import Embedder
from edge.sight.runtime import Model
from edge.sight.runtime import load as load_model
from edge.trust.audit import AuditLog, in_use, read_log
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.place import Position
from edge.trust.repository import VanRepository
from edge.trust.secret import read_secret
from edge.watchlist.bundle import identity_of
from edge.watchlist.destruction import PASSING, destroy_everything, destroy_keys
from edge.watchlist.identity import DestructionReceipt
from edge.watchlist.lifecycle import ListLifecycle
from edge.worker import Supervisor

__all__ = [
    "AUDIT_FILE",
    "Mandated",
    "Whereabouts",
    "at_rest",
    "load_models",
    "load_second",
    "mandated",
    "open_audit",
    "retire",
    "whereabouts",
]

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

    detector = Detector(
        load(models.detector, "detector"),
        score=config.detector.score,
        iou=config.detector.iou,
        close=load(models.close_up, "detector") if models.close_up else None,
        sure=config.quality.min_score,
    )
    return detector, Embedder(load(models.embedder, "embedder"))


def load_second(config: Config) -> Embedder | None:
    """The embedder whose opinion is asked before an alert; None where the configuration names none.

    Raises:
        ModelRejected: its pack is missing, or is not what its card says.
        RuntimeUnavailable: the runtime is not installed.
    """
    models = config.models
    if not models.second:
        return None
    directory = config.path(models.directory) if models.directory else None
    return Embedder(
        load_model(models.second, directory=directory, kind="embedder", runtime=models.runtime, threads=models.threads)
    )


def open_audit(config: Config, clock: Clock, signer: SigningKey, clock_trust: ClockTrust) -> AuditLog:
    """This van's audit log, to be written. Where somebody has tampered with it, no list may stay on the van.

    What is written while nothing vouches for the clock is marked, so that its times are never taken for the past.
    Before anything is opened, the key of a list whose authority is over is destroyed.

    Raises:
        StoreUnavailable: it cannot be written, or another process writes it.
        AuditBroken: it was tampered with; every list has been destroyed before this is raised.
    """
    state, lists = config.path(config.store.directory), config.path(config.watchlist.folder)
    end_what_is_over(state, lists, now=clock.now(), clock_confirmed=clock_trust.confirmed)
    path = state / AUDIT_FILE
    try:
        audit = AuditLog(path, van=config.van.id, clock=clock, signer=signer)
    except AuditBroken:
        destroy_everything(lists)
        raise
    audit.deployment = config.deployment.id
    clock_trust.on_confirmed(lambda by: _note_clock(audit, by))
    if not clock_trust.confirmed():
        audit.record(Event.CLOCK_UNCONFIRMED, {})
    elif ends_unconfirmed(path):
        _note_clock(audit, clock_trust.by)
    return audit


def _note_clock(audit: AuditLog, by: str) -> None:
    audit.record(Event.CLOCK_CONFIRMED, {"by": by})


class _Nowhere:
    """No position is configured: nothing that is bound to a place may run."""

    def position(self) -> Position | None:
        return None


@dataclass(frozen=True, slots=True)
class Mandated:
    """A mandate and what it stands on.

    Attributes:
        mandate: is asked.
        lists: the life of the list.
        relative: how scores are made, as the embedder's tail was measured.
        second: share of a second embedder in them, likewise; 0 where there is none.
    """

    mandate: Mandate
    lists: ListLifecycle
    relative: Relative
    second: float


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What tells the van where it is and what time it is.

    Attributes:
        positions: where it is.
        clock_trust: whether its clock may be believed.
    """

    positions: PositionSource
    clock_trust: ClockTrust


def whereabouts(config: Config, clock: Clock, workers: Supervisor, parts: ExitStack) -> Whereabouts:
    """Position and clock as the configuration describes them; ``parts`` ends what is started."""
    required = config.clock.require_confirmed
    if config.position.gpsd:
        host, _, port = config.position.gpsd.rpartition(":")
        receiver = Gpsd(clock, host=host, port=int(port))
        receiver.start(workers)
        parts.callback(receiver.stop)
        return Whereabouts(receiver, ClockTrust(clock, required=required, satellite_time=receiver.satellite_time))
    positions = FixedSite(*config.position.fixed, clock) if config.position.fixed is not None else _Nowhere()
    return Whereabouts(positions, ClockTrust(clock, required=required))


def mandated(
    config: Config,
    clock: Clock,
    audit: AuditLog,
    here: Whereabouts,
    parts: ExitStack,
    *,
    model: str,
    source: str | None = None,
    wipe: bool = False,
) -> Mandated:
    """The mandate of a van as its configuration describes it; ``parts`` closes what it opens.

    Args:
        config: the van's.
        clock: for everything with a date.
        audit: open.
        here: where and when.
        parts: takes the callbacks that close files.
        model: digest of the embedder that runs, or of the pair.
        source: a stick's folder or an address, instead of the configured one.
        wipe: overwrite the list on the stick after the import.
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
    lists = ListLifecycle(
        config.path(config.watchlist.folder),
        clock=clock,
        audit=audit,
        device_secret=read_secret(secret, base) if secret else b"",
        clock_confirmed=here.clock_trust.confirmed,
    )
    parts.callback(lists.close)
    directory = config.path(config.models.directory) if config.models.directory else default_directory()
    # What a pair of embedders does stands in the second's pack.
    tail = ImpostorTail.load(directory / split(config.models.second or config.models.embedder)[0], model)
    gate = Gate(
        config.van.id,
        calibration=tail,
        weaker_rules=tail.rules.weaker(config.decision, config.quality),
        clock_floor=clock_floor(built=built_at(), log=audit.path, published=repository.published_at()),
        clock_confirmed=here.clock_trust.confirmed,
    )
    revokers = config.path(config.watchlist.revokers)
    mandate = Mandate(
        VanFacts(config.van.id, config.deployment.id, model, config.decision.threshold, config.decision.min_similarity),
        folder=state,
        clock=clock,
        audit=audit,
        keeper=lists,
        gate=gate,
        positions=here.positions,
        repository=repository,
        identity=identity_of(read_secret(config.watchlist.identity, base), config.watchlist.identity),
        revokers=KnownSigners.load(revokers) if revokers.exists() else KnownSigners.of([]),
        wipe=Path(source) if wipe and source and not source.startswith("https://") else None,
    )
    return Mandated(mandate, lists, tail.relative, tail.second)


def _root_of_trust(config: Config) -> bytes:
    path = config.path(config.repository.root)
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(
            str(path), f"cannot be read ({error.strerror})", "Copy root.json from this van's enrolment"
        ) from None


@contextmanager
def at_rest(config: Config, *, source: str | None = None, wipe: bool = False) -> Iterator[Mandated]:
    """The mandate of a van whose service is not running.

    Raises:
        StoreUnavailable: the service is running: it holds the audit log.
    """
    clock = SystemClock()
    with ExitStack() as parts:
        here = whereabouts(config, clock, Supervisor(), parts)
        signer = SigningKey.load(config.alert.signing_key, Path(config.base))
        audit = open_audit(config, clock, signer, here.clock_trust)
        parts.callback(audit.close)
        (_, embedder), second = load_models(config), load_second(config)
        model = pair_digest(embedder.digest, "" if second is None else second.digest)
        yield mandated(config, clock, audit, here, parts, model=model, source=source, wipe=wipe)


def retire(config: Config, cause: str) -> DestructionReceipt:
    """End the deployment: the list's key goes before anything else is tried, then the store and the authority.

    A list that no longer opens is destroyed all the same, and on a disk that is full. The deployment does not come
    back, whatever stick is in (:mod:`edge.deployment.ended`); one that never came onto this van is kept from coming.

    Raises:
        WatchlistGone: there is no list; that the deployment has ended is written down.
        StoreUnavailable: a file could not be overwritten, the receipt could not be written, or the service is running.
    """
    state, folder = config.path(config.store.directory), config.path(config.watchlist.folder)
    if in_use(state / AUDIT_FILE):
        raise StoreUnavailable("the list", "is in use: the service is running", "Stop the service first")
    if cause in PASSING:  # words of the log's own for what is no end
        cause = f"retired: {cause}"
    failed: EdgeError | None = None
    try:
        destroy_keys(folder, cause)
    except StoreUnavailable as error:
        failed = error  # what cannot be destroyed is kept from ever being matched again
    try:
        receipt = _receipt(config, cause)
    except EdgeError as error:
        destroy_everything(folder)
        shred(state / AUTHORITY_FILE)
        if not isinstance(error, StoreUnavailable):
            raise
        receipt = _receipt(config, cause)  # what is gone may have left room
    shred(state / AUTHORITY_FILE)
    if failed is not None:
        raise failed
    if receipt is None:
        raise WatchlistGone(
            "the watchlist",
            "there is no list to destroy",
            "Nothing is left to do; the deployment is written down as ended",
        )
    return receipt


def _receipt(config: Config, cause: str) -> DestructionReceipt | None:
    """Write into the log that the deployment has ended, destroy what is left of the list, and write its receipt."""
    clock = SystemClock()
    with ExitStack() as parts:
        here = whereabouts(config, clock, Supervisor(), parts)
        signer = SigningKey.load(config.alert.signing_key, Path(config.base))
        audit = open_audit(config, clock, signer, here.clock_trust)
        parts.callback(audit.close)
        doomed = deployments_here(read_log(audit.path), config.path(config.store.directory)) or {config.deployment.id}
        with suppress(StoreUnavailable):  # on a full disk the list goes first, and leaves room
            _note_ends(audit, doomed, cause)
        lists = ListLifecycle(config.path(config.watchlist.folder), clock=clock, audit=audit)
        finished = lists.recover(gone=cause)
        receipt = lists.destroy(cause) or finished
        _note_ends(audit, doomed, cause)
        return receipt


def _note_ends(audit: AuditLog, deployments: Iterable[str], cause: str) -> None:
    """Write each end down, once."""
    known = {e.data["authority"] for e in read_log(audit.path) if e.event == Event.AUTHORITY_ENDED}
    for deployment in sorted(set(deployments) - known):
        audit.record(Event.AUTHORITY_ENDED, {"authority": deployment, "cause": cause})
