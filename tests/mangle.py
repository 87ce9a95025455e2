"""Good examples made bad in ways that a parser has to see through: by their structure first, then by their bytes."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from typing import Any

import tomli_w

__all__ = ["mangled"]

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 1e308, -1e308, 5e-324, 0.1),
    *("", " ", "\x00", "\n", "\r\n[x]\n", "-", ".", "..", "../../etc/passwd", "/", "*", "#", "+", "van-2", "\ud800"),
    *("lfr/1/van-2/alert", "\u202e", "\U0001f600", "A" * 70, "é" * 300, "x" * 5000, "0", "1e999", "NaN", "sha256:"),
    *("2026-02-30T25:61:61Z", "2026-01-01", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "=" * 43),
    *([], {}, [[]], [None], {"": ""}, {"a": {"b": []}}),
)
"""What stands where something else is expected."""
DEEP = 2000


def mangled(content: bytes, form: str, chance: random.Random) -> bytes:
    """Another version of ``content``: one to three changes of its structure, sometimes bytes beside."""
    change: Callable[[bytes, random.Random], bytes] = {"json": _json, "toml": _toml, "lines": _lines}.get(form, _bytes)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        content = change(content, chance)
    return _bytes(content, chance) if chance.random() < 0.15 else content


def _json(content: bytes, chance: random.Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _bytes(content, chance)
    way = chance.random()
    if way < 0.03:
        return b"[" * DEEP + content + b"]" * DEEP
    if way < 0.06:  # the same key twice
        return content.replace(b"{", b'{"van":"van-2",', 1)
    if way < 0.09:
        return content.replace(b":", b": \t\n", 3)
    text = json.dumps(_changed(value, chance))
    if chance.random() < 0.1:  # what JSON does not have and Python writes
        text = text.replace(": 0", ": NaN", 1).replace(": 1", ": -Infinity", 1)
    return text.encode("utf-8", "surrogatepass")


def _toml(content: bytes, chance: random.Random) -> bytes:
    try:
        value = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return _bytes(content, chance)
    if chance.random() < 0.05:
        return content + b"x = " + b"[" * DEEP + b"]" * DEEP
    try:
        return tomli_w.dumps(_changed(value, chance)).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, AttributeError):  # TOML has no null
        return _bytes(content, chance)


def _lines(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    at = chance.randrange(len(lines))
    way = chance.randrange(6)
    if way == 0:
        lines.insert(at, lines[at])
    elif way == 1:
        del lines[at]
    elif way == 2:
        chance.shuffle(lines)
    elif way == 3:
        lines[at] = lines[at].strip(b"\n")
    else:
        lines[at] = (_json if lines[at].startswith(b"{") else _bytes)(lines[at], chance)
    return b"".join(lines)


def _bytes(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content or b"\x00")
    for _ in range(chance.choice((1, 2, 8))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.choice((1, 2, 16, 300))]
            case 2:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4, 64))))
            case 3:
                data[at:at] = data[max(0, at - 40) : at] * chance.choice((1, 2, 50))
            case 4:
                data[at:at] = chance.choice(
                    (b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"..", b"{", b"[", b'"', b"\\u0000")
                )
            case _ if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case _:
                del data[at // 2 :]
    return bytes(data)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    return [at, *(place for key, each in inside for place in _places(each, (*at, key)))]


def _changed(value: Any, chance: random.Random) -> Any:
    """``value`` with one place of it replaced, taken out, renamed, doubled or added to."""
    place = chance.choice(_places(value))
    if not place:
        return (
            chance.choice(ODD)
            if chance.random() < 0.2 or not isinstance(value, dict)
            else {**value, "more": chance.choice(ODD)}
        )
    around = value
    for key in place[:-1]:
        around = around[key]
    key, way = place[-1], chance.randrange(7)
    if way == 0 and isinstance(around, dict):
        del around[key]
    elif way == 1 and isinstance(around, dict):
        around[chance.choice(("", f"{key}x", key.upper(), "\u202e", "van"))] = around.pop(key)
    elif way == 2:
        around[key] = [around[key]] * chance.choice((1, 3, 200))
    elif way == 3 and isinstance(around[key], str):
        text = around[key]
        at = chance.randrange(len(text) + 1)
        around[key] = (
            text[:at]
            + chance.choice(("", "\x00", "x", "é", "\ud800", "=", " ", "9"))
            + text[at + chance.randrange(2) :]
        )
    elif way == 4 and isinstance(around[key], int | float) and not isinstance(around[key], bool):
        around[key] = around[key] * chance.choice((-1, 10, 2**40, 0)) + chance.choice((0, 1, -1))
    else:
        around[key] = chance.choice(ODD)
    return value
