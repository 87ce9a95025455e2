"""A control room's store in PostgreSQL: several rooms, one truth.

:class:`SharedStore` does for a data base on a server what :class:`edge.trust.sealed.SealedStore` does for a file:
transactions within transactions, the schema and its steps, and the server's errors in plain words. The control room's
tables and statements are the same in both (:mod:`edge.controlroom.schema`).

What a server adds:

* it may be away. Then every method raises :class:`~edge.errors.StoreUnavailable`, and the next one tries again;
* others write to it. :meth:`SharedStore.alone` makes one room wait for another, ``SELECT … FOR UPDATE`` one decision
  for another, and every transaction that has written tells the rooms so when it is stored (:class:`Ear`);
* it is not ours. Values that say anything of a person are sealed before they go there
  (:class:`edge.trust.sealing.Sealer`), and the way there is encrypted and the server's name checked.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import conninfo, errors

from edge.clock import NS_PER_S, Clock, SystemClock
from edge.controlroom.config import StoreSection
from edge.controlroom.dialect import schema_for_postgresql, statement_for_postgresql
from edge.errors import ConfigInvalid, EdgeError, KeyUnusable, StoreUnavailable, WatchlistUnreadable
from edge.trust.sealed import StoreConflict, StoreKind
from edge.trust.sealing import Sealer, Unsealed

__all__ = ["Ear", "SharedStore", "connection_of"]

CHANNEL = "lfr_control_room"
CONNECT_S = 3
"""For so long a server that does not answer is waited for."""
AGAIN_NS = NS_PER_S
"""For so long after a failed attempt nobody else waits for another."""
_LIMITS = (
    "-c statement_timeout=15000 -c lock_timeout=8000 -c idle_in_transaction_session_timeout=30000"
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c synchronous_commit=on"
)
"""A room that hangs, or whose machine is gone, lets go of what it holds; what is stored is on the server's disk."""
_PLACE = ("secrets", "this key opens the store")


def connection_of(section: StoreSection, base: Path) -> str:
    """How the store is reached, as libpq reads it.

    Raises:
        ConfigInvalid: no such address, or one on which somebody could listen in or pose as the server.
    """
    thing = "key store.url"
    try:
        parts: dict[str, Any] = dict(conninfo.conninfo_to_dict(section.url))
    except psycopg.Error:
        raise ConfigInvalid(
            thing, "is not an address of a PostgreSQL data base", "Write postgresql://USER@HOST/NAME"
        ) from None
    hosts = str(parts.get("host") or "").split(",")
    if not all(hosts) or parts.get("hostaddr"):
        raise ConfigInvalid(thing, "does not name the server", "Write postgresql://USER@HOST/NAME, with its host name")
    if "password" in parts:
        raise ConfigInvalid(
            thing, "holds a password, which would be open to whoever reads the file",
            "Take it out; use a client certificate (store.certificate) or a .pgpass file",
        )  # fmt: skip
    if not all(host.startswith("/") for host in hosts):
        if parts.setdefault("sslmode", "verify-full") != "verify-full":
            raise ConfigInvalid(
                thing, f"asks for sslmode={parts['sslmode']}, by which somebody could pose as the server",
                "Leave sslmode out: it is verify-full",
            )  # fmt: skip
        parts["sslrootcert"] = _file(section.ca, base) or parts.get("sslrootcert") or "system"
        if section.certificate:
            parts["sslcert"] = _file(section.certificate, base)
            parts["sslkey"] = _file(section.certificate_key, base)
        parts["ssl_min_protocol_version"] = "TLSv1.3"
        parts["gssencmode"] = "disable"
    limits: dict[str, Any] = {
        "connect_timeout": CONNECT_S,
        "tcp_user_timeout": 8000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "lfr-control",
        "options": _LIMITS,
    }
    return conninfo.make_conninfo(**{**parts, **limits})


def _file(name: str, base: Path) -> str:
    return str(base / name) if name else ""


