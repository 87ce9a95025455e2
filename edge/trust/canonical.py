"""One way to write a thing down, so that its digest is the same for everybody who computes it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from edge.errors import SOFTWARE_FAULT, RecordInvalid

__all__ = ["canonical", "sha256"]


def canonical(value: Any) -> bytes:
    """JSON in UTF-8 with sorted keys and no spaces, of text, whole numbers, truth values, lists and objects.

    Fractions are refused: languages print them differently, and a digest must not depend on that.

    Raises:
        RecordInvalid: a fraction, bytes, an array or anything else that is not of those types.
    """
    _check(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(content: bytes) -> str:
    """``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _check(value: Any, at: str) -> None:
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise RecordInvalid(f"canonical JSON {at}", "has a key that is not text", SOFTWARE_FAULT)
            _check(inner, f"{at}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check(inner, f"{at}[{number}]")
    else:
        raise RecordInvalid(f"canonical JSON {at}", f"cannot hold a {type(value).__name__}", SOFTWARE_FAULT)
