"""The van as a process with a camera that goes bad: page and state say it, the log has it, and it recovers."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.console.views import crew_page
from edge.errors import EdgeError
from edge.system.health import Health, read_status
from tests.sim.rtsp import RtspCamera, street
from tests.test_faults import FAULTS, LONGEST_S, Fault
from tests.van_process import Van, audit_of, office, van, wait_for_event  # noqa: F401

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def shown(van: Van, wanted: Callable[[Health], bool], seconds: float) -> Health:
    end = time.monotonic() + seconds
    last: Health | None = None
    while time.monotonic() < end:
        try:
            last = read_status(van.folder / "run/status.json")
        except EdgeError:
            last = None
        if last is not None and wanted(last):
            return last
        time.sleep(0.05)
    raise AssertionError(f"it was never shown: {last}")


def reasons(health: Health) -> str:
    return " ".join(reason.why for reason in health.reasons if reason.part == "camera")


def test_each_bad_picture_is_on_the_page_in_the_state_and_in_the_log_and_over_by_itself(
    van: Van, tmp_path: Path
) -> None:
    van.fetches()
    with RtspCamera() as camera:
        van.content["camera"] = {"source": camera.address, "max_fps": 10}
        van.write()
        with (tmp_path / "journal").open("w") as journal:
            process = subprocess.Popen(van.command("run"), stdout=subprocess.DEVNULL, stderr=journal, cwd=van.folder)
        try:
            shown(van, lambda health: health.state == "matching", 60)
            for fault, picture in FAULTS.items():
                camera.shows([picture(n) for n in range(5)])
                bad = shown(van, lambda health: fault.words in reasons(health), LONGEST_S + 1)  # noqa: B023
                assert bad.state == ("not matching" if fault.blocks else "matching"), fault
                page = crew_page(bad, "", bad.at)
                assert ("Not matching" if fault.blocks else "Matching, but") in page
                assert fault.words in page
                camera.shows()
                shown(van, lambda health: health.state == "matching" and not reasons(health), LONGEST_S + 1)
            camera.shows([street(n, (160, 128)) for n in range(5)])
            camera.hang_up()
            small = shown(van, lambda health: "gives 160x128 now, and 320x240 before" in reasons(health), LONGEST_S + 1)
            assert small.state == "matching"
            camera.shows()
            camera.hang_up()
            shown(van, lambda health: not reasons(health), LONGEST_S + 1)
            camera.mute()
            shown(van, lambda health: health.state == "not matching", LONGEST_S + 1)
            camera.speak()
            shown(van, lambda health: health.state == "matching", 2 * LONGEST_S)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    log = [(entry["event"], entry["data"]) for entry in audit_of(van) if entry["event"].startswith("camera.")]
    assert [event for event, _ in log] == ["camera.trouble", "camera.fine"] * (len(FAULTS) + 2)
    said = [data["cause"].split("/street ")[1] for event, data in log if event == "camera.trouble"]
    assert said[:-2] == [fault.words for fault in FAULTS]
    assert {data["camera"] for _, data in log} == {"1"}
    assert [data["what"] for _, data in log] == [*["picture"] * 2 * len(FAULTS), *["mode"] * 2, *["connection"] * 2]
    assert Fault.BLACK.words in (tmp_path / "journal").read_text()
    assert json.loads(van.run("status", "--json").stdout)["state"] == "ended"
