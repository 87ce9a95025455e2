"""The files of a store that was found damaged: moved out of the way under a name that says when, and found again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.errors import StoreUnavailable
from edge.files import fsync_folder

__all__ = ["companions", "damaged_files", "is_due", "name_aside", "set_aside", "set_aside_at"]

SUFFIXES = ("", "-wal", "-shm", "-journal")
"""What SQLite may keep beside a data base: all of it is moved, or destroyed, with it."""
CLOCK_TOLERANCE = timedelta(minutes=5)
"""A clock that is set back by less was corrected; one that is set back by more was wrong."""
_DAMAGED = ".damaged-"
_MOMENT = "%Y%m%dT%H%M%SZ"


def companions(path: Path) -> tuple[Path, ...]:
    """A store's file and everything that SQLite may keep beside it."""
    return tuple(Path(f"{path}{suffix}") for suffix in SUFFIXES)


def name_aside(path: Path, now: datetime) -> Path:
    """Where :func:`set_aside` would move ``path``: beside it, under a name that is free."""
    name = wanted = f"{path.name}{_DAMAGED}{now.astimezone(UTC):{_MOMENT}}"
    number = 1
    while path.with_name(name).exists():
        number += 1
        name = f"{wanted}-{number}"
    return path.with_name(name)


def set_aside(path: Path, now: datetime) -> Path:
    """Move a damaged store and what lies beside it out of the way, and return where it is now.

    It stays sealed under its key. Whoever kept it deletes it when its content is due: see :func:`damaged_files`.

    Raises:
        StoreUnavailable: the file system refuses.
    """
    name = name_aside(path, now).name
    try:
        for file in companions(path):
            if file.name.endswith("-shm") or (file != path and file.exists() and file.stat().st_size == 0):
                file.unlink(missing_ok=True)  # nothing in there that is not in the others
            elif file.exists():
                file.replace(file.with_name(name + file.name.removeprefix(path.name)))
        fsync_folder(path.parent)
    except OSError as error:
        raise StoreUnavailable(
            str(path), f"cannot be moved away ({error.strerror})", "Check that the disk is not full or failing"
        ) from None
    return path.with_name(name)


def damaged_files(path: Path) -> tuple[Path, ...]:
    """What :func:`set_aside` has kept of ``path``, oldest first."""
    return tuple(sorted(path.parent.glob(f"{path.name}{_DAMAGED}*")))


def set_aside_at(kept: Path) -> datetime:
    """When one of :func:`damaged_files` was set aside, UTC, as its name says; long ago when it does not say it."""
    moment = kept.name.rpartition(_DAMAGED)[2][: len("20260301T100000Z")]
    try:
        return datetime.strptime(moment, _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def is_due(at: datetime, age: timedelta, now: datetime) -> bool:
    """Whether what was set aside at a moment is older than it may become.

    So is what was set aside at a moment that is still to come: a clock was wrong then, and nobody knows its age.

    Args:
        at: when it was set aside.
        age: how old it may become.
        now: by a clock that may be believed.
    """
    return now - at >= age or at - now > CLOCK_TOLERANCE
