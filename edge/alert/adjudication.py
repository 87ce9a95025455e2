"""What a person decided on an alert, on its way back to the van: a compact JWS by the control room.

It holds no picture and no name: the alert's identifier, what was decided, by whom (role and number), when.
The van believes it by the control room's key and not because of the topic on which it came.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from edge.errors import AlertRejected
from edge.trust.keys import KnownSigners, SigningKey

__all__ = ["JWS_TYPE", "MAX_ADJUDICATION", "AdjudicationBody", "read_adjudication", "sign_adjudication"]

JWS_TYPE = "lfr-adjudication+json"
MAX_ADJUDICATION = 8 * 1024
"""Bytes of a message."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class AdjudicationBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One decision; a later one on the same alert replaces it."""

    v: Annotated[Literal[1], Meta(description="version of this body")] = 1
    alert_id: Annotated[UUID, Meta(description="the alert")]
    van: Annotated[Name, Meta(description="the van that raised it")]
    state: Annotated[
        Literal["seen", "engage", "do not engage", "closed"], Meta(description="what the control room has made of it")
    ]
    correct: Annotated[bool | None, Meta(description="whether it was the person on the list, once known")] = None
    result: Annotated[
        Literal["arrest", "other disposal", "no action"] | None, Meta(description="what came of it, once it is closed")
    ] = None
    by: Annotated[str, Meta(max_length=64, description="number of the officer, never a name")]
    role: Literal["operator", "engagement officer"]
    reason: Annotated[str, Meta(max_length=500, description="why")] = ""
    at: Annotated[datetime, Meta(tz=True, description="when")]


_DECODER = msgspec.json.Decoder(AdjudicationBody)


def sign_adjudication(body: AdjudicationBody, key: SigningKey) -> bytes:
    """The message for the van's adjudication topic."""
    return key.sign(msgspec.json.encode(body), JWS_TYPE)


def read_adjudication(message: bytes, control_rooms: KnownSigners, van: str) -> AdjudicationBody:
    """Read what :func:`sign_adjudication` made, as the van ``van``.

    Raises:
        AlertRejected: too large, malformed, or for another van.
        SignatureInvalid: not signed by a control room that this van knows.
    """
    if len(message) > MAX_ADJUDICATION:
        raise AlertRejected("decision", f"has {len(message)} bytes, {MAX_ADJUDICATION} at most", "Do not act on it")
    signed = control_rooms.verify(message, JWS_TYPE)
    try:
        body = _DECODER.decode(signed.payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise AlertRejected(f"decision of {signed.signer}", "is not one of version 1", "Update one side") from None
    if body.van != van:
        raise AlertRejected(f"decision of {signed.signer}", "is for another van", "Do not act on it")
    return body
