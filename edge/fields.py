"""What a decoder complains of, in words that name the field as it stands in the file instead of a path of JSON."""

from __future__ import annotations

import re

__all__ = ["in_words"]

_AT = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`")
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a group of fields",
    "datetime": "a date and time with its time zone, such as 2026-11-24T10:00:00Z",
    "null": "nothing",
}


def in_words(error: Exception) -> str:
    """One clause, for example ``retention_h must be 744 at most``. Made from what msgspec says."""
    text = str(error)
    found = _AT.search(text)
    field = re.sub(r"\[(?:\d+|\.\.\.)\]", "", found["path"]) if found else ""
    text = _AT.sub("", text)
    name = field or "it"
    if named := re.search(r"missing required field `([^`]+)`", text):
        return f"{_join(field, named[1])} is missing"
    if named := re.search(r"contains unknown field `([^`]+)`", text):
        return f"{_join(field, named[1])} is not a field that is known here"
    if limit := re.search(r"Expected `(\w+)` (<=|>=|<|>) (\S+)$", text):
        return f"{name} must be {_LIMITS[limit[2]].format(limit[3])}"
    if length := re.search(r"Expected `(\w+)` of length (<=|>=)? ?(\d+)", text):
        bound = {"<=": "at most", ">=": "at least", None: "exactly"}[length[2]]
        unit = "letters" if length[1] == "str" else "values"
        return f"{name} must have {bound} {length[3]} {unit}"
    if "matching regex" in text or "timezone" in text or text.startswith("Invalid"):
        form = " with a time zone, such as 2026-11-24T10:00:00Z" if "timezone" in text or "RFC3339" in text else ""
        return f"{name} is not written as it must be{form}"
    if wanted := re.search(r"Expected `([^`]+)`, got `([^`]+)`", text):
        kinds = [_KINDS.get(kind.strip(), kind.strip()) for kind in wanted[1].split("|")]
        return f"{name} must be {' or '.join(kinds)}"
    return f"{name} cannot be read ({text[:1].lower()}{text[1:]})"


_LIMITS = {"<=": "{} at most", ">=": "{} at least", "<": "less than {}", ">": "more than {}"}


def _join(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name