class SharedStore:
    """One connection to a shared store. Its methods may be called from any thread.

    Args:
        where: see :func:`connection_of`.
        key: 32 bytes, the same in every room.
        kind: what it is for.
        room: this room's name, which no other has.
        clock: for when to try again.

    Raises:
        KeyUnusable: the key does not open it.
        WatchlistUnreadable: it was written by a later version.
        StoreUnavailable: the server is away or refuses. Every other method may raise it too.
    """

    def __init__(self, where: str, key: bytes, kind: StoreKind, room: str, *, clock: Clock | None = None) -> None:
        self.kind = kind
        self.room = room
        self.values = Sealer(key)
        self._where = where
        parts = conninfo.conninfo_to_dict(where)
        self.name = f"the shared store {parts.get('dbname', '')} on {parts.get('host', '')}"
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._depth = 0
        self._wrote = False
        self._closed = False
        self._refused: tuple[int, StoreUnavailable] | None = None
        self._db: psycopg.Connection[Any] | None = None
        try:
            with self.writing() as db:
                self._migrate(db)
                self._check_key(db)
        except BaseException:
            self.close()
            raise

    # -- opening ---------------------------------------------------------------------------------

    def _migrate(self, db: _Statements) -> None:
        db.execute("SELECT pg_advisory_xact_lock(?)", (self.kind.application_id,))
        db.execute("CREATE TABLE IF NOT EXISTS lfr_schema (version BIGINT NOT NULL)")
        row = db.execute("SELECT max(version) FROM lfr_schema").fetchone()
        version = int(row[0] or 0)
        if version > len(self.kind.migrations):
            raise WatchlistUnreadable(
                self.name,
                f"was written by a later version ({version}; this software knows {len(self.kind.migrations)})",
                "Use the newer software in every room",
            )
        for number, script in enumerate(self.kind.migrations[version:], start=version + 1):
            db.script(schema_for_postgresql(script))
            db.execute("INSERT INTO lfr_schema (version) VALUES (?)", (number,))

    def _check_key(self, db: _Statements) -> None:
        """Two rooms with two keys would each store what the other cannot read: the first one's key counts."""
        mark = self.values.seal(b"", *_PLACE)
        db.execute("INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (_PLACE[1], mark))
        row = db.execute("SELECT value FROM secrets WHERE name = ?", (_PLACE[1],)).fetchone()
        try:
            self.values.unseal(bytes(row[0]), *_PLACE)
        except Unsealed:
            raise KeyUnusable(
                self.name, "was made with another key", "Give every room the same store.key: that of the first"
            ) from None

    def _connected(self) -> psycopg.Connection[Any]:
        if self._closed:
            raise StoreUnavailable(self.name, "is closed", "Start the control room again")
        if self._db is not None and not self._db.closed:
            return self._db
        now = self._clock.monotonic_ns()
        if self._refused is not None and now - self._refused[0] < AGAIN_NS:
            raise self._refused[1]
        try:
            db = psycopg.connect(self._where, autocommit=True)
            names = (self.kind.application_id, self._mark(self.room))
            db.execute("SELECT pg_advisory_lock_shared(%s, hashtext(%s))", names)
            self._db = db
        except psycopg.Error as error:
            refused = _away(self.name, error)
            self._refused = (self._clock.monotonic_ns(), refused)
            raise refused from None
        self._refused = None
        return self._db

    # -- use -------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[_Statements]:
        """One transaction: all of what happens inside, or nothing; the other rooms are told when it is stored.

        Inside another one it is a part of that, as in :meth:`edge.trust.sealed.SealedStore.writing`.

        Raises:
            StoreConflict: a row breaks a rule of the schema.
            StoreUnavailable: nothing was stored; or, where the connection broke in the very moment of storing, it
                is not known. Whoever asks again sees what is there.
        """
        with self._lock, self._errors():
            outermost, part = self._depth == 0, f"part_{self._depth}"
            db = self._connected()
            if outermost:
                self._wrote = False
            db.execute("BEGIN" if outermost else f"SAVEPOINT {part}")
            self._depth += 1
            try:
                yield _Statements(self, db)
                if outermost and self._wrote:
                    db.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self.room))
                db.execute("COMMIT" if outermost else f"RELEASE {part}")
            except BaseException:
                with contextlib.suppress(psycopg.Error):  # a connection that is gone has undone it already
                    for undo in ("ROLLBACK",) if outermost else (f"ROLLBACK TO {part}", f"RELEASE {part}"):
                        db.execute(undo)
                if outermost and db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    db.close()
                raise
            finally:
                self._depth -= 1

    @contextmanager
    def reading(self) -> Iterator[_Statements]:
        """Read what is stored.

        Raises:
            StoreUnavailable: the server is away.
        """
        with self._lock, self._errors():
            yield _Statements(self, self._connected())

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query. A connection that broke unseen is made anew, once.

        Raises:
            StoreUnavailable: the server is away.
        """
        with self._lock:
            if self._depth == 0 and self._db is not None and not self._db.closed:
                with contextlib.suppress(psycopg.OperationalError):
                    return list(self._db.execute(_marked(query), values).fetchall())
                self._db.close()
            with self.reading() as db:
                return list(db.execute(query, values).fetchall())

    def alone(self, db: _Statements, what: str) -> None:
        """Until this transaction ends, no other room does this."""
        db.execute("SELECT pg_advisory_xact_lock(?, hashtext(?))", (self.kind.application_id, what))

    @contextmanager
    def first(self, what: str) -> Iterator[bool]:
        """Whether this room is the one that does this now; no other is while this is entered."""
        names = (self.kind.application_id, what)
        mine = bool(self.read("SELECT pg_try_advisory_lock(?, hashtext(?))", names)[0][0])
        try:
            yield mine
        finally:
            if mine:
                with contextlib.suppress(EdgeError):  # the server forgets it with the connection
                    self.read("SELECT pg_advisory_unlock(?, hashtext(?))", names)

    @staticmethod
    def _mark(room: str) -> str:
        """What a room holds for as long as it is connected."""
        return f"room {room}"

    def alive(self, room: str) -> bool:
        """Whether a room is connected; the server sees its end at once where it was killed, and within seconds else."""
        held = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid::bigint = ? AND objid::bigint = (hashtext(?)::bigint & 4294967295)"
        )
        return bool(self.read(held, (self.kind.application_id, self._mark(room)))[0][0])

    def fold(self) -> None:
        """Give the room of deleted rows back to the server, which writes something else there."""
        with self._lock, self._errors():
            for table in ("alerts", "summaries"):
                self._connected().execute(f"VACUUM {table}")

    def ear(self) -> Ear:
        """Hears what the other rooms store."""
        return Ear(self._where, self)

    def close(self) -> None:
        """End the connection; safe to call twice."""
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- errors ----------------------------------------------------------------------------------

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.IntegrityError as error:
            raise StoreConflict(type(error).__name__) from None
        except psycopg.Error as error:
            raise _away(self.name, error) from None


def _away(name: str, error: psycopg.Error) -> StoreUnavailable:
    """Why a shared store cannot be used, in plain words; the server's own may repeat a value."""
    text = str(error)
    match error:
        case errors.DiskFull():
            cause = "the disk of its server is full"
        case errors.LockNotAvailable() | errors.DeadlockDetected() | errors.QueryCanceled():
            cause = "another room was quicker, or holds it up"
        case errors.ReadOnlySqlTransaction():
            cause = "its server takes nothing new: it is a copy of another"
        case errors.InsufficientPrivilege():
            cause = "its server refuses: this user may not"
        case _ if "certificate" in text or "SSL" in text:
            cause = "its server could not be believed: check the certificates"
        case _ if "authentication" in text or "role" in text or "does not exist" in text:
            cause = "its server lets this room not in: check the user, the data base's name and pg_hba.conf"
        case _:
            cause = "its server does not answer"
    return StoreUnavailable(name, cause, "If this stays, call whoever keeps the server")


