"""One statement of what is kept: software, authority, notice, settings and log say the same, or it says where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from edge.controlroom.config import ControlConfig, parse
from edge.custody.erase import LONGEST_MS
from edge.trust.audit import AuditEntry, verify
from edge.trust.authority import Authority, Notice, authority_digest
from edge.trust.events import Event
from provisioning.cli import app
from provisioning.retention import statement, statement_html
from tests.lists import START, Site, entry, import_into

ROOM = '[broker]\nhost = "broker.police.example"\n[store]\nretention_h = {hours}\n'
NOTICE = Notice(controller="Example Police", contact="dpo@police.example", complaints="ico.org.uk", deletion="Ask")


class Deployment:
    """A van's day with a real list and a real log, told as a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.site.enrol_van()
        built = self.site.build([entry("R-1"), entry("R-2")])
        self.authority: Authority = self.site.authority(built[1], notice=NOTICE)
        self.content = msgspec.json.encode(self.authority)
        self.audit = self.site.audit()
        self.audit.deployment = "D-1"
        self.keeper = self.site.keeper(self.audit)
        self.accept()
        import_into(self.keeper, self.site, built)

    def accept(self, digest: str = "") -> None:
        fields = {"authority": "D-1", "starts": START.isoformat(), "ends": self.authority.ends.isoformat()}
        self.audit.record(Event.AUTHORITY_ACCEPTED, {**fields, "digest": digest or authority_digest(self.content)})

    def forget(self, longest_ms: int = 700, overdue: int = 0) -> None:
        self.audit.record(
            Event.ERASURES, {"from": "a", "to": "b", "count": 40, "longest_ms": longest_ms, "overdue": overdue}
        )

    def end(self, late: timedelta = timedelta()) -> None:
        self.site.clock.advance((self.authority.ends - self.site.clock.now() + late).total_seconds())
        self.keeper.destroy("the authority ended")

    def log(self) -> tuple[AuditEntry, ...]:
        self.keeper.close()
        self.audit.close()
        return verify(self.site.log, self.site.signers).entries


@pytest.fixture
def day(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def room(hours: int = 24) -> ControlConfig:
    return parse(ROOM.format(hours=hours))


def test_a_day_as_it_should_be_is_stated_without_a_contradiction(day: Deployment) -> None:
    day.forget()
    day.end()
    found = statement(day.content, day.authority, room(), day.log())
    assert found.contradictions == ()
    kept = {row.what.split(":")[0]: row for row in found.rows}
    stranger = kept["The face of somebody who is not on the list"]
    assert stranger.kept == f"{LONGEST_MS // 1000} seconds after the last picture of that person"
    assert stranger.shown == "40 passages forgotten, the longest after 700 ms, 0 overdue"
    assert kept["The list"].shown == "1 imported, 1 destroyed"
    assert kept["An alert that arrived, with both pictures"].kept == "24 hours after the van raised it"


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (lambda day: day.forget(longest_ms=LONGEST_MS + 1), "a face was held for 3001 ms"),
        (lambda day: day.forget(overdue=2), "2 faces were held longer than is allowed"),
        (lambda day: day.audit.record(Event.CUSTODY_BREACHED, {"cause": "a template outlived"}), "a template outlived"),
        (lambda day: day.end(timedelta(minutes=5)), "after the authority had ended"),
        (lambda day: day.site.clock.advance(7 * 3600) or day.forget(), "does not say that list"),
    ],
)
def test_what_the_log_shows_and_ought_not_to_have_happened_is_named(
    day: Deployment, happens: Callable[[Deployment], Any], said: str
) -> None:
    happens(day)
    found = statement(day.content, day.authority, room(), day.log())
    assert any(said in each for each in found.contradictions)


def test_a_log_of_another_authority_is_noticed(day: Deployment) -> None:
    other = msgspec.structs.replace(day.authority, purpose="Another purpose")
    found = statement(msgspec.json.encode(other), other, None, day.log())
    assert any("another authority than this one" in each for each in found.contradictions)


def test_a_log_that_was_cut_off_before_the_end_agrees_with_nothing(day: Deployment) -> None:
    day.forget()
    found = statement(day.content, day.authority, room(), day.log())
    assert [
        each for each in found.contradictions if "ends before the authority does, and does not say that list" in each
    ]


def test_while_the_deployment_runs_a_list_that_is_not_destroyed_contradicts_nothing(day: Deployment) -> None:
    running = statement(day.content, day.authority, room(), day.log(), now=day.authority.ends - timedelta(minutes=1))
    assert not [each for each in running.contradictions if "was destroyed" in each]


def test_a_log_that_never_heard_of_the_authority_agrees_with_nothing(day: Deployment) -> None:
    day.end()
    log = [each for each in day.log() if each.event != Event.AUTHORITY_ACCEPTED]
    for entries in (log, []):
        found = statement(day.content, day.authority, room(), entries)
        assert any("does not say that a van has accepted this authority" in each for each in found.contradictions)


def test_a_control_room_that_is_set_to_keep_longer_is_named_and_the_authority_rules(day: Deployment) -> None:
    found = statement(day.content, day.authority, room(72), None)
    assert any("set to keep alerts for 3 days, the authority allows 24 hours" in each for each in found.contradictions)
    assert next(row for row in found.rows if "arrived" in row.what).kept == "24 hours after the van raised it"
    shorter = statement(day.content, day.authority, room(8), None)
    assert shorter.contradictions == ()
    assert next(row for row in shorter.rows if "arrived" in row.what).kept == "8 hours after the van raised it"


def test_an_authority_that_tells_the_public_nothing_is_named(day: Deployment) -> None:
    silent = msgspec.structs.replace(day.authority, notice=None)
    found = statement(msgspec.json.encode(silent), silent, None, None)
    assert any("no part [notice]" in each for each in found.contradictions)


def test_the_command_writes_it_and_ends_with_3_when_the_sources_do_not_agree(day: Deployment, tmp_path: Path) -> None:
    day.end()
    day.log()
    (tmp_path / "signed.json").write_bytes(day.content)
    (tmp_path / "vans.jwks").write_text(json.dumps({"keys": [day.site.signing.public_jwk(owner="van-1")]}))
    (tmp_path / "control.toml").write_text(ROOM.format(hours=72))
    asked = ["authority", "retention", str(tmp_path / "signed.json"), "--log", str(day.site.log)]
    asked += ["--keys", str(tmp_path / "vans.jwks")]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "kept.html")])
    assert done.exit_code == 0, done.output
    assert "The sources agree." in done.output
    assert "None: the sources agree" in (tmp_path / "kept.html").read_text()
    contradicted = CliRunner().invoke(app, [*asked, "--control-room", str(tmp_path / "control.toml"), "--json"])
    assert contradicted.exit_code == 3
    assert json.loads(contradicted.output)["contradictions"]
    assert CliRunner().invoke(app, asked[:5]).exit_code == 2, "a log without keys is not believed"


def test_what_people_wrote_is_text_on_the_page(day: Deployment) -> None:
    day.audit.record(Event.CUSTODY_BREACHED, {"cause": "<script>alert(1)</script>"})
    found = statement(day.content, day.authority, None, day.log())
    assert "<script>" not in statement_html(found)
