"""That alerts are safe in the control room: its word, signed, on the way back to the van.

The broker's acknowledgement says that a message has reached the broker. A receipt says that the control room has
verified the alert and committed it to its own store; on it, and on nothing less, the van lets an alert go. It is
said again for every repeat, so one that is lost costs a repeat and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from edge.alert.control_message import Kind
from edge.names import Name
from edge.trust.keys import SigningKey

__all__ = ["MOST_TOGETHER", "RECEIPT", "ReceiptBody", "sign_receipts"]

MOST_TOGETHER = 100
"""Alerts that one receipt may name."""


class ReceiptBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """These alerts are in the control room's store."""

    v: Annotated[Literal[1], Meta(description="version of this body")] = 1
    van: Annotated[Name, Meta(description="the van that raised them")]
    alerts: Annotated[list[UUID], Meta(min_length=1, max_length=MOST_TOGETHER, description="identifiers of the alerts")]
    at: Annotated[datetime, Meta(tz=True, description="when the control room said so")]


RECEIPT = Kind("receipt", "lfr-receipt+json", msgspec.json.Decoder(ReceiptBody), 8 * 1024)


def sign_receipts(van: str, alerts: Iterable[UUID], at: datetime, key: SigningKey) -> list[bytes]:
    """The messages for the van's receipt topic that say ``alerts`` are safe; as few as may be."""
    named = list(alerts)
    return [
        RECEIPT.sign(ReceiptBody(van=van, alerts=named[start : start + MOST_TOGETHER], at=at), key)
        for start in range(0, len(named), MOST_TOGETHER)
    ]
