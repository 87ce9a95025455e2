"""The watchlist at rest: one sealed store with each subject's record, templates and reference picture.

Templates mean something to one embedder only, so the store carries that embedder's digest and refuses
any other. Nothing in here is ever written in the clear; the index of :mod:`edge.match.index` is built
in memory from :meth:`WatchlistStore.matrix` and is gone with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlcipher3 import dbapi2

from edge.custody.shred import scrub, shred
from edge.errors import ModelRejected, RecordInvalid, StoreUnavailable, WatchlistUnreadable
from edge.files import fsync_folder
from edge.records import WatchlistEntry
from edge.trust.sealed import Connection, open_sealed, store_error, truncate_log
from edge.watchlist.identity import FIELDS, SCHEMA, DestructionReceipt, ListMeta, entry_digest, list_digest

__all__ = [
    "TemplateMatrix",
    "WatchlistStore",
    "destroy_files",
]

APPLICATION_ID = 0x4C465257  # "LFRW"
SUFFIXES = ("", "-wal", "-shm", "-journal")
"""What SQLite may keep beside a data base: all of it goes when the list is destroyed."""

_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE entry (
        reference TEXT PRIMARY KEY, category TEXT NOT NULL, lawful_basis TEXT NOT NULL, image_source TEXT NOT NULL,
        image_taken TEXT, custody_image INTEGER NOT NULL, review_by TEXT, delete_by TEXT, age_band TEXT NOT NULL,
        digest TEXT NOT NULL, picture BLOB NOT NULL) STRICT""",
    """CREATE TABLE template (
        id INTEGER PRIMARY KEY, reference TEXT NOT NULL REFERENCES entry ON DELETE CASCADE, vector BLOB NOT NULL)
        STRICT""",
    "CREATE INDEX template_of ON template (reference)",
)
_FIELDS = ", ".join(FIELDS)


@dataclass(frozen=True, slots=True)
class TemplateMatrix:
    """All templates of the list, ready for an index.

    Attributes:
        references: length n; the subject of each row. A subject with several pictures has several rows.
        vectors: ``(n, d)`` float32, each row of length 1. The caller overwrites it when done.
    """

    references: tuple[str, ...]
    vectors: NDArray[np.float32]

    def erase(self) -> None:
        """Overwrite the vectors in place."""
        self.vectors.fill(0)


