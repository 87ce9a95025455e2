"""Files that are whole or not there, and on the device before anybody relies on them.

One rule for everything that is written and read again: write beside, push to the device, rename over, push the
folder. A power cut at any point leaves the old content or the new one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["fsync_file", "fsync_folder", "read_from_medium", "replace_file", "replacing"]

_PAGE = 4096


def replace_file(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put ``content`` where ``path`` is, in one step: a reader finds the former file or this one, never a part.

    Args:
        path: the file; its folder exists.
        content: all of it.
        mode: permissions of the new file.
        durable: push it to the device before returning. Without that it is whole all the same, but a power cut may
            bring the former one back: for what is written every second and worth nothing after a restart.

    Raises:
        OSError: the file system refuses; what was there is untouched.
    """
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o600, durable: bool = True) -> Iterator[BinaryIO]:
    """As :func:`replace_file`, for content that is written piece by piece: it takes the place when the block ends.

    When the block raises, what was there stays.
    """
    beside = path.with_name(f".{path.name}.new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


def read_from_medium(handle: int) -> None:
    """Read the beginning of an open file from its medium, and not from what the machine remembers of it.

    A machine goes on giving out what it has read once, for hours, from a medium that is broken or gone.

    Raises:
        OSError: the medium does not give it back.
    """
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)  # this page, and none that may be asked for next
    os.posix_fadvise(handle, 0, _PAGE, os.POSIX_FADV_DONTNEED)
    os.pread(handle, _PAGE, 0)


def fsync_file(path: Path) -> None:
    """Push a file's content to the device."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_folder(folder: Path) -> None:
    """Push a folder's entries to the device, so that a rename or an unlink survives a power cut."""
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
