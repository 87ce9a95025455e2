"""Whoever keeps the list of officers sees who is signed in, and ends it at once; the real process, the real command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.by import By

from edge.trust.events import Event
from tests.attacks.rooms import Room, running_room, running_site
from tests.browser import chromium
from tests.console_process import PASSWORD
from tests.integration.page import findings, wait

pytestmark = pytest.mark.broker


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with running_site(tmp_path) as site, running_room(site) as made:
        yield made


def sign_in(browser: webdriver.Chrome, room: Room) -> None:
    """As op-1, until the page is there."""
    browser.get(f"http://127.0.0.1:{room.port}/")
    browser.find_element(By.ID, "number").send_keys("op-1")
    browser.find_element(By.ID, "password").send_keys(PASSWORD + "\n")
    wait(browser).until(lambda b: b.find_elements(By.ID, "queue"))


@pytest.mark.parametrize(
    ("command", "cause", "change"),
    [
        (("remove", "op-1"), "taken off the list", "removed"),
        (("lock", "op-1"), "locked", "locked"),
        (("sign-out", "op-1"), "ended by somebody else", "every session ended"),
    ],
    ids=["removed", "locked", "signed out"],
)
def test_an_officer_who_is_removed_or_locked_loses_the_page_within_seconds_without_asking_for_anything(
    room: Room, command: tuple[str, ...], cause: str, change: str
) -> None:
    other = room.browser()
    assert other.sign_in("op-2") == 303
    with chromium() as browser:
        sign_in(browser, room)
        done = room.control("staff", *command)
        assert done.returncode == 0, done.stderr
        wait(browser, 5).until(lambda b: b.current_url.endswith("/signin"))
    assert not other.signed_out()
    assert room.until_audited(Event.SIGNED_OUT, by="op-1")["cause"] == cause
    assert str(room.until_audited(Event.STAFF_CHANGED, officer="op-1", change=change)["by"]).startswith("account ")


def test_a_locked_officer_signs_in_again_once_unlocked_and_a_new_password_unlocks_nobody(room: Room) -> None:
    assert room.control("staff", "lock", "op-1").returncode == 0
    browser = room.browser()
    assert browser.sign_in() == 403
    assert room.until_audited(Event.SIGN_IN_REFUSED, by="op-1")["error"] == "OfficerLocked"
    wrong = browser.ask("POST", "/signin", {"number": "op-1", "password": "wrong horse battery"})
    assert "is locked" not in wrong[1], "only who knows the password learns of it"
    added = room.control("staff", "add", "op-1", "--role", "operator", "--trained-until", "2030-01-01",
                         "--password-stdin", stdin=PASSWORD + "\n")  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert browser.sign_in() == 403
    listed = json.loads(room.control("staff", "list", "--json").stdout)
    assert {each["number"]: each["locked"] for each in listed} == {"op-1": True, "op-2": False, "eo-1": False}
    assert room.control("staff", "unlock", "op-1").returncode == 0
    assert browser.sign_in() == 303
    assert room.control("staff", "lock", "op-9").returncode == 4


def test_sessions_are_listed_and_one_of_them_is_ended(room: Room) -> None:
    first, second, other = room.browser(), room.browser(), room.browser()
    for browser, number in ((first, "op-1"), (second, "op-1"), (other, "eo-1")):
        assert browser.sign_in(number) == 303
    listed = json.loads(room.control("staff", "sessions", "--json").stdout)
    assert [(each["number"], each["from"]) for each in listed] == [
        ("op-1", "127.0.0.1"), ("op-1", "127.0.0.1"), ("eo-1", "127.0.0.1")]  # fmt: skip
    mine = json.loads(room.control("staff", "sessions", "op-1", "--json").stdout)
    assert mine == listed[:2]
    one = str(mine[1]["session"])
    assert room.control("staff", "sign-out", "eo-1", "--session", one).returncode == 4, "it is somebody else's"
    assert room.control("staff", "sign-out", "op-1", "--session", one).returncode == 0
    assert second.signed_out()
    assert not first.signed_out()
    assert not other.signed_out()
    room.until_audited(Event.STAFF_CHANGED, officer="op-1", change=f"session {one} ended")


def test_an_officer_ends_a_session_of_their_own_and_nobody_elses(room: Room) -> None:
    lost, other = room.browser(), room.browser()
    assert (lost.sign_in("op-1"), other.sign_in("op-2")) == (303, 303)
    sessions = {each["number"]: str(each["session"])
                for each in json.loads(room.control("staff", "sessions", "--json").stdout)}  # fmt: skip
    with chromium() as browser:
        sign_in(browser, room)
        browser.get(f"http://127.0.0.1:{room.port}/sessions")
        assert "this one" in browser.find_element(By.CSS_SELECTOR, ".seats").text
        assert "127.0.0.1" in browser.find_element(By.CSS_SELECTOR, ".seats").text
        assert findings(browser) == []
        (ends,) = [b for b in browser.find_elements(By.TAG_NAME, "button") if b.text.endswith(f" {sessions['op-1']}")]
        ends.click()
        assert len(browser.find_elements(By.CSS_SELECTOR, ".seats li")) == 1
    assert lost.signed_out()
    again = room.browser()
    assert again.sign_in("op-1") == 303
    status, page = again.ask("POST", "/sessions", {"session": sessions["op-2"]})
    assert status == 400
    assert "has no session" in page
    assert not other.signed_out()
    assert room.until_audited(Event.SESSIONS_VIEWED)["by"] == "op-1"
    assert room.until_audited(
        Event.STAFF_CHANGED, officer="op-1", change=f"session {sessions['op-1']} ended", by="op-1"
    )


def test_no_session_is_listed_that_did_not_outlive_a_restart(tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        with running_room(site) as room:
            assert room.browser().sign_in() == 303
            room.process.kill()
            room.process.wait()
        with running_room(site) as room:
            assert json.loads(room.control("staff", "sessions", "--json").stdout) == []
