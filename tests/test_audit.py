"""The audit log, its chain, its checkpoints, and every way of tampering with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from edge.errors import AuditBroken, RecordInvalid, StoreUnavailable
from edge.trust.audit import AuditLog, checkpoints_of, read_log, verify
from edge.trust.canonical import canonical, sha256
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from tests.sim.clock import HandClock

VAN = SigningKey.generate()
SIGNERS = KnownSigners.of([VAN.public_jwk(owner="van-1")])


def new_log(path: Path, publish: Callable[[str], None] | None = None, key: SigningKey = VAN) -> AuditLog:
    log = AuditLog(path, van="van-1", clock=HandClock(tick=timedelta(milliseconds=1)), signer=key)
    if publish is not None:
        log.publish_to(publish)
    return log


def removal(number: int) -> dict[str, str]:
    return {"list": "sha256:x", "copy": "c-1", "reference": f"R-{number}", "cause": "expired"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ten entries, with checkpoints after the fourth and the tenth, closed with a farewell."""
    path = tmp_path / "audit.jsonl"
    with new_log(path) as audit:
        audit.deployment = "D-1"
        for number in range(1, 10):
            audit.record(Event.ENTRY_REMOVED, removal(number))
            if number == 4:
                audit.checkpoint()
        audit.record(Event.STOPPED, {"cause": "end of the deployment"})
    return path


def test_what_was_recorded_is_read_back_in_order(log: Path) -> None:
    found = verify(log, SIGNERS)
    assert [entry.seq for entry in found.entries] == list(range(1, 11))
    assert found.entries[2].data == removal(3)
    assert {entry.deployment for entry in found.entries} == {"D-1"}
    assert (found.checkpoints, found.signed_to, found.closed) == (2, 10, True)


def test_a_reopened_log_goes_on_with_the_chain(log: Path) -> None:
    with new_log(log) as audit:
        audit.record(Event.ENTRY_REMOVED, removal(11))
    found = verify(log, SIGNERS)
    assert len(found.entries) == 11
    assert not found.closed


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def remake(line: bytes, **changes: object) -> bytes:
    """An entry with other content and a hash that fits it: what a careful forger writes."""
    raw = {**json.loads(line), **changes}
    raw.pop("hash")
    raw["hash"] = sha256(canonical(raw))
    return canonical(raw) + b"\n"


def rechain(entries: list[bytes], start: int, **changes: object) -> list[bytes]:
    """Rewrite everything from ``start`` on: what a forger with time writes."""
    done = entries[:start]
    for line in entries[start:]:
        prev = json.loads(done[-1])["hash"] if done else "sha256:" + "0" * 64
        done.append(remake(line, prev=prev, seq=len(done) + 1, **changes))
        changes = {}
    return done


