"""Opening the control room's store: after damage, and after the two stores that it replaces.

A damaged file is kept aside under another name, and what can still be read of it goes into a new store. What could
not be saved is worked out from what could: every identifier that is known has a case, and every case that is younger
than the retention has its pictures. The new store is put together beside and takes its place in one step; whatever
ends before that is begun anew.

Until this version alerts lay in ``console.db`` and cases in ``casebook.db``. Both are read once, in one transaction,
and removed when that is on the disk. Alerts that never got a case get it then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.clock import Clock, SystemClock
from edge.controlroom.cases import open_case
from edge.controlroom.config import ControlConfig
from edge.controlroom.schema import KIND, name_rows
from edge.controlroom.store import AlertStore, Damage
from edge.custody.shred import shred
from edge.errors import ConfigInvalid, RuntimeUnavailable, StoreDamaged, StoreUnavailable
from edge.files import fsync_folder
from edge.trust.salvage import Salvage
from edge.trust.sealed import Connection, SealedStore, StoreKind, companions, damaged_files, is_due, set_aside
from edge.trust.secret import read_secret

__all__ = [
    "FormerStore",
    "erase_kept",
    "erase_unused",
    "former_casebook",
    "former_inbox",
    "open_room_store",
    "open_store",
]

MAX_WORDS = 900
"""Characters of what the audit log is told was lost."""

_ALERTS = {
    "known": "alert_id, van, sequence, expires_at, digest",
    "alerts": "alert_id, received_at, shown, body, erase_at",
    "vans": "van, last",
    "missing": "van, sequence",
}
_CASES = {
    "cases": "alert_id, open, body",
    "officers": "number, role, trained_until, password",
    "outgoing": "at, topic, payload",
}
_ALL = {
    **_ALERTS,
    "alerts": f"number, {_ALERTS['alerts']}",
    "cases": f"number, {_CASES['cases']}",
    "officers": f"{_CASES['officers']}, locked_at",
    "outgoing": _CASES["outgoing"],
    "damage": "kept, at, store, carried, lost, audited",
    "secrets": "name, value",
    "staff_changes": "number, at, officer, change, by_whom",
    "standing": "van, lines, sent",
    "handed_over": "number, van, count, by_whom",
}
"""A rebuilt store keeps its order of arrival; one that is taken over is put behind what is there."""


@dataclass(frozen=True, slots=True)
class FormerStore:
    """A file that this store replaces."""

    path: Path
    kind: StoreKind
    tables: dict[str, str]


def former_inbox(path: Path) -> FormerStore:
    """Where alerts used to be: ``console.db``, or the file of a ``watch``."""
    return FormerStore(path, StoreKind("the former store of alerts", 0x4C465249, ()), _ALERTS)  # "LFRI"


def former_casebook(path: Path) -> FormerStore:
    """Where cases, officers and what goes to the vans used to be: ``casebook.db``."""
    return FormerStore(path, StoreKind("the former store of cases", 0x4C465243, ()), _CASES)  # "LFRC"


def open_store(
    path: Path,
    key: bytes,
    *,
    opens_cases: bool = True,
    repair: bool = True,
    former: Sequence[FormerStore] = (),
    retention: timedelta = timedelta(hours=24),
    clock: Clock | None = None,
) -> AlertStore:
    """Open a store, or make it; carry over what a damaged one, and the ones it replaces, still hold.

    Args:
        path: the file.
        key: 32 bytes.
        opens_cases: see :class:`AlertStore`.
        repair: whether a damaged store may be replaced: for the one process that works with it, and no other.
        former: what it replaces.
        retention: for how long pictures are kept; younger ones that are missing were lost.
        clock: for the moment.

    Raises:
        KeyUnusable: the key does not open it, or its first page is damaged.
        StoreDamaged: it is damaged, and ``repair`` is false.
        StoreUnavailable: the disk refuses.
    """
    clock = clock or SystemClock()
    now = clock.now()
    kept = None if path.exists() else _kept(path)
    try:
        if kept is not None:
            raise StoreDamaged(str(path), f"was damaged and is kept as {kept.name}", KIND.damaged)
        store = AlertStore(path, key, opens_cases=opens_cases, retention=retention, clock=clock)
    except StoreDamaged:
        if not repair:
            raise
        _rebuild(path, key, kept or set_aside(path, now), now, retention, opens_cases=opens_cases)
        store = AlertStore(path, key, opens_cases=opens_cases, retention=retention, clock=clock)
    try:
        _take_over(store, key, former, now, retention, opens_cases=opens_cases)
    except BaseException:
        store.close()
        raise
    return store


def open_room_store(config: ControlConfig, clock: Clock | None = None, *, repair: bool = False) -> AlertStore:
    """The store that the configuration names, with what the stores before it held.

    Args:
        config: the control room's file.
        clock: for the moment.
        repair: see :func:`open_store`; only the control room itself may.

    Raises:
        EdgeError: the key or the store cannot be used.
    """
    folder, base = config.path(config.store.directory), Path(config.base)
    path, key = folder / "control-room.db", read_secret(config.store.key, base)
    retention = timedelta(hours=config.store.retention_h)
    if config.store.url:
        if path.exists():
            raise ConfigInvalid(
                "key store.url", f"is given, and {path.name} of a control room of its own lies here",
                "Keep that file for its retention and give store.directory an empty folder, or take the key out",
            )  # fmt: skip
        if not config.store.room:
            raise ConfigInvalid("key store.room", "is missing", "Name this room; no other room may have its name")
        try:
            from edge.controlroom.shared import SharedStore, connection_of  # noqa: PLC0415 - not every room has it
        except ImportError:
            raise RuntimeUnavailable(
                "the shared store", "needs psycopg, which is not installed", "Run: pip install 'lfr-edge[office]'"
            ) from None
        shared = SharedStore(connection_of(config.store, base), key, KIND, config.store.room)
        try:
            return AlertStore(path, key, retention=retention, clock=clock, shared=shared)
        except BaseException:
            shared.close()
            raise
    return open_store(
        path,
        key,
        repair=repair,
        former=(former_inbox(folder / "console.db"), former_casebook(folder / "casebook.db")),
        retention=retention,
        clock=clock,
    )


def erase_kept(store: AlertStore, now: datetime, retention: timedelta) -> list[Damage]:
    """Destroy files that were kept aside, once everything in them is older than ``retention``; returns which.

    Raises:
        StoreUnavailable: the disk refuses.
    """
    due = [damage for damage in store.damages() if is_due(damage.at, retention, now)]
    for damage in due:
        _destroy(store.path.with_name(damage.kept))
        store.forget_damage(damage)
    return due


def erase_unused(folder: Path, now: datetime, retention: timedelta) -> list[str]:
    """Erase the stores of watches that nobody has run for ``retention``, and what was kept aside of them.

    A watch marks its store as in use every minute.

    Returns:
        The names of the files.

    Raises:
        StoreUnavailable: the disk refuses.
    """
    gone = []
    for name in sorted({re.sub(r"-(wal|shm|journal)$", "", path.name) for path in folder.glob("*.watch.db*")}):
        path = folder / name
        used = max(file.stat().st_mtime for file in companions(path) if file.exists())
        if used <= (now - retention).timestamp():
            _destroy(path)
            gone.append(name)
    return gone


def _checked(path: Path, key: bytes, kind: StoreKind, now: datetime) -> Path | None:
    """The file to read: ``path`` itself; or, where that is damaged, what it is kept as now. None: there is nothing."""
    if path.exists():
        try:
            SealedStore(path, key, kind).close()
        except StoreDamaged:
            return set_aside(path, now)
        return path
    return _kept(path)


def _kept(path: Path) -> Path | None:
    """What was set aside last: the content is there only when whoever did that was interrupted right afterwards."""
    kept = [file for file in damaged_files(path) if re.search(r"\.damaged-\d{8}T\d{6}Z$", file.name)]
    return kept[-1] if kept else None


def _rebuild(path: Path, key: bytes, kept: Path, now: datetime, retention: timedelta, *, opens_cases: bool) -> None:
    beside = path.with_name(f"{path.name}.rebuilt")
    _destroy(beside)
    with AlertStore(beside, key, opens_cases=opens_cases) as new, new.writing() as db:
        carried, unread = _carry(db, kept, key, _ALL)
        lost = _complete(new, db, now, retention, opens_cases=opens_cases)
        _note(db, Damage(now, path.name, kept.name, carried, _words(lost, unread)))
    _destroy(path)  # a log of the damaged one must not be taken for the new one's
    try:
        beside.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise StoreUnavailable(str(path), f"cannot be put in place ({error.strerror})", "Check the disk") from None


def _take_over(
    store: AlertStore,
    key: bytes,
    former: Sequence[FormerStore],
    now: datetime,
    retention: timedelta,
    *,
    opens_cases: bool,
) -> None:
    found = [(each, file) for each in former if (file := _checked(each.path, key, each.kind, now)) is not None]
    noted = {damage.kept for damage in store.damages()}
    found = [(each, file) for each, file in found if file.name not in noted]
    if not found:
        return
    with store.writing() as db:
        read = [(each, file, *_carry(db, file, key, each.tables)) for each, file in found]
        lost = _complete(store, db, now, retention, opens_cases=opens_cases)
        for each, file, carried, unread in read:
            if file != each.path:
                _note(db, Damage(now, each.path.name, file.name, carried, _words(lost, unread)))
    for each, file in found:
        if file == each.path:
            _destroy(file)


def _carry(db: Connection, file: Path, key: bytes, tables: dict[str, str]) -> tuple[int, set[str]]:
    """Copy every row that can be read and is not there yet; returns how many, and which tables have holes."""
    carried = 0
    with Salvage(file, key) as source:
        for table, columns in tables.items():
            marks = ", ".join("?" for _ in columns.split(","))
            statement = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - ours
            if table == "outgoing":  # nothing tells its rows apart but what they say
                statement = (
                    "INSERT INTO outgoing (at, topic, payload) SELECT ?1, ?2, ?3"
                    " WHERE NOT EXISTS (SELECT 1 FROM outgoing WHERE topic = ?2 AND payload = ?3)"
                )
            for row in source.rows(table, columns):
                carried += db.execute(statement, row).rowcount
        return carried, source.damaged


def _complete(
    store: AlertStore, db: Connection, now: datetime, retention: timedelta, *, opens_cases: bool
) -> list[str]:
    """Make whole what was carried over, and say what is missing from it."""
    name_rows(db)
    for stored in store.alerts_without("known"):
        alert = stored.alert
        row = (str(alert.ref), alert.van, alert.sequence, alert.expires_at.timestamp())
        db.execute("INSERT INTO known (alert_id, van, sequence, expires_at) VALUES (?, ?, ?, ?)", row)
    db.execute("INSERT OR IGNORE INTO vans SELECT van, max(sequence) FROM known GROUP BY van")
    if not opens_cases:
        return []
    for stored in store.alerts_without("cases"):
        store.add_case(open_case(stored.alert, stored.received_at))
    store.summarise()
    db.execute("UPDATE alerts SET shown = 1")
    # Known, and yet without a case: lost. Were it to come again, it would have to be taken in.
    gone = db.execute(
        "SELECT van, sequence, alert_id FROM known WHERE alert_id NOT IN (SELECT alert_id FROM cases)"
        " ORDER BY van, sequence"
    ).fetchall()
    db.executemany("DELETE FROM known WHERE alert_id = ?", [(row[2],) for row in gone])
    db.executemany("INSERT OR IGNORE INTO missing VALUES (?, ?)", [row[:2] for row in gone])
    held = {row[0] for row in db.execute("SELECT alert_id FROM alerts")}
    bare = [case for case in store.cases() if str(case.ref) not in held and case.received_at > now - retention]
    return [
        *(f"alert no. {sequence} of {van}" for van, sequence, _ in gone),
        *(f"the pictures of alert no. {case.sequence} of {case.van}" for case in bare),
    ]


def _words(lost: list[str], unread: set[str]) -> str:
    known = {
        "officers": "officers may be missing: compare with lfr-control staff list",
        "outgoing": "decisions may not have reached their van",
        "cases": "decisions on alerts may be missing",
    }
    words = "; ".join([*lost, *(text for table, text in known.items() if table in unread)]) or "nothing"
    return words if len(words) <= MAX_WORDS else f"{words[:MAX_WORDS]} … and more"


def _note(db: Connection, damage: Damage) -> None:
    db.execute(
        "INSERT OR REPLACE INTO damage (kept, at, store, carried, lost) VALUES (?, ?, ?, ?, ?)",
        (damage.kept, damage.at.astimezone(UTC).timestamp(), damage.store, damage.carried, damage.lost),
    )


def _destroy(path: Path) -> None:
    """Overwrite a store's files and remove them: its key still exists.

    Raises:
        StoreUnavailable: the disk refuses.
    """
    for file in companions(path):
        shred(file)
