"""The audit log where the disk, the van or the reader is not what it should be. Real files, real keys."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.errors import AuditBroken, StoreUnavailable
from edge.trust.audit import CHECKPOINT, CHECKPOINT_EVERY, AuditLog, checkpoints_of, read_log, verify
from edge.trust.canonical import canonical, sha256
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from tests.sim.clock import HandClock

VAN = SigningKey.generate()
SIGNERS = KnownSigners.of([VAN.public_jwk(owner="van-1")])
START = "sha256:" + "0" * 64


def new_log(path: Path, publish: Callable[[str], None] | None = None, **more: Any) -> AuditLog:
    log = AuditLog(path, **{"van": "van-1", "clock": HandClock(), "signer": VAN, **more})
    log._publish = publish
    return log


def removal(number: int) -> dict[str, str]:
    return {"list": "sha256:x", "copy": "c-1", "reference": f"R-{number}", "cause": "expired"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "new" / "folder" / "audit.jsonl"


def filled(path: Path, entries: int) -> Path:
    with new_log(path) as log:
        for number in range(1, entries + 1):
            log.record(Event.ENTRY_REMOVED, removal(number))
    return path


def handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- writing ---------------------------------------------------------------------------------------------------------


def test_an_entry_says_when_who_what_and_after_what(path: Path) -> None:
    clock = HandClock()
    clock.advance(0.25)
    with new_log(path, clock=clock) as log:
        log.deployment = "D-7"
        first = log.record(Event.ENTRY_REMOVED, removal(1))
        second = log.record(Event.ENTRY_REMOVED, removal(2))
    raw = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["prev"] for line in raw] == [START, first.hash]
    assert (second.seq, second.van, second.deployment, second.event) == (2, "van-1", "D-7", "entry.removed")
    assert second.data == removal(2)
    assert second.hash == sha256(canonical({k: v for k, v in raw[1].items() if k != "hash"}))
    assert re.fullmatch(r"2026-03-01T12:00:0\d\.250\+00:00", first.at)
    assert read_log(path) == (first, second)


def test_a_checkpoint_says_how_many_entries_it_vouches_for_and_when(path: Path) -> None:
    with new_log(path) as log:
        written = log.record(Event.ENTRY_REMOVED, removal(1))
        token = log.checkpoint()
        assert token is not None
        assert log.checkpoint() is None, "nothing is new"
    signed = SIGNERS.verify(token.encode(), CHECKPOINT)
    said = json.loads(signed.payload)
    assert (said["seq"], said["hash"], said["van"]) == (1, written.hash, "van-1")
    assert re.fullmatch(r"2026-03-01T12:00:0\d\.\d{3}\+00:00", said["at"])
    assert checkpoints_of(path).read_text().splitlines() == [token], "closing signed nothing more"


def test_a_checkpoint_comes_with_the_sixty_fourth_entry_that_none_vouches_for(path: Path) -> None:
    published: list[str] = []
    with new_log(path, publish=published.append) as log:
        counted = []
        for number in range(2 * CHECKPOINT_EVERY):
            log.record(Event.ENTRY_REMOVED, removal(number))
            counted.append(len(published))
    assert CHECKPOINT_EVERY == 64
    assert [counted[62], counted[63], counted[126], counted[127]] == [0, 1, 1, 2]


def test_a_reopened_log_signs_what_the_one_before_left(path: Path) -> None:
    published: list[str] = []
    log = new_log(path)
    log.record(Event.ENTRY_REMOVED, removal(1))
    os.close(log._file)  # a power cut: nothing was signed
    with new_log(path, publish=published.append):
        pass
    assert len(published) == 1
    assert verify(path, SIGNERS).signed_to == 1


def test_a_log_that_recorded_nothing_signs_nothing(path: Path) -> None:
    with new_log(path) as log:
        assert log.checkpoint() is None
    assert not checkpoints_of(path).exists()
    assert verify(path, SIGNERS).entries == ()
    assert not verify(path, SIGNERS).closed


def test_who_is_not_of_the_owner_s_group_reads_neither_the_log_nor_its_checkpoints(path: Path) -> None:
    before = os.umask(0)
    try:
        filled(path, 1)
    finally:
        os.umask(before)
    assert [each.stat().st_mode & 0o777 for each in (path, checkpoints_of(path))] == [0o640, 0o640]


def test_an_entry_is_on_the_device_before_anybody_acts_on_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[tuple[str, bool]] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        pushed.append((name, os.fstat(handle).st_size > 0))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    log = new_log(path)
    assert pushed == [("folder", True)], "that there is a new file"
    log.record(Event.ENTRY_REMOVED, removal(1))
    assert pushed[1:] == [("audit.jsonl", True)]
    log.close()
    assert pushed[2:] == [("audit.jsonl.checkpoints", True)]


def test_what_was_cut_off_after_a_power_cut_is_gone_on_the_device_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, 2)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"at": "torn')
    sizes: list[int] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            sizes.append(os.fstat(handle).st_size)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    new_log(path).close()
    assert sizes[0] == whole


class FullDisk:
    """Takes half of what is written, or nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, half: bool) -> None:
        self._write = os.write
        self._half = half
        monkeypatch.setattr(os, "write", self)

    def __call__(self, handle: int, data: bytes) -> int:
        if self._half:
            return self._write(handle, data[: len(data) // 2])
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("half", [True, False])
def test_a_disk_that_is_full_leaves_the_log_as_it_was_and_the_next_entry_follows_on(
    half: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(path)
    log.record(Event.ENTRY_REMOVED, removal(1))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        FullDisk(patch, half=half)
        with pytest.raises(StoreUnavailable, match=r"audit\.jsonl"):
            log.record(Event.ENTRY_REMOVED, removal(2))
        assert path.read_bytes() == before
        with pytest.raises(StoreUnavailable):
            log.checkpoint()
        assert checkpoints_of(path).read_bytes() == b""
    log.record(Event.ENTRY_REMOVED, removal(3))
    log.close()
    found = verify(path, SIGNERS)
    assert [entry.data["reference"] for entry in found.entries] == ["R-1", "R-3"]
    assert found.signed_to == 2


def test_a_log_whose_last_checkpoint_fails_is_let_go_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log(path)
    log.record(Event.ENTRY_REMOVED, removal(1))
    with monkeypatch.context() as patch:
        FullDisk(patch, half=False)
        with pytest.raises(StoreUnavailable):
            log.close()
    log.close()
    new_log(path).close()  # or it would be in use


def test_closing_twice_and_leaving_the_block_let_the_file_go(path: Path) -> None:
    with new_log(path) as log:
        handle = log._file
        log.close()
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_a_second_writer_leaves_no_handle_behind(path: Path) -> None:
    with new_log(path):
        before = handles()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="in use"):
                new_log(path)
        assert handles() == before


def test_handles_of_checkpoints_are_closed(path: Path) -> None:
    with new_log(path) as log:
        before = handles()
        for number in range(5):
            log.record(Event.ENTRY_REMOVED, removal(number))
            log.checkpoint()
        assert handles() == before


def test_a_log_in_a_place_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        new_log(tmp_path / "file" / "audit.jsonl")


def test_a_log_whose_last_entry_was_altered_is_not_gone_on_with(path: Path) -> None:
    filled(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"R-3", b"R-4")]))
    with pytest.raises(AuditBroken, match=r"entry 3 \(line 3\)"):
        new_log(path)


