"""JSON and TOML from outside. One error for whatever is wrong with it.

The parsers beneath raise one error for text that is none, another for bytes that are no UTF-8, a third for what is
nested deeper than Python can follow. Whoever remembers only the first lets the others through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    with _one_error():
        return msgspec.json.decode(content, type=kind)


def toml_as(content: bytes | str, kind: type[Kind]) -> Kind:
    """TOML as a value of ``kind``.

    Raises:
        DecodeError: it is not TOML, not UTF-8, too deep, not of this kind, or a number is too long; says which.
    """
    with _one_error():
        return msgspec.toml.decode(content, type=kind)


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
