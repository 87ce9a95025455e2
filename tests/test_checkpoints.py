"""Of a van's checkpoints the control room keeps the van's own and nothing else. Real keys, a real folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.controlroom.checkpoints import keep_checkpoint
from edge.errors import AlertRejected, SignatureInvalid, StoreUnavailable
from edge.trust.audit import CHECKPOINT, AuditLog, verify
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from tests.sim.clock import HandClock

ONE, OTHER, STRANGER = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
VANS = KnownSigners.of([ONE.public_jwk(owner="van-1"), OTHER.public_jwk(owner="van-2")])


def checkpoints(tmp_path: Path, van: str, signer: SigningKey, entries: int = 2) -> list[str]:
    """What a real audit log published."""
    published: list[str] = []
    with AuditLog(tmp_path / f"{van}.jsonl", van=van, clock=HandClock(), signer=signer) as log:
        log._publish = published.append
        for number in range(entries):
            log.record(Event.STOPPED, {"cause": f"number {number}"})
            log.checkpoint()
    return published


def kept(folder: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text("ascii").splitlines() for path in folder.glob("*")}


def test_a_van_s_own_checkpoints_are_kept_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    mine = checkpoints(tmp_path, "van-1", ONE)
    folder = tmp_path / "kept"
    for token in mine:
        assert keep_checkpoint(folder, "van-1", token.encode(), VANS).van == "van-1"
    assert kept(folder) == {"van-1.jws": mine}
    assert verify(tmp_path / "van-1.jsonl", VANS, published=kept(folder)["van-1.jws"]).signed_to == 2


def test_the_latest_that_is_said_again_is_kept_once(tmp_path: Path) -> None:
    first, second = checkpoints(tmp_path, "van-1", ONE)
    folder = tmp_path / "kept"
    for token in (first, first, second, second):
        keep_checkpoint(folder, "van-1", token.encode(), VANS)
    assert kept(folder) == {"van-1.jws": [first, second]}


def test_another_van_s_checkpoint_is_refused_and_kept_nowhere(tmp_path: Path) -> None:
    """Or a van that somebody else controls could vouch for entries that this one never wrote."""
    others = checkpoints(tmp_path, "van-2", OTHER)
    folder = tmp_path / "kept"
    with pytest.raises(SignatureInvalid, match="van-1"):
        keep_checkpoint(folder, "van-1", others[0].encode(), VANS)
    assert kept(folder) == {}


def test_a_checkpoint_by_a_key_that_nobody_knows_is_refused_and_kept_nowhere(tmp_path: Path) -> None:
    forged = checkpoints(tmp_path, "van-1", STRANGER)
    with pytest.raises(SignatureInvalid):
        keep_checkpoint(tmp_path / "kept", "van-1", forged[0].encode(), VANS)
    assert kept(tmp_path / "kept") == {}


def test_another_kind_of_message_is_no_checkpoint_though_the_van_signed_it(tmp_path: Path) -> None:
    with pytest.raises(SignatureInvalid):
        keep_checkpoint(tmp_path / "kept", "van-1", ONE.sign(b"{}", "lfr-receipt"), VANS)
    assert kept(tmp_path / "kept") == {}


@pytest.mark.parametrize(("size", "accepted"), [(4096, True), (4097, False)])
def test_what_is_longer_than_a_checkpoint_can_be_is_refused_before_it_is_read(
    size: int, accepted: bool, tmp_path: Path
) -> None:
    longest = ONE.sign(b"x" * ((4096 - len(ONE.sign(b"", CHECKPOINT))) * 3 // 4), CHECKPOINT)
    assert len(longest) == 4096
    token = longest + b"x" * (size - 4096)
    if accepted:
        assert keep_checkpoint(tmp_path / "kept", "van-1", token, VANS).van == "van-1"
    else:
        with pytest.raises(AlertRejected, match="4097 bytes"):
            keep_checkpoint(tmp_path / "kept", "van-1", token, VANS)


def test_a_control_room_that_keeps_no_checkpoints_still_checks_them(tmp_path: Path) -> None:
    (token,) = checkpoints(tmp_path, "van-1", ONE, entries=1)
    assert keep_checkpoint(None, "van-1", token.encode(), VANS).van == "van-1"
    with pytest.raises(SignatureInvalid):
        keep_checkpoint(None, "van-2", token.encode(), VANS)


def test_nobody_else_may_read_the_folder(tmp_path: Path) -> None:
    (token,) = checkpoints(tmp_path, "van-1", ONE, entries=1)
    keep_checkpoint(tmp_path / "kept", "van-1", token.encode(), VANS)
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (token,) = checkpoints(tmp_path, "van-1", ONE, entries=1)
    (tmp_path / "kept").write_text("a file where a folder should be")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        keep_checkpoint(tmp_path / "kept", "van-1", token.encode(), VANS)