def test_a_log_that_ends_with_a_blank_line_is_not_gone_on_with(path: Path) -> None:
    filled(path, 2)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(AuditBroken, match="line 3"):
        new_log(path)


def test_a_line_torn_before_any_was_whole_is_cut_off_and_noted(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"at"')
    new_log(path).close()
    (entry,) = verify(path, SIGNERS).entries
    assert (entry.seq, entry.event, entry.data) == (1, Event.LOG_REPAIRED, {"bytes": 5})


# -- reading ---------------------------------------------------------------------------------------------------------


def remade(line: bytes, **changes: object) -> bytes:
    raw = {**json.loads(line), **changes}
    raw.pop("hash")
    raw["hash"] = sha256(canonical(raw))
    return canonical(raw) + b"\n"


@pytest.mark.parametrize(
    "changes",
    [{"seq": "1"}, {"seq": True}, {"seq": None}, {"data": []}, {"data": "x"}, {"more": 1}],
    ids=str,
)
def test_an_entry_of_another_shape_is_none_although_its_hash_fits(changes: dict[str, object], path: Path) -> None:
    filled(path, 1)
    path.write_bytes(remade(path.read_bytes(), **changes))
    with pytest.raises(AuditBroken, match="line 1"):
        read_log(path)


def test_an_entry_without_one_of_its_fields_is_none_although_its_hash_fits(path: Path) -> None:
    filled(path, 1)
    whole = json.loads(path.read_bytes())
    for name in sorted(set(whole) - {"hash"}):
        raw = {k: v for k, v in whole.items() if k not in {name, "hash"}}
        path.write_bytes(canonical({**raw, "hash": sha256(canonical(raw))}) + b"\n")
        with pytest.raises(AuditBroken, match="line 1"):
            read_log(path)


@pytest.mark.parametrize("line", [b"[" * 100_000, b"\xff\xfe", b"1", b"null", b'{"seq": 0.5}', b'"x"'])
def test_a_line_that_is_anything_else_is_altered(line: bytes, path: Path) -> None:
    filled(path, 1)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(AuditBroken, match="line 2"):
        read_log(path)


def test_the_first_entry_must_follow_on_nothing(path: Path) -> None:
    filled(path, 1)
    path.write_bytes(remade(path.read_bytes(), prev="sha256:" + "1" * 64))
    with pytest.raises(AuditBroken, match="entry 1 was altered"):
        read_log(path)


def test_the_entry_before_the_one_that_names_another_hash_is_the_one_that_was_altered(path: Path) -> None:
    filled(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    for at in (0, 1):
        forged = remade(lines[at], data=removal(9))
        path.write_bytes(b"".join([*lines[:at], forged, *lines[at + 1 :]]))
        with pytest.raises(AuditBroken, match=f"entry {at + 1} was altered"):
            read_log(path)


@pytest.mark.parametrize(
    ("cut", "named"), [(4, "entries 5, 6, 7, 8, 9 were"), (3, "entries 4, 5, 6, 7, 8 … were"), (8, "entry 9 was")]
)
def test_up_to_five_missing_entries_are_all_named(cut: int, named: str, path: Path) -> None:
    filled(path, 9)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:cut]))
    with pytest.raises(AuditBroken, match=named):
        verify(path, SIGNERS)


