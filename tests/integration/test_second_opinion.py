"""The van as a process with two embedders: the list holds templates of both, and the authority names the pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.controlroom.receive import Arrived
from edge.match.second import pair_digest
from edge.sight.card import default_directory, read
from provisioning.demo.office import Office
from provisioning.sources import Record, read_folder
from tests.broker import Heard, Site
from tests.sim.street import ENROLLED
from tests.van_process import Van

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SECOND = "dlib-resnet:dynamic-int8"


@pytest.fixture
def van(site: Site, tmp_path: Path) -> Van:
    office = Office(tmp_path / "office", "op-1", "van-1")
    folder = site.van("van-1")
    office.enrol_van(folder)
    record = Record(category="wanted on warrant", lawful_basis="test", image_source="official portrait")
    office.build_list(read_folder(ENROLLED, record), second=SECOND)
    office.authorise(starts_in_s=0.5)
    office.publish()
    return Van(folder, site, office)


def test_a_listed_man_is_found_by_both_and_a_bystander_by_neither(site: Site, van: Van) -> None:
    van.content["models"]["second"] = SECOND
    van.write()
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    heard.online()
    van.watches("biden.jpg", "obama2.jpg", "hopper.jpg")
    tried = json.loads(van.run("self-test", "--json").stdout)
    assert next(check for check in tried if check["name"] == "models")["detail"].count("dynamic-int8") == 2
    ended = van.run("run", "--json")
    assert ended.returncode == 0, ended.stderr
    health = json.loads(ended.stdout)
    alert = heard.next(Arrived).alert
    receiver.stop()
    assert health["alerts"] == 1
    assert health["nonmatch_overdue"] == 0
    assert alert.reference == "SUBJECT-001"
    digests = [
        read(default_directory() / pack).variants["dynamic-int8"].sha256 for pack in ("mobilefacenet", "dlib-resnet")
    ]
    assert alert.model == pair_digest(*digests)


def test_a_van_that_does_not_ask_the_second_refuses_the_list_by_the_models_name(van: Van) -> None:
    ended = van.run("fetch", "--json")
    assert ended.returncode != 0
    assert "holds templates of model" in ended.stderr
    assert "Ask the intelligence unit to build the list with the van's model" in ended.stderr
