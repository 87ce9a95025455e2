"""Checkpoints of audit logs, kept off the machine that writes the log: nobody can cut its end off unseen.

The vans' are kept by the control room and by every watch, the control room's own by the watches on other machines.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import msgspec

from edge.controlroom.events import VanCheckpoint
from edge.errors import AlertRejected, SignatureInvalid, StoreUnavailable
from edge.parsing import json_as
from edge.trust.audit import CHECKPOINT
from edge.trust.keys import KnownSigners

__all__ = ["CHECKPOINTS", "keep_checkpoint"]

CHECKPOINTS = "checkpoints"
"""Folder beside the stores: one per van and control room, as ``lfr-control audit verify --checkpoint`` takes it."""
MAX_CHECKPOINT = 4096
MOST_KEPT = 64 << 20
"""Bytes of one van's checkpoints. None is dropped for a later one: a van that was taken over could rewrite its log."""


def keep_checkpoint(folder: Path | None, van: str, token: bytes, vans: KnownSigners) -> VanCheckpoint:
    """Add a checkpoint to the file of the van, or of the control room, once it is known to be its own.

    Raises:
        AlertRejected: too large, or too many are kept.
        SignatureInvalid: not a checkpoint, or not signed by this van.
        StoreUnavailable: the disk refuses.
    """
    if len(token) > MAX_CHECKPOINT:
        raise AlertRejected(f"checkpoint of {van}", f"is too large ({len(token)} bytes)", "Check who sent it")
    signed = vans.verify(token, CHECKPOINT)
    if signed.signer != van:
        raise SignatureInvalid(f"checkpoint of {van}", "is signed by another van", "Check who sent it")
    if folder is not None:
        path = folder / f"{van}{_room(signed.payload)}.jws"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with path.open("a+b") as file:
                file.seek(max(0, file.tell() - len(token) - 1))
                if file.read() == token + b"\n":  # the latest is said again with every connection
                    return VanCheckpoint(van)
                if file.tell() + len(token) > MOST_KEPT:
                    raise AlertRejected(
                        f"checkpoint of {van}",
                        f"is not kept: there are {MOST_KEPT >> 20} MiB of them already",
                        f"Ask why it sends so many, and move {path.name} to the overseer's archive",
                    )
                file.write(token + b"\n")
        except OSError as error:
            raise StoreUnavailable(str(path), f"cannot be written ({error.strerror})", "Check the disk") from None
    return VanCheckpoint(van)


def _room(payload: bytes) -> str:
    """Of several control rooms that sign with one key, each has its own log: which one, for the file's name."""
    with contextlib.suppress(msgspec.DecodeError):
        room = json_as(payload, dict).get("room")
        if isinstance(room, str) and re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", room):
            return f".{room}"
    return ""
