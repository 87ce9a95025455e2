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
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge.custody.shred import scrub, shred
from edge.errors import SOFTWARE_FAULT, EntryNotFound, ModelRejected, RecordInvalid, WatchlistUnreadable
from edge.files import fsync_folder
from edge.records import WatchlistEntry
from edge.trust.sealed import Connection, SealedStore, StoreKind, companions
from edge.watchlist.alertable import require_alertable
from edge.watchlist.identity import FIELDS, SCHEMA, ListMeta, entry_digest, list_digest

__all__ = [
    "WATCHLIST",
    "TemplateMatrix",
    "WatchlistStore",
    "destroy_files",
]

WATCHLIST = StoreKind(
    name="the watchlist",
    application_id=0x4C465257,  # "LFRW"
    migrations=(
        # IF NOT EXISTS: lists of before versions were counted hold these tables already.
        """
        CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS entry (
            reference TEXT PRIMARY KEY, category TEXT NOT NULL, lawful_basis TEXT NOT NULL, image_source TEXT NOT NULL,
            image_taken TEXT, custody_image INTEGER NOT NULL, review_by TEXT, delete_by TEXT, age_band TEXT NOT NULL,
            digest TEXT NOT NULL, picture BLOB NOT NULL) STRICT;
        CREATE TABLE IF NOT EXISTS template (
            id INTEGER PRIMARY KEY, reference TEXT NOT NULL REFERENCES entry ON DELETE CASCADE, vector BLOB NOT NULL)
            STRICT;
        CREATE INDEX IF NOT EXISTS template_of ON template (reference);
        """,
        # Not a column behind the picture: to look one up would read every picture.
        """
        CREATE TABLE lookalike (
            id INTEGER PRIMARY KEY, reference TEXT NOT NULL REFERENCES entry ON DELETE CASCADE, other TEXT NOT NULL)
            STRICT;
        CREATE INDEX lookalike_of ON lookalike (reference);
        CREATE INDEX lookalike_as ON lookalike (other);
        """,
    ),
    damaged="Import the list again from its bundle: the next start of the van does it",
    refused="Give the key that it was made with; if it is the right one, destroy the list and import it again",
    # 20,000 people with their pictures are 270 MB: 1.7 s for the HMACs, as much again for the structure. Matching reads
    # every template and every reference at the start in any case, so their structure is walked by that.
    structure=False,
)
_FIELDS = ", ".join(FIELDS)
_AT_ONCE = 16
"""Entries read at once: what is between two reads costs as much as reading one."""


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
    """One list in one sealed file. Make one with :meth:`create` or :meth:`open`; close it when done.

    Its methods may be called from any thread. Each that reads or writes raises StoreDamaged where the file is not
    what was written, and StoreUnavailable where the disk refuses or the store is closed.
    """

    def __init__(self, sealed: SealedStore, meta: ListMeta) -> None:
        self.path = sealed.path
        self.meta = meta
        self._sealed = sealed

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
        sealed = SealedStore(path, key, WATCHLIST, create=True)
        try:
            with sealed.writing() as db:
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
        except BaseException:
            sealed.close()
            raise
        return cls(sealed, meta)

    @classmethod
    def open(cls, path: Path, key: bytes, *, model: str | None = None) -> Self:
        """Open a list.

        Args:
            path: the sealed store.
            key: 32 bytes.
            model: digest of the embedder that will search it; another one's list is refused.

        Raises:
            KeyUnusable: the key does not open it.
            StoreDamaged: a page of it is not what was written.
            WatchlistUnreadable: missing, or of another version.
            ModelRejected: its templates are another embedder's.
        """
        sealed = SealedStore(path, key, WATCHLIST)
        try:
            store = cls(sealed, _meta(sealed))
            store.require(model)
        except BaseException:
            sealed.close()
            raise
        return store

    def require(self, model: str | None) -> None:
        """Refuse another embedder than the list's own; None is any.

        Raises:
            ModelRejected: see above.
        """
        if model is not None and self.meta.model != model:
            raise ModelRejected(
                str(self.path),
                f"was built for another embedder ({self.meta.model[:12]}, this van runs {model[:12]})",
                "Build the list again with the model that the van runs",
            )

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
        with self._sealed.writing() as db:
            yield partial(self._insert, db)
            db.execute("UPDATE meta SET value = ? WHERE name = 'digest'", (self.content_digest(),))

    def _insert(self, db: Connection, entry: WatchlistEntry) -> None:
        if entry.templates.shape[1] != self.meta.dimension:
            raise RecordInvalid(
                f"entry {entry.reference}",
                f"has templates of length {entry.templates.shape[1]}, the list's are {self.meta.dimension}",
                "Enrol it with the list's embedder",
            )
        if not np.allclose(np.linalg.norm(entry.templates, axis=1), 1.0, atol=1e-3):
            raise RecordInvalid(f"entry {entry.reference}", "has a template that is not of length 1", SOFTWARE_FAULT)
        if db.execute("SELECT 1 FROM entry WHERE reference = ?", (entry.reference,)).fetchone():
            raise RecordInvalid(f"entry {entry.reference}", "is on the list already", "Merge the two records")
        require_alertable(entry)
        db.execute(
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
        rows = np.ascontiguousarray(entry.templates, dtype="<f4")
        db.executemany(
            "INSERT INTO template (reference, vector) VALUES (?, ?)", [(entry.reference, row.data) for row in rows]
        )
        self._name(db, entry)

    def remove(self, reference: str) -> bool:
        """Take one entry out of the file and its write-ahead log for good. False if it was not there.

        Nobody else's entry names it as a look-alike any more. The list keeps its identity; :meth:`content_digest`
        changes.
        """
        with self._sealed.writing() as db:
            # Rows that a cascade removes are overwritten as well: secure_delete is on for the connection.
            gone = int(db.execute("DELETE FROM entry WHERE reference = ?", (reference,)).rowcount) > 0
            if gone:
                self._unname(db, reference)
        self._sealed.fold()
        return gone

    @staticmethod
    def _name(db: Connection, entry: WatchlistEntry) -> None:
        rows = [(entry.reference, other) for other in entry.lookalikes]
        db.executemany("INSERT INTO lookalike (reference, other) VALUES (?, ?)", rows)

    def _unname(self, db: Connection, gone: str) -> None:
        """Take ``gone`` out of every entry that names it; what an entry says of itself changes, and so its digest."""
        naming = db.execute("SELECT DISTINCT reference FROM lookalike WHERE other = ?", (gone,)).fetchall()
        db.execute("DELETE FROM lookalike WHERE other = ?", (gone,))
        for (reference,) in naming:
            query = f"SELECT {_FIELDS}, picture, digest FROM entry WHERE reference = ?"  # noqa: S608
            entry = self._entry(db, db.execute(query, (reference,)).fetchone())
            db.execute("UPDATE entry SET digest = ? WHERE reference = ?", (entry_digest(entry), reference))
            entry.templates.fill(0)

    # -- reading -------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """The list's identity as it was built, ``sha256:…``; removing an entry does not change it."""
        rows = self._sealed.read("SELECT value FROM meta WHERE name = 'digest'")
        if not rows:
            raise self._sealed.damaged()
        return str(rows[0][0])

    def content_digest(self) -> str:
        """The identity of what is on the list now, from each entry's stored digest."""
        return list_digest(self.meta, self._sealed.read("SELECT reference, digest FROM entry"))

    def verify(self) -> None:
        """Read every entry and compare it with its digest.

        Raises:
            WatchlistUnreadable: an entry was changed after the list was built.
            StoreDamaged: a page of the file is not what was written.
        """
        for entry, expected in self._stream():
            if entry_digest(entry) != expected:
                raise WatchlistUnreadable(
                    str(self.path),
                    f"entry {entry.reference} was changed after the list was built",
                    "Import the list again",
                )

    def __len__(self) -> int:
        return int(self._sealed.read("SELECT count(*) FROM entry")[0][0])

    def pictures(self) -> int:
        """How many templates are on the list: one for each picture of each person."""
        return int(self._sealed.read("SELECT count(*) FROM template")[0][0])

    def references(self) -> tuple[str, ...]:
        """Every reference on the list, sorted."""
        return tuple(row[0] for row in self._sealed.read("SELECT reference FROM entry ORDER BY reference"))

    def due(self, on: str) -> tuple[str, ...]:
        """References whose delete-by or review-by date is over on the ISO 8601 date ``on``.

        An entry may be used on its last day, and not on the day after.
        """
        rows = self._sealed.read(
            "SELECT reference FROM entry WHERE delete_by < ? OR review_by < ? ORDER BY reference", (on, on)
        )
        return tuple(row[0] for row in rows)

    def matrix(self) -> TemplateMatrix:
        """All templates in one array, in the order of enrolment. 20,000 rows take well under a second."""
        with self._sealed.reading() as db:
            total = int(db.execute("SELECT count(*) FROM template").fetchone()[0])
            vectors = np.zeros((total, self.meta.dimension), np.float32)
            references: list[str] = []
            try:
                for at, (reference, blob) in enumerate(
                    db.execute("SELECT reference, vector FROM template ORDER BY id")
                ):
                    vectors[at] = np.frombuffer(blob, "<f4")
                    scrub(blob)
                    references.append(reference)
            except BaseException as error:
                vectors.fill(0)
                if isinstance(error, ValueError):  # of another length than the list says
                    raise self._sealed.damaged() from None
                raise
        return TemplateMatrix(tuple(references), vectors)

    def entry(self, reference: str) -> WatchlistEntry:
        """One entry with its templates and its picture.

        Raises:
            EntryNotFound: it is not, or no longer, on the list.
        """
        found = self._some("reference = ?", reference)
        if not found:
            raise EntryNotFound(reference, "is not on this list", "Check the reference")
        return found[0][0]

    def stream(self) -> Iterator[WatchlistEntry]:
        """Entry by entry, sorted by reference, a few at a time; the store is free in between."""
        for entry, _ in self._stream():
            yield entry

    def _stream(self) -> Iterator[tuple[WatchlistEntry, str]]:
        some = self._some("true")
        while some:
            yield from some
            some = self._some("reference > ?", some[-1][0].reference)

    def _some(self, where: str, *values: str) -> list[tuple[WatchlistEntry, str]]:
        """The first few entries for which ``where`` holds, each with its stored digest."""
        query = f"SELECT {_FIELDS}, picture, digest FROM entry WHERE {where} ORDER BY reference LIMIT {_AT_ONCE}"  # noqa: S608
        with self._sealed.reading() as db:
            try:
                return [(self._entry(db, row), row[10]) for row in db.execute(query, values).fetchall()]
            except (ValueError, RecordInvalid):
                raise self._sealed.damaged() from None

    def _entry(self, db: Connection, row: Sequence[Any]) -> WatchlistEntry:
        blobs = db.execute("SELECT vector FROM template WHERE reference = ? ORDER BY id", (row[0],)).fetchall()
        templates = np.zeros((len(blobs), self.meta.dimension), np.float32)
        for at, (blob,) in enumerate(blobs):
            templates[at] = np.frombuffer(blob, "<f4")
            scrub(blob)
        others = db.execute("SELECT other FROM lookalike WHERE reference = ? ORDER BY id", (row[0],)).fetchall()
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
            lookalikes=tuple(other for (other,) in others),
        )

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file and fold its log; safe to call twice."""
        self._sealed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def destroy_files(store: Path, key_file: Path | None) -> tuple[str, ...]:
    """Overwrite and unlink a key and a store with everything beside it; needs no key, so it works on a damaged one.

    Returns the names of what was there. The key goes first: from that moment the rest is noise.
    """
    doomed = ([key_file] if key_file is not None else []) + list(companions(store))
    gone = tuple(path.name for path in doomed if shred(path))
    fsync_folder(store.parent)
    return gone


def _meta(sealed: SealedStore) -> ListMeta:
    found = dict(sealed.read("SELECT name, value FROM meta"))
    try:
        version = found["schema"]
        meta = ListMeta(
            deployment=found["deployment"],
            model=found["model"],
            dimension=int(found["dimension"]),
            created=datetime.fromisoformat(found["created"]),
        )
    except (KeyError, ValueError):
        raise sealed.damaged() from None
    if version != str(SCHEMA):
        raise WatchlistUnreadable(
            str(sealed.path), f"is of version {version}, this software reads {SCHEMA}", "Build the list again"
        )
    return meta
