"""A signed word that somebody must leave the list now, or everybody: then the deployment's authority is withdrawn.

Each is a compact JWS by a key that the van knows as a revoker's; its type can be taken for no other message of this
system. They come as lines, over MQTT or in the repository (``revocations/<deployment>.jws``), which reaches a van that
has no network. Whoever publishes one says all that were said before again, so that none takes another's place. Saying
it twice changes nothing, so a replay does no harm.

A withdrawal holds for every authority that was signed before it. One that is signed afterwards is another decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge.errors import EntryNotFound, SignatureInvalid, WatchlistGone
from edge.parsing import json_as
from edge.trust.keys import KnownSigners

__all__ = [
    "EVERYBODY",
    "MAX_BYTES",
    "MAX_MESSAGE",
    "REVOCATION",
    "Revocation",
    "apply_all",
    "lines_of",
    "parse_revocation",
]

REVOCATION = "lfr-revocation"
"""Type of a signed revocation."""
EVERY = "*"
EVERYBODY = "*"
"""As the reference: not one person leaves the list, but the authority is withdrawn and the list destroyed."""
MAX_BYTES = 8192
"""Of one."""
MAX_MESSAGE = 64 * 1024
"""Of all together that one message of MQTT brings: some 150."""
MOST_LINES = 500


class Revocation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One person must leave the list, or everybody."""

    schema: Annotated[int, Meta(ge=1, le=1, description="version of this record")] = 1
    deployment: Annotated[str, Meta(min_length=1, max_length=64, description="whose list; `*` for every deployment's")]
    reference: Annotated[
        str,
        Meta(min_length=1, max_length=64, description="who leaves it; `*` for everybody: the authority is withdrawn"),
    ]
    cause: Annotated[
        str,
        Meta(
            min_length=3,
            max_length=300,
            description="why, for the audit log, for example: deletion of the custody image was granted",
        ),
    ]
    issued_at: Annotated[datetime, Meta(tz=True, description="when it was signed")]


def lines_of(message: bytes) -> list[bytes]:
    """The revocations that one message brings, not verified yet.

    Raises:
        SignatureInvalid: it is longer than :data:`MAX_MESSAGE`, or has more than :data:`MOST_LINES`.
    """
    if len(message) > MAX_MESSAGE:
        raise SignatureInvalid("revocations", f"are too long: {len(message)} bytes", "Find out who published them")
    lines = message.splitlines()
    if len(lines) > MOST_LINES:
        raise SignatureInvalid("revocations", f"are too many: {len(lines)} lines", "Find out who published them")
    return lines


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
    tokens: Iterable[bytes],
    signers: KnownSigners,
    *,
    deployment: str,
    remove: Callable[[str, str], None],
    withdraw: Callable[[bytes, Revocation], None],
) -> tuple[Revocation, ...]:
    """Apply many; those already gone are passed over. Returns those that changed something.

    Args:
        tokens: compact JWS; empty ones are passed over.
        signers: the public keys of those who may revoke.
        deployment: the one this van is out for.
        remove: called with reference and cause, for example :meth:`edge.watchlist.lifecycle.ListLifecycle.remove`.
        withdraw: called with the token and what it says, for each that withdraws the authority.

    Raises:
        SignatureInvalid: one of them is not to be believed; all the others are applied.
    """
    done: list[Revocation] = []
    unbelieved: SignatureInvalid | None = None
    for token in tokens:
        if not token.strip():
            continue
        try:
            found = parse_revocation(token, signers, deployment=deployment)
        except SignatureInvalid as error:
            unbelieved = unbelieved or error
            continue
        if found is None:
            continue
        if found.reference == EVERYBODY:
            withdraw(token.strip(), found)
        else:
            try:
                remove(found.reference, f"revoked: {found.cause}")
            except (EntryNotFound, WatchlistGone):
                continue
        done.append(found)
    if unbelieved is not None:
        raise unbelieved
    return tuple(done)
