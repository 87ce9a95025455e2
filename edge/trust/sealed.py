"""The one door to SQLCipher: every data base on the van or in the control room is a :class:`SealedStore`.

A sealed store is one SQLite file whose pages are encrypted and authenticated (SQLCipher 4, AES-256 and HMAC per page)
under a raw 32-byte key, so that no password is stretched and destroying the key destroys the content. Deleted rows are
overwritten (``secure_delete``), and :meth:`SealedStore.fold` takes them out of the write-ahead log as well.

What every store needs is here once: the lock, the transaction, the schema and its migrations, the check of every page
when it is opened, and the translation of SQLite's errors into three that a person can act on:

* :class:`~edge.errors.KeyUnusable`: the key does not fit, or the first page is damaged (which looks the same);
* :class:`~edge.errors.StoreDamaged`: a page is not what was written. :func:`set_aside` keeps such a file, out of the
  way and named, so that its owner can go on with a new one; :class:`edge.trust.salvage.Salvage` reads what can still
  be read of it;
* :class:`~edge.errors.StoreUnavailable`: the disk refuses.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlcipher3 import dbapi2

from edge.errors import EdgeError, KeyUnusable, StoreDamaged, StoreUnavailable, WatchlistUnreadable
from edge.files import read_from_medium
from edge.trust.set_aside import companions, damaged_files, is_due, name_aside, set_aside, set_aside_at

__all__ = [
    "Connection",
    "DamagedReader",
    "SealedStore",
    "StoreConflict",
    "StoreKind",
    "companions",
    "damaged_files",
    "is_due",
    "name_aside",
    "set_aside",
    "set_aside_at",
]

KEY_BYTES = 32
Connection = Any
"""A DB-API connection of ``sqlcipher3``, which ships no types."""


class StoreConflict(Exception):
    """A row breaks a rule of the schema: it is there already, or names one that is not. For the store's owner only."""


@dataclass(frozen=True, slots=True)
class StoreKind:
    """What a store is for.

    Attributes:
        name: for people: ``the outbox``.
        application_id: marks the file, so that one kind is never taken for another.
        migrations: one SQL script per version of the schema, the first makes it. Never change one that was released:
            add another.
        damaged: what a person does about a damaged file, as an imperative.
        refused: what a person does about a file that its key does not open, as an imperative.
        structure: whether opening also walks the structure of the whole, which reads everything a second time. Each
            page's HMAC is checked in any case.
    """

    name: str
    application_id: int
    migrations: tuple[str, ...]
    damaged: str = "It was kept aside; call the engineer"
    refused: str = "Give the key that it was made with; if it is the right one, move the file away and start again"
    structure: bool = True


