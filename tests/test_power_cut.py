"""Power cuts at every step of a list's life: a process of its own dies by SIGKILL with nothing tidied up."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import WatchlistGone
from edge.trust.audit import AuditLog, verify
from edge.trust.events import Event
from edge.trust.history import was_listed
from edge.watchlist.lifecycle import ListLifecycle
from tests import power_cuts
from tests.lists import Site, entry, events, import_into

PEOPLE = ("R-1", "R-2", "R-3")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.enrol_van()
    return made


def cut_at(step: str) -> Callable[[str], None]:
    def maybe(now: str) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return maybe


def in_a_process_that_dies(action: Callable[[], None]) -> None:
    """Run ``action`` in a process of its own that must end by SIGKILL, with nothing tidied up."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def restarted(site: Site) -> tuple[AuditLog, ListLifecycle]:
    audit = site.audit()
    keeper = site.keeper(audit)
    keeper.recover()
    return audit, keeper


IMPORT_STEPS = ["key made", "filled", "staged", "logged", "switched", "key", "intent", "shredded", "gone", "receipt"]


@pytest.mark.parametrize("step", IMPORT_STEPS)
def test_power_cut_during_an_import_leaves_the_old_list_or_the_new_one(step: str, site: Site) -> None:
    with site.audit() as log:
        first = site.keeper(log)
        import_into(first, site, site.build([entry("R-old")], name="before"))
        first.close()
    built = site.build([entry(name) for name in PEOPLE])

    def importing() -> None:
        import_into(site.keeper(site.audit(), step=cut_at(step)), site, built)

    in_a_process_that_dies(importing)
    audit, keeper = restarted(site)
    expected = ("R-old",) if IMPORT_STEPS.index(step) < IMPORT_STEPS.index("switched") else PEOPLE
    assert keeper.open().references() == expected
    keeper.open().verify()
    assert len(list((site.folder / "lists").glob("list-*"))) == 1
    keeper.close()
    audit.close()
    found = verify(site.log, site.signers).entries
    listed = {name: was_listed(found, name) for name in ("R-old", "R-1")}
    for name, listings in listed.items():
        in_force = name in expected
        assert [listing.until is None for listing in listings] in ([in_force], [] if not in_force else [True])


@pytest.mark.parametrize("step", ["key", "intent", "shredded", "gone", "receipt"])
def test_power_cut_during_destruction_ends_in_destruction_with_its_receipt(step: str, site: Site) -> None:
    with site.audit() as log:
        first = site.keeper(log)
        import_into(first, site, site.build([entry(name) for name in PEOPLE]))
        first.close()

    def destroying() -> None:
        site.keeper(site.audit(), step=cut_at(step)).destroy("the authority ended")

    in_a_process_that_dies(destroying)
    audit, keeper = restarted(site)
    with pytest.raises(WatchlistGone):
        keeper.open()
    assert list((site.folder / "lists").iterdir()) == []
    audit.close()
    (destroyed,) = events(site, Event.LIST_DESTROYED)
    assert destroyed["cause"] == ("its key was gone" if step == "key" else "the authority ended")


def test_power_cut_during_a_removal_is_made_up_in_the_log(site: Site) -> None:
    with site.audit() as log:
        first = site.keeper(log)
        import_into(first, site, site.build([entry(name) for name in PEOPLE]))
        first.close()
    in_a_process_that_dies(lambda: site.keeper(site.audit(), step=cut_at("removed")).remove("R-2", "revoked"))
    audit, keeper = restarted(site)
    assert keeper.open().references() == ("R-1", "R-3")
    keeper.close()
    audit.close()
    (removed,) = events(site, Event.ENTRY_REMOVED)
    assert removed["reference"] == "R-2"


def test_power_cuts_at_random_moments_leave_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    tally = power_cuts.run(tmp_path, points=8, seed=11)  # scripts/power-cuts does 200
    assert tally.problems == []
