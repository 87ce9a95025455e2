"""What the appliance says of itself: one line per event, for the journal or for standard error.

An event has a stable name, plain words and numbers. A processor stands between every event and the log
and refuses what could be biometric: arrays, bytes, and objects that hold them become their type's name.
Under systemd the lines carry their fields to the journal itself, where they can be searched.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import structlog

__all__ = ["configure", "get_logger", "only_words_and_numbers"]

_PLAIN = (str, int, float, bool, type(None), UUID, datetime, Path, Enum)
MAX_TEXT = 400
"""Characters of one value; longer text is cut, so that no encoded picture passes as a string."""


def only_words_and_numbers(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Let words and numbers pass; replace everything else by its type's name."""
    for key, value in event.items():
        event[key] = _plain(value)
    return event


def _plain(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return value[:MAX_TEXT] + "…"
    if isinstance(value, BaseException):
        return str(value)[:MAX_TEXT]
    if isinstance(value, Enum | UUID | Path):
        return str(value.value if isinstance(value, Enum) else value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str | Enum) for item in value):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__} withheld>"


def _to_journal(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    from systemd import journal  # noqa: PLC0415 - only under systemd, and only its owner imports it

    priority = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}.get(method, 6)
    fields = {f"LFR_{key.upper()}": str(value) for key, value in event.items() if key != "event"}
    words = " ".join(f"{key}={value}" for key, value in event.items() if key not in {"event", "level", "timestamp"})
    journal.send(f"{event.get('event', '')} {words}".strip(), PRIORITY=str(priority), **fields)
    raise structlog.DropEvent


def configure(style: Literal["auto", "text", "json"] = "auto") -> None:
    """Set up logging for a command.

    Args:
        style: ``auto`` writes to the journal under systemd, else readable text on a terminal and JSON
            lines elsewhere, always on standard error.
    """
    shared: list[Any] = [
        structlog.processors.add_log_level,
        only_words_and_numbers,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "auto" and os.environ.get("JOURNAL_STREAM"):
        chain = [*shared, _to_journal, structlog.processors.JSONRenderer()]
    elif style == "json" or (style == "auto" and not sys.stderr.isatty()):
        chain = [*shared, structlog.processors.JSONRenderer()]
    else:
        chain = [*shared, structlog.dev.ConsoleRenderer()]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(part: str) -> Any:
    """A logger whose lines say which part of the appliance speaks."""
    return structlog.get_logger(part=part)
