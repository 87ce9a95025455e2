"""What a name may be: of a van, a deployment, a control room, an officer. A name becomes a file and an MQTT topic."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

__all__ = ["NAME", "NAME_PATTERN", "Name"]

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""1 to 64 characters: no slash, no wildcard of MQTT (``+``, ``#``), no dot in front. To be built into a pattern."""
NAME_PATTERN: Final = rf"^{NAME}\Z"
"""The whole text is a name. Not ``$``: in Python that also lets a line's end through."""

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
"""A name in a message or a file; msgspec refuses any other text."""
