"""What a van's own rules say of an update, and that its floor never sinks."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.vanroot import commit, failed_updates, floor, preinstall, update
from edge.vanroot.commit import Standing

FLOOR = floor.Floor("1.4.0", 2)


def release(version: str = "1.5.0", epoch: int = 2, board: str = "qemu-arm64") -> floor.Release:
    return floor.Release(version, epoch, board, {})


@pytest.mark.parametrize(
    ("candidate", "deployed", "refusal"),
    [
        (release(), False, None),
        (release("1.4.0"), False, None),
        (release("1.10.0"), False, None),
        (release("1.3.9"), False, "OlderVersion"),
        (release("1.4", 3), False, None),
        (release("9.0.0", 1), False, "LowerEpoch"),
        (release("1.3.0", 1), False, "LowerEpoch"),
        (release("0.1", 9), False, "OlderVersion"),
        (release(board="jetson-orin"), False, "WrongBoard"),
        (release(), True, "DeploymentRunning"),
        (release("0.1", 0, "other"), True, "WrongBoard"),
    ],
)
def test_an_update_is_judged_by_board_deployment_epoch_and_version(
    candidate: floor.Release, deployed: bool, refusal: str | None
) -> None:
    found = floor.judge(candidate, FLOOR, board="qemu-arm64", deployed=deployed)
    assert (found.name if found else None) == refusal


@pytest.mark.parametrize("version", ["", "1.", "v1", "1.0-rc1", "1..2", "1.2.3.4.5.6.7", "-1", "1e3", "१"])
def test_a_version_that_cannot_be_ordered_is_no_version(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        floor.version_key(version)


def test_ten_is_newer_than_nine_and_trailing_zeros_do_not_count() -> None:
    assert floor.version_key("1.10") > floor.version_key("1.9.9")
    assert floor.version_key("2.0.0") == floor.version_key("2")


def test_the_floor_rises_and_never_sinks(tmp_path: Path) -> None:
    store = floor.FloorStore(tmp_path / "floor.json")
    assert store.read() == floor.Floor("0", 0)
    assert store.rise(release("1.4.0", 2)) == floor.Floor("1.4.0", 2)
    assert store.rise(release("1.2.0", 3)) == floor.Floor("1.4.0", 3)
    assert store.rise(release("1.9.0", 0)) == floor.Floor("1.9.0", 3)
    assert floor.FloorStore(tmp_path / "floor.json").read() == floor.Floor("1.9.0", 3)


@pytest.mark.parametrize("content", ["", "{}", '{"version": "x", "epoch": 1}', '{"version": "1", "epoch": "many"}'])
def test_a_damaged_floor_is_not_taken_for_no_floor(tmp_path: Path, content: str) -> None:
    path = tmp_path / "floor.json"
    path.write_text(content)
    with pytest.raises((ValueError, KeyError)):
        floor.FloorStore(path).read()


class Kept:
    """A counter that cannot be set back."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def read(self) -> int:
        return self.epoch

    def rise(self, epoch: int) -> None:
        assert epoch > self.epoch
        self.epoch = epoch


def test_an_old_copy_of_the_state_volume_does_not_bring_an_old_epoch_back_where_there_is_a_tpm(tmp_path: Path) -> None:
    counter = Kept(0)
    store = floor.FloorStore(tmp_path / "floor.json", counter)
    store.rise(release("1.0", 1))
    old = (tmp_path / "floor.json").read_bytes()
    store.rise(release("1.1", 5))
    (tmp_path / "floor.json").write_bytes(old)
    assert store.read().epoch == 5


@pytest.mark.parametrize(
    ("version", "epoch", "standing"),
    [
        ("1.4.0", 2, Standing.COMMITTED),
        ("1.5.0", 2, Standing.TRIAL),
        ("1.4.0", 3, Standing.TRIAL),
        ("1.3.0", 2, Standing.RESCUE),
        ("1.5.0", 1, Standing.RESCUE),
        ("1.3.0", 3, Standing.RESCUE),
    ],
)
def test_an_image_is_on_trial_above_the_floor_and_a_rescue_below_it(
    version: str, epoch: int, standing: Standing
) -> None:
    assert commit.standing(release(version, epoch), FLOOR) is standing


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    digests = {}
    for name in preinstall.PAYLOAD:
        (tmp_path / name).write_bytes(name.encode() * 1000)
        digests[name] = hashlib.sha256(name.encode() * 1000).hexdigest()
    record = {"version": "1.5.0", "epoch": 2, "board": "qemu-arm64", "digests": digests}
    (tmp_path / "release.json").write_text(json.dumps(record))
    return tmp_path


def verdict(bundle: Path) -> str | None:
    found = preinstall.inspect(bundle, FLOOR, board="qemu-arm64", deployed=False)
    return found.name if found else None


def test_a_whole_bundle_passes_the_handler(bundle: Path) -> None:
    assert verdict(bundle) is None


