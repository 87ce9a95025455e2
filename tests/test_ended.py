"""What has ended on a van stays ended: by its log alone, whatever power cut, clock or disk says."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edge.assembly.mandate
from edge.assembly.mandate import retire
from edge.deployment.ended import end_of
from edge.errors import AuthorityEnded, DeploymentOver, StoreUnavailable, WatchlistGone
from edge.trust.audit import AuditEntry, AuditLog, read_log
from edge.trust.events import Event
from edge.watchlist.destruction import DAMAGED, INTERRUPTED, KEY, REPLACED, UNNAMED
from tests.attacks.test_full_disk import config_of
from tests.test_mandate import Deployment, out
from tests.test_power_cut import IMPORT_STEPS, cut_at, in_a_process_that_dies

__all__ = ["out"]

END_STEPS = ["key", "intent", "shredded", "gone", "receipt"]


def in_a_cut(out: Deployment, step: str, action: Callable[[Deployment], None]) -> None:
    """The van starts, and the power goes at that step of what is done to it; then everything is switched on again."""
    out.keeper.close()
    out.audit.close()

    def life() -> None:
        out.audit = out.site.audit()
        out.keeper = out.site.keeper(out.audit, step=cut_at(step))
        action(out)

    in_a_process_that_dies(life)
    out.audit = out.site.audit()
    out.keeper = out.site.keeper(out.audit)


def over(out: Deployment) -> str:
    """The van refuses the deployment, with the stick left in; nothing of it is here, or was for a moment."""
    imported = len(out.logged(Event.LIST_IMPORTED))
    with pytest.raises(DeploymentOver) as refusal:
        out.mandate().start()
    assert not [path for path in (out.site.folder / "lists").rglob("*") if path.is_file()]
    assert not (out.site.folder / "authority.json").exists()
    assert len(out.logged(Event.LIST_IMPORTED)) == imported
    out.restart()
    return str(refusal.value)


@pytest.mark.parametrize("step", END_STEPS)
def test_an_authority_that_ended_in_a_power_cut_is_over_and_no_clock_that_is_set_back_revives_it(
    step: str, out: Deployment
) -> None:
    def ends(out: Deployment) -> None:
        mandate = out.mandate()
        mandate.start()
        out.site.clock.at = out.authority.ends
        mandate.check()

    began = out.site.clock.at
    in_a_cut(out, step, ends)
    assert out.site.clock.at == began, "as far as this van knows, the authority still has hours to run"
    for _ in range(2):
        assert "deployment D-1: has ended on this van at" in over(out)
    assert [data["error"] for data in out.logged(Event.REFUSED)] == ["DeploymentOver"]


@pytest.mark.parametrize("step", IMPORT_STEPS[:5])
def test_an_import_that_was_cut_off_is_no_end(step: str, out: Deployment) -> None:
    in_a_cut(out, step, lambda out: out.mandate().start() and None)
    assert out.mandate().start().references() == ("R-1", "R-2", "R-3")


@pytest.mark.parametrize("step", END_STEPS)
def test_a_damaged_list_that_was_being_destroyed_in_a_power_cut_is_fetched_again(step: str, out: Deployment) -> None:
    path = out.mandate().start().path
    out.keeper.close()
    content = bytearray(path.read_bytes())
    content[2 * 4096 + 100 : 2 * 4096 + 300] = bytes(200)
    path.write_bytes(content)
    in_a_cut(out, step, lambda out: out.mandate().start() and None)
    assert out.mandate().start().references() == ("R-1", "R-2", "R-3")


@pytest.mark.parametrize("step", END_STEPS)
def test_the_list_of_an_import_that_was_cut_off_is_cleared_away_in_another_cut_and_is_no_end(
    step: str, out: Deployment
) -> None:
    in_a_cut(out, "logged", lambda out: out.mandate().start() and None)
    in_a_cut(out, step, lambda out: out.mandate().start() and None)
    assert out.mandate().start().references() == ("R-1", "R-2", "R-3")


def test_a_volume_whose_key_was_destroyed_and_never_said_so_has_ended_its_deployment(out: Deployment) -> None:
    """A stick LFR-RETIRE, and the power is cut right after the sealed key: the new volume holds nothing at all."""
    out.mandate().start()
    out.keeper.close()
    shutil.rmtree(out.site.folder / "lists")
    out.restart()
    assert "found gone after a power cut" in over(out)


def test_a_key_that_went_without_a_word_on_a_full_disk_has_ended_its_deployment(out: Deployment) -> None:
    out.mandate().start()
    out.keeper.close()
    for key in (out.site.folder / "lists").glob(f"list-*/{KEY}"):
        key.unlink()
    out.restart()
    assert "its key was gone" in over(out)


# -- the command -----------------------------------------------------------------------------------


def at_rest(out: Deployment) -> Any:
    """The van's configuration; nothing is open any more."""
    out.keeper.close()
    out.audit.close()
    return config_of(out)


