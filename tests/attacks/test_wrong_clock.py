"""Whoever can make the van's clock wrong: a flat battery, a long garage, a time server on the road."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.deployment.battery_clock import AGREEMENT, kept_time, tells_of_failure
from edge.deployment.clock_trust import ClockTrust
from edge.errors import MetadataExpired
from edge.trust.events import Event
from edge.watchlist.destruction import DAMAGED
from provisioning.keyring import Keyring
from provisioning.repository import Repository
from tests.sim.clock import HandClock
from tests.test_mandate import Deployment, out

__all__ = ["out"]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUILT = NOW - timedelta(days=30)


def battery(folder: Path, shows: datetime, *, set_by_it: str = "1") -> Path:
    """A battery-backed clock as sysfs shows it."""
    made = folder / "rtc-of-a-test"
    made.mkdir()
    (made / "hctosys").write_text(f"{set_by_it}\n")
    (made / "since_epoch").write_text(f"{shows.timestamp():.0f}\n")
    return made


@pytest.mark.parametrize(
    ("shows", "set_by_it", "believed"),
    [
        (NOW, "1", True),
        (NOW - timedelta(seconds=50), "1", True),
        (datetime(1970, 1, 1, 0, 5, tzinfo=UTC), "1", False),
        (BUILT - timedelta(days=1), "1", False),
        (NOW, "0", False),
        (NOW - AGREEMENT - timedelta(seconds=2), "1", False),
        (NOW + timedelta(days=400), "1", False),
    ],
    ids=["kept time", "a little behind", "no battery", "before the build", "not used", "set away", "set ahead"],
)
def test_that_there_is_a_battery_backed_clock_is_no_confirmation(
    shows: datetime, set_by_it: str, believed: bool, tmp_path: Path
) -> None:
    assert kept_time(battery(tmp_path, shows, set_by_it=set_by_it), now=NOW, past=BUILT) is believed


@pytest.mark.parametrize("content", ["", "x", "9" * 30, "-1"])
def test_a_battery_backed_clock_that_shows_nonsense_is_none(content: str, tmp_path: Path) -> None:
    clock = battery(tmp_path, NOW)
    (clock / "since_epoch").write_text(content)
    assert not kept_time(clock, now=NOW, past=BUILT)
    assert not kept_time(tmp_path / "nothing", now=NOW, past=BUILT)


@pytest.mark.parametrize(("flags", "failed"), [(0, False), (1, True), (2, False), (4, True), (5, True), (8, False)])
def test_a_clock_that_admits_that_its_voltage_failed_is_not_believed(flags: int, failed: bool) -> None:
    assert tells_of_failure(struct.pack("=I", flags)) is failed


def test_a_pi_without_a_battery_waits_for_a_time_server_or_satellites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.deployment.clock_trust.kernel_says_synchronised", lambda: False)
    timesync = tmp_path / "synchronized"
    monkeypatch.setattr("edge.deployment.clock_trust.TIMESYNC", timesync)
    trust = ClockTrust(HandClock(NOW), rtc=battery(tmp_path, datetime(1970, 1, 1, 0, 1, tzinfo=UTC)))
    assert not trust.confirmed()
    timesync.touch()
    assert trust.confirmed()
    assert trust.by == "a time server"


# -- a restart when what was current has lapsed ----------------------------------------------------


def lapse(out: Deployment) -> None:
    """The stick's state as it is 25 hours after it was published."""
    Repository(out.stick, Keyring(out.site.folder / "keys")).publish(datetime.now(UTC) - timedelta(hours=25))


def test_a_restart_a_day_into_a_deployment_goes_on_with_the_list_that_was_accepted_in_time(out: Deployment) -> None:
    assert out.mandate().start().references() == ("R-1", "R-2", "R-3")
    lapse(out)
    out.restart()
    mandate = out.mandate()
    assert mandate.start().references() == ("R-1", "R-2", "R-3")
    assert mandate.check().deployment == "D-1"


def test_what_has_lapsed_before_it_was_ever_accepted_is_refused(out: Deployment) -> None:
    lapse(out)
    with pytest.raises(MetadataExpired):
        out.mandate().start()
    assert out.logged(Event.LIST_IMPORTED) == []


def test_an_authority_without_its_list_is_not_enough_to_go_on(out: Deployment) -> None:
    out.mandate().start()
    out.keeper.destroy(DAMAGED)  # which ends no deployment
    lapse(out)
    out.restart()
    with pytest.raises(MetadataExpired):
        out.mandate().start()


def test_another_deployment_does_not_go_on_with_what_was_accepted_for_this_one(out: Deployment) -> None:
    out.mandate().start()
    lapse(out)
    out.restart()
    with pytest.raises(MetadataExpired):
        out.mandate(deployment="D-2").start()
