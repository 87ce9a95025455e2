"""JSON and TOML from outside. One error for whatever is wrong with it.

The parsers beneath raise one error for text that is none, another for bytes that are no UTF-8, a third for what is
nested deeper than Python can follow. Whoever remembers only the first lets the others through.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["DecodeError", "json_as", "toml_as"]

Kind = TypeVar("Kind")
DecodeError = msgspec.DecodeError


def json_as(content: bytes | str, kind: type[Kind]) -> Kind:
    """JSON as a value of ``kind``.

    Raises:
        DecodeError: it is not JSON, not UTF-8, too deep, or not of this kind; says which.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise _plain(error) from None


def toml_as(content: bytes | str, kind: type[Kind]) -> Kind:
    """TOML as a value of ``kind``.

    Raises:
        DecodeError: it is not TOML, not UTF-8, too deep, or not of this kind; says which.
    """
    try:
        return msgspec.toml.decode(content, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise _plain(error) from None


def _plain(error: Exception) -> msgspec.DecodeError:
    deep = isinstance(error, RecursionError)
    return msgspec.DecodeError("It is nested too deeply" if deep else "It is not UTF-8 text")