FORGED = removal(99)
ATTACKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "one letter altered": (
        lambda e: [*e[:4], e[4].replace(b"R-5", b"R-6"), *e[5:]],
        r"entry 5 \(line 5\) was altered",
    ),
    "altered with a new hash": (
        lambda e: [*e[:4], remake(e[4], data=FORGED), *e[5:]],
        "entry 5 was altered and its hash made again: entry 6 names another",
    ),
    "rewritten from the fifth on": (
        lambda e: rechain(e, 4, data=FORGED),
        "entry 10 or one before it was rewritten after checkpoint 2 was signed",
    ),
    "rewritten from the start": (
        lambda e: rechain(e, 0, data=FORGED),
        "entry 4 or one before it was rewritten after checkpoint 1 was signed",
    ),
    "one removed": (lambda e: e[:4] + e[5:], "entry 5 was removed"),
    "two removed": (lambda e: e[:4] + e[6:], "entries 5, 6 were removed"),
    "one removed and rechained": (
        lambda e: rechain(e[:4] + e[5:], 4),
        "entry 10 was cut off at the end: checkpoint 2 vouches for 10 entries",
    ),
    "the first removed": (lambda e: e[1:], "entry 1 was removed"),
    "two exchanged": (lambda e: [*e[:4], e[5], e[4], *e[6:]], "entry 6 stands at place 5: it was moved"),
    "one written twice": (lambda e: [*e[:5], e[4], *e[5:]], "entry 5 occurs twice"),
    "one put in and rechained": (
        lambda e: rechain([*e[:4], e[4], *e[4:]], 4),
        "entry 10 or one before it was rewritten after checkpoint 2 was signed",
    ),
    "the end cut off": (lambda e: e[:7], "entries 8, 9, 10 were cut off at the end: checkpoint 2 vouches for 10"),
    "the last line torn": (lambda e: [*e[:9], e[9][:40]], "line 10 is torn off"),
    "a blank line": (lambda e: [*e[:4], b"\n", *e[4:]], "line 5 is not an entry: it was altered"),
    "a line of something else": (lambda e: [*e[:4], b"[]\n", *e[5:]], "line 5 is not an entry: it was altered"),
    "another spelling of the same": (
        lambda e: [*e[:4], e[4].replace(b'","', b'", "', 1), *e[5:]],
        "line 5 is not an entry: it was altered",
    ),
    "everything removed": (lambda e: [], "entries 1, 2, 3, 4 were cut off at the end"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_tampering_is_found_and_the_entry_is_named(attack: str, log: Path) -> None:
    tamper, message = ATTACKS[attack]
    log.write_bytes(b"".join(tamper(lines(log))))
    with pytest.raises(AuditBroken, match=message):
        verify(log, SIGNERS)


def test_a_cut_with_its_checkpoints_is_found_by_the_published_ones(log: Path) -> None:
    published = checkpoints_of(log).read_text().splitlines()
    checkpoints_of(log).write_text(published[0] + "\n")
    log.write_bytes(b"".join(lines(log)[:4]))
    assert len(verify(log, SIGNERS).entries) == 4  # what lies on the van agrees with itself
    with pytest.raises(AuditBroken, match="entries 5, 6, 7, 8, 9 … were cut off at the end: published checkpoint 1"):
        verify(log, SIGNERS, published=published[1:])


def test_a_log_without_any_checkpoint_is_refused(log: Path) -> None:
    checkpoints_of(log).unlink()
    with pytest.raises(AuditBroken, match="has no checkpoint"):
        verify(log, SIGNERS)


def test_a_checkpoint_by_another_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with new_log(path, key=SigningKey.generate()) as audit:
        audit.record(Event.STOPPED, {"cause": "test"})
    with pytest.raises(AuditBroken, match="checkpoint 1: signature was made with a key that is not known here"):
        verify(path, SIGNERS)


def test_another_van_s_key_does_not_vouch_for_this_one(log: Path) -> None:
    with pytest.raises(AuditBroken, match="is of van-1 and signed by van-2"):
        verify(log, KnownSigners.of([VAN.public_jwk(owner="van-2")]))


def test_checkpoints_are_published_on_their_own_and_at_the_end(tmp_path: Path) -> None:
    published: list[str] = []
    path = tmp_path / "audit.jsonl"
    with new_log(path, published.append) as audit:
        for number in range(70):
            audit.record(Event.ENTRY_REMOVED, removal(number))
        assert len(published) == 1
    assert len(published) == 2
    assert checkpoints_of(path).read_text().splitlines() == published
    assert verify(path, SIGNERS, published=published).signed_to == 70


def test_a_torn_last_line_is_cut_off_and_noted_at_the_next_start(log: Path) -> None:
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"at":"2026')
    with new_log(log):
        pass
    found = verify(log, SIGNERS)
    assert len(found.entries) == 11
    assert (found.entries[-1].event, found.entries[-1].data) == (Event.LOG_REPAIRED, {"bytes": 11})


def test_a_log_has_one_writer(log: Path) -> None:
    with new_log(log), pytest.raises(StoreUnavailable, match="in use by another process"):
        new_log(log)


def test_a_missing_log_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        read_log(tmp_path / "nothing")


@pytest.mark.parametrize(
    "data",
    [
        {"list": "x", "reference": "R-1"},
        {**removal(1), "template": "x"},
        {**removal(1), "cause": b"bytes"},
        {**removal(1), "cause": np.zeros(3)},
        {**removal(1), "cause": 1},
        {**removal(1), "cause": "x" * 1001},
    ],
    ids=["too few fields", "one too many", "bytes", "an array", "a number", "a long text"],
)
def test_an_event_holds_its_own_fields_and_nothing_biometric(data: dict[str, object], tmp_path: Path) -> None:
    with new_log(tmp_path / "audit.jsonl") as audit:
        with pytest.raises(RecordInvalid):
            audit.record(Event.ENTRY_REMOVED, data)
        audit.record(Event.ENTRY_REMOVED, removal(1))
    assert len(verify(tmp_path / "audit.jsonl", SIGNERS).entries) == 1


def test_fractions_have_no_canonical_form() -> None:
    with pytest.raises(RecordInvalid, match=r"\$\.a\[1\]: cannot hold a float"):
        canonical({"a": [1, 0.5]})
