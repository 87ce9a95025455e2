"""The one place where a van's state is held: every change is shown everywhere, from memory."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge import config as configuration
from edge.config import Config
from edge.errors import StoreUnavailable
from edge.state import Began, Condition, Ended, Failed, Fine, Part, Starting, Trouble, VanState
from edge.system import board as module
from edge.system.board import StatusBoard, status_file
from edge.system.health import read_status, write_status
from tests.sim.clock import HandClock


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "lfr.toml"
    file.write_text(
        '[van]\nid = "van-1"\n[deployment]\nid = "op-1"\n[camera]\nsource = "0"\n[store]\nruntime = "run"\n'
    )
    return configuration.load(file)


@pytest.fixture
def board(config: Config) -> StatusBoard:
    return StatusBoard(config, HandClock())


def test_every_step_of_a_start_and_every_trouble_is_in_the_file_at_once(config: Config, board: StatusBoard) -> None:
    file = status_file(config)
    board.take(Starting("opening the camera"))
    assert (read_status(file).state, read_status(file).why) == ("starting", "opening the camera")
    board.take(Began())
    assert read_status(file).state == "matching"
    board.take(Trouble(Part.CAMERA, "It is unplugged.", key="1"), Trouble(Part.LINK, "Nobody answers.", blocks=False))
    shown = read_status(file)
    assert shown.state == "not matching"
    assert [(each.part, each.blocks) for each in shown.reasons] == [("camera", True), ("link", False)]
    board.take(Fine(Part.CAMERA, key="1"))
    assert read_status(file).state == "matching"
    assert [each.part for each in read_status(file).reasons] == ["link"]


def test_counters_are_kept_when_only_the_state_changes(board: StatusBoard) -> None:
    board.take(Began())
    board.show(msgspec.structs.replace(board.health, frames=41, state="nonsense"))
    board.take(Trouble(Part.DISK, "It is full."))
    assert (board.health.frames, board.health.state) == (41, "not matching")


def test_whoever_listens_is_told_now_and_of_every_change_but_not_of_another_age_of_the_same(board: StatusBoard) -> None:
    heard: list[VanState] = []
    board.listen(heard.append)
    board.take(Began())
    board.take(Trouble(Part.CAMERA, "No picture for 3 s."))
    board.take(Trouble(Part.CAMERA, "No picture for 4 s."))
    board.take(Fine(Part.CAMERA))
    assert [state.condition for state in heard] == [
        Condition.STARTING, Condition.MATCHING, Condition.NOT_MATCHING, Condition.MATCHING,
    ]  # fmt: skip
    board.take(Trouble(Part.CAMERA, "No picture for 5 s."))
    assert board.health.why == "No picture for 5 s."


def test_a_file_that_cannot_be_written_hides_no_change_and_is_said_by_who_shows(
    config: Config, board: StatusBoard
) -> None:
    folder = status_file(config).parent
    folder.rename(folder.with_name("elsewhere"))
    heard: list[VanState] = []
    board.listen(heard.append)
    board.take(Failed("The disk is full."))
    assert heard[-1].condition is Condition.FAILED
    with pytest.raises(StoreUnavailable, match=r"status\.json"):
        board.show()


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (Failed("The key is gone."), "The key is gone."),
        (Ended("It was told to stop."), ""),
        (Began(), "cut off without a word"),
    ],
)
def test_a_service_that_starts_again_says_why_it_failed_before_until_it_runs(
    config: Config, board: StatusBoard, last: Failed | Ended | Began, said: str
) -> None:
    board.take(last)
    again = StatusBoard(config, HandClock())
    assert said in again.health.before
    assert bool(again.health.before) is bool(said)
    again.take(Starting("reading keys"))
    third = StatusBoard(config, HandClock())
    assert said in third.health.before, "a start that is broken off does not hide why the run before it failed"
    third.take(Began())
    assert third.health.before == ""


def test_a_status_that_cannot_be_read_keeps_no_van_from_starting(config: Config, board: StatusBoard) -> None:
    status_file(config).write_bytes(b"\xff\x00{")
    assert StatusBoard(config, HandClock()).health.before == ""


def test_readers_make_no_folder(config: Config) -> None:
    assert not status_file(config).parent.exists()


def test_a_folder_that_somebody_else_made_first_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "aimed-at").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "aimed-at")
    with pytest.raises(StoreUnavailable, match="belongs to another user"):
        StatusBoard(config, HandClock())


def test_without_a_folder_of_the_service_the_file_lies_in_memory_and_is_of_this_van_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SERVICE_FOLDER", tmp_path / "not-there")
    monkeypatch.setattr(module, "MEMORY", tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    files = set()
    for van in ("a", "b"):
        (tmp_path / van).mkdir()
        file = tmp_path / van / "lfr.toml"
        file.write_text('[van]\nid = "van-1"\n[deployment]\nid = "op-1"\n[camera]\nsource = "0"\n')
        found = status_file(configuration.load(file), make=True)
        assert found.is_relative_to(tmp_path / "memory")
        assert found.parent.stat().st_mode & 0o777 == 0o700
        files.add(found)
    assert len(files) == 2
    (tmp_path / "run-lfr-edge").mkdir()
    monkeypatch.setattr(module, "SERVICE_FOLDER", tmp_path / "run-lfr-edge")
    assert status_file(configuration.load(file)).parent == tmp_path / "run-lfr-edge"


def test_a_written_status_is_replaced_whole(config: Config, board: StatusBoard) -> None:
    board.take(Began())
    write_status(status_file(config), board.health)
    assert [file.name for file in status_file(config).parent.iterdir()] == ["status.json"]
