"""Pack a built list for named vans: encrypted to their keys, with a manifest in the open."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyrage

from edge.errors import BadInput, KeyUnusable
from edge.files import replacing
from edge.watchlist.bundle import Manifest, frames_of
from edge.watchlist.store import WatchlistStore

__all__ = ["new_identity", "recipient", "write_bundle"]


class _Reader:
    """A file-like object over pieces: age reads the list from it without it ever being in one piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        if size < 0:
            size = len(self._rest)
        out, self._rest = self._rest[:size], self._rest[size:]
        return out


def new_identity(path: Path) -> str:
    """Make a van's age key in a file that only its owner may read; returns the public part for the list's maker.

    Raises:
        KeyUnusable: a file is there already.
    """
    identity = pyrage.x25519.Identity.generate()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyUnusable(str(path), "exists already", "Remove it first if it really is to be replaced") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"# public key: {identity.to_public()}\n{identity}\n")
    return str(identity.to_public())


def recipient(text: str, van: str) -> pyrage.x25519.Recipient:
    """A van's public age key.

    Raises:
        KeyUnusable: it is none.
    """
    try:
        return pyrage.x25519.Recipient.from_str(text.strip())
    except pyrage.RecipientError:
        raise KeyUnusable(
            f"the key of {van}",
            "is not a public key for lists (age1…)",
            "Give the key that was shown when the van was enrolled",
        ) from None


def write_bundle(
    store: WatchlistStore, vans: Mapping[str, str], out: Path, *, now: datetime | None = None
) -> tuple[Manifest, bytes]:
    """Write ``out/<deployment>.age`` and return its manifest, parsed and as bytes.

    Args:
        store: the built list.
        vans: public age key of each van that may import it.
        out: folder for the bundle.
        now: when it is built, for the manifest.

    Raises:
        BadInput: no van, or an empty list.
        KeyUnusable: a van's key is none.
    """
    if not vans:
        raise BadInput("the bundle", "names no van", "Name at least one van with its key")
    if not len(store):
        raise BadInput("the bundle", "would be empty", "Enrol somebody first")
    keys = [recipient(text, van) for van, text in sorted(vans.items())]
    meta = store.meta
    manifest = Manifest(
        schema=1,
        deployment=meta.deployment,
        vans=tuple(sorted(vans)),
        watchlist=store.digest,
        model=meta.model,
        dimension=meta.dimension,
        entries=len(store),
        built=(now or datetime.now(UTC)).replace(microsecond=0),
        bundle=f"{meta.deployment}.age",
    )
    content = msgspec.json.encode(manifest)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / manifest.bundle, mode=0o644) as file:
        pyrage.encrypt_io(_Reader(frames_of(content, store.stream())), file, keys)
    return manifest, content
