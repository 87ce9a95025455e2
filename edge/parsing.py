"""JSON and TOML from outside. One error for whatever is wrong with it.

The parsers beneath raise one error for text that is none, another for bytes that are no UTF-8, a third for what is
nested deeper than Python can follow. Whoever remembers only the first lets the others through.

A moment may be written that Python reads and then cannot tell in another time zone, or store: the year 1 east of
Greenwich. Whoever meets one later falls over it. So every moment must lie between :data:`EARLIEST` and :data:`LATEST`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

__all__ = ["EARLIEST", "LATEST", "DecodeError", "json_as", "toml_as"]

Kind = TypeVar("Kind")
DecodeError = msgspec.DecodeError
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
"""Between them lies every moment that means something here; a clock that was never set says 1970."""


def json_as(content: bytes | str, kind: type[Kind]) -> Kind:
    """JSON as a value of ``kind``.

    Raises:
        DecodeError: it is not JSON, not UTF-8, too deep, not of this kind, or a moment in it cannot be; says which.
    """
    with _one_error():
        return _in_time(msgspec.json.decode(content, type=kind))


def toml_as(content: bytes | str, kind: type[Kind]) -> Kind:
    """TOML as a value of ``kind``.

    Raises:
        DecodeError: it is not TOML, not UTF-8, too deep, not of this kind, a number is too long, or a moment cannot be;
            says which.
    """
    with _one_error():
        return _in_time(msgspec.toml.decode(content, type=kind))


def _in_time(value: Kind, where: str = "$") -> Kind:
    """The value, when each moment in it lies between :data:`EARLIEST` and :data:`LATEST`."""
    parts: Any = ()
    if isinstance(value, msgspec.Struct):
        parts = ((f"{where}.{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        parts = ((f"{where}.{name}", part) for name, part in value.items())
    elif isinstance(value, list | tuple):
        parts = ((where, part) for part in value)
    elif isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        if not EARLIEST <= moment < LATEST:
            raise DecodeError(f"It lies outside the years {EARLIEST.year} to {LATEST.year - 1} - at `{where}`")
    for at, part in parts:
        _in_time(part, at)
    return value


@contextmanager
def _one_error() -> Iterator[None]:
    try:
        yield
    except DecodeError:
        raise
    except UnicodeDecodeError:
        raise msgspec.DecodeError("It is not UTF-8 text") from None
    except ValueError:  # a number of more digits than Python converts
        raise DecodeError("A number is too long") from None
    except RecursionError:
        raise msgspec.DecodeError("It is nested too deeply") from None