class SealedStore:
    """One open sealed store. Its methods may be called from any thread; one process opens a file at a time.

    Args:
        path: the data base file.
        key: 32 bytes, raw.
        kind: what it is for.
        create: make it when it is not there; otherwise a missing file is refused.

    Raises:
        KeyUnusable: the key has not 32 bytes, or does not open this file.
        StoreDamaged: a page is not what was written.
        WatchlistUnreadable: the file is missing, or is a store of another kind or of a later version.
        StoreUnavailable: the file system refuses.
    """

    def __init__(self, path: Path, key: bytes, kind: StoreKind, *, create: bool = False) -> None:
        if len(key) != KEY_BYTES:
            raise KeyUnusable(f"the key of {path}", f"has {len(key)} bytes, not {KEY_BYTES}", "Give the right key")
        self.path = path
        self.kind = kind
        self._lock = threading.RLock()
        self._depth = 0
        self._met_damage = False
        self._beside = -1
        fresh = not path.exists()
        if fresh and not create:
            raise WatchlistUnreadable(str(path), "does not exist", "Import or build it first")
        try:
            if fresh:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)
            self._db: Connection = dbapi2.connect(str(path), isolation_level=None, check_same_thread=False, timeout=5.0)
        except (OSError, dbapi2.Error) as error:
            raise self._translated(error) from None
        try:
            self._unlock(key)
            self._identify(fresh=fresh)
            if not fresh:
                self._check()
            self._migrate()
        except BaseException as error:
            self._db.close()
            if isinstance(error, dbapi2.Error | OSError):
                raise self._translated(error) from None
            raise

    # -- opening -------------------------------------------------------------------------------

    def _unlock(self, key: bytes) -> None:
        _give_key(self._db, key)
        try:
            self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except dbapi2.DatabaseError as error:
            if "not a database" not in str(error):
                raise
            raise KeyUnusable(
                str(self.path), "does not open with this key, or its first page is damaged", self.kind.refused
            ) from None
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("PRAGMA foreign_keys = ON")

    def _identify(self, *, fresh: bool) -> None:
        found = self._db.execute("PRAGMA application_id").fetchone()[0]
        if found == 0 and (fresh or self._version() == 0):
            self._db.execute(f"PRAGMA application_id = {self.kind.application_id}")
        elif found != self.kind.application_id:
            raise WatchlistUnreadable(
                str(self.path), f"is not {self.kind.name}, but an encrypted file of another kind", "Give the right path"
            )

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _check(self) -> None:
        """Every page's HMAC, then the structure of the whole where the kind asks for it.

        The log is folded in first: what a power cut left half written in the file is still whole in there.
        """
        unfolded: dbapi2.Error | None = None
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except dbapi2.OperationalError as error:
            if "full" not in str(error):
                raise
            unfolded = error  # what can be read must still be read on a full disk
        good = self._db.execute("PRAGMA cipher_integrity_check").fetchone() is None
        if good and self.kind.structure:
            good = self._db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        if not good:
            raise unfolded or self.damaged()

    def _migrate(self) -> None:
        version = self._version()
        if version > len(self.kind.migrations):
            raise WatchlistUnreadable(
                str(self.path),
                f"was written by a later version ({version}; this software knows {len(self.kind.migrations)})",
                "Use the newer software",
            )
        for number, script in enumerate(self.kind.migrations[version:], start=version + 1):
            self._db.executescript(f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version = {number};\nCOMMIT;")

    # -- use -----------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of what happens inside, or nothing.

        Inside another one it is a part of that: it is undone alone when it fails and the failure is caught there, and
        it is stored when the outermost ends.

        Raises:
            StoreConflict: a row breaks a rule of the schema.
            StoreDamaged, StoreUnavailable: nothing was stored.
        """
        with self._lock, self._errors():
            part = f"part_{self._depth}"
            outermost = self._depth == 0
            self._db.execute("BEGIN IMMEDIATE" if outermost else f"SAVEPOINT {part}")
            self._depth += 1
            try:
                yield self._db
                self._db.execute("COMMIT" if outermost else f"RELEASE {part}")
                _believe(self._db)  # where something was written, the commit itself would have failed
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it
                    for undo in ("ROLLBACK",) if outermost else (f"ROLLBACK TO {part}", f"RELEASE {part}"):
                        self._db.execute(undo)
                raise
            finally:
                self._depth -= 1

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read row by row; nobody writes meanwhile. What was read counts once the block was left without an error.

        Raises:
            StoreDamaged, StoreUnavailable: see :meth:`read`.
        """
        with self._lock, self._errors():
            yield self._db
            _believe(self._db)

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query.

        Raises:
            StoreDamaged: a page is not what was written.
            StoreUnavailable: the disk refuses, or the store is closed.
        """
        with self.reading() as db:
            return list(db.execute(query, values).fetchall())

    def fold(self) -> None:
        """Fold the write-ahead log into the file and cut it to nothing, so that no deleted row remains in it.

        Raises:
            StoreDamaged, StoreUnavailable: see :meth:`read`.
        """
        with self._lock, self._errors():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def prove(self) -> None:
        """Push to the disk what stands there already: whether it still takes what is written.

        Raises:
            StoreDamaged, StoreUnavailable: it does not.
        """
        with self.writing() as db:
            db.execute(f"PRAGMA user_version = {self._version()}")  # a row that stays the same would not be written

    def touch(self) -> None:
        """Ask the medium itself for the file: what was read once is read from memory ever after, medium or no medium.

        Raises:
            StoreUnavailable: it does not give it back, or the store is closed.
        """
        try:
            with self._lock, self._errors():
                _ = self._db.total_changes  # raises when it is closed
                if self._beside < 0:
                    self._beside = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            read_from_medium(self._beside)
        except OSError as error:
            raise StoreUnavailable(
                str(self.path),
                f"cannot be read from the disk any more ({error.strerror})",
                "Switch the van off and on; if this comes back, the disk or card must be replaced",
            ) from None

    def close(self) -> None:
        """Close the file and fold its log; safe to call twice."""
        with self._lock:
            self._db.close()
            if self._beside >= 0:  # not before the connection: to close any handle takes SQLite's locks away
                os.close(self._beside)
                self._beside = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- errors --------------------------------------------------------------------------------

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if self._met_damage:  # from then on SQLCipher fails with anything, for example "readonly"
            raise self.damaged()
        try:
            yield
        except (dbapi2.IntegrityError, dbapi2.DataError) as error:
            raise StoreConflict(type(error).__name__) from None
        except dbapi2.Error as error:  # no OSError: inside the block that is somebody else's file
            raise self._translated(error) from None
        except MemoryError:  # so SQLCipher reports a page that it meets in the middle of a write and cannot read
            if self._whole():
                raise
            self._met_damage = True
            raise self.damaged() from None

    def _whole(self) -> bool:
        """Whether every page is what was written."""
        try:
            return self._db.execute("PRAGMA cipher_integrity_check").fetchone() is None
        except (dbapi2.Error, MemoryError):
            return False

    def damaged(self) -> StoreDamaged:
        """The error for content that is not what was written, for an owner who finds some."""
        return StoreDamaged(str(self.path), f"{self.kind.name} is damaged on the disk", self.kind.damaged)

    def _translated(self, error: Exception) -> EdgeError:
        """Say in plain words why a store cannot be used; SQLite's words hold no content of it."""
        text = (error.strerror or "") if isinstance(error, OSError) else str(error)
        if "malformed" in text or "not a database" in text or "corrupt" in text:
            self._met_damage = True
            return self.damaged()
        causes = {
            "full": "the disk is full",
            "No space": "the disk is full",
            "readonly": "the file or the disk is read-only",
            "Read-only": "the file or the disk is read-only",
            "unable to open": "the file or the disk is read-only, or belongs to another user",
            "locked": "another process uses it",
            "closed database": "is closed",
            "disk I/O": "the disk does not read or write it",
        }
        cause = next((words for sign, words in causes.items() if sign in text), text or type(error).__name__)
        return StoreUnavailable(
            str(self.path), cause, "Check that the disk is not full or failing, and who owns the file"
        )


class DamagedReader:
    """Reads what can still be read of a damaged store and changes nothing of it. For one thread.

    See :mod:`edge.trust.salvage`, which knows how to go through a whole table with it.

    Args:
        path: the data base file.
        key: 32 bytes, raw.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key
        self._db: Connection = None

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any] | None:
        """All rows of a query; None when one of the pages that it needs is damaged."""
        try:
            if self._db is None:
                self._db = dbapi2.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
                _give_key(self._db, self._key)
            rows = list(self._db.execute(query, values).fetchall())
            _believe(self._db)
        except (dbapi2.Error, MemoryError):  # MemoryError: see SealedStore._errors
            self.close()  # SQLCipher refuses everything on a connection that has met one damaged page
            return None
        return rows

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _believe(db: Connection) -> None:
    """Raise what SQLCipher still owes: it hands a damaged page out as noise and fails with the next page only.

    A value that ends on such a page would be taken for what was written. So the cache is let go, which also leaves no
    page of plain content in memory, and the first page is read anew.
    """
    db.execute("PRAGMA shrink_memory")
    db.execute("PRAGMA user_version").fetchone()


def _give_key(db: Connection, key: bytes) -> None:
    db.execute("PRAGMA cipher_log_level = NONE")  # SQLCipher would print to stderr; its errors are translated here
    db.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    db.execute("PRAGMA cipher_memory_security = ON")
