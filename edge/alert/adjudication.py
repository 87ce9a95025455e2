"""What a person decided on an alert, on its way back to the van: a compact JWS by the control room.

It holds no picture and no name: the alert's identifier, what was decided, by whom (role and number), when.
The van believes it by the control room's key and not because of the topic on which it came.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from edge.alert.control_message import Kind
from edge.names import Name

__all__ = ["ADJUDICATION", "AdjudicationBody"]


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


ADJUDICATION = Kind("decision", "lfr-adjudication+json", AdjudicationBody, 8 * 1024)
