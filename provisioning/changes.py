"""What changed between the last list of a deployment and this one, from the two reports.

A list is destroyed when its deployment is over; its report stays. So the reports are compared, which hold references,
records and the digests of picture files, and nothing biometric.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge.errors import BadInput
from provisioning.sources import Record

__all__ = ["Changes", "compare", "read_report"]

REPORT = "report.json"
SHOWN = tuple(each.name for each in fields(Record))


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference of two lists.

    Attributes:
        last: digest of the last list.
        added: references that are new, sorted.
        removed: references that are not on it any more.
        changed: per reference that stayed, what is different: ``field: before → now``.
        unchanged: how many stayed as they were.
    """

    last: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]
    unchanged: int

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the report."""
        return asdict(self)


def read_report(path: Path) -> dict[str, Any]:
    """The report of a list, from its folder or its ``report.json``.

    Raises:
        BadInput: it is missing, is no report, or is of a version that did not say who was on the list.
    """
    file = path / REPORT if path.is_dir() else path
    try:
        report = json.loads(file.read_bytes())
    except OSError as error:
        raise BadInput(str(file), f"cannot be read ({error.strerror})", "Give the last list's report.json") from None
    except (ValueError, RecursionError):
        raise BadInput(str(file), "is not a report of a list", "Give the last list's report.json") from None
    records = report.get("records") if isinstance(report, dict) else None
    if not isinstance(records, dict) or not all(map(_is_record, records.values())):
        raise BadInput(str(file), "does not say who was on the list", "Give the report.json of a newer list")
    return dict(report)


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and isinstance(record.get("pictures", []), list)


def compare(last: dict[str, Any], now: dict[str, Any]) -> Changes:
    """Compare two reports as :func:`provisioning.review.review` makes them."""
    before, after = last["records"], now["records"]
    stayed = sorted(set(before) & set(after))
    changed = {name: found for name in stayed if (found := _different(before[name], after[name]))}
    return Changes(
        last=str(last.get("digest", "")),
        added=tuple(sorted(set(after) - set(before))),
        removed=tuple(sorted(set(before) - set(after))),
        changed=changed,
        unchanged=len(stayed) - len(changed),
    )


def _different(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    found = [
        f"{name.replace('_', ' ')}: {_said(before.get(name))} → {_said(after.get(name))}"
        for name in SHOWN
        if _said(before.get(name)) != _said(after.get(name))
    ]
    old, new = _pictures(before), _pictures(after)
    if old != new:
        gone, come = len(old - new), len(new - old)
        found.append(f"pictures: {gone} taken out, {come} put in")
    return tuple(found)


def _pictures(record: dict[str, Any]) -> set[str]:
    pictures = record.get("pictures", [])
    return {str(each.get("sha256")) for each in pictures if isinstance(each, dict)}


def _said(value: Any) -> str:
    if value in (None, "", [], ()):
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