def _marked(query: str) -> Any:
    return statement_for_postgresql(query)


class _Statements:
    """What is done inside a transaction; reads like a connection of SQLite."""

    def __init__(self, store: SharedStore, db: psycopg.Connection[Any]) -> None:
        self._store = store
        self._db = db

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        done = self._db.execute(_marked(statement), values)
        if done.rowcount and not statement.lstrip().startswith(("SELECT", "WITH")):
            self._store._wrote = True  # noqa: SLF001 - a part of it
        return done

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._db.cursor().executemany(_marked(statement), list(rows))
        self._store._wrote = True  # noqa: SLF001 - a part of it

    def script(self, text: str) -> None:
        """Several statements without values."""
        self._db.execute(text)
        self._store._wrote = True  # noqa: SLF001 - a part of it


class Ear:
    """Waits for what the other rooms store. For one thread.

    Args:
        where: see :func:`connection_of`.
        store: whose.
    """

    def __init__(self, where: str, store: SharedStore) -> None:
        self._where = where
        self._store = store
        self._db: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float) -> bool:
        """Whether another room has stored something, or may have: what came while nobody listened is not known.

        Returns at once when there is something, and after ``seconds`` at the latest.

        Raises:
            StoreUnavailable: the server is away.
        """
        try:
            if self._db is None or self._db.closed:
                self._db = psycopg.connect(self._where, autocommit=True)
                self._db.execute(f"LISTEN {CHANNEL}")
                return True
            heard = [note.payload for note in self._db.notifies(timeout=seconds, stop_after=1)]
            heard += [note.payload for note in self._db.notifies(timeout=0)]
        except psycopg.Error as error:
            self.close()
            raise _away(self._store.name, error) from None
        return any(room != self._store.room for room in heard)

    def close(self) -> None:
        """End the connection; safe to call twice."""
        if self._db is not None:
            self._db.close()
            self._db = None
