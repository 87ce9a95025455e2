"""What a list is: the record it keeps of itself, the digest an authority names it by, the receipt of its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from edge.records import WatchlistEntry

__all__ = ["FIELDS", "SCHEMA", "DestructionReceipt", "ListMeta", "entry_digest", "list_digest"]

SCHEMA = 1
"""Version of the store and of the digests; a change of either raises it."""

FIELDS = (
    "reference",
    "category",
    "lawful_basis",
    "image_source",
    "image_taken",
    "custody_image",
    "review_by",
    "delete_by",
    "age_band",
)
"""What an entry says of its subject, apart from the templates and the picture."""


@dataclass(frozen=True, slots=True)
class ListMeta:
    """What a store says of itself.

    Attributes:
        deployment: the deployment the list was built for.
        model: digest of the embedder whose templates it holds, as ``Embedder.digest`` gives it.
        dimension: length of a template.
        created: when the list was built, UTC.
    """

    deployment: str
    model: str
    dimension: int
    created: datetime


@dataclass(frozen=True, slots=True)
class DestructionReceipt:
    """Proof that a list is gone, for the audit log. Holds no biometric and no name.

    Attributes:
        digest: identity of the list, as the authority named it.
        deployment: the deployment it was for.
        at: when the last file was gone, UTC.
        cause: why, for example ``end of the deployment``.
        references: every reference that was still on it, sorted.
        files: names of the files that were overwritten and unlinked, the key first.
    """

    digest: str
    deployment: str
    at: datetime
    cause: str
    references: tuple[str, ...]
    files: tuple[str, ...]


def entry_digest(entry: WatchlistEntry) -> str:
    """SHA-256 over the record in canonical JSON, its templates (little endian) and its picture's SHA-256."""
    record = {name: getattr(entry, name) for name in FIELDS}
    if entry.lookalikes:  # lists of before there were any keep their identity
        record["lookalikes"] = list(entry.lookalikes)
    state = hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    state.update(b"\0" + str(entry.templates.shape).encode() + b"\0")
    state.update(np.ascontiguousarray(entry.templates, dtype="<f4").data)
    state.update(hashlib.sha256(entry.reference_jpeg).digest())
    return state.hexdigest()


def list_digest(meta: ListMeta, entries: Iterable[tuple[str, str]]) -> str:
    """The list's identity: SHA-256 over deployment, model, dimension and every (reference, digest), sorted.

    The moment of building is left out, so that building the same list twice gives the same identity.
    """
    head = {"deployment": meta.deployment, "model": meta.model, "dimension": meta.dimension, "schema": SCHEMA}
    state = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    for reference, digest in sorted(entries):
        state.update(f"\n{json.dumps(reference, ensure_ascii=False)} {digest}".encode())
    return f"sha256:{state.hexdigest()}"
