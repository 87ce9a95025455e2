"""The first command of the README, as a visitor runs it: everything real, and the pages in a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from provisioning.demo.footage import LEAVES, LEAVING, with_one_who_leaves
from provisioning.demo.incidents import AFTER_REVOCATION_S, BACK_AFTER_S, Incidents
from provisioning.demo.script import load_script, tell_truth

ROOT = Path(__file__).resolve().parents[2]


class Day:
    """A clock that is set by hand, and what was done."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.did: list[str] = []
        self.incidents = Incidents(
            "R-2",
            lambda reference: self.did.append(f"revoke {reference}"),
            lambda: self.did.append("lose"),
            lambda: self.did.append("back"),
            clock=lambda: self.now,
        )

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.incidents.turn()


def test_one_leaves_at_their_first_alert_and_the_broker_is_lost_and_comes_back_with_an_alert_on_its_way() -> None:
    day = Day()
    day.incidents.heard("R-1")
    day.wait(60)
    assert day.did == []
    day.incidents.heard("R-2")
    day.incidents.heard("R-2")
    assert day.did == ["revoke R-2"]
    day.wait(AFTER_REVOCATION_S - 0.1)
    assert day.did == ["revoke R-2"], "the van must have it first"
    day.wait(0.1)
    assert day.incidents.away
    day.wait(60)
    assert day.did == ["revoke R-2", "lose"], "it stays away until there is something to send"
    lost = day.now
    day.incidents.raised()
    day.wait(BACK_AFTER_S)
    assert day.did == ["revoke R-2", "lose", "back"]
    assert day.incidents.while_away(lost)
    assert not day.incidents.while_away(day.now + 1)
    day.incidents.raised()
    day.wait(60)
    assert len(day.did) == 3


def test_a_broker_that_is_away_when_the_film_ends_comes_back_for_what_waits() -> None:
    day = Day()
    day.incidents.heard("R-2")
    day.wait(AFTER_REVOCATION_S)
    day.incidents.finish()
    assert day.did[-1] == "back"
    quiet = Day()
    quiet.incidents.finish()
    assert quiet.did == []


def test_whoever_leaves_alerts_at_the_first_passage_only() -> None:
    script = load_script()
    before = tell_truth(script, seed=2019, frames=script.frames, scale=1.0)
    truth = with_one_who_leaves(before)
    theirs = [each.reference for each in truth.passages if each.portrait == LEAVING]
    assert theirs == [LEAVES, None]
    assert truth.alerts_expected == before.alerts_expected + 1


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(600)
def test_the_demo_does_the_whole_job_and_shows_it(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "provisioning.demo", "--out", str(tmp_path / "demo"), "--show"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "BROWSER": str(browser)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdin is not None
        said: list[str] = []
        for line in demo.stdout:
            said.append(line)
            if "Press Enter" in line:
                break
        opened = (tmp_path / "opened").read_text().split()
        assert [Path(address).name for address in opened[:1]] == ["list.html"]
        with urllib.request.urlopen(opened[1]) as page:
            assert b"Sign in" in page.read(), "the control room is still there to be looked at"
        demo.stdin.write("\n")
        demo.stdin.flush()
        rest = demo.stdout.read()
    assert demo.returncode == 0, "".join(said)[-3000:] + rest
    summary = json.loads(rest.strip().splitlines()[-1])
    assert (summary["alerts_received"], summary["alerts_expected"], summary["false_alerts"]) == (5, 5, 0)
    assert {name: van["alerts"] for name, van in summary["vans"].items()} == {"van-demo": 3, "van-demo-2": 2}
    assert summary["left_the_list"] == LEAVES
    assert summary["kept_while_the_broker_was_gone"] >= 1
    assert summary["nonmatch_overdue"] == 0
    text = "".join(said)
    for words in (
        "is taken off the list",
        "The broker is gone",
        "The broker is there again",
        "beware of",
        "A second van",
    ):
        assert words in text
