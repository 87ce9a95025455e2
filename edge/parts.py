"""The parts of a van that several commands need, built from the configuration: models, deployment, list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from edge.clock import Clock, SystemClock
from edge.config import Config
from edge.custody.shred import shred
from edge.deployment import AUTHORITY_FILE, Deployment, open_audit
from edge.errors import WatchlistGone
from edge.match.identity import DestructionReceipt
from edge.match.keeper import ListKeeper
from edge.sight.detect import Detector
from edge.sight.embed import Embedder
from edge.sight.runtime import Model
from edge.sight.runtime import load as load_model
from edge.system.position import FixedSite, Nowhere, SatelliteReceiver, Whereabouts
from edge.trust.audit import AuditLog
from edge.trust.keys import SigningKey

__all__ = ["at_rest", "deployment_of", "load_models", "retire"]


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


def deployment_of(
    config: Config,
    clock: Clock,
    audit: AuditLog,
    parts: ExitStack,
    *,
    model: str,
    on_removed: Callable[[str], None] | None = None,
) -> Deployment:
    """The deployment, with a position from wherever the configuration says."""
    position = config.position
    whereabouts: Whereabouts = Nowhere()
    if position.gpsd:
        receiver = SatelliteReceiver(position.gpsd, clock)
        receiver.start()
        parts.callback(receiver.stop)
        whereabouts = receiver
    elif position.fixed is not None:
        whereabouts = FixedSite(*position.fixed)
    return Deployment(config, clock, audit, whereabouts=whereabouts, model=model, on_removed=on_removed)


@contextmanager
def at_rest(config: Config, clock: Clock | None = None) -> Iterator[Deployment]:
    """The deployment of a van whose service is not running, for ``fetch`` and ``retire``.

    Raises:
        StoreUnavailable: the service is running: it holds the audit log.
    """
    clock = clock or SystemClock()
    with ExitStack() as parts:
        audit = open_audit(config, clock, SigningKey.load(config.alert.signing_key, Path(config.base)))
        parts.callback(audit.close)
        _, embedder = load_models(config)
        deployment = deployment_of(config, clock, audit, parts, model=embedder.digest)
        parts.callback(deployment.keeper.close)
        yield deployment


def retire(config: Config, cause: str, clock: Clock | None = None) -> DestructionReceipt:
    """Destroy the list: its key, then the store; a list that no longer opens is destroyed all the same.

    Raises:
        WatchlistGone: there is no list.
        StoreUnavailable: a file could not be overwritten, or the service is running.
    """
    clock = clock or SystemClock()
    audit = open_audit(config, clock, SigningKey.load(config.alert.signing_key, Path(config.base)))
    try:
        keeper = ListKeeper(config.path(config.watchlist.folder), clock=clock, audit=audit)
        keeper.recover()
        receipt = keeper.destroy(cause)
        shred(config.path(config.store.directory) / AUTHORITY_FILE)
    finally:
        audit.close()
    if receipt is None:
        raise WatchlistGone("the watchlist", "there is no list to destroy", "Nothing is left to do")
    return receipt
