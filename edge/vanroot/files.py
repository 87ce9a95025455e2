"""How root reads and writes files on the van; this package imports nothing of the house around it.

What lies on a medium or in a folder of the service's account was put there by somebody else: no link is followed,
nothing but a plain file is read, and never more than was asked for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["SMALL", "erase", "give", "read_small", "replace_file", "sync_folder", "write_new"]

SMALL = 1 << 20
"""More bytes than any key, certificate or configuration has."""
_CHUNK = 1 << 20


def read_small(path: Path, limit: int = SMALL) -> bytes:
    """The content of a plain file.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it is a link, a folder or a device, is longer than ``limit`` bytes, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(0, "it is no plain file", str(path))
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"it is longer than {limit} bytes", str(path))
    return content


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put ``content`` where ``path`` is: a reader, or a power cut, finds the former file or this one, whole.

    Raises:
        OSError: the file system refuses; what was there is untouched.
    """
    part = path.with_name(f".{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    sync_folder(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a file on a medium: what stood there under this name, a link among it, is taken away first.

    Raises:
        OSError: the medium refuses.
    """
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def erase(path: Path) -> bool:
    """Overwrite a file in place and unlink it; true when it was there. A full disk does not hinder it.

    Raises:
        OSError: the device refuses.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        left = os.fstat(handle).st_size
        while left > 0:
            left -= os.write(handle, os.urandom(min(left, _CHUNK)))
        os.fsync(handle)
    finally:
        os.close(handle)
    path.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def give(path: Path, user: int, group: int, mode: int | None = None) -> None:
    """Give what is at ``path`` itself to an account; a link is given away and not what it points to.

    Raises:
        OSError: it cannot be given, or a mode is wanted for a link.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if path.is_symlink():
        os.chown(path, user, group, follow_symlinks=False)
        return
    handle = os.open(path, flags)
    try:
        os.fchown(handle, user, group)
        if mode is not None:
            os.fchmod(handle, mode)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Push a folder's entries to the device."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
