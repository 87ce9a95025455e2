"""Two hundred alerts in a real browser: what is opened is seen, at every size of window, by mouse and by keyboard."""

from __future__ import annotations

import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from edge.controlroom.cases import State
from edge.trust.events import Event
from tests.browser import chromium
from tests.integration.page import Console, console, findings, many, press, shot, sign_in, wait

__all__ = ["console"]
pytestmark = pytest.mark.broker

ALERTS = 200
SIZES = {
    "laptop": (1280, 800),
    "wide": (1920, 1080),
    "tablet": (820, 1180),
    "tablet-lying": (1180, 820),
    "telephone": (390, 844),
}
LEAST = {"laptop": 320, "wide": 450, "tablet": 300, "tablet-lying": 300, "telephone": 200}
"""How wide each picture is at least, in pixels; on a wide screen it used to be 221."""
CARDS = (By.CSS_SELECTOR, "#queue .card")
CURRENT = (By.CSS_SELECTOR, "#queue .card[aria-current]")
WHERE = """
const box = (element) => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const [probe, list] = ["#probe", "#reference"].map((id) => document.querySelector(id));
return {window: [window.innerWidth, window.innerHeight], probe: box(probe), list: box(list),
  frames: [box(probe.parentElement), box(list.parentElement)],
  eyes: [probe.clientWidth * probe.dataset.eyes / probe.naturalWidth, list.clientWidth * list.dataset.eyeShare],
  sideways: document.documentElement.scrollWidth - window.innerWidth};
"""


def opened(browser: webdriver.Chrome, alert: str) -> dict[str, list[float]]:
    """Where the pictures of this alert are, once both are there."""
    article = f'#detail article[data-alert="{alert}"]'
    wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, article))
    wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)
    found: dict[str, list[float]] = wait(browser).until(
        lambda b: (at := b.execute_script(WHERE)) and abs(at["eyes"][0] - at["eyes"][1]) < 2 and at
    )
    return found


def inside(box: list[float], window: list[float]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= window[0] and box[3] <= window[1]


def card(browser: webdriver.Chrome, alert: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, f'#queue .card[data-alert="{alert}"]')


def click(browser: webdriver.Chrome, alert: str) -> None:
    """With the mouse, wherever in the list it is; the list may be redrawn meanwhile."""

    def clicked(b: webdriver.Chrome) -> bool:
        b.execute_script("arguments[0].scrollIntoView({block: 'center'})", card(b, alert))
        card(b, alert).click()
        return True

    wait(browser).until(clicked)


def focus(browser: webdriver.Chrome, alert: str) -> None:
    wait(browser).until(lambda b: b.execute_script("arguments[0].focus(); return true", card(b, alert)))


def to_list(browser: webdriver.Chrome) -> None:
    """Back to the list, where the alert fills the screen."""
    press(browser, Keys.ESCAPE)


@pytest.mark.parametrize("name", SIZES)
def test_whichever_of_200_alerts_is_opened_both_pictures_are_in_the_window_with_the_faces_at_one_scale(
    console: Console, name: str
) -> None:
    refs = console.hold(*many(ALERTS))
    with chromium() as browser:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": SIZES[name][0], "height": SIZES[name][1], "deviceScaleFactor": 1, "mobile": False},
        )
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, "#queue .card")) == ALERTS)
        if name == "telephone":
            shot(browser, "control-room-200-list")
        for at, by in ((0, "mouse"), (31, "mouse"), (99, "keyboard"), (ALERTS - 1, "mouse"), (150, "keyboard")):
            to_list(browser)
            if by == "mouse":
                click(browser, refs[at])
            else:
                focus(browser, refs[at - 1])
                press(browser, "j", Keys.ENTER)
            where = opened(browser, refs[at])
            for picture in (where["probe"], where["list"]):
                assert inside(picture, where["window"]), (at, where)
                assert picture[2] - picture[0] >= LEAST[name], (at, where)
            fills = [
                max((p[2] - p[0]) / (f[2] - f[0]), (p[3] - p[1]) / (f[3] - f[1]))
                for p, f in zip((where["probe"], where["list"]), where["frames"], strict=True)
            ]
            assert max(fills) > 0.98, f"neither picture is as large as its frame allows: {fills}"
            assert where["sideways"] <= 0
            assert wait(browser).until(lambda b: b.find_element(*CURRENT).get_attribute("data-alert")) == refs[at]
        assert findings(browser) == []
        shot(browser, f"control-room-200-{name}")
        to_list(browser)
        assert findings(browser) == []


def test_the_oldest_unseen_alert_comes_first_with_its_waiting_time_its_category_its_place_and_its_picture(
    console: Console,
) -> None:
    young, old, opened_one = many(3)
    console.hold(young, ago_s=5)
    console.hold(old, ago_s=125)
    console.hold(opened_one, ago_s=600)
    officer = console.room.store.officers.get("op-1")
    assert officer is not None
    console.room.desk.open_alert(opened_one.ref, officer)
    with chromium() as browser:
        sign_in(browser, console, "op-1")
        found = wait(browser).until(
            lambda b: [(c.get_attribute("data-alert"), c.text) for c in b.find_elements(*CARDS)]
        )
        assert [each[0] for each in found] == [str(each.ref) for each in (old, young, opened_one)]
        for words in ("waits 2 min", old.category, old.place, "van-2 no. 1"):
            assert words in found[0][1]
        thumb = (By.CSS_SELECTOR, "#queue .card .thumb")
        wait(browser).until(lambda b: b.find_element(*thumb).get_property("naturalWidth") > 0)
        first = browser.find_element(*thumb)
        seen = {"alert": str(old.ref), "what": "thumbnail", "by": "op-1"}
        assert console.audited(Event.ALERT_VIEWED).count(seen) == 1
        console.hold(many(4)[3])
        wait(browser).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, "#queue .card")) == 4)
        assert browser.find_element(*thumb) == first, "a thumbnail is fetched once, and not with every change"
        before = wait(browser).until(lambda b: b.find_elements(By.CSS_SELECTOR, ".age")[1].text)
        wait(browser).until(lambda b: b.find_elements(By.CSS_SELECTOR, ".age")[1].text != before)


def test_opening_the_oldest_unseen_alert_and_deciding_takes_the_keyboard_only(console: Console) -> None:
    first, second = console.hold(*many(2), ago_s=10)
    with chromium() as browser:
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#queue .card"))
        for alert, key in ((first, "d"), (second, "e")):
            press(browser, "n")
            opened(browser, alert)
            press(browser, key)
            press(browser, "different person" if key == "d" else "the same person")
            wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, "#decision button").is_enabled())
            press(browser, Keys.ENTER)
            done = wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".done")).text
            assert done.startswith("Recorded: " + ("do not engage" if key == "d" else "engage")), done
        assert console.case_is(first, State.DO_NOT_ENGAGE)
        assert console.case_is(second, State.ENGAGE)


def test_the_list_and_the_alert_scroll_apart(console: Console) -> None:
    refs = console.hold(*many(60))
    with chromium((1280, 500)) as browser:
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, "#queue .card")) == 60)
        click(browser, refs[40])
        opened(browser, refs[40])
        kept = browser.execute_script("return document.querySelector('nav').scrollTop")
        assert kept > 0
        browser.execute_script("document.querySelector('#detail').scrollTop = 10000")
        moved = browser.execute_script("return [document.querySelector('#detail'), document.querySelector('nav'),"
                                       " document.documentElement].map((each) => each.scrollTop)")  # fmt: skip
        assert moved[0] > 0
        assert moved[1:] == [kept, 0]
