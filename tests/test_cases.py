"""What people may do with an alert, and what the public record makes of it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from edge.controlroom import cases
from edge.controlroom.cases import Case, Demographics, NotYours, Result, State, TooSoon
from edge.controlroom.officers import SignInRefused
from edge.controlroom.record import BlueList, Facts, make_record, share
from edge.controlroom.store import AlertStore
from edge.errors import BadInput, EdgeError
from edge.officers import Officer, Role, TrainingLapsed, require_trained
from edge.trust.secret import create_secret
from tests.broker import make_alert

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OPERATOR = Officer("op-1", Role.OPERATOR, date(2026, 12, 31))
ENGAGEMENT = Officer("eo-1", Role.ENGAGEMENT, date(2026, 12, 31))
MINIMUM = timedelta(seconds=5)


def new_case(number: int = 1) -> Case:
    return cases.open_case(make_alert(number), NOW)


def decided(case: Case, *, engage: bool = True) -> Case:
    seen = cases.see(case, OPERATOR, NOW)
    return cases.decide(seen, OPERATOR, engage=engage, reason="looks alike", looked=MINIMUM, minimum=MINIMUM, now=NOW)


def closed(number: int, *, correct: bool | None, engage: bool = True, result: Result = Result.NO_ACTION) -> Case:
    who = Demographics("25-34", "male", "white") if correct is False else None
    case = decided(new_case(number), engage=engage)
    return cases.close(case, ENGAGEMENT, correct=correct, result=result, demographics=who, now=NOW)


class TestRules:
    def test_a_case_goes_from_new_to_closed_and_keeps_who_did_what(self) -> None:
        case = closed(1, correct=True, result=Result.ARREST)
        assert (case.seen_by, case.decided_by, case.closed_by) == ("op-1", "op-1", "eo-1")
        assert (case.state, case.engaged, case.correct, case.result) == (State.CLOSED, True, True, Result.ARREST)

    @pytest.mark.parametrize(
        ("act", "error"),
        [
            (lambda c: decide(c), NotYours),
            (lambda c: decide(seen(c), looked=timedelta(seconds=4.9)), TooSoon),
            (lambda c: decide(seen(c), reason="  x "), BadInput),
            (lambda c: decide(seen(c), reason="x" * 501), BadInput),
            (lambda c: close(seen(c)), NotYours),
            (lambda c: close(decided(c), OPERATOR), NotYours),
            (lambda c: close(decided(c, engage=False), result=Result.ARREST), BadInput),
            (lambda c: close(decided(c), demographics=Demographics()), BadInput),
            (lambda c: close(close(decided(c))), NotYours),
            (lambda c: decide(close(decided(c))), NotYours),
            (lambda c: Demographics(sex="?"), BadInput),
        ],
    )
    def test_a_step_out_of_order_or_too_soon_is_refused(self, act, error: type[EdgeError]) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(error):
            act(new_case())

    def test_a_decision_may_be_changed_before_the_case_is_closed_and_the_engagement_is_not_forgotten(self) -> None:
        changed = decide(decided(new_case()), engage=False)
        assert (changed.state, changed.engaged) == (State.DO_NOT_ENGAGE, True)

    def test_training_is_in_date_on_its_last_day_and_not_after(self) -> None:
        require_trained(OPERATOR, date(2026, 12, 31))
        with pytest.raises(TrainingLapsed):
            require_trained(OPERATOR, date(2027, 1, 1))

    def test_only_an_unseen_alert_escalates_and_once(self) -> None:
        case, after = new_case(), timedelta(seconds=60)
        assert not cases.due_for_escalation(case, NOW + timedelta(seconds=59), after)
        assert cases.due_for_escalation(case, NOW + after, after)
        assert not cases.due_for_escalation(replace(case, escalated_at=NOW), NOW + after, after)
        assert not cases.due_for_escalation(seen(case), NOW + after, after)


def seen(case: Case) -> Case:
    return cases.see(case, OPERATOR, NOW)


def decide(case: Case, *, reason: str = "looks alike", looked: timedelta = MINIMUM, engage: bool = True) -> Case:
    return cases.decide(case, OPERATOR, engage=engage, reason=reason, looked=looked, minimum=MINIMUM, now=NOW)


def close(
    case: Case,
    officer: Officer = ENGAGEMENT,
    *,
    result: Result = Result.NO_ACTION,
    demographics: Demographics | None = None,
) -> Case:
    return cases.close(case, officer, correct=True, result=result, demographics=demographics, now=NOW)


class TestStore:
    def test_a_case_and_what_the_van_is_told_are_stored_together_or_not_at_all(self, tmp_path: Path) -> None:
        store = AlertStore(tmp_path / "c.db", bytes(32))
        case = new_case()
        assert store.add_case(case)
        assert not store.add_case(case)

        def fails(_: Case) -> tuple[str, bytes]:
            raise RuntimeError("no signature")

        with pytest.raises(RuntimeError):
            store.change(case.ref, seen, fails)
        assert store.case(case.ref) == case
        store.change(case.ref, seen, lambda _: ("topic", b"signed"))
        assert [(topic, payload) for _, topic, payload in store.to_vans.outgoing()] == [("topic", b"signed")]
        store.close()
        store = AlertStore(tmp_path / "c.db", bytes(32))
        again = store.case(case.ref)
        assert again is not None
        assert again.state is State.SEEN
        store.close()

    def test_passwords_are_checked_and_never_stored(self, tmp_path: Path) -> None:
        store = AlertStore(tmp_path / "c.db", bytes(32))
        store.officers.enrol(OPERATOR, "correct horse battery")
        assert store.officers.authenticate("op-1", "correct horse battery")[0] == OPERATOR
        for number, password in (("op-1", "wrong"), ("op-2", "correct horse battery"), ("op-1", "")):
            with pytest.raises(SignInRefused):
                store.officers.authenticate(number, password)
        stored = store.sealed.read("SELECT password FROM officers")[0][0]
        assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
        assert "horse" not in stored
        with pytest.raises(BadInput):
            store.officers.enrol(OPERATOR, "short")
        store.close()


FACTS = Facts(
    id="d-1", date="2026-05-01", type="overt, van", hours=5.5, cameras=2, watchlist=1200, faces_seen=12_000,
    blue_list=BlueList(passes=40, recognised=34),
)  # fmt: skip


class TestRecord:
    def test_what_older_vans_asked_of_a_similarity_is_not_mixed_with_scores(self) -> None:
        old = replace(closed(3, correct=True), score=None, threshold=0.7)
        row = make_record(FACTS, [closed(1, correct=True), closed(2, correct=True), old]).row
        assert row["threshold"] == "0.339; similarity 0.7"

    def test_the_record_counts_what_people_decided(self) -> None:
        told = [
            closed(1, correct=True, result=Result.ARREST),
            closed(2, correct=True, result=Result.OTHER_DISPOSAL),
            closed(3, correct=True, engage=False),
            closed(4, correct=False),
            closed(5, correct=False, engage=False),
            closed(6, correct=None, engage=False),
        ]
        row = make_record(FACTS, [*told, replace(told[0], deployment="another")]).row
        assert (row["total_alerts"], row["positive_alerts"], row["positive_interventions"]) == (6, 3, 2)
        assert (row["incorrect_alerts"], row["incorrect_interventions"], row["alerts_never_settled"]) == (2, 1, 1)
        assert (row["arrests"], row["other_disposals"]) == (1, 1)
        assert row["incorrect_alert_rate"] == 2 / 12_000

    def test_no_error_at_all_is_reported_with_the_rule_of_three(self) -> None:
        none = share("x", 0, 3000, "", (0, 0))
        assert none.high == pytest.approx(3 / 3000, rel=0.01)
        assert share("x", 0, 0, "", (0, 0)).high == 1.0

    def test_the_interval_is_wilsons(self) -> None:
        # Newcombe 1998 (Statistics in Medicine 17:857), table I: 81 of 263 gives 0.2553 to 0.3662.
        found = share("x", 81, 263, "", (0, 0))
        assert (found.low, found.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))

    def test_a_deployment_with_open_cases_has_no_record_yet(self) -> None:
        with pytest.raises(BadInput, match="1 open case"):
            make_record(FACTS, [decided(new_case())])

    def test_the_record_holds_nobody(self) -> None:
        made = make_record(FACTS, [closed(1, correct=False)])
        for text in (made.as_csv(), made.as_json().decode(), made.as_page()):
            for secret in ("S-0042", "op-1", "eo-1", "looks alike"):
                assert secret not in text

    def test_the_command_writes_csv_json_and_a_page(self, tmp_path: Path) -> None:
        create_secret(tmp_path / "control-store.key")
        (tmp_path / "control.toml").write_text("")
        (tmp_path / "facts.toml").write_text(
            'id = "d-1"\ndate = "2026-05-01"\ntype = "overt"\nhours = 5\ncameras = 1\nwatchlist = 10\nfaces_seen = 3000'
        )
        ended = subprocess.run(
            [sys.executable, "-m", "edge.controlroom.cli", "record", tmp_path / "facts.toml", "--out", tmp_path / "out",
             "--config", tmp_path / "control.toml"],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        (row,) = csv.DictReader((tmp_path / "out" / "record.csv").read_text().splitlines())
        assert row["faces_seen"] == "3000"
        shares = json.loads((tmp_path / "out" / "record.json").read_text())["shares"]
        assert shares[0]["ci95"][1] == pytest.approx(0.001, rel=0.01)
        assert "1 in 3,000" in (tmp_path / "out" / "record.html").read_text()
