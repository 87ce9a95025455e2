"""A list on its way to named vans: one age file, a manifest beside it, read without ever lying in the clear.

The plain content is a stream of frames, each a 4-byte big-endian length and a msgpack object: first the
manifest, then one frame per entry, then the count, last a frame of zeros. age encrypts and authenticates it
in pieces of 64 KiB (age-encryption.org/v1), so the van takes each entry out as it comes and puts it into its
sealed store; a bundle that turns out to be cut off or altered at its very end has left nothing behind,
because the store's transaction is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import numpy as np
import pyrage
from msgspec import Meta, Struct

from edge.alert.message import MOST_LOOKALIKES
from edge.custody.shred import scrub
from edge.errors import BundleRefused, KeyUnusable, RecordInvalid
from edge.fields import in_words
from edge.parsing import json_as
from edge.records import WatchlistEntry
from edge.watchlist.identity import FIELDS

__all__ = [
    "MAGIC",
    "MOST_LOOKALIKES",
    "AgeIdentity",
    "Manifest",
    "frames_of",
    "identity_of",
    "parse_manifest",
    "read_bundle",
]

AgeIdentity: TypeAlias = pyrage.x25519.Identity
"""The private key that a van's bundles are encrypted to; :func:`identity_of` reads it."""

MAGIC = b"LFR-LIST-1\n"
MAX_FRAME = 4_000_000
"""Bytes; ten templates and a picture take a hundredth of it."""
LENGTH_BYTES = 4
ENTRY = (0x9C, 0x9D)
"""First byte of an entry: a msgpack array of twelve, without look-alikes, or of thirteen. Anything else is the count at
the end."""

PADDING = bytes(1 << 17)
"""Zeros at the end, twice the size of age's pieces: they overwrite what the decryption's own buffers hold of
the last entries, which nothing else would (found by searching the memory of a van that had destroyed its list)."""

Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle holds, in the open: no reference and no biometric.

    Attributes:
        schema: version of the bundle.
        deployment: for which deployment.
        vans: who may import it; it is encrypted to their keys and nobody else's.
        watchlist: the list's identity, which the authority names.
        model: digest of the embedder whose templates it holds.
        dimension: length of a template.
        entries: how many people.
        built: when, UTC.
        bundle: file name of the encrypted bundle.
    """

    schema: Annotated[int, Meta(ge=1, le=1)]
    deployment: str
    vans: Annotated[tuple[str, ...], Meta(min_length=1)]
    watchlist: Digest
    model: str
    dimension: Annotated[int, Meta(ge=8, le=4096)]
    entries: Annotated[int, Meta(ge=1)]
    built: Annotated[datetime, Meta(tz=True)]
    bundle: str


class PackedEntry(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One entry on the wire; fields as in :class:`edge.records.WatchlistEntry`."""

    reference: str
    category: str
    lawful_basis: str
    image_source: str
    image_taken: str | None
    custody_image: bool
    review_by: str | None
    delete_by: str | None
    age_band: str
    count: int
    templates: bytes
    picture: bytes
    lookalikes: Annotated[tuple[str, ...], Meta(max_length=MOST_LOOKALIKES)] = ()


def parse_manifest(content: bytes, name: str = "the manifest") -> Manifest:
    """Read a manifest.

    Raises:
        BundleRefused: it is none, or lacks something; says what.
    """
    try:
        return json_as(content, Manifest)
    except msgspec.DecodeError as error:
        raise BundleRefused(name, in_words(error), "Ask the intelligence unit to publish the list again") from None


def pack(entry: WatchlistEntry) -> PackedEntry:
    """An entry as it travels."""
    return PackedEntry(
        **{name: getattr(entry, name) for name in FIELDS},
        count=len(entry.templates),
        templates=np.ascontiguousarray(entry.templates, "<f4").tobytes(),
        picture=entry.reference_jpeg,
        lookalikes=entry.lookalikes,
    )


def unpack(packed: PackedEntry, dimension: int) -> WatchlistEntry:
    """An entry as it was. Its templates are a view of ``packed``'s bytes: scrub those when done.

    Raises:
        RecordInvalid: the templates are not what their count says.
    """
    if packed.count < 1 or len(packed.templates) != 4 * packed.count * dimension:
        raise RecordInvalid(f"entry {packed.reference}", "has templates of another size", "Build the list again")
    templates = np.frombuffer(packed.templates, "<f4").reshape(packed.count, dimension)
    values = {name: getattr(packed, name) for name in FIELDS}
    return WatchlistEntry(**values, templates=templates, reference_jpeg=packed.picture, lookalikes=packed.lookalikes)


