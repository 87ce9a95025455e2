"""What is taken from a medium that somebody put into the van, and how much of it.

The units mount media as FAT or exFAT only, without following links (``run-lfr-*.mount``). These functions ask nothing
of that: no link is followed, nothing but plain files and folders is copied, and never more than :data:`LARGEST`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LARGEST", "MOST", "Budget", "copy_file", "copy_folder"]

LARGEST = 256 << 20
"""Bytes taken from one medium; a list of 20,000 people with their pictures has fewer."""
MOST = 2000
"""Files and folders taken from one medium; a repository has some dozens."""
DEEPEST = 6
_CHUNK = 1 << 20


@dataclass
class Budget:
    """How much may still be taken."""

    size: int = LARGEST
    count: int = MOST

    def take(self, size: int, count: int = 0) -> None:
        """Count what is taken.

        Raises:
            OSError: it is too much.
        """
        self.size -= size
        self.count -= count
        if self.size < 0 or self.count < 0:
            raise OSError(0, f"it holds more than {LARGEST >> 20} MiB or {MOST} files", "the medium")


def copy_file(source: Path, target: Path, budget: Budget) -> None:
    """Copy a plain file to where nothing is yet.

    Raises:
        OSError: it is a link, a folder or a device, is too large, or cannot be copied.
    """
    budget.take(0, 1)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(source, flags), "rb") as read:
        if not stat.S_ISREG(os.fstat(read.fileno()).st_mode):
            raise OSError(0, "is no plain file", str(source))
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, new, 0o600), "wb") as write:
            while chunk := read.read(_CHUNK):
                budget.take(len(chunk))
                write.write(chunk)


def copy_folder(source: Path, target: Path, budget: Budget, *, depth: int = 0) -> None:
    """Copy a folder with its plain files and folders to where nothing is yet.

    Raises:
        OSError: something in it is neither, it is too deep or too large, or cannot be copied.
    """
    if depth > DEEPEST:
        raise OSError(0, f"is more than {DEEPEST} folders deep", str(source))
    budget.take(0, 1)
    if source.is_symlink():
        raise OSError(0, "is a link", str(source))
    target.mkdir(mode=0o700)
    for name in sorted(path.name for path in source.iterdir()):
        if (source / name).is_dir() and not (source / name).is_symlink():
            copy_folder(source / name, target / name, budget, depth=depth + 1)
        else:
            copy_file(source / name, target / name, budget)
