"""How lists are destroyed when there is no time, no log or no room to do it in order: the keys first.

:mod:`edge.watchlist.lifecycle` destroys one list in order, with a receipt; what is here needs nothing but the folder.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from edge.custody.shred import shred
from edge.errors import StoreUnavailable
from edge.files import fsync_folder, replace_file
from edge.watchlist.store import destroy_files

__all__ = [
    "CURRENT",
    "DAMAGED",
    "INTENT",
    "INTERRUPTED",
    "KEY",
    "PASSING",
    "REPLACED",
    "STORE",
    "UNNAMED",
    "destroy_everything",
    "destroy_keys",
    "is_whole",
    "write_intent",
]

STORE, KEY, CURRENT, INTENT = "watchlist.db", "watchlist.key", "current", "destroying.json"
"""What lies in a list's folder, the link to the one in force, and the note of one that is being destroyed."""
INTERRUPTED, REPLACED, DAMAGED = "its import was interrupted", "replaced by another list", "it is damaged"
UNNAMED = "no authority names it"
PASSING = frozenset({INTERRUPTED, REPLACED, DAMAGED, UNNAMED})
"""Causes for which a list goes and its deployment does not end: it may be fetched again. Every other is an end."""


def destroy_keys(folder: Path, cause: str) -> None:
    """Destroy the key of every list in ``folder``, in place, before anything else is opened, written or asked.

    From here on no list opens. The rest, with the receipt, is done by the next
    :meth:`edge.watchlist.lifecycle.ListLifecycle.recover`.

    Raises:
        StoreUnavailable: a key could not be overwritten; the others are destroyed all the same.
    """
    failed: StoreUnavailable | None = None
    doomed = list(folder.glob(f"list-*/{KEY}"))
    for key in doomed:
        try:
            shred(key)
        except StoreUnavailable as error:
            failed = error
    if failed is not None:
        raise failed
    if not doomed:
        return
    with contextlib.suppress(OSError):
        current = (folder / CURRENT).readlink().name
        if current in {key.parent.name for key in doomed}:  # one whose key had gone before has another cause
            write_intent(folder, current, cause)


def write_intent(folder: Path, copy: str, cause: str) -> None:
    """Note which copy is being destroyed and why, for whoever finishes it after a power cut."""
    # A disk that is full or read-only must not keep a list alive: without an intent its key is gone all the same.
    with contextlib.suppress(OSError):
        replace_file(folder / INTENT, json.dumps({"copy": copy, "cause": cause}).encode())


def destroy_everything(folder: Path) -> None:
    """Destroy every list in ``folder`` without asking anything: for when not even the audit log can be opened.

    The receipt is made up by the next :meth:`edge.watchlist.lifecycle.ListLifecycle.recover` over a whole log.
    """
    destroy_keys(folder, "the audit log does not open")
    for copy in folder.glob("list-*"):
        destroy_files(copy / STORE, copy / KEY)
        for path in copy.iterdir():
            shred(path)
        copy.rmdir()
    for name in (CURRENT, INTENT):
        (folder / name).unlink(missing_ok=True)
    fsync_folder(folder)


def is_whole(key: Path) -> bool:
    """Whether a key is one: a power cut while it was overwritten leaves noise, and nothing opens any more."""
    try:
        return len(bytes.fromhex(key.read_bytes().decode("ascii").strip())) == 32
    except FileNotFoundError:
        return False
    except ValueError:
        return False


def read_intent(folder: Path) -> dict[str, str]:
    """The copy that is being destroyed, and why, as :func:`write_intent` left it; empty when there is none."""
    try:
        raw = json.loads((folder / INTENT).read_text(encoding="utf-8"))
        return {str(raw["copy"]): str(raw["cause"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