def test_a_gap_is_named_wherever_it_is(path: Path) -> None:
    filled(path, 6)
    lines = path.read_bytes().splitlines(keepends=True)
    for kept, named in (([0, 1, 2, 3, 5], "entry 5 was"), ([0, 2, 3, 5], "entries 2, 5 were")):
        path.write_bytes(b"".join(lines[at] for at in kept))
        with pytest.raises(AuditBroken, match=named):
            read_log(path)


def test_a_torn_line_is_numbered(path: Path) -> None:
    filled(path, 2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AuditBroken, match="line 2 is torn"):
        read_log(path)


# -- verifying -------------------------------------------------------------------------------------------------------


def vouched(payload: object, kind: str = CHECKPOINT) -> str:
    return VAN.sign(json.dumps(payload).encode(), kind).decode()


def test_checkpoints_vouch_up_to_the_latest_whatever_their_order(path: Path) -> None:
    tokens = []
    with new_log(path) as log:
        for number in range(3):
            log.record(Event.ENTRY_REMOVED, removal(number))
            tokens.append(log.checkpoint() or "")
    checkpoints_of(path).write_text("".join(f"{token}\n" for token in reversed(tokens)))
    found = verify(path, SIGNERS, published=[f"  {tokens[0]}  "])
    assert (found.checkpoints, found.signed_to) == (4, 3)


