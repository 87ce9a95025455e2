"""Everything for a deployment, from the repository onto the van: authority, revocations, list. In that order.

The authority comes first because it decides whether the list may come at all.
"""

from __future__ import annotations

from pathlib import Path

from edge.custody.shred import shred
from edge.deployment.gate import Gate
from edge.errors import TargetMissing
from edge.trust.audit import AuditLog
from edge.trust.authority import Authority
from edge.trust.events import Event
from edge.trust.repository import VanRepository
from edge.watchlist.bundle import AgeIdentity
from edge.watchlist.lifecycle import ListLifecycle
from edge.watchlist.store import WatchlistStore

__all__ = ["accept_authority", "fetch_list", "fetch_revocations"]

MAX_REVOCATIONS = 16_000_000


def accept_authority(content: bytes, gate: Gate, audit: AuditLog, name: str) -> Authority:
    """Load an authority into the gate and log it. It is not judged yet: ask :meth:`Gate.check`.

    Args:
        content: as :meth:`edge.trust.repository.VanRepository.read` gave it, verified.
        gate: takes it up.
        audit: told of it.
        name: of the file, for errors.

    Raises:
        AuthorityInvalid: it contradicts itself.
    """
    authority = gate.load(content, name)
    audit.deployment = authority.deployment
    accepted = {
        "authority": authority.deployment,
        "digest": gate.digest,
        "starts": authority.starts.isoformat(),
        "ends": authority.ends.isoformat(),
    }
    audit.record(Event.AUTHORITY_ACCEPTED, accepted)
    return authority


def fetch_list(
    repository: VanRepository,
    keeper: ListLifecycle,
    authority: Authority,
    identity: AgeIdentity,
    *,
    van: str,
    model: str,
    work: Path,
    wipe: Path | None = None,
) -> WatchlistStore:
    """Bring in the list that the authority names; one that is in force already stays.

    Args:
        repository: refreshed or not.
        keeper: where the list will live.
        authority: verified.
        identity: the van's age key.
        van: the van's identity.
        model: digest of the embedder that runs.
        work: folder for the encrypted bundle while it is read; overwritten afterwards.
        wipe: the stick's folder, when the bundle on it is for this van alone and is to be overwritten.

    Raises:
        PolicyRefusal: see :meth:`edge.watchlist.lifecycle.ListLifecycle.import_bundle`.
    """
    held = keeper.held()
    if held == authority.watchlist:
        return keeper.open(model=model)
    manifest = repository.read(f"watchlists/{authority.deployment}.json")
    found = repository.find(f"watchlists/{authority.deployment}.age")
    bundle = work / "incoming.age"
    try:
        repository.download(found.name, bundle)
        store = keeper.import_bundle(bundle, manifest, identity, authority, van=van, model=model)
    finally:
        shred(bundle)
    if wipe is not None:
        shred(wipe / "targets" / "watchlists" / f"{found.sha256}.{Path(found.name).name}")
    return store


def fetch_revocations(repository: VanRepository, deployment: str) -> list[bytes]:
    """The revocations that the repository holds for ``deployment``, not verified yet; none is no error."""
    try:
        return repository.read(f"revocations/{deployment}.jws", limit=MAX_REVOCATIONS).splitlines()
    except TargetMissing:
        return []
