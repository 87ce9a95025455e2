"""The keys of an alert: vans sign with ES256, control rooms decrypt with ECDH-ES+A256KW, both on P-256.

Keys are JSON Web Keys (RFC 7517), so that any language's JOSE library can read them. A key's identifier
is its thumbprint (RFC 7638): nobody can give one key the name of another. A public signing key says
whose it is (member ``owner``), and may say since when it is no longer believed (member ``revoked``, an
ISO 8601 time); both are this project's own members, which RFC 7517 section 4 tells others to ignore.

Every signature carries the type of what was signed, and verifying demands that type: an alert can
never be passed off as a decision, nor a decision as an alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec
from cryptography.exceptions import InvalidTag
from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from edge.errors import AlertRejected, KeyUnusable, SignatureInvalid
from edge.files import replace_file
from edge.parsing import DecodeError, json_as
from edge.trust.secret import read_secret

__all__ = ["DecryptionKeys", "KnownSigners", "Recipients", "Signed", "SigningKey", "write_private", "write_public"]

CURVE = "P-256"
SIGN = "ES256"
WRAP = "ECDH-ES+A256KW"
ENCRYPT = "A256GCM"
MAX_SIGNED = 1_400_000
"""Bytes of a compact JWS: two pictures of 256 KiB in base64 twice, and room for the words."""
MAX_RECIPIENTS = 16


class _Signatures(jws.JWSRegistry):
    max_payload_length = MAX_SIGNED


class _Encryption(jwe.JWERegistry):
    max_ciphertext_length = 2 * MAX_SIGNED


_SIGNATURES = _Signatures(algorithms=[SIGN])
_ENCRYPTION = _Encryption(algorithms=[WRAP, ENCRYPT], max_recipients=MAX_RECIPIENTS)
_LIBRARY_ERRORS = (
    JoseError,
    InvalidTag,
    ValueError,
    TypeError,
    KeyError,
    AssertionError,
    AttributeError,
    IndexError,
    RecursionError,
)
"""What joserfc raises on hostile input besides its own errors; found by fuzzing, translated here and nowhere else."""


def _bad_key(thing: str, cause: str) -> KeyUnusable:
    return KeyUnusable(thing, cause, "Copy the key again, or make it again with lfr-provision")


def _import(data: Any, thing: str, *, private: bool) -> ECKey:
    if not isinstance(data, dict) or data.get("kty") != "EC" or data.get("crv") != CURVE:
        raise _bad_key(thing, f"is not a JSON Web Key on {CURVE}")
    try:
        key = ECKey.import_key(data)
        thumbprint = key.thumbprint()
    except _LIBRARY_ERRORS:
        raise _bad_key(thing, "is a damaged JSON Web Key") from None
    if data.get("kid", thumbprint) != thumbprint:
        raise _bad_key(thing, "carries an identifier that is not its thumbprint")
    if private and not key.is_private:
        raise _bad_key(thing, "is a public key where the private one is needed")
    key.ensure_kid()
    return key


def _decode(content: bytes, thing: str) -> Any:
    try:
        return json_as(content, Any)
    except DecodeError:
        raise _bad_key(thing, "is not JSON") from None


def _decode_set(content: bytes, thing: str) -> list[dict[str, Any]]:
    data = _decode(content, thing)
    keys = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise _bad_key(thing, "is not a JSON Web Key Set")
    return keys


def _read_public(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(str(path), f"cannot be read ({error.strerror})", "Give the path of the key set") from None


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JWK or JWK Set that only its owner may read; replaces atomically what was there."""
    _write(path, content, 0o600)


def write_public(path: Path, content: Mapping[str, Any]) -> None:
    """Write a public JWK or JWK Set; replaces atomically what was there."""
    _write(path, content, 0o644)


