"""Checkpoints of the vans' audit logs, kept where no van can reach them: nobody can cut a log's end off unseen."""

from __future__ import annotations

from pathlib import Path

from edge.controlroom.events import VanCheckpoint
from edge.errors import AlertRejected, SignatureInvalid, StoreUnavailable
from edge.trust.audit import CHECKPOINT
from edge.trust.keys import KnownSigners

__all__ = ["CHECKPOINTS", "keep_checkpoint"]

CHECKPOINTS = "checkpoints"
"""Folder beside the stores, with one file per van, as ``lfr-control audit verify --checkpoint`` takes it."""
MAX_CHECKPOINT = 4096


def keep_checkpoint(folder: Path | None, van: str, token: bytes, vans: KnownSigners) -> VanCheckpoint:
    """Add a checkpoint to the van's file, once it is known to be the van's own.

    Raises:
        AlertRejected: too large.
        SignatureInvalid: not a checkpoint, or not signed by this van.
        StoreUnavailable: the disk refuses.
    """
    if len(token) > MAX_CHECKPOINT:
        raise AlertRejected(f"checkpoint of {van}", f"is too large ({len(token)} bytes)", "Check who sent it")
    if vans.verify(token, CHECKPOINT).signer != van:
        raise SignatureInvalid(f"checkpoint of {van}", "is signed by another van", "Check who sent it")
    if folder is not None:
        path = folder / f"{van}.jws"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with path.open("ab") as file:
                file.write(token + b"\n")
        except OSError as error:
            raise StoreUnavailable(str(path), f"cannot be written ({error.strerror})", "Check the disk") from None
    return VanCheckpoint(van)
