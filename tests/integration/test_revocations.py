"""Revocations on their way from the control room to the vans: by command, through the running console, retained."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from edge.trust.events import Event
from edge.trust.keys import SigningKey
from edge.trust.revocation import REVOCATION, Revocation
from tests.broker import Site, opened
from tests.console_process import console
from tests.integration.test_control_room_failures import audited, port  # noqa: F401

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_two_that_are_handed_over_one_after_the_other_reach_a_van_that_was_away_together(
    site: Site, port: int, tmp_path: Path
) -> None:
    for van in ("van-1", "van-2"):
        site.van(van)
    unit = SigningKey.generate()
    lines = tmp_path / "revocations.jws"
    command = [sys.executable, "-m", "edge.controlroom.cli", "revoke", lines, "--van", "van-1", "--json"]
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def said(reference: str) -> bytes:
        body = Revocation(deployment="D-1", reference=reference, cause="granted", issued_at=datetime.now(UTC))
        return unit.sign(msgspec.json.encode(body), REVOCATION)

    first, second = said("R-1"), said("*")
    with console(site.room, port) as room:
        room.until("Connected to the broker")
        for token in (first, second):
            lines.write_bytes(token + b"\n")
            done = subprocess.run(
                [*command, "--config", site.room / "control.toml"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["new"] == {"van-1": 1}
        deadline = time.monotonic() + 15
        while sum(int(str(each["count"])) for each in audited(site, Event.REVOCATIONS_HANDED_OVER)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        payload = b""
        while payload != first + b"\n" + second:
            assert time.monotonic() < deadline, payload
            van = opened(site, site.van("van-1"), client="van-1", on_message=lambda message: heard.put(message.payload))
            van.subscribe("lfr/1/van-1/revocation")
            with contextlib.suppress(queue.Empty):
                payload = heard.get(timeout=1)
            van.close()
    (first_entry, *_) = audited(site, Event.REVOCATIONS_HANDED_OVER)
    assert str(first_entry["by"]).startswith("account ")


def test_a_van_that_is_none_of_this_control_rooms_is_named(site: Site, tmp_path: Path) -> None:
    site.van("van-1")
    lines = tmp_path / "revocations.jws"
    body = Revocation(deployment="D-1", reference="R-1", cause="granted", issued_at=datetime.now(UTC))
    lines.write_bytes(SigningKey.generate().sign(msgspec.json.encode(body), REVOCATION))
    done = subprocess.run(
        [sys.executable, "-m", "edge.controlroom.cli", "revoke", lines, "--van", "van-9",
         "--config", site.room / "control.toml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "van-9: is not a van of this control room. Choose from van-1" in done.stderr