def test_entries_after_the_last_checkpoint_are_chained_only_and_that_is_told(path: Path) -> None:
    log = new_log(path)
    log.record(Event.ENTRY_REMOVED, removal(1))
    log.checkpoint()
    log.record(Event.STOPPED, {"cause": "x"})
    os.close(log._file)
    found = verify(path, SIGNERS)
    assert (len(found.entries), found.signed_to, found.closed) == (2, 1, True)


BAD_CHECKPOINTS: dict[str, str] = {
    "no object": vouched([1]),
    "no text at all": "\udcff",
    "without a number": vouched({"hash": "x", "van": "van-1"}),
    "without a hash": vouched({"seq": 1, "van": "van-1"}),
    "without a van": vouched({"seq": 1, "hash": "x"}),
    "for a number that is text": vouched({"seq": "1", "hash": "x", "van": "van-1"}),
    "for a fraction": vouched({"seq": 1.0, "hash": "x", "van": "van-1"}),
    "for no entry": vouched({"seq": 0, "hash": "x", "van": "van-1"}),
    "for entries counted from the end": vouched({"seq": -1, "hash": "x", "van": "van-1"}),
    "of another type": vouched({"seq": 1, "hash": "x", "van": "van-1"}, "lfr-receipt"),
    "of another hash": vouched({"seq": 1, "hash": "sha256:0", "van": "van-1"}),
    "of another van": vouched({"seq": 1, "hash": "x", "van": "van-2"}),
}


def test_a_checkpoint_for_no_entry_vouches_for_nothing_though_it_names_the_last_hash(path: Path) -> None:
    filled(path, 2)
    last = read_log(path)[-1]
    for seq in (0, -1):
        checkpoints_of(path).write_text(vouched({"seq": seq, "hash": last.hash, "van": "van-1"}) + "\n")
        with pytest.raises(AuditBroken, match="checkpoint 1"):
            verify(path, SIGNERS)


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_a_checkpoint_that_is_none_breaks_the_log_wherever_it_comes_from(name: str, path: Path) -> None:
    filled(path, 2)
    with pytest.raises(AuditBroken, match=r"published checkpoint 2|entry 1"):
        verify(path, SIGNERS, published=[checkpoints_of(path).read_text().strip(), BAD_CHECKPOINTS[name]])
    with checkpoints_of(path).open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(BAD_CHECKPOINTS[name] + "\n")
    with pytest.raises(AuditBroken, match=r"checkpoint 2|entry 1"):
        verify(path, SIGNERS)


def test_an_entry_that_another_van_wrote_is_not_vouched_for(path: Path) -> None:
    """Its hash is the one that the checkpoint names, so only the van tells them apart."""
    with new_log(path, van="van-2") as log:
        entry = log.record(Event.STOPPED, {"cause": "x"})
    checkpoints_of(path).write_text(vouched({"seq": 1, "hash": entry.hash, "van": "van-1"}) + "\n")
    with pytest.raises(AuditBroken, match="entry 1"):
        verify(path, SIGNERS)


def test_a_log_closed_by_the_van_ends_with_its_farewell(path: Path) -> None:
    with new_log(path) as log:
        log.record(Event.STOPPED, {"cause": "x"})
        log.record(Event.ENTRY_REMOVED, removal(1))
    assert not verify(path, SIGNERS).closed
    with new_log(path) as log:
        log.record(Event.STOPPED, {"cause": "x"})
    assert verify(path, SIGNERS).closed
