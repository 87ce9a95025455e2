"""The van as a process: a deployment that was ended stays ended, whatever way in is tried and whatever was cut off."""

from __future__ import annotations

import configparser
import json
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.errors import DeploymentOver
from provisioning.demo.office import Office
from provisioning.sources import Record, read_folder
from tests.broker import Site
from tests.sim.street import ENROLLED
from tests.van_process import Van, audit_of, started, wait_for_event

pytestmark = [pytest.mark.broker, pytest.mark.slow]
UNIT = Path(__file__).parents[2] / "provisioning/image/rootfs/etc/systemd/system/lfr-edge.service"


def build(office: Office, *, hours: float = 2.0) -> None:
    """A list and an authority of the office's deployment, published."""
    record = Record(category="wanted on warrant", lawful_basis="test", image_source="official portrait")
    shutil.rmtree(office.folder / "list", ignore_errors=True)
    office.build_list(read_folder(ENROLLED, record))
    office.authorise(starts_in_s=0.5, hours=hours)
    office.publish()


@pytest.fixture
def van(site: Site, tmp_path: Path) -> Van:
    """A van whose stick stays in, with an office of its own."""
    office = Office(tmp_path / "office", "op-1", "van-1")
    folder = site.van("van-1")
    office.enrol_van(folder)
    build(office)
    return Van(folder, site, office).watches("biden.jpg", frames=8)


def events(van: Van) -> list[str]:
    return [entry["event"] for entry in audit_of(van)]


def refused(van: Van, *command: str) -> str:
    """The command says that it is over, no list is on the van, and none was taken in for a moment; what it said."""
    before = events(van).count("list.imported")
    ended = van.run(*command)
    assert ended.returncode == DeploymentOver.exit_code, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    assert not van.list_files
    assert events(van).count("list.imported") == before
    return ended.stderr


def test_a_deployment_that_was_retired_for_weather_comes_back_by_no_start_and_no_stick(van: Van) -> None:
    assert van.run("fetch").returncode == 0
    assert van.run("retire", "--cause", "weather").returncode == 0
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    for command in (["run"], ["fetch"], ["fetch", "--from", str(van.office.folder / "repository")], ["run"]):
        said = refused(van, *command)
        assert "deployment op-1" in said
        assert f"ended on this van at {day}" in said
        assert "weather" in said
        assert "Ask the office for a new authority" in said
    checks = json.loads(van.run("self-test", "--json").stdout)
    (deployment,) = [check for check in checks if check["name"] == "deployment"]
    assert not deployment["good"]
    assert "weather" in deployment["detail"]
    status = json.loads(van.run("status", "--json").stdout)
    assert status["state"] == "ended"
    assert "weather" in status["why"]
    assert "Ask the office for a new authority" in status["why"]
    ended = [entry["data"] for entry in audit_of(van) if entry["event"] == "authority.ended"]
    assert ended == [{"authority": "op-1", "cause": "weather"}]
    last = [entry["data"] for entry in audit_of(van) if entry["event"] == "lfr.refused"]
    assert {entry["error"] for entry in last} == {"DeploymentOver"}
    assert len(last) == 1, "asked again and again, said once"


def test_the_service_manager_does_not_try_again_what_has_ended() -> None:
    """The unit names the exit code that the van above ends with; only a new deployment's stick starts it again."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    assert unit["Service"]["RestartPreventExitStatus"].split() == [str(DeploymentOver.exit_code)]


def test_a_running_van_that_is_stopped_and_retired_does_not_match_again_when_it_is_switched_on(van: Van) -> None:
    van.watches("obama2.jpg", frames=900)
    process = started(van)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert van.run("retire", "--cause", "weather").returncode == 0
    assert "weather" in refused(van, "run", "--events")


def test_the_end_of_the_authority_lasts_with_the_stick_left_in(van: Van) -> None:
    van.watches("obama2.jpg", frames=900)
    build(van.office, hours=10 / 3600)
    process = started(van)
    wait_for_event(van, "authority.ended")
    process.communicate(timeout=30)
    for _ in range(2):
        assert "the authority ended" in refused(van, "run")
    build(van.office)  # signed later, but by the same name
    assert "the authority ended" in refused(van, "fetch")


def test_a_stick_that_is_used_again_for_a_new_deployment_works(van: Van) -> None:
    assert van.run("fetch").returncode == 0
    assert van.run("retire").returncode == 0
    van.office.deployment = "op-2"
    build(van.office)
    van.content["deployment"]["id"] = "op-2"
    van.write()
    done = van.run("fetch", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["deployment"] == "op-2"
    assert van.run("run").returncode == 0
    van.content["deployment"]["id"] = "op-1"
    van.write()
    said = van.run("run")
    assert said.returncode == DeploymentOver.exit_code
    assert "deployment op-1" in said.stderr
    assert van.list_files, "the list of the new deployment stays"


def test_what_never_came_onto_the_van_can_be_retired_before_it_does(van: Van) -> None:
    early = van.run("retire", "--cause", "called off")
    assert early.returncode == 3
    assert "no list to destroy" in early.stderr
    assert "called off" in refused(van, "fetch")
