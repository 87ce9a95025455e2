"""What a van says of itself to an engineer who puts a medium for a report into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.alert.outbox import Outbox
from edge.clock import SystemClock
from edge.selftest import self_test
from edge.trust.audit import AuditLog
from edge.trust.events import Event
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from edge.vanroot import health, report
from tests.broker import Site, make_alert, make_site


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """An enrolled van's folder, with an audit log of two entries and one alert that waits."""
    site: Site = make_site(tmp_path / "site")
    folder = site.van("van-1")
    store = folder / "state"
    with Outbox(store / "outbox.db", read_secret("outbox.key", folder), "van-1") as box:
        box.append(make_alert, lambda _: b"sealed")
    signer = SigningKey.load("van-signing.jwk", folder)
    with AuditLog(store / "audit.jsonl", van="van-1", clock=SystemClock(), signer=signer) as log:
        log.record(Event.STOPPED, {"cause": "one"})
        log.record(Event.STOPPED, {"cause": "two"})
    return folder


def test_a_van_that_is_not_enrolled_says_so_and_nothing_else(tmp_path: Path) -> None:
    found = report.gather(tmp_path, tmp_path / "state", running=False)
    assert found == {"van": None, "until": None, "audit": None, "outbox": None, "fault": []}


def test_an_enrolled_van_counts_its_log_and_what_waits(mine: Path) -> None:
    found = report.gather(mine, mine / "state", running=False)
    assert found["van"] == "van-1"
    assert found["audit"] == {"entries": 2, "signed_to": 2}
    assert found["outbox"] == {"raised": 1, "waiting": 1}
    assert found["fault"] == []


def test_a_new_images_self_test_leaves_the_vans_log_and_outbox_as_they_were(mine: Path, tmp_path: Path) -> None:
    self_test(health.bare("", tmp_path / "scratch", base=mine))
    found = report.gather(mine, mine / "state", running=False)
    assert found["audit"] == {"entries": 2, "signed_to": 2}
    assert found["outbox"] == {"raised": 1, "waiting": 1}
    assert found["fault"] == []


def test_an_outbox_at_work_is_left_alone(mine: Path) -> None:
    assert report.gather(mine, mine / "state", running=True)["outbox"] is None


def test_a_log_with_one_changed_letter_is_a_fault_and_the_outbox_is_still_counted(mine: Path) -> None:
    log = mine / "state/audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"one"', b'"onE"'))
    found = report.gather(mine, mine / "state", running=False)
    assert found["audit"] is None
    assert len(found["fault"]) == 1
    assert "audit.jsonl" in found["fault"][0]
    assert found["outbox"] == {"raised": 1, "waiting": 1}


def test_an_outbox_that_its_key_does_not_open_is_a_fault(mine: Path) -> None:
    (mine / "outbox.key").unlink()
    found = report.gather(mine, mine / "state", running=False)
    assert found["outbox"] is None
    assert "outbox.key" in found["fault"][0]


def test_the_console_says_it_in_sentences() -> None:
    said = report.sentences(
        {
            "slot": "B",
            "version": "1.1.0",
            "epoch": 2,
            "standing": "committed",
            "fault": ["x is broken"],
            "floor": {"version": "1.1.0", "epoch": 2},
            "van": "van-7",
            "until": "2027-01-01",
            "audit": {"entries": 9, "signed_to": 8},
            "outbox": {"raised": 2, "waiting": 1},
        }
    )
    assert said == [
        "slot B version 1.1.0 epoch 2 is committed",
        "floor is version 1.1.0 epoch 2",
        "van van-7, certificate until 2027-01-01",
        "audit log is whole: 9 entries, signed to 8",
        "outbox: 1 waiting of 2 ever raised",
        "fault: x is broken",
    ]
