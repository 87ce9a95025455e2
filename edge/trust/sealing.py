"""Values that lie in a place which is not encrypted itself, such as a data base on another machine.

Each value is sealed with AES-256-GCM under a key that is derived from a store's key, and bound to the place where it
lies: its table, its row and its column. Whoever keeps the place can neither read a value, nor change it, nor put one
where another was. They can still take a row away, or put back what the same row held before.
"""

from __future__ import annotations

import base64
import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.errors import KeyUnusable, StoreUnavailable

__all__ = ["Plain", "Sealer", "Unsealed", "Values"]

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random; at one value a millisecond the chance that one repeats stays under 2⁻³² (NIST SP 800-38D) for 49 days, and a
control room stores a thousand times fewer."""
VERSION = b"\x01"
_PURPOSE = b"LFR Edge shared store 1"


class Unsealed(StoreUnavailable):
    """A value is not what was sealed for its place: somebody changed it, or it was sealed under another key."""

    def __init__(self, place: tuple[str, ...]) -> None:
        super().__init__(
            f"a value in {' / '.join(place[:1])} of the shared store",
            "is not what a control room put there",
            "Keep a copy of the data base as evidence and call the engineer: somebody may have changed it",
        )


class Values(Protocol):
    """How a store's values lie in it."""

    def seal(self, value: bytes, *place: str) -> bytes: ...

    def unseal(self, sealed: bytes, *place: str) -> bytes: ...

    def seal_text(self, text: str, *place: str) -> str: ...

    def unseal_text(self, sealed: str, *place: str) -> str: ...


class Plain:
    """For a store that is encrypted as a whole: values lie in it as they are."""

    def seal(self, value: bytes, *_: str) -> bytes:
        return value

    def unseal(self, sealed: bytes, *_: str) -> bytes:
        return bytes(sealed)

    def seal_text(self, text: str, *_: str) -> str:
        return text

    def unseal_text(self, sealed: str, *_: str) -> str:
        return sealed


class Sealer:
    """See the module. Its methods may be called from any thread.

    Args:
        key: 32 bytes, from which the key of the values is derived.

    Raises:
        KeyUnusable: the key has not 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise KeyUnusable("the store's key", f"has {len(key)} bytes, not {KEY_BYTES}", "Give the right key")
        self._cipher = AESGCM(HKDF(SHA256(), KEY_BYTES, None, _PURPOSE).derive(key))

    def seal(self, value: bytes, *place: str) -> bytes:
        """Seal a value for its place: version, nonce, ciphertext and tag."""
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, value, _bound(place))

    def unseal(self, sealed: bytes, *place: str) -> bytes:
        """The value that was sealed for this place.

        Raises:
            Unsealed: it was changed, sealed for another place, or under another key.
        """
        version, nonce, content = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        if version != VERSION or len(nonce) != NONCE_BYTES:
            raise Unsealed(place)
        try:
            return self._cipher.decrypt(nonce, content, _bound(place))
        except InvalidTag:
            raise Unsealed(place) from None

    def seal_text(self, text: str, *place: str) -> str:
        """As :meth:`seal`, for a column of text: base64."""
        return base64.b64encode(self.seal(text.encode(), *place)).decode("ascii")

    def unseal_text(self, sealed: str, *place: str) -> str:
        """As :meth:`unseal`, of what :meth:`seal_text` gave.

        Raises:
            Unsealed: see :meth:`unseal`.
        """
        try:
            return self.unseal(base64.b64decode(sealed, validate=True), *place).decode()
        except ValueError:
            raise Unsealed(place) from None


def _bound(place: tuple[str, ...]) -> bytes:
    """Names of a place, each with its length in front, so that no two places read alike."""
    parts = [part.encode() for part in place]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