class WatchlistStore:
    """One list in one sealed file. Make one with :meth:`create` or :meth:`open`; close it when done."""

    def __init__(self, path: Path, connection: Connection, meta: ListMeta) -> None:
        self.path = path
        self.meta = meta
        self._db = connection

    # -- opening -------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, key: bytes, meta: ListMeta) -> Self:
        """Make an empty list in a new file.

        Raises:
            WatchlistUnreadable: a file is there already.
            KeyUnusable: the key has not 32 bytes.
            StoreUnavailable: the disk refuses.
        """
        if path.exists():
            raise WatchlistUnreadable(str(path), "exists already", "Destroy that list first or give another path")
        db = open_sealed(path, key, application_id=APPLICATION_ID, create=True)
        store = cls(path, db, meta)
        with store._transaction():
            for table in _TABLES:
                db.execute(table)
            db.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [
                    ("schema", str(SCHEMA)),
                    ("deployment", meta.deployment),
                    ("model", meta.model),
                    ("dimension", str(meta.dimension)),
                    ("created", meta.created.astimezone(UTC).isoformat()),
                    ("digest", list_digest(meta, ())),
                ],
            )
        return store

    @classmethod
    def open(cls, path: Path, key: bytes, *, model: str | None = None) -> Self:
        """Open a list.

        Args:
            path: the sealed store.
            key: 32 bytes.
            model: digest of the embedder that will search it; another one's list is refused.

        Raises:
            KeyUnusable: the key does not open it.
            WatchlistUnreadable: missing, damaged, or of another version.
            ModelRejected: its templates are another embedder's.
        """
        db = open_sealed(path, key, application_id=APPLICATION_ID)
        try:
            return cls(path, db, _meta(path, db, model))
        except BaseException:
            db.close()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except dbapi2.DatabaseError as error:
            self._rollback()
            raise store_error(self.path, error) from None
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    # -- writing -------------------------------------------------------------------------------

    def add(self, entries: Iterable[WatchlistEntry]) -> int:
        """Add entries, all or none, and return how many. The list's identity changes.

        Raises:
            RecordInvalid: a template of another length, or not of length 1; a reference twice.
            StoreUnavailable: the disk refuses.
        """
        count = 0
        with self.filling() as insert:
            for entry in entries:
                insert(entry)
                count += 1
        return count

    @contextmanager
    def filling(self) -> Iterator[Callable[[WatchlistEntry], None]]:
        """Add entries one by one within the block, all of them or, when it raises, none.

        Raises:
            See :meth:`add`.
        """
        with self._transaction():
            yield self._insert
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'digest'", (self.content_digest(),))
        truncate_log(self._db)

    def _insert(self, entry: WatchlistEntry) -> None:
        if entry.templates.shape[1] != self.meta.dimension:
            raise RecordInvalid(
                f"entry {entry.reference}",
                f"has templates of length {entry.templates.shape[1]}, the list's are {self.meta.dimension}",
                "Enrol it with the list's embedder",
            )
        if not np.allclose(np.linalg.norm(entry.templates, axis=1), 1.0, atol=1e-3):
            raise RecordInvalid(f"entry {entry.reference}", "has a template that is not of length 1", "Normalise it")
        try:
            self._db.execute(
                f"INSERT INTO entry ({_FIELDS}, digest, picture) VALUES (?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
                (
                    entry.reference,
                    entry.category,
                    entry.lawful_basis,
                    entry.image_source,
                    entry.image_taken,
                    int(entry.custody_image),
                    entry.review_by,
                    entry.delete_by,
                    entry.age_band,
                    entry_digest(entry),
                    entry.reference_jpeg,
                ),
            )
        except dbapi2.IntegrityError:
            raise RecordInvalid(f"entry {entry.reference}", "is on the list already", "Merge the two records") from None
        rows = np.ascontiguousarray(entry.templates, dtype="<f4")
        self._db.executemany(
            "INSERT INTO template (reference, vector) VALUES (?, ?)", [(entry.reference, row.data) for row in rows]
        )

    def remove(self, reference: str) -> bool:
        """Take one entry out of the file and its write-ahead log for good. False if it was not there.

        The list keeps its identity; :meth:`content_digest` changes.
        """
        with self._transaction():
            # Rows that a cascade removes are overwritten as well: secure_delete is on for the connection.
            gone = int(self._db.execute("DELETE FROM entry WHERE reference = ?", (reference,)).rowcount) > 0
        truncate_log(self._db)
        return gone

    # -- reading -------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """The list's identity as it was built, ``sha256:…``; removing an entry does not change it."""
        return str(self._db.execute("SELECT value FROM meta WHERE name = 'digest'").fetchone()[0])

    def content_digest(self) -> str:
        """The identity of what is on the list now, from each entry's stored digest."""
        return list_digest(self.meta, self._read("SELECT reference, digest FROM entry"))

    def verify(self) -> None:
        """Read every entry and compare it with its digest.

        Raises:
            WatchlistUnreadable: an entry, or a page of the file, is not what was written.
        """
        for entry, expected in self._stream():
            if entry_digest(entry) != expected:
                raise WatchlistUnreadable(
                    str(self.path), f"entry {entry.reference} is not what was built", "Import the list again"
                )

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return list(self._db.execute(query, values).fetchall())
        except dbapi2.DatabaseError as error:
            raise _damaged(self.path, error) from None

    def __len__(self) -> int:
        return int(self._read("SELECT count(*) FROM entry")[0][0])

    def references(self) -> tuple[str, ...]:
        """Every reference on the list, sorted."""
        return tuple(row[0] for row in self._read("SELECT reference FROM entry ORDER BY reference"))

    def due(self, on: str) -> tuple[str, ...]:
        """References whose delete-by or review-by date is over on the ISO 8601 date ``on``.

        An entry may be used on its last day, and not on the day after.
        """
        rows = self._read(
            "SELECT reference FROM entry WHERE delete_by < ? OR review_by < ? ORDER BY reference", (on, on)
        )
        return tuple(row[0] for row in rows)

    def matrix(self) -> TemplateMatrix:
        """All templates in one array, in the order of enrolment. 20,000 rows take well under a second."""
        total = int(self._read("SELECT count(*) FROM template")[0][0])
        vectors = np.zeros((total, self.meta.dimension), np.float32)
        references: list[str] = []
        try:
            for at, (reference, blob) in enumerate(
                self._db.execute("SELECT reference, vector FROM template ORDER BY id")
            ):
                vectors[at] = np.frombuffer(blob, "<f4")
                scrub(blob)
                references.append(reference)
        except (dbapi2.DatabaseError, ValueError) as error:
            vectors.fill(0)
            raise _damaged(self.path, error) from None
        return TemplateMatrix(tuple(references), vectors)

    def entry(self, reference: str) -> WatchlistEntry:
        """One entry with its templates and its picture.

        Raises:
            KeyError: it is not, or no longer, on the list.
        """
        for entry, _ in self._stream(reference):
            return entry
        raise KeyError(reference)

    def entries(self) -> list[WatchlistEntry]:
        """The whole list; for a long one prefer :meth:`stream` or :meth:`matrix`."""
        return list(self.stream())

    def stream(self) -> Iterator[WatchlistEntry]:
        """Entry by entry, sorted by reference, without holding more than one."""
        for entry, _ in self._stream():
            yield entry

    def _stream(self, reference: str | None = None) -> Iterator[tuple[WatchlistEntry, str]]:
        where = "WHERE reference = ?" if reference is not None else ""
        values = (reference,) if reference is not None else ()
        try:
            for row in self._db.execute(
                f"SELECT {_FIELDS}, picture, digest FROM entry {where} ORDER BY reference",  # noqa: S608
                values,
            ):
                yield self._entry(row), row[10]
        except (dbapi2.DatabaseError, ValueError, RecordInvalid) as error:
            raise _damaged(self.path, error) from None

    def _entry(self, row: Sequence[Any]) -> WatchlistEntry:
        blobs = self._db.execute("SELECT vector FROM template WHERE reference = ? ORDER BY id", (row[0],)).fetchall()
        templates = np.zeros((len(blobs), self.meta.dimension), np.float32)
        for at, (blob,) in enumerate(blobs):
            templates[at] = np.frombuffer(blob, "<f4")
            scrub(blob)
        return WatchlistEntry(
            reference=row[0],
            category=row[1],
            lawful_basis=row[2],
            image_source=row[3],
            image_taken=row[4],
            custody_image=bool(row[5]),
            review_by=row[6],
            delete_by=row[7],
            age_band=row[8],
            templates=templates,
            reference_jpeg=row[9],
        )

    # -- the end -------------------------------------------------------------------------------

    def destroy(self, *, key_file: Path | None, cause: str, at: datetime) -> DestructionReceipt:
        """Destroy the key, then the file and everything beside it, and say what was on the list.

        Args:
            key_file: the file with the key; None when the key never lay in a file.
            cause: why, for the receipt.
            at: now, UTC.

        Raises:
            StoreUnavailable: a file could not be overwritten; those before it are gone already, the key first.
        """
        digest, deployment, references = self.digest, self.meta.deployment, self.references()
        self.close()
        files = destroy_files(self.path, key_file)
        return DestructionReceipt(digest, deployment, at, cause, references, files)

    def close(self) -> None:
        """Close the file and fold its log; safe to call twice."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def destroy_files(store: Path, key_file: Path | None) -> tuple[str, ...]:
    """Overwrite and unlink a key and a store with everything beside it; needs no key, so it works on a damaged one.

    Returns the names of what was there. The key goes first: from that moment the rest is noise.
    """
    doomed = ([key_file] if key_file is not None else []) + [Path(f"{store}{suffix}") for suffix in SUFFIXES]
    gone = tuple(path.name for path in doomed if shred(path))
    fsync_folder(store.parent)
    return gone


def _damaged(path: Path, error: Exception) -> WatchlistUnreadable | StoreUnavailable:
    text = str(error)
    if "full" in text or "readonly" in text or "locked" in text:
        return store_error(path, error)
    return WatchlistUnreadable(str(path), "is damaged", "Import the list again from its bundle")


def _meta(path: Path, db: Connection, model: str | None) -> ListMeta:
    try:
        found = dict(db.execute("SELECT name, value FROM meta").fetchall())
        version = found["schema"]
        meta = ListMeta(
            deployment=found["deployment"],
            model=found["model"],
            dimension=int(found["dimension"]),
            created=datetime.fromisoformat(found["created"]),
        )
    except (dbapi2.DatabaseError, KeyError, ValueError) as error:
        raise _damaged(path, error) from None
    if version != str(SCHEMA):
        raise WatchlistUnreadable(
            str(path), f"is of version {version}, this software reads {SCHEMA}", "Build the list again"
        )
    if model is not None and meta.model != model:
        raise ModelRejected(
            str(path),
            f"was built for another embedder ({meta.model[:12]}, this van runs {model[:12]})",
            "Build the list again with the model that the van runs",
        )
    return meta