@pytest.mark.parametrize("name", preinstall.PAYLOAD)
def test_one_flipped_byte_of_the_payload_is_refused_before_a_slot_is_touched(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[5000] ^= 1
    (bundle / name).write_bytes(content)
    assert verdict(bundle) == "PayloadDamaged"


def test_a_bundle_without_a_release_record_is_refused(bundle: Path) -> None:
    (bundle / "release.json").write_text("{}")
    assert verdict(bundle) == "NoRelease"
    (bundle / "release.json").unlink()
    assert verdict(bundle) == "PayloadDamaged"


def test_a_stick_that_stays_in_the_van_does_not_install_the_same_image_again(bundle: Path, tmp_path: Path) -> None:
    running, note = release("1.4.0"), tmp_path / "tried.json"

    def said() -> str | None:
        history = floor.History(running, failed_updates.read(note))
        found = preinstall.inspect(bundle, FLOOR, board="qemu-arm64", deployed=False, history=history)
        return found.name if found else None

    assert said() is None
    failed_updates.add(release("1.6.0"), note)
    failed_updates.add(release("1.5.0"), note)
    assert said() == "FailedBefore"  # the van restarted, and the old image runs again
    running = release("1.5.0")
    assert said() == "AlreadyRuns"
    failed_updates.clear(note)
    assert said() == "AlreadyRuns"
    assert verdict(bundle) is None  # as with try-again on the stick


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '[["1.0", "many"]]', "null"])
def test_a_damaged_note_of_what_was_tried_stops_no_update(tmp_path: Path, content: str) -> None:
    (tmp_path / "tried.json").write_text(content)
    assert failed_updates.read(tmp_path / "tried.json") == frozenset()


def test_once_more_is_asked_for_on_the_stick_and_counts_once(tmp_path: Path) -> None:
    stick, mark = tmp_path / "stick", tmp_path / "again"
    stick.mkdir()
    assert update.wants_again(stick, mark) == ""
    assert not mark.exists()
    (stick / floor.AGAIN).touch()
    assert "once more" in update.wants_again(stick, mark)
    assert mark.exists()
    assert update.wants_again(stick, mark) == ""
    assert not mark.exists()


def test_once_more_on_a_stick_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    stick, mark = tmp_path / "stick", tmp_path / "again"
    (stick / floor.AGAIN).mkdir(parents=True)  # cannot be unlinked, not even by root
    assert "ignored" in update.wants_again(stick, mark)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("said", "issuers", "name"),
    [
        ("LastError: signature verification failed: self-signed certificate", ["O=X"], "WrongAuthority"),
        (
            "LastError: signature verification failed: unable to get local issuer",
            ["O = LFR Edge development, CN = a"],
            "DevelopmentSigned",
        ),
        ("Compatible mismatch: Expected 'a' but bundle manifest has 'b'", [], "WrongBoard"),
        ("signature size exceeds bundle size", [], "Truncated"),
        ("something nobody foresaw", [], "NotInstalled"),
    ],
)
def test_what_rauc_says_becomes_a_stable_name(said: str, issuers: list[str], name: str) -> None:
    assert update.explain(said, issuers, None)[0] == name


def test_the_handlers_own_refusal_wins_over_what_rauc_makes_of_it() -> None:
    assert update.explain("Handler error", [], {"name": "LowerEpoch", "reason": "r"}) == ("LowerEpoch", "r")


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[str]:
    if shutil.which("swtpm") is None or shutil.which("tpm2_nvdefine") is None:
        pytest.skip("swtpm and tpm2-tools are not installed: scripts/setup-image")
    server = next(port for port in range(23210, 23400, 2) if free(port) and free(port + 1))
    control = server + 1  # tpm2-tools look for it there
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tmp_path}", "--flags", "not-need-init,startup-clear"),
            *("--server", f"type=tcp,port={server},disconnect", "--ctrl", f"type=tcp,port={control}"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while floor.TpmBits(f"swtpm:host=127.0.0.1,port={server}")._tool("tpm2_getcap", "handles-nv-index").returncode:
            assert time.monotonic() < deadline, "swtpm does not answer"
        yield f"swtpm:host=127.0.0.1,port={server}"
    finally:
        process.kill()
        process.wait()


def test_a_tpm_keeps_the_epoch_and_cannot_be_set_back(tpm: str, tmp_path: Path) -> None:
    bits = floor.TpmBits(tpm)
    assert bits.read() == 0
    bits.rise(3)
    assert bits.read() == 3
    bits.rise(1)
    assert bits.read() == 3
    store = floor.FloorStore(tmp_path / "floor.json", floor.TpmBits(tpm))
    assert store.read() == floor.Floor("0", 3)
    assert store.rise(release("2.0", 7)).epoch == 7
    (tmp_path / "floor.json").unlink()
    assert store.read().epoch == 7


def test_a_tpm_that_does_not_answer_is_an_error_and_not_an_epoch_of_nought() -> None:
    if shutil.which("tpm2_getcap") is None:
        pytest.skip("tpm2-tools are not installed: scripts/setup-image")
    with pytest.raises(OSError, match="does not answer"):
        floor.TpmBits("swtpm:host=127.0.0.1,port=1").read()
