"""The audit log: what happened on this van, in an order and a wording that nobody can change unseen.

One JSON line per event. Each line carries the hash of the line before it and its own; every few lines,
and at the end, the van signs a checkpoint of the latest hash and publishes it off the van. Whoever holds
the public key can verify the chain; whoever also holds published checkpoints can prove that its end was
cut off. Nobody who lacks the private key can rewrite an entry before a checkpoint.

A line is appended with one write and pushed to the device before :meth:`AuditLog.record` returns, so a
power cut leaves whole lines and at most one torn one at the end, which was never acknowledged and is cut
off, and noted, at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edge.clock import Clock
from edge.errors import AuditBroken, SignatureInvalid, StoreUnavailable
from edge.files import fsync_folder
from edge.trust.canonical import canonical, sha256
from edge.trust.events import Event, check_fields
from edge.trust.keys import KnownSigners, SigningKey

__all__ = ["CHECKPOINT", "AuditEntry", "AuditLog", "Verified", "checkpoints_of", "in_use", "read_log", "verify"]

CHECKPOINT = "lfr-audit-checkpoint"
"""Type of a signed checkpoint: never to be taken for an alert or a decision."""
CHECKPOINT_EVERY = 64
START = "sha256:" + "0" * 64
"""What the first entry names as the one before it."""
_KEYS = {"at", "data", "deployment", "event", "hash", "prev", "seq", "van"}


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One event.

    Attributes:
        seq: counts from 1 without gaps.
        at: wall clock, ISO 8601, UTC.
        van: who wrote it.
        deployment: during which deployment; empty outside any.
        event: one of :class:`edge.trust.events.Event`, as text.
        data: the fields of that event.
        hash: of this entry, over everything else in it.
    """

    seq: int
    at: str
    van: str
    deployment: str
    event: str
    data: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found.

    Attributes:
        entries: all of them, in order.
        checkpoints: how many signatures vouch for them.
        signed_to: the last entry that a signature vouches for; those after it are only chained.
        closed: whether the log ends with the van's own farewell.
    """

    entries: tuple[AuditEntry, ...]
    checkpoints: int
    signed_to: int
    closed: bool


def checkpoints_of(log: Path) -> Path:
    """Where the checkpoints of ``log`` lie on the van."""
    return log.with_name(f"{log.name}.checkpoints")


def in_use(log: Path) -> bool:
    """Whether another process writes this log. Reads only: a full disk does not hinder the answer."""
    try:
        handle = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


class AuditLog:
    """The one writer of a log; a second one on the same file is refused.

    Args:
        path: the log; its checkpoints lie beside it.
        van: who writes.
        clock: for the time of each entry.
        signer: the van's key.
        room: which of several control rooms writes, named in the checkpoints; empty where there is one.
    """

    def __init__(self, path: Path, *, van: str, clock: Clock, signer: SigningKey, room: str = "") -> None:
        self.path = path
        self.deployment = ""
        """Written into every entry from now on."""
        self._van = van
        self._room = room
        self._clock = clock
        self._signer = signer
        self._publish: Callable[[str], None] | None = None
        self._lock = threading.Lock()
        self._seq = 0
        self._hash = START
        self._signed = 0
        self._file = self._open()
        torn = self._recover()
        if torn:
            self.record(Event.LOG_REPAIRED, {"bytes": torn})

    def publish_to(self, send: Callable[[str], None]) -> None:
        """From now on, send each checkpoint (a compact JWS) off the van; ``send`` may not block."""
        self._publish = send

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise self._unavailable(error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise StoreUnavailable(
                str(self.path), "is in use by another process", "Stop the other process first"
            ) from None
        fsync_folder(self.path.parent)
        return handle

    def _recover(self) -> int:
        """Find the end; cut a torn last line off. Returns how many bytes were cut."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        torn = len(content) - whole
        if torn:
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        if whole:
            last = content[content.rfind(b"\n", 0, whole - 1) + 1 : whole]
            entry = _parse(last, content.count(b"\n", 0, whole), self.path)[0]
            self._seq, self._hash = entry.seq, entry.hash
        return torn

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            str(self.path),
            f"cannot be written ({error.strerror})",
            "Check that the disk is not full or failing, and who owns the file",
        )

    def record(self, event: Event, data: Mapping[str, Any]) -> AuditEntry:
        """Append one event and return it once it is on the device.

        Raises:
            RecordInvalid: fields other than the catalogue's.
            StoreUnavailable: it could not be written. The caller must stop: what is not logged is not done.
        """
        check_fields(event, data)
        with self._lock:
            entry = {
                "at": self._clock.now().isoformat(timespec="milliseconds"),
                "data": dict(data),
                "deployment": self.deployment,
                "event": event.value,
                "prev": self._hash,
                "seq": self._seq + 1,
                "van": self._van,
            }
            entry["hash"] = sha256(canonical(entry))
            self._append(self._file, canonical(entry) + b"\n")
            self._seq, self._hash = self._seq + 1, str(entry["hash"])
            due = self._seq - self._signed >= CHECKPOINT_EVERY
            written = _entry(entry)
        if due:
            self.checkpoint()
        return written

    def _append(self, handle: int, line: bytes) -> None:
        before = os.fstat(handle).st_size
        try:
            done = os.write(handle, line)
            if done != len(line):
                raise OSError(28, "the disk is full")
            os.fsync(handle)
        except OSError as error:
            with contextlib.suppress(OSError):  # a disk that has become read-only; a torn line is cut off at the start
                os.ftruncate(handle, before)
            raise self._unavailable(error) from None

    def checkpoint(self) -> str | None:
        """Sign the latest hash, keep the checkpoint beside the log, and publish it. None when nothing is new."""
        with self._lock:
            if self._seq == self._signed:
                return None
            payload = {
                "at": self._clock.now().isoformat(timespec="milliseconds"),
                "hash": self._hash,
                "seq": self._seq,
                "van": self._van,
                **({"room": self._room} if self._room else {}),
            }
            token = self._signer.sign(canonical(payload), CHECKPOINT)
            beside = checkpoints_of(self.path)
            try:
                handle = os.open(beside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            except OSError as error:
                raise self._unavailable(error) from None
            try:
                self._append(handle, token + b"\n")
            finally:
                os.close(handle)
            self._signed = self._seq
        if self._publish is not None:
            self._publish(token.decode("ascii"))
        return token.decode("ascii")

    def close(self) -> None:
        """Sign what is not signed yet and let the file go; safe to call twice."""
        if self._file < 0:
            return
        try:
            self.checkpoint()
        finally:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- reading and verifying -------------------------------------------------------------------------


def read_log(path: Path) -> tuple[AuditEntry, ...]:
    """Read a log and check its chain, without any key: see :func:`verify` for what that leaves open.

    Raises:
        AuditBroken: an entry was altered, removed, added or put elsewhere; says which.
        StoreUnavailable: the log cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreUnavailable(str(path), f"cannot be read ({error.strerror})", "Give the path of the log") from None
    if lines[-1] != b"":
        raise _broken(path, f"line {len(lines)} is torn off", "Compare it with the van; a power cut leaves this too")
    parsed = [_parse(line, number, path) for number, line in enumerate(lines[:-1], start=1)]
    _check_order(path, [entry.seq for entry, _ in parsed])
    before = START
    for entry, previous in parsed:
        if previous != before:
            culprit = entry.seq - 1 if entry.seq > 1 else entry.seq
            raise _broken(path, f"entry {culprit} was altered and its hash made again: entry {entry.seq} names another")
        before = entry.hash
    return tuple(entry for entry, _ in parsed)


def _check_order(path: Path, found: list[int]) -> None:
    expected = list(range(1, len(found) + 1))
    if found == expected:
        return
    missing = _missing(found)
    if missing:
        raise _broken(path, f"{_entries(missing)} removed")
    at = next(number for number, seq in zip(expected, found, strict=True) if number != seq)
    twice = len(set(found)) != len(found)
    raise _broken(path, f"entry {found[at - 1]} {'occurs twice' if twice else f'stands at place {at}: it was moved'}")


def _missing(found: list[int]) -> list[int]:
    """The first numbers from 1 on that are not there; a few are enough, and a log may claim any number."""
    missing: list[int] = []
    before = 0
    for number in sorted({each for each in found if each > 0}):
        missing += range(before + 1, min(number, before + 8))
        before = number
    return missing


def _entries(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"entry {numbers[0]} was"
    return f"entries {', '.join(map(str, numbers[:5]))}{' …' if len(numbers) > 5 else ''} were"


def _parse(line: bytes, number: int, path: Path) -> tuple[AuditEntry, str]:
    try:
        raw = json.loads(line)
        if not isinstance(raw, dict) or set(raw) != _KEYS or canonical(raw) != line.rstrip(b"\n"):
            raise ValueError
        claimed = raw.pop("hash")
        actual = sha256(canonical(raw))
        entry = _entry({**raw, "hash": claimed})
    except (ValueError, TypeError, RecursionError):
        raise _broken(path, f"line {number} is not an entry: it was altered") from None
    if claimed != actual:
        raise _broken(path, f"entry {entry.seq} (line {number}) was altered")
    return entry, str(raw["prev"])


def _entry(raw: Mapping[str, Any]) -> AuditEntry:
    if type(raw["seq"]) is not int or type(raw["data"]) is not dict:
        raise TypeError
    return AuditEntry(
        seq=raw["seq"],
        at=str(raw["at"]),
        van=str(raw["van"]),
        deployment=str(raw["deployment"]),
        event=str(raw["event"]),
        data=raw["data"],
        hash=str(raw["hash"]),
    )


def _broken(path: Path, cause: str, next_step: str = "Keep the file as evidence and tell the overseer") -> AuditBroken:
    return AuditBroken(str(path), cause, next_step)


def verify(path: Path, signers: KnownSigners, *, published: Iterable[str] = ()) -> Verified:
    """Verify a log with public keys alone.

    Args:
        path: the log; the van's own checkpoints are expected beside it.
        signers: the vans' public keys.
        published: checkpoints that were received elsewhere; only these prove that the end was not cut off.

    Raises:
        AuditBroken: an entry was altered, removed, added, moved or cut off; says which.
        StoreUnavailable: the log cannot be read.
    """
    entries = read_log(path)
    beside = checkpoints_of(path)
    local = beside.read_text(encoding="ascii", errors="replace").split("\n")[:-1] if beside.exists() else []
    signed_to = count = 0
    for place, token in [(f"checkpoint {n}", t) for n, t in enumerate(local, 1)] + [
        (f"published checkpoint {n}", t.strip()) for n, t in enumerate(published, 1)
    ]:
        seq = _check_checkpoint(path, place, token, signers, entries)
        signed_to = max(signed_to, seq)
        count += 1
    if entries and not count:
        raise _broken(path, "has no checkpoint: nothing vouches for it", "Find its checkpoints, here or as published")
    closed = bool(entries) and entries[-1].event == Event.STOPPED
    return Verified(entries, count, signed_to, closed)


def _check_checkpoint(
    path: Path, place: str, token: str, signers: KnownSigners, entries: tuple[AuditEntry, ...]
) -> int:
    try:
        signed = signers.verify(token.encode("ascii", "replace"), CHECKPOINT)
        payload = json.loads(signed.payload)
        seq, claimed, van = payload["seq"], payload["hash"], payload["van"]
        if type(seq) is not int or seq < 1:
            raise ValueError
    except SignatureInvalid as error:
        raise _broken(path, f"{place}: {error.thing} {error.cause}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _broken(path, f"{place} is malformed") from None
    if van != signed.signer:
        raise _broken(path, f"{place} is of {van} and signed by {signed.signer}")
    if seq > len(entries):
        cut = list(range(len(entries) + 1, seq + 1))
        raise _broken(path, f"{_entries(cut)} cut off at the end: {place} vouches for {seq} entries")
    entry = entries[seq - 1]
    if entry.hash != claimed or entry.van != van:
        raise _broken(path, f"entry {seq} or one before it was rewritten after {place} was signed")
    return int(seq)
