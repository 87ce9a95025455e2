"""The tables of the control room's store, version by version, in the words of SQLite.

:mod:`edge.controlroom.dialect` says them in PostgreSQL's. A step that was released is never changed.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from edge.controlroom.seats import TABLES as SEATS
from edge.controlroom.summaries import TABLES as SUMMARIES
from edge.controlroom.to_vans import TABLES
from edge.records import AlertRef
from edge.trust.sealed import Connection, StoreKind

__all__ = ["KIND", "name_rows"]

_SCHEMA = """
CREATE TABLE known (
    alert_id   TEXT PRIMARY KEY,
    van        TEXT NOT NULL,
    sequence   INTEGER NOT NULL,
    expires_at REAL NOT NULL
);
CREATE TABLE alerts (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id    TEXT NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    shown       INTEGER NOT NULL,
    body        BLOB NOT NULL
);
CREATE TABLE vans (van TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE missing (van TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (van, sequence));
CREATE TABLE cases (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id TEXT NOT NULL UNIQUE,
    open     INTEGER NOT NULL,
    body     BLOB NOT NULL
);
CREATE TABLE officers (
    number        TEXT PRIMARY KEY,
    role          TEXT NOT NULL,
    trained_until TEXT NOT NULL,
    password      TEXT NOT NULL
);
CREATE TABLE outgoing (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    topic   TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE damage (
    kept    TEXT PRIMARY KEY,
    at      REAL NOT NULL,
    store   TEXT NOT NULL,
    carried INTEGER NOT NULL,
    lost    TEXT NOT NULL,
    audited INTEGER NOT NULL DEFAULT 0
);
"""
_STAFF = """
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE staff_changes (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      TEXT NOT NULL,
    officer TEXT NOT NULL,
    change  TEXT NOT NULL,
    by_whom TEXT NOT NULL
);
"""
"""Version 2: what marks browsers, and changes of the staff that are not in the audit log yet."""
_REFS = f"""
{TABLES}
ALTER TABLE known ADD COLUMN digest TEXT;
ALTER TABLE alerts ADD COLUMN erase_at REAL;
"""
"""Version 3: ``alert_id`` holds an :class:`AlertRef` in all three tables (:func:`name_rows`). What came before has no
digest and no last moment: it goes when this control room's retention is over."""
_ROOM = f"""
{SUMMARIES}
{SEATS}
ALTER TABLE officers ADD COLUMN locked_at TEXT;
"""
"""Version 4: what lists show of an alert, who is signed in, and who may not sign in for now."""
_ROOMS = """
ALTER TABLE known ADD COLUMN room TEXT;
ALTER TABLE seats ADD COLUMN room TEXT;
"""
"""Version 5: which of several rooms took an alert in, and where somebody is signed in."""
KIND = StoreKind(
    "the control room's store",
    0x4C465252,  # "LFRR"
    (_SCHEMA, _STAFF, _REFS, _ROOM, _ROOMS),
    "Restart the control room: it keeps the damaged file and carries over what can still be read",
)

_FIELDS = msgspec.msgpack.Decoder(dict[str, Any])


def name_rows(db: Connection) -> None:
    """Give every row the name of its alert; before version 3 and in what is carried over it may be the bare identifier.

    A row whose alert is there under its name already is the same one, and goes.
    """
    bare = "WHERE instr(alert_id, '/') = 0"
    db.execute(f"UPDATE OR IGNORE known SET alert_id = van || '/' || alert_id {bare}")  # noqa: S608
    db.execute(f"DELETE FROM known {bare}")  # noqa: S608
    for table in ("alerts", "cases"):
        for number, body in db.execute(f"SELECT number, body FROM {table} {bare}").fetchall():  # noqa: S608
            with contextlib.suppress(msgspec.DecodeError, KeyError):
                content = _FIELDS.decode(body)
                name = str(AlertRef(content["van"], content["alert_id"]))
                statement = f"UPDATE OR IGNORE {table} SET alert_id = ? WHERE number = ?"  # noqa: S608
                if db.execute(statement, (name, number)).rowcount == 0:
                    db.execute(f"DELETE FROM {table} WHERE number = ?", (number,))  # noqa: S608
