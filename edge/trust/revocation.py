"""A signed word that somebody must leave the list now: over MQTT, or on a stick through the repository.

Over MQTT it is a compact JWS by a key that the van knows as a revoker's; its type can be taken for no
other message of this system. The same token in the repository (``revocations/<deployment>.jws``, one per
line) reaches a van that has no network. Saying it twice changes nothing, so a replay does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge.errors import EntryNotFound, SignatureInvalid
from edge.parsing import json_as
from edge.trust.keys import KnownSigners

__all__ = ["REVOCATION", "Revocation", "apply_all", "parse_revocation"]

REVOCATION = "lfr-revocation"
"""Type of a signed revocation."""
EVERY = "*"
MAX_BYTES = 8192


class Revocation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One person must leave the list."""

    schema: Annotated[int, Meta(ge=1, le=1, description="version of this record")] = 1
    deployment: Annotated[str, Meta(min_length=1, max_length=64, description="whose list; `*` for every deployment's")]
    reference: Annotated[str, Meta(min_length=1, max_length=64, description="who leaves it")]
    cause: Annotated[
        str,
        Meta(
            min_length=3,
            max_length=300,
            description="why, for the audit log, for example: deletion of the custody image was granted",
        ),
    ]
    issued_at: Annotated[datetime, Meta(tz=True, description="when it was signed")]


def parse_revocation(token: bytes, signers: KnownSigners, *, deployment: str) -> Revocation | None:
    """Verify a revocation; None when it is for another deployment.

    Args:
        token: the compact JWS.
        signers: the public keys of those who may revoke.
        deployment: the one this van is out for.

    Raises:
        SignatureInvalid: not signed by one of them, not a revocation, or malformed.
    """
    if len(token) > MAX_BYTES:
        raise SignatureInvalid("a revocation", "is too long", "Find out who published it")
    signed = signers.verify(token.strip(), REVOCATION)
    try:
        found = json_as(signed.payload, Revocation)
    except msgspec.DecodeError as error:
        raise SignatureInvalid(
            f"a revocation by {signed.signer}", f"cannot be read ({error})", "Sign it again"
        ) from None
    return found if found.deployment in {deployment, EVERY} else None


def apply_all(
    tokens: Iterable[bytes], signers: KnownSigners, *, deployment: str, remove: Callable[[str, str], None]
) -> tuple[str, ...]:
    """Apply many, as a stick brings them; those already gone are passed over. Returns the references that left.

    Args:
        tokens: compact JWS.
        signers: the public keys of those who may revoke.
        deployment: the one this van is out for.
        remove: called with reference and cause, for example :meth:`edge.watchlist.lifecycle.ListLifecycle.remove`.

    Raises:
        SignatureInvalid: one of them is not to be believed; those before it are applied.
    """
    gone: list[str] = []
    for token in tokens:
        if not token.strip():
            continue
        found = parse_revocation(token, signers, deployment=deployment)
        if found is None:
            continue
        try:
            remove(found.reference, f"revoked: {found.cause}")
        except EntryNotFound:
            continue
        gone.append(found.reference)
    return tuple(gone)
