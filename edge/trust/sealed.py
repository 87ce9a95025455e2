"""The one door to SQLCipher: every data base on the van or in the control room opens here.

A sealed store is one SQLite file whose pages are encrypted (SQLCipher 4, AES-256 and HMAC per page)
under a raw 32-byte key, so that no password is stretched and destroying the key destroys the content.
Deleted rows are overwritten (``secure_delete``), and :func:`truncate_log` takes them out of the
write-ahead log as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2

from edge.errors import KeyUnusable, StoreUnavailable, WatchlistUnreadable

__all__ = ["Connection", "open_sealed", "store_error", "truncate_log"]

KEY_BYTES = 32
Connection = Any
"""A DB-API connection of ``sqlcipher3``, which ships no types."""


def open_sealed(path: Path, key: bytes, *, application_id: int, create: bool = False) -> Connection:
    """Open the sealed store at ``path``, in autocommit mode: callers write ``BEGIN IMMEDIATE`` themselves.

    Args:
        path: the data base file.
        key: 32 bytes, raw.
        application_id: marks what kind of store it is, so that one is never taken for another.
        create: make it when it is not there; otherwise a missing file is refused.

    Raises:
        KeyUnusable: the key has not 32 bytes, or does not open this file.
        WatchlistUnreadable: the file is missing, or is a store of another kind.
        StoreUnavailable: the file system refuses.
    """
    if len(key) != KEY_BYTES:
        raise KeyUnusable(f"the key of {path}", f"has {len(key)} bytes instead of {KEY_BYTES}", "Give the right key")
    fresh = not path.exists()
    if fresh and not create:
        raise WatchlistUnreadable(str(path), "there is no such store", "Import or build it first")
    connection: Connection = None
    try:
        if fresh:
            path.touch(mode=0o600)
        connection = dbapi2.connect(str(path), isolation_level=None, check_same_thread=False, timeout=5.0)
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        connection.execute("PRAGMA cipher_memory_security = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA foreign_keys = ON")
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if found == 0 and fresh:
            connection.execute(f"PRAGMA application_id = {application_id}")
        elif found != application_id:
            raise WatchlistUnreadable(
                str(path), "is a sealed store of another kind", "Give the path that the configuration means"
            )
    except dbapi2.DatabaseError as error:
        if connection is not None:
            connection.close()
        if "file is not a database" in str(error):
            raise KeyUnusable(
                str(path),
                "does not open with this key (or is not a sealed store)",
                "Give the key that it was made with",
            ) from None
        raise store_error(path, error) from None
    except OSError as error:
        raise store_error(path, error) from None
    except WatchlistUnreadable:
        connection.close()
        raise
    return connection


def store_error(path: Path, error: Exception) -> StoreUnavailable:
    """Say in plain words why a store cannot be written; ``error`` holds no content of it."""
    cause = str(error)
    if "full" in cause:
        cause = "the disk is full"
    return StoreUnavailable(str(path), cause, "Check the disk's space, its health and the file's owner")


def truncate_log(connection: Connection) -> None:
    """Fold the write-ahead log into the file and cut it to nothing, so that no deleted row remains in it."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