def _cut_after(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(edge.assembly.mandate, name)

    def then_cut(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(edge.assembly.mandate, name, then_cut)


@pytest.mark.parametrize("name", ["destroy_keys", "open_audit", "_note_ends", "_receipt", "shred"])
def test_a_retirement_that_was_cut_off_anywhere_lasts(
    name: str, out: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.mandate().start()
    config = at_rest(out)
    with monkeypatch.context() as patch:
        _cut_after(name, patch)
        in_a_process_that_dies(lambda: retire(config, "weather") and None)
    out.audit = out.site.audit()
    out.keeper = out.site.keeper(out.audit)
    assert "weather" in over(out)


def test_a_key_that_cannot_be_overwritten_keeps_no_deployment_alive(
    out: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worn(path: Path) -> bool:
        raise StoreUnavailable(str(path), "cannot be overwritten (Input/output error)", "Destroy the disk itself")

    out.mandate().start()
    config = at_rest(out)
    with monkeypatch.context() as patch:
        patch.setattr(edge.assembly.mandate, "SystemClock", lambda: out.site.clock)
        for module in ("edge.watchlist.destruction", "edge.watchlist.lifecycle", "edge.assembly.mandate"):
            patch.setattr(f"{module}.shred", worn)
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            retire(config, "weather")
    out.audit = out.site.audit()
    out.keeper = out.site.keeper(out.audit)
    assert out.keeper.held() is not None, "the disk refused, and the list is still there"
    assert "weather" in over(out)


@pytest.mark.parametrize("cause", [DAMAGED, REPLACED, INTERRUPTED])
def test_no_word_of_the_crews_makes_an_end_pass_for_something_else(cause: str, out: Deployment) -> None:
    out.mandate().start()
    receipt = retire(at_rest(out), cause)
    assert receipt.cause == f"retired: {cause}"
    out.audit = out.site.audit()
    out.keeper = out.site.keeper(out.audit)
    assert cause in over(out)


def test_retiring_again_says_that_nothing_is_left_and_writes_nothing_down_twice(out: Deployment) -> None:
    out.mandate().start()
    config = at_rest(out)
    retire(config, "weather")
    with pytest.raises(WatchlistGone, match="there is no list to destroy"):
        retire(config, "again")
    ended = [entry.data for entry in read_log(out.site.log) if entry.event == Event.AUTHORITY_ENDED]
    assert ended == [{"authority": "D-1", "cause": "weather"}]


def test_a_list_of_before_is_retired_under_its_own_name_and_not_under_the_one_that_is_configured_now(
    out: Deployment,
) -> None:
    out.mandate().start()
    config = at_rest(out)
    config = msgspec.structs.replace(config, deployment=msgspec.structs.replace(config.deployment, id="D-2"))
    retire(config, "on to the next")
    entries = read_log(out.site.log)
    assert end_of(entries, "D-1") is not None
    assert end_of(entries, "D-2") is None


# -- a full disk -----------------------------------------------------------------------------------


def test_an_end_that_a_log_without_room_never_heard_of_lasts(out: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    mandate = out.mandate()
    mandate.start()

    def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("audit.jsonl", "cannot be written (No space left on device)", "Make room")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "record", full)
        patch.setattr("edge.watchlist.destruction.replace_file", _enospc)
        out.site.clock.at = out.authority.ends
        with pytest.raises(AuthorityEnded):
            mandate.check()
    assert out.logged(Event.LIST_DESTROYED) == []
    out.site.clock.at = out.authority.starts
    out.restart()
    over(out)


def _enospc(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


# -- the rule --------------------------------------------------------------------------------------


def said(seq: int, event: Event, deployment: str = "D-1", **data: Any) -> AuditEntry:
    return AuditEntry(seq, "2026-03-01T10:00:00.000+00:00", "van-1", deployment, event.value, data, "")


IMPORTED = said(1, Event.LIST_IMPORTED, copy="a", list="sha256:1", references=["R-1"])


@pytest.mark.parametrize(
    ("entries", "ended"),
    [
        ([], False),
        ([IMPORTED], False),
        ([said(1, Event.AUTHORITY_ENDED, authority="D-1", cause="the authority ended")], True),
        ([said(1, Event.AUTHORITY_ENDED, authority="D-2", cause="the authority ended")], False),
        ([IMPORTED, said(2, Event.LIST_DESTROYED, copy="a", cause="weather")], True),
        ([IMPORTED, said(2, Event.LIST_DESTROYED, "D-2", copy="a", cause="weather")], True),
        ([IMPORTED, said(2, Event.LIST_DESTROYED, copy="b", cause="weather")], False),
        ([IMPORTED, said(2, Event.LIST_DESTROYED, copy="a", cause=DAMAGED)], False),
        ([IMPORTED, said(2, Event.LIST_DESTROYED, copy="a", cause=REPLACED)], False),
        ([IMPORTED, said(2, Event.LIST_DESTROYED, copy="a", cause=UNNAMED)], False),
        ([IMPORTED, said(2, Event.ENTRY_REMOVED, copy="a", reference="R-1", cause="revoked")], False),
    ],
    ids=["nothing", "in force", "over", "another is over", "retired", "under another's name", "another copy",
         "damaged", "replaced", "no authority names it", "one person left"],
)  # fmt: skip
def test_what_a_log_says_of_a_deployment(entries: list[AuditEntry], *, ended: bool) -> None:
    assert (end_of(entries, "D-1") is not None) is ended
