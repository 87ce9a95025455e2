"""The engineer's ledger: a line of JSON for every medium that was flashed, enrolled, or found faulty.

It is the only copy of the media's one-time secrets outside of them, so only its owner may read it, and what is handed
on (:func:`as_csv`) holds none: a short code of each takes its place, which the medium's label shows too.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.cells import csv_text
from edge.errors import BadInput
from provisioning.image.tools import ImageRefused

__all__ = ["COLUMNS", "append", "as_csv", "code_of", "quarantine", "read", "refuse_quarantined", "rows"]

COLUMNS = ("at", "what", "van", "serial", "model", "target", "board", "version", "epoch", "signer", "code", "cause")
"""Of :func:`as_csv`."""
_CODE = 8
_writing = threading.Lock()


def append(ledger: Path, line: Mapping[str, Any]) -> None:
    """Add one line of JSON to the ledger, which only its owner may read, and see it onto the disk."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with _writing:
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as stream:
            os.fchmod(handle, 0o600)
            stream.write(json.dumps(line, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def read(ledger: Path) -> list[dict[str, Any]]:
    """Every line of a ledger, the oldest first; none where there is no ledger yet.

    Raises:
        BadInput: it cannot be read, or holds a line that is none.
    """
    try:
        lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(str(ledger), f"cannot be read ({error})", "Give the ledger that flash wrote") from None
    if not all(isinstance(line, dict) for line in lines):
        raise BadInput(str(ledger), "holds a line that is not of a ledger", "Give the ledger that flash wrote")
    return lines


def quarantine(ledger: Path, *, serial: str, model: str, target: str, van: str, cause: str) -> None:
    """Write down that a medium is faulty: :func:`refuse_quarantined` knows it from then on."""
    found = {"serial": serial, "model": model, "target": target, "van": van, "cause": cause}
    append(ledger, {"at": datetime.now(UTC).isoformat(timespec="seconds"), "quarantined": found})


def refuse_quarantined(ledger: Path, serial: str) -> None:
    """Refuse a medium that was found faulty before, whatever it does today.

    Raises:
        ImageRefused: it was.
        BadInput: the ledger cannot be read.
    """
    for line in read(ledger):
        found = line.get("quarantined")
        if isinstance(found, dict) and found.get("serial") == serial:
            raise ImageRefused(
                f"the medium with serial {serial}",
                f"was found faulty on {str(line.get('at', ''))[:10]} ({found.get('cause', 'no cause given')})",
                "Throw it away and take another",
            )


def code_of(secret: str) -> str:
    """Eight characters by which a label and a line of the ledger are known to belong together.

    Args:
        secret: the medium's one-time secret, hexadecimal: 256 random bits, of which the code tells nothing of use.
    """
    return hashlib.sha256(f"label {secret}".encode("ascii")).hexdigest()[:_CODE]


def rows(ledger: Path) -> list[tuple[str, ...]]:
    """A row of :data:`COLUMNS` for each line of a ledger, without the secrets.

    Raises:
        BadInput: it cannot be read.
    """
    found = []
    for line in read(ledger):
        what, told = _kind(line)
        cells = {**told, "what": what, "at": line.get("at", "")}
        if secret := str(line.get("secret", "")):
            cells["code"] = code_of(secret)
        found.append(tuple(str(cells.get(name, "")) for name in COLUMNS))
    return found


def as_csv(ledger: Path) -> str:
    """The ledger for a spreadsheet, without the secrets.

    Raises:
        BadInput: it cannot be read.
    """
    return csv_text([COLUMNS, *rows(ledger)])


def _kind(line: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a line tells of, and what it tells; a certificate's serial number is not the medium's."""
    if isinstance(done := line.get("enrolled"), dict):
        return "enrolled", {"van": done.get("van", ""), "cause": f"certificate to {str(done.get('expires', ''))[:10]}"}
    if isinstance(found := line.get("quarantined"), dict):
        return "faulty", found
    return "flashed", line
