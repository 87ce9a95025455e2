"""That alerts are safe in the control room: its word, signed, on the way back to the van.

The broker's acknowledgement says that a message has reached the broker. A receipt says that the control room has
verified the alert and committed it to its own store; on it, and on nothing less, the van lets an alert go. It is
said again for every repeat, so one that is lost costs a repeat and nothing else.

It names each alert by its identifier *and* by the digest of the message that carried it: an identifier alone is
believed of nobody, for another van could have used it for an alert of its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from edge.alert.control_message import Kind
from edge.names import Name
from edge.trust.keys import SigningKey

__all__ = ["MOST_TOGETHER", "RECEIPT", "Held", "ReceiptBody", "message_digest", "sign_receipts"]

MOST_TOGETHER = 50
"""Alerts that one receipt may name."""


def message_digest(message: bytes) -> str:
    """SHA-256 of a message as it was published, in base64url without padding: 43 characters."""
    return base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode("ascii")


class Held(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One alert that is in the control room's store."""

    alert_id: Annotated[UUID, Meta(description="the alert's identifier")]
    digest: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_-]{43}$", description="SHA-256 of the message as published, in base64url"),
    ]


class ReceiptBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """These alerts are in the control room's store."""

    v: Annotated[Literal[2], Meta(description="version of this body")] = 2
    van: Annotated[Name, Meta(description="the van that raised them")]
    alerts: Annotated[list[Held], Meta(min_length=1, max_length=MOST_TOGETHER, description="the alerts")]
    at: Annotated[datetime, Meta(tz=True, description="when the control room said so")]


RECEIPT = Kind("receipt", "lfr-receipt+json", ReceiptBody, 16 * 1024)


def sign_receipts(van: str, alerts: Iterable[Held], at: datetime, key: SigningKey) -> list[bytes]:
    """The messages for the van's receipt topic that say ``alerts`` are safe; as few as may be."""
    named = list(alerts)
    return [
        RECEIPT.sign(ReceiptBody(van=van, alerts=named[start : start + MOST_TOGETHER], at=at), key)
        for start in range(0, len(named), MOST_TOGETHER)
    ]
