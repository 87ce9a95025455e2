"""The crew's page beside a real van: it says what the service says, and ends the deployment for good."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge.sight import runtime
from edge.sight.detect import Detector
from edge.sight.picture import decode_image, read_image
from edge.watchlist.destruction import PASSING
from provisioning.demo.office import Office
from provisioning.sources import Record, read_folder
from tests.broker import Site
from tests.crew import officer, page_of, write_crew
from tests.sim.street import ENROLLED, PORTRAITS
from tests.van_process import Van, audit_of, started

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture
def van(site: Site, tmp_path: Path) -> Van:
    """A van whose stick stays in."""
    office = Office(tmp_path / "office", "op-1", "van-1")
    folder = site.van("van-1")
    office.enrol_van(folder)
    office.build_list(
        read_folder(ENROLLED, Record(category="wanted on warrant", lawful_basis="test", image_source="portrait"))
    )
    office.authorise(starts_in_s=0.5)
    office.publish()
    return Van(folder, site, office).watches("biden.jpg", frames=2000)


def test_the_crew_ends_the_deployment_by_the_page_and_it_does_not_come_back(van: Van) -> None:
    write_crew(van.folder, officer())
    process = started(van)
    try:
        with page_of(van.folder) as page:
            deadline = time.monotonic() + 60
            while "In the place yes" not in (said := page.words()):
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
            assert "left, until" in said
            assert "street.mp4" in said
            assert page.raw("/view/1.jpg")[0] == 303, "nobody looks through the camera before they have signed in"
            assert page.sign_in()[0] == 303
            while (shown := page.raw("/view/1.jpg"))[0] != 200:
                assert time.monotonic() < deadline, shown
                time.sleep(0.1)
            assert page.headers["cache-control"] == "no-store"
            judge = Detector(runtime.load("centerface:640x384-int8", kind="detector", threads=1))
            picture = decode_image(np.frombuffer(shown[1], np.uint8), "the live picture")
            assert not (judge.detect(picture).scores >= 0.45).any()
            assert len(judge.detect(read_image(PORTRAITS / "biden.jpg"))), "a judge that sees him"
            kept = [each for each in van.folder.rglob("*") if each.is_file() and JPEG in each.read_bytes()]
            assert not kept, "no picture reaches the disk"
            assert "takes what is written to it" in page.ask("POST", "/self-test", {})[1]
            assert van.list_files
            status, body = page.ask("POST", "/end", {"reason": "the weather", "sure": "yes"})
            assert status == 200
            assert "is destroyed within a second" in body
            process.communicate(timeout=60)
            assert process.returncode == 0
            assert not van.list_files
            assert "Ended" in page.words()
    finally:
        process.kill()
    log = audit_of(van)
    cause = "ended by the crew, officer op-1: the weather"
    assert cause not in PASSING
    assert [each["data"]["by"] for each in log if each["event"] == "officer.signed-in"] == ["op-1"]
    assert [each["data"]["cause"] for each in log if each["event"] == "list.destroyed"] == [cause]
    again = van.run("run")
    assert again.returncode == 7
    assert "does not come back" in again.stderr