def _write(path: Path, content: Mapping[str, Any], mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n", mode=mode)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that signs: a van's alerts, or a control room's decisions.

    Attributes:
        key_id: thumbprint of the public part.
    """

    key_id: str
    _key: ECKey = field(repr=False, compare=False)

    @classmethod
    def generate(cls) -> Self:
        key = ECKey.generate_key(CURVE, private=True, auto_kid=True)
        return cls(key.thumbprint(), key)

    @classmethod
    def load(cls, spec: str, base: Path = Path()) -> Self:
        """Read a private JWK from a file that only its owner may read, or from ``credential:NAME``.

        Raises:
            KeyUnusable: missing, readable by others, no JWK, another curve, or only a public key.
        """
        key = _import(_decode(read_secret(spec, base), spec), spec, private=True)
        return cls(key.thumbprint(), key)

    def private_jwk(self) -> dict[str, Any]:
        """The key itself, for :func:`write_private` and nothing else."""
        return {**self._key.as_dict(private=True), "kid": self.key_id, "use": "sig", "alg": SIGN}

    def public_jwk(self, **members: str) -> dict[str, Any]:
        """The public part, with extra ``members`` such as ``owner``."""
        return {**self._key.as_dict(private=False), "kid": self.key_id, "use": "sig", "alg": SIGN, **members}

    def sign(self, payload: bytes, kind: str) -> bytes:
        """A compact JWS of ``payload``; ``kind`` becomes its ``typ`` and must be demanded by whoever verifies."""
        header = {"alg": SIGN, "kid": self.key_id, "typ": kind}
        return jws.serialize_compact(header, payload, self._key, registry=_SIGNATURES).encode("ascii")


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature vouches for.

    Attributes:
        payload: the signed bytes.
        signer: whose key it was.
        key_id: which key it was.
    """

    payload: bytes = field(repr=False)
    signer: str
    key_id: str


@dataclass(frozen=True, slots=True)
class KnownSigners:
    """The public keys that are believed, and of whom: vans towards a control room, control rooms towards a van."""

    _keys: Mapping[str, tuple[str, ECKey, datetime | None]] = field(repr=False)

    @classmethod
    def of(cls, jwks: Iterable[Mapping[str, Any]], thing: str = "key set") -> Self:
        """Check public JWKs; each must say whose it is.

        Raises:
            KeyUnusable: a key is damaged, has no ``owner`` member, or a ``revoked`` that is no time.
        """
        keys: dict[str, tuple[str, ECKey, datetime | None]] = {}
        for number, data in enumerate(jwks, start=1):
            name = f"key {number} of {thing}"
            key = _import({k: v for k, v in data.items() if k != "d"}, name, private=False)
            owner, revoked = data.get("owner"), data.get("revoked")
            if not isinstance(owner, str) or not owner:
                raise _bad_key(name, "does not say whose it is (member owner)")
            try:
                since = datetime.fromisoformat(revoked) if revoked is not None else None
            except (TypeError, ValueError):
                raise _bad_key(name, "has a revocation date that cannot be read") from None
            keys[key.thumbprint()] = (owner, key, since)
        return cls(keys)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a public JWK Set.

        Raises:
            KeyUnusable: see :meth:`of`; also when the file cannot be read.
        """
        return cls.of(_decode_set(_read_public(path), str(path)), str(path))

    def owners(self) -> set[str]:
        """Those of whom at least one key is believed."""
        return {owner for owner, _, revoked in self._keys.values() if revoked is None}

    def verify(self, token: bytes, kind: str) -> Signed:
        """Verify a compact JWS that must be of type ``kind``.

        Raises:
            SignatureInvalid: malformed, of another type or algorithm, unknown or revoked signer, or a wrong signature.
        """
        next_step = "Do not act on it; check which van sent it"
        try:
            parsed = jws.extract_compact(token, registry=_SIGNATURES)
            header = parsed.headers()
            key_id, typ = header.get("kid"), header.get("typ")
        except _LIBRARY_ERRORS:
            raise SignatureInvalid("signature", "cannot be read", next_step) from None
        if typ != kind:
            raise SignatureInvalid("signature", f"was made for another kind of message than {kind}", next_step)
        found = self._keys.get(key_id) if isinstance(key_id, str) else None
        if found is None:
            raise SignatureInvalid("signature", "was made with a key that is not known here", next_step)
        owner, key, revoked = found
        if revoked is not None:
            raise SignatureInvalid(
                f"signature of {owner}", f"was made with a key that was revoked on {revoked:%Y-%m-%d}", next_step
            )
        try:
            valid = jws.deserialize_compact(token, key, registry=_SIGNATURES)
        except _LIBRARY_ERRORS:
            raise SignatureInvalid(
                f"signature of {owner}", "is wrong: the message is damaged or was altered", next_step
            ) from None
        return Signed(valid.payload, owner, str(key_id))


@dataclass(frozen=True, slots=True)
class Recipients:
    """The public keys of the control rooms that may read an alert."""

    _keys: tuple[ECKey, ...] = field(repr=False)

    @classmethod
    def of(cls, jwks: Iterable[Mapping[str, Any]], thing: str = "key set") -> Self:
        """Check public JWKs.

        Raises:
            KeyUnusable: a key is damaged, private, or there are none or more than 16.
        """
        keys = []
        for number, data in enumerate(jwks, start=1):
            if "d" in data:
                raise _bad_key(f"key {number} of {thing}", "is a private key: it must never leave the control room")
            keys.append(_import(dict(data), f"key {number} of {thing}", private=False))
        if not 1 <= len(keys) <= MAX_RECIPIENTS:
            raise _bad_key(thing, f"holds {len(keys)} keys instead of 1 to {MAX_RECIPIENTS}")
        return cls(tuple(keys))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a public JWK Set.

        Raises:
            KeyUnusable: see :meth:`of`; also when the file cannot be read.
        """
        return cls.of(_decode_set(_read_public(path), str(path)), str(path))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Their RFC 7638 thumbprints, by which the audit log names who could read an alert."""
        return tuple(key.thumbprint() for key in self._keys)

    def encrypt(self, plaintext: bytes, content_type: str) -> dict[str, Any]:
        """A JWE in general JSON form that each of the recipients can read on its own (RFC 7516, 7.2.1)."""
        sealed = jwe.GeneralJSONEncryption({"enc": ENCRYPT, "cty": content_type}, plaintext)
        for key in self._keys:
            sealed.add_recipient({"alg": WRAP, "kid": key.thumbprint()}, key)
        return dict(jwe.encrypt_json(sealed, None, registry=_ENCRYPTION))


@dataclass(frozen=True, slots=True)
class DecryptionKeys:
    """A control room's private keys, the current one and those it still reads after a rotation."""

    _keys: Mapping[str, ECKey] = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        key = ECKey.generate_key(CURVE, private=True, auto_kid=True)
        return cls({key.thumbprint(): key})

    @classmethod
    def load(cls, spec: str, base: Path = Path()) -> Self:
        """Read a private JWK Set from a file that only its owner may read, or from ``credential:NAME``.

        Raises:
            KeyUnusable: missing, readable by others, no JWK Set, another curve, or only public keys.
        """
        keys = [_import(data, spec, private=True) for data in _decode_set(read_secret(spec, base), spec)]
        if not keys:
            raise _bad_key(spec, "holds no key")
        return cls({key.thumbprint(): key for key in keys})

    def private_jwks(self) -> dict[str, Any]:
        """The keys themselves, for :func:`write_private` and nothing else."""
        use = {"use": "enc", "alg": WRAP}
        return {"keys": [{**key.as_dict(private=True), "kid": kid, **use} for kid, key in self._keys.items()]}

    def public_jwks(self) -> dict[str, Any]:
        """The public parts, for the vans."""
        use = {"use": "enc", "alg": WRAP}
        return {"keys": [{**key.as_dict(private=False), "kid": kid, **use} for kid, key in self._keys.items()]}

    def decrypt(self, sealed: Mapping[str, Any], content_type: str) -> bytes:
        """Open a JWE in general JSON form with whichever of these keys it was made for.

        Raises:
            AlertRejected: malformed, not for this control room, another algorithm, or tampered with.
        """
        next_step = "Do not act on it; check the van's recipients and the path of the message"
        recipients = sealed.get("recipients")
        if not isinstance(recipients, list) or not 1 <= len(recipients) <= MAX_RECIPIENTS:
            raise AlertRejected("encrypted data", "cannot be read", next_step)
        for recipient in recipients:
            header = recipient.get("header") if isinstance(recipient, dict) else None
            key = self._keys.get(str(header.get("kid"))) if isinstance(header, dict) else None
            if key is None:
                continue
            mine: Any = {**sealed, "recipients": [recipient]}
            try:
                opened = jwe.decrypt_json(mine, key, registry=_ENCRYPTION)
                protected, plaintext = opened.protected, opened.plaintext
            except _LIBRARY_ERRORS:
                raise AlertRejected(
                    "encrypted data", "cannot be decrypted: it is damaged or was altered", next_step
                ) from None
            if plaintext is None or protected.get("cty") != content_type:
                raise AlertRejected("encrypted data", f"is of another kind than {content_type}", next_step)
            return plaintext
        raise AlertRejected("encrypted data", "is not for this control room", next_step)
