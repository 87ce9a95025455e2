"""Closed cases can be looked up until their retention is over: what was asked, what came of it, and who looked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("selenium")
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from edge.controlroom import cases
from edge.controlroom.cases import Case, Demographics, Result
from edge.officers import Officer, Role
from edge.records import Alert, AlertRef
from edge.trust.events import Event
from tests.broker import make_alert
from tests.browser import chromium
from tests.integration.page import TODAY, Client, Console, console, findings, many, press, shot, sign_in, wait

__all__ = ["console"]
pytestmark = pytest.mark.broker

SOON = TODAY + timedelta(days=30)
OPERATOR, ENGAGEMENT = Officer("op-1", Role.OPERATOR, SOON), Officer("eo-1", Role.ENGAGEMENT, SOON)
LONG_AGO = timedelta(minutes=30)
"""Since when the cases here are closed: long enough to have left the list of what is to be done."""


def close(
    console: Console, alert: Alert, *, engage: bool, correct: bool | None, result: Result, reason: str = "looks alike"
) -> str:
    """Take an alert from its arrival to its outcome; returns how the page names it."""
    console.hold(alert)
    desk, ref = console.room.desk, alert.ref
    desk.open_alert(ref, OPERATOR)
    store = console.room.store
    store.change(ref, lambda case: decided(case, engage=engage, reason=reason), lambda _: None)
    details = Demographics() if correct is False else None
    desk.close(ref, ENGAGEMENT, correct=correct, result=result, demographics=details)
    store.change(ref, _earlier, lambda _: None)
    return str(ref)


def decided(case: Case, *, engage: bool, reason: str) -> Case:
    look = timedelta(seconds=9)
    return cases.decide(
        case, OPERATOR, engage=engage, reason=reason, looked=look, minimum=look, now=datetime.now(UTC) - LONG_AGO
    )


def _earlier(case: Case) -> Case:
    assert case.closed_at is not None
    return replace(case, closed_at=case.closed_at - LONG_AGO)


@pytest.fixture
def past(console: Console) -> dict[str, str]:
    """Three closed cases, and one that is open."""
    arrest, nobody, brother, still_open = many(4)
    made = {
        "arrest": close(console, arrest, engage=True, correct=True, result=Result.ARREST),
        "nobody": close(console, nobody, engage=False, correct=None, result=Result.NO_ACTION, reason="too poor to say"),
        "brother": close(console, brother, engage=True, correct=False, result=Result.NO_ACTION, reason="his brother"),
    }
    console.hold(still_open)
    return made


def test_a_closed_case_is_found_by_its_reference_and_shows_what_was_decided_by_whom_and_what_came_of_it(
    console: Console, past: dict[str, str]
) -> None:
    with chromium() as browser:
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, "#queue .card")) == 1)
        press(browser, "h")
        found = (By.CSS_SELECTOR, "#history .card")
        wait(browser).until(lambda b: len(b.find_elements(*found)) == 3)
        wait(browser).until(lambda b: b.switch_to.active_element.get_attribute("id") == "words")
        press(browser, "s-0002", Keys.ENTER)
        wait(browser).until(lambda b: "1 case found" in b.find_element(By.CSS_SELECTOR, ".found").text)
        card = wait(browser).until(lambda b: b.find_element(*found).text)
        assert "engage by op-1; an incorrect alert, no action" in card
        assert "S-0002" in card
        browser.find_element(*found).click()
        wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)
        said = browser.find_element(By.CSS_SELECTOR, "#detail .closed").text
        assert "Decision: engage, by op-1" in said
        assert "his brother" in said
        assert "Closed by eo-1" in said
        assert browser.find_elements(By.CSS_SELECTOR, "#detail form") == [], "a closed case is only read"
        assert findings(browser) == []
        shot(browser, "control-room-history")
    views = console.audited(Event.HISTORY_VIEWED)
    newest_first = [past["brother"], past["nobody"], past["arrest"]]
    assert views == [
        {"by": "op-1", "asked": [], "alerts": newest_first},
        {"by": "op-1", "asked": ["words"], "alerts": [past["brother"]]},
    ]
    assert {"what": "reference", "alert": past["brother"], "by": "op-1"} in console.audited(Event.ALERT_VIEWED)


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ({}, {"arrest", "nobody", "brother"}),
        ({"van": "van-1"}, {"arrest"}),
        ({"category": "missing person"}, {"nobody"}),
        ({"outcome": "engaged"}, {"arrest", "brother"}),
        ({"outcome": "not engaged"}, {"nobody"}),
        ({"outcome": "incorrect alert"}, {"brother"}),
        ({"outcome": "never found out"}, {"nobody"}),
        ({"outcome": "arrest"}, {"arrest"}),
        ({"words": "POOR say"}, {"nobody"}),
        ({"words": "riverside"}, set()),
        ({"words": "van-3 brother"}, {"brother"}),
        ({"since": -HOUR, "until": HOUR}, {"arrest", "nobody", "brother"}),
        ({"since": HOUR}, set()),
        ({"until": -HOUR}, set()),
    ],
)
def test_the_history_is_narrowed_by_van_category_outcome_time_and_words(
    console: Console, past: dict[str, str], form: dict[str, str | timedelta], names: set[str]
) -> None:
    sent = {
        name: value if isinstance(value, str) else f"{datetime.now() + value:%Y-%m-%dT%H:%M}"  # noqa: DTZ005 - as browsers
        for name, value in form.items()
    }
    status, page = Client(console).post("/history", sent)
    assert status == 200
    assert {name for name, ref in past.items() if f'data-alert="{ref}"' in page} == names
    view = console.audited(Event.HISTORY_VIEWED)[-1]
    assert view["asked"] == [name for name in ("words", "van", "category", "outcome", "since", "until") if name in form]
    assert set(view["alerts"]) == {past[name] for name in names}  # type: ignore[call-overload]


@pytest.mark.parametrize("form", [{"since": "yesterday"}, {"outcome": "guilty"}, {"words": "x" * 101}])
def test_a_question_that_makes_no_sense_is_refused_in_words(console: Console, form: dict[str, str]) -> None:
    status, page = Client(console).post("/history", form)
    assert status == 400
    assert 'role="alert"' in page


@pytest.mark.parametrize("erased", [True, False], ids=["erased", "due, and not erased yet"])
def test_nothing_of_a_closed_case_is_shown_once_its_retention_is_over(console: Console, *, erased: bool) -> None:
    alert = make_alert(1, reference="S-9999", erase_at=datetime.now(UTC) - timedelta(seconds=1))
    console.hold(alert)
    store = console.room.store
    closed_at = datetime.now(UTC)
    store.change(alert.ref, lambda case: replace(case, closed_at=closed_at, reason="the reason"), lambda _: None)
    if erased:
        console.room.erase_due()
        assert store.sealed.read("SELECT count(*) FROM summaries") == [(0,)]
    client = Client(console)
    for status, page in (client.post("/history", {"words": "9999"}), client.get("/history"), client.get("/queue"),
                         client.get(f"/alerts/{alert.ref}"), client.get(f"/alerts/{alert.ref}/probe.jpg"),
                         client.get(f"/alerts/{alert.ref}/thumb.jpg")):  # fmt: skip
        assert status in {200, 400}
        for words in ("S-9999", "the reason", f'data-alert="{alert.ref}"'):
            assert words not in page
    case = store.case(AlertRef(alert.van, alert.alert_id))
    assert case is not None, "the public record still counts it"
