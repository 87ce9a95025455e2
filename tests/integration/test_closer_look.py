"""Zoom and flicker over the two pictures of an alert, and the page in daylight, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from edge.controlroom.cases import State
from tests.browser import chromium
from tests.integration.page import Console, console, findings, many, press, shot, sign_in, wait

__all__ = ["console"]
pytestmark = pytest.mark.broker

LOOK = """
const one = (id) => {
  const image = document.querySelector(id), matrix = new DOMMatrix(getComputedStyle(image).transform);
  return [matrix.a, matrix.e / image.clientWidth, matrix.f / image.clientHeight,
    getComputedStyle(image).visibility === "visible"];
};
return ["#probe", "#reference"].map(one);
"""
GROUND = "return getComputedStyle(document.body).backgroundColor"
DARK, LIGHT = "rgb(16, 21, 28)", "rgb(244, 246, 249)"


def looks(browser: webdriver.Chrome) -> list[list[float]]:
    """Of both pictures: how much enlarged, shifted right and down in widths and heights, and whether it is seen."""
    found: list[list[float]] = browser.execute_script(LOOK)
    return found


def open_first(browser: webdriver.Chrome) -> None:
    wait(browser).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#queue .card"))
    press(browser, "n")
    wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)


@pytest.fixture
def browser(console: Console) -> Iterator[webdriver.Chrome]:
    console.hold(*many(2))
    with chromium() as started:
        sign_in(started, console, "op-1")
        yield started


def test_zoom_shows_the_same_part_of_both_faces_larger_and_the_arrows_move_both(browser: webdriver.Chrome) -> None:
    open_first(browser)
    assert looks(browser) == [[1, 0, 0, True]] * 2
    press(browser, "z")
    assert looks(browser) == [[2, 0, 0, True]] * 2
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    probe, reference = looks(browser)
    assert probe[1] == pytest.approx(reference[1], abs=0.01) == pytest.approx(-0.12, abs=0.01)
    assert probe[2] == pytest.approx(reference[2], abs=0.01) == pytest.approx(0.12, abs=0.01)
    press(browser, *[Keys.ARROW_RIGHT] * 40)
    assert looks(browser)[0][1] == pytest.approx(-0.5, abs=0.01), "the picture's edge is where it stops"
    assert findings(browser) == []
    shot(browser, "control-room-zoom")
    press(browser, "z")
    assert looks(browser)[0][0] == looks(browser)[1][0] == 4
    browser.find_element(By.ID, "zoom").click()
    assert looks(browser) == [[1, 0, 0, True]] * 2


def test_flicker_shows_one_picture_at_a_time_in_one_place_and_ends_with_the_next_key(browser: webdriver.Chrome) -> None:
    open_first(browser)
    apart = [browser.find_element(By.ID, name).rect["x"] for name in ("probe", "reference")]
    assert apart[1] - apart[0] > 100
    press(browser, "f")
    seen = set()
    wait(browser).until(lambda b: seen.add(tuple(look[3] for look in looks(b))) or len(seen) == 2)
    assert seen == {(True, False), (False, True)}, "never both, never neither"
    boxes = [browser.find_element(By.ID, name).rect for name in ("probe", "reference")]
    middles = [box["x"] + box["width"] / 2 for box in boxes]
    assert middles[0] == pytest.approx(middles[1], abs=2)
    press(browser, "f")
    assert [look[3] for look in looks(browser)] == [True, True]


def test_the_next_alert_is_looked_at_afresh_and_zoom_does_not_stand_in_for_the_least_look(
    browser: webdriver.Chrome, console: Console
) -> None:
    open_first(browser)
    first = browser.find_element(By.CSS_SELECTOR, "#detail article").get_attribute("data-alert") or ""
    press(browser, "z", "f")
    wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, "button.waits").is_enabled())
    press(browser, "n")
    other = f'#detail article:not([data-alert="{first}"])'
    wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, other))
    wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)
    assert looks(browser) == [[1, 0, 0, True]] * 2
    assert console.case_is(first, State.SEEN)


def choose(browser: webdriver.Chrome, words: str) -> None:
    button = (By.ID, "theme")
    wait(browser).until(lambda b: b.find_element(*button).text == words or b.find_element(*button).click())


def test_the_page_is_dark_light_or_as_the_machine_as_the_officer_chose_and_stays_so(
    browser: webdriver.Chrome,
) -> None:
    open_first(browser)
    assert browser.execute_script(GROUND) == DARK
    choose(browser, "Light")
    assert browser.execute_script(GROUND) == LIGHT
    assert findings(browser) == []
    shot(browser, "control-room-light")
    browser.refresh()
    assert browser.execute_script(GROUND) == LIGHT
    press(browser, "h")
    wait(browser).until(lambda b: b.find_element(By.ID, "words"))
    assert findings(browser) == []
    choose(browser, "As this machine")
    for value, colour in (("dark", DARK), ("light", LIGHT)):
        wish = {"features": [{"name": "prefers-color-scheme", "value": value}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
        wait(browser).until(lambda b, colour=colour: b.execute_script(GROUND) == colour)
