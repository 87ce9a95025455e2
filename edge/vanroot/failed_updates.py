"""Which images this van has installed since it last committed one.

It keeps a stick that stays in the van from being installed for ever. It guards nothing: a damaged or lost record is an
empty one, and the worst that follows is that a broken image is tried once more.
"""

from __future__ import annotations

import json
from pathlib import Path

from . import floor
from .files import read_small, replace_file

__all__ = ["add", "clear", "read"]

TRIED = Path("/state/tried.json")


def read(path: Path = TRIED) -> frozenset[tuple[str, int]]:
    """Version and epoch of each."""
    try:
        return frozenset((str(version), int(epoch)) for version, epoch in json.loads(read_small(path)))
    except (OSError, ValueError, TypeError, RecursionError):
        return frozenset()


def add(release: floor.Release, path: Path = TRIED) -> None:
    """Note one, durably: before the van restarts into it.

    Raises:
        OSError: the state volume cannot be written.
    """
    replace_file(path, json.dumps(sorted({*read(path), (release.version, release.epoch)})).encode(), mode=0o644)


def clear(path: Path = TRIED) -> None:
    """Forget all of them: an image was committed."""
    path.unlink(missing_ok=True)
