"""An alert that nobody opens is heard until somebody does, also after the page was loaded again."""

from __future__ import annotations

import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By

from edge.controlroom.cases import State
from tests.browser import chromium
from tests.integration.page import Console, console, findings, many, press, sign_in, wait

__all__ = ["console"]
pytestmark = pytest.mark.broker

COUNT_TONES = """
window.tones = 0;
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...at) {
  if (this.context.state === "running") window.tones += 1;
  return start.apply(this, at);
};
"""
"""Counts the tones that the browser's own audio plays; it plays them all the same."""


def tones(browser: webdriver.Chrome) -> int:
    return int(browser.execute_script("return window.tones"))


def test_the_sound_stays_on_after_a_reload_and_an_escalation_is_heard_until_somebody_opens_it(console: Console) -> None:
    with chromium() as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": COUNT_TONES})
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: b.find_element(By.ID, "sound")).click()
        wait(browser).until(lambda b: b.find_element(By.ID, "sound").text == "Sound on")
        (alert,) = console.hold(*many(1))
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.escalated"))

        browser.refresh()
        wait(browser).until(lambda b: b.find_element(By.ID, "sound").text.startswith("Sound on"))
        assert browser.find_element(By.ID, "sound").get_attribute("aria-pressed") == "true"
        press(browser, "j")  # a key or a click: a browser plays nothing before
        wait(browser).until(lambda b: b.find_element(By.ID, "sound").text == "Sound on")
        heard = tones(browser)
        wait(browser).until(lambda b: tones(b) >= heard + 6, "the alarm does not go on")
        assert findings(browser) == []

        press(browser, "n")
        wait(browser).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#detail article"))
        assert console.case_is(alert, State.SEEN)
        wait(browser).until(lambda b: not b.find_elements(By.CSS_SELECTOR, ".card.escalated"))
        heard = tones(browser)
        with pytest.raises(TimeoutException):
            wait(browser, 6).until(lambda b: tones(b) > heard)

        browser.find_element(By.ID, "sound").click()
        browser.refresh()
        assert wait(browser).until(lambda b: b.find_element(By.ID, "sound").text) == "Sound off"