class _Frames:
    """A file-like object that age decrypts into: cuts the stream into frames and hands each on.

    Everything stays in one buffer that is overwritten: what Python's own slices and growing arrays leave
    behind would otherwise hold a template after its list is gone.
    """

    def __init__(self, take: Callable[[memoryview], None]) -> None:
        self._take = take
        self._buffer = bytearray(1 << 17)
        self._filled = 0
        self._magic = False

    def write(self, chunk: bytes) -> int:
        size = len(chunk)
        self._make_room(self._filled + size)
        with memoryview(self._buffer) as buffer:
            buffer[self._filled : self._filled + size] = chunk
            scrub(chunk)
            self._filled += size
            done = self._hand_on(buffer)
            left = self._filled - done
            buffer[:left] = buffer[done : self._filled]
            buffer[left : self._filled] = bytes(done)
            self._filled = left
        return size

    def _make_room(self, need: int) -> None:
        if need <= len(self._buffer):
            return
        larger = bytearray(max(need, 2 * len(self._buffer)))
        with memoryview(larger) as new, memoryview(self._buffer) as old:
            new[: self._filled] = old[: self._filled]
            old[:] = bytes(len(old))
        self._buffer = larger

    def _hand_on(self, buffer: memoryview) -> int:
        """Hand on every whole frame; returns up to where."""
        at = 0
        if not self._magic:
            if self._filled < len(MAGIC):
                return 0
            if buffer[: len(MAGIC)] != MAGIC:
                raise _damaged("is not a watchlist bundle")
            self._magic, at = True, len(MAGIC)
        while self._filled - at >= LENGTH_BYTES:
            length = int.from_bytes(buffer[at : at + LENGTH_BYTES], "big")
            if length > MAX_FRAME:
                raise _damaged("holds a frame that is too long")
            end = at + LENGTH_BYTES + length
            if self._filled < end:
                break
            with buffer[at + LENGTH_BYTES : end] as frame:
                self._take(frame)
            at = end
        return at

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def left(self) -> int:
        return self._filled

    def erase(self) -> None:
        """Overwrite what is buffered, and empty it."""
        self._buffer[:] = bytes(len(self._buffer))
        self._filled = 0


def read_bundle(path: Path, identity: AgeIdentity, manifest: Manifest, take: Callable[[WatchlistEntry], None]) -> int:
    """Decrypt a bundle and hand each entry to ``take``, which must not keep it. Returns how many there were.

    Raises:
        BundleRefused: it is not for this van's key, is altered or cut off, or is not what the manifest says.
    """
    count = 0
    ended = padded = False
    first = True

    def frame(content: memoryview) -> None:
        nonlocal count, ended, padded, first
        if ended:
            if padded or content != PADDING:
                raise _damaged("goes on after its end")
            padded = True
            return
        if first:
            first = False
            if parse_manifest(bytes(content), str(path)) != manifest:
                raise _damaged("is not the one that the manifest describes")
        elif not content:
            raise _damaged("holds an empty frame")
        elif content[0] not in ENTRY:
            ended = True
            if msgspec.msgpack.decode(content, type=int) != count or count != manifest.entries:
                raise _damaged(f"holds {count} entries instead of {manifest.entries}")
        else:
            packed = msgspec.msgpack.decode(content, type=PackedEntry)
            try:
                take(unpack(packed, manifest.dimension))
            finally:
                scrub(packed.templates)
                scrub(packed.picture)
            count += 1

    frames = _Frames(frame)
    try:
        with path.open("rb") as file:
            pyrage.decrypt_io(file, frames, [identity])
        if frames.left or not padded:
            raise _damaged("is cut off")
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise BundleRefused(
                path.name, "is not encrypted for this van", "Ask the intelligence unit for this van's list"
            ) from None
        raise _damaged("is not a watchlist bundle") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _damaged("holds something that is not an entry") from None
    except FileNotFoundError:
        raise BundleRefused(path.name, "is missing", "Ask the intelligence unit to copy all of it again") from None
    except OSError:
        raise _damaged("is altered or cut off") from None
    finally:
        frames.erase()
    return count


def _damaged(cause: str) -> BundleRefused:
    return BundleRefused(
        "the bundle", cause, "Ask the intelligence unit to copy it again; if that does not help, to build it again"
    )


def identity_of(secret: bytes, name: str) -> AgeIdentity:
    """The van's age identity from the content of its key file.

    Raises:
        KeyUnusable: it is none.
    """
    try:
        lines = secret.decode("ascii").split()
        return AgeIdentity.from_str(next(line for line in lines if line.startswith("AGE-SECRET-KEY-")))
    except (UnicodeDecodeError, StopIteration, pyrage.IdentityError):
        raise KeyUnusable(name, "is not a key that opens lists (age)", "Enrol the van again") from None


def frames_of(manifest: bytes, entries: Iterator[WatchlistEntry]) -> Iterator[bytes]:
    """The plain content of a bundle, piece by piece."""
    yield MAGIC
    yield len(manifest).to_bytes(LENGTH_BYTES, "big") + manifest
    count = 0
    encoder = msgspec.msgpack.Encoder()
    for entry in entries:
        body = encoder.encode(pack(entry))
        yield len(body).to_bytes(LENGTH_BYTES, "big") + body
        count += 1
    end = encoder.encode(count)
    yield len(end).to_bytes(LENGTH_BYTES, "big") + end
    yield len(PADDING).to_bytes(LENGTH_BYTES, "big") + PADDING
