"""Taking things out of files and out of memory for good, as far as a program can.

Overwriting a file in place reaches the same blocks on a plain disk; on flash with wear levelling an
old copy may survive in a spare cell. That is why everything biometric on disk is encrypted and why
:func:`shred` is called on the *key* first: without its 32 bytes the rest is noise, wherever it lies.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from edge.errors import StoreUnavailable
from edge.files import fsync_folder

__all__ = ["scrub", "shred"]

_CHUNK = 1 << 20
_BYTES_HEADER = bytes.__basicsize__ - 1
"""Where the characters of a CPython ``bytes`` begin, counted from the object's address."""


def shred(path: Path) -> bool:
    """Overwrite a file with random bytes, push that to the device, and unlink it. True if it was there.

    Safe to repeat: a power cut between any two steps leaves a file that is whole, is noise or is gone.

    Raises:
        StoreUnavailable: the file system refuses.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreUnavailable(
            str(path), f"cannot be destroyed ({error.strerror})", "Check who owns it and that the disk can be written"
        ) from None
    try:
        left = os.fstat(handle).st_size
        while left > 0:
            left -= os.write(handle, os.urandom(min(left, _CHUNK)))
        os.fsync(handle)
    except OSError as error:
        raise StoreUnavailable(
            str(path), f"cannot be overwritten ({error.strerror})", "Destroy the stick or disk itself"
        ) from None
    finally:
        os.close(handle)
    try:
        path.unlink(missing_ok=True)
        fsync_folder(path.parent)
    except OSError as error:
        raise StoreUnavailable(
            str(path), f"is overwritten, but cannot be removed ({error.strerror})", "Destroy the stick or disk itself"
        ) from None
    return True


def scrub(value: bytes) -> None:
    """Overwrite the characters of a ``bytes`` that nobody else holds, before it is let go.

    A data base or a decryption hands its result out as ``bytes``, which Python frees without
    overwriting. Call this only on an object that was made a moment ago and is used nowhere else:
    one-character and empty strings are shared by the interpreter and left alone.
    """
    if len(value) > 1:
        ctypes.memset(id(value) + _BYTES_HEADER, 0, len(value))
