"""The crew's page in a real Chromium: what can be read and touched, and what it says when the van is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from edge.console import wire
from edge.console.hatch import Hatch
from edge.console.wire import Answer, Camera, Done, Fact, Question, Report
from edge.system.health import Health, Reason, Spread
from edge.worker import Supervisor
from tests.browser import DESKTOP, TABLET, chromium
from tests.crew import PIN, officer, page_of, write_crew
from tests.integration.page import findings, shot

PHONE = (412, 915)
CONFIG = """
van.id = "van-1"
deployment.id = "op-1"
camera.source = "street.mp4"
store.runtime = "run"
"""
REASONS = {
    "clock": "the clock: has not been set. Wait until a time server or satellites set it.",
    "permission": "authority op-1: is for another street. Drive into the place.",
    "camera": "the roof camera has delivered no picture for 5 s. Check its cable and its power.",
}


class Desk:
    """What the service would say; ``state`` and ``reasons`` may change while the page looks."""

    def __init__(self) -> None:
        self.state = "matching"
        self.reasons: tuple[Reason, ...] = ()

    def answer(self, question: Question) -> tuple[Answer, bytes]:
        if isinstance(question, wire.AskSelfTest):
            return wire.Checks((wire.Line("disk", good=True, detail="takes what is written to it"),)), b""
        if not isinstance(question, wire.AskReport):
            return Done(), b""
        now = datetime.now(UTC)
        why = self.reasons[0].why if self.reasons else ""
        health = Health(
            van="van-1", deployment="op-1", state=self.state, at=now, why=why, reasons=self.reasons, fps=14.2,
            list_entries=212, threshold=0.31, faces_seen=1204, alerts=2, memory_locked=True,
            erasure_ms=Spread(p50=612.0, p99=688.0, max=701.0),
        )  # fmt: skip
        roof = tuple(each.why for each in self.reasons if each.part == "camera")
        facts = (
            Fact("Place", "Market Square"),
            Fact("In the place", "yes", good=True),
            Fact("Control room", "reachable", good=True),
            Fact("Temperature", "61 °C", good=True),
            Fact("Disk", "0.4 GB", good=False),
            Fact("Power", ""),
        )
        cameras = (Camera("1", "roof", matching=not roof, why=roof),)
        return Report(health, cameras, facts, ends=now + timedelta(hours=2, minutes=20)), b""


@contextmanager
def answering(folder: Path, desk: Desk) -> Iterator[None]:
    workers = Supervisor()
    hatch = Hatch(folder / "run/crew.sock", desk.answer)
    hatch.start(workers)
    try:
        yield
    finally:
        hatch.stop()
    assert workers.failure is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o700)
    write_crew(tmp_path, officer())
    return tmp_path


def until(browser: webdriver.Chrome, words: str) -> None:
    WebDriverWait(browser, 30).until(
        lambda b: words in b.execute_script("return document.body.innerText"), f"never said {words}"
    )


def too_small(browser: webdriver.Chrome) -> list[str]:
    """What is to be touched and is smaller than a finger in a glove: 48 pixels."""
    return browser.execute_script("""
        return [...document.querySelectorAll("button, a, select, #pin, label:has(input)")]
          .filter((e) => e.offsetParent).map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
          .filter(([, r]) => r.width < 48 || r.height < 48).map(([html]) => html)""")


def sign_in(browser: webdriver.Chrome, url: str) -> None:
    """With the keys on the screen, as there is no keyboard in a van."""
    browser.get(f"{url}/signin")
    Select(browser.find_element(By.ID, "number")).select_by_visible_text("op-1")
    for digit in PIN:
        browser.find_element(By.CSS_SELECTOR, f'[data-digit="{digit}"]').click()
    assert findings(browser) == []
    assert too_small(browser) == []
    browser.find_element(By.CSS_SELECTOR, "#keypad .go").click()
    until(browser, "Sign out")


def test_a_crew_reads_touches_and_is_told_when_the_van_is_lost(folder: Path) -> None:
    desk = Desk()
    with page_of(folder, CONFIG) as page, chromium(DESKTOP) as browser:
        url = f"http://127.0.0.1:{page.port}"
        with answering(folder, desk):
            sign_in(browser, url)
            until(browser, "Matching")
            for name, size in (("desktop", DESKTOP), ("tablet", TABLET), ("phone", PHONE)):
                browser.set_window_size(*size)
                assert findings(browser) == []
                assert too_small(browser) == []
                assert browser.execute_script(
                    "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
                )
                shot(browser, f"van-{name}")
            browser.set_window_size(*TABLET)
            for part, why in REASONS.items():
                desk.state, desk.reasons = "not matching", (Reason(part, why, blocks=True),)
                until(browser, why)
                until(browser, "Not matching")
            for theme in ("day", "contrast", "night"):
                browser.find_element(By.ID, "theme").click()
                assert browser.execute_script("return document.documentElement.dataset.theme") == theme
                assert findings(browser) == []
                shot(browser, f"van-{theme}")
            browser.find_element(By.CSS_SELECTOR, '[hx-post="/self-test"]').click()
            until(browser, "takes what is written to it")
            assert findings(browser) == []
            browser.get(f"{url}/end")
            assert findings(browser) == []
            assert too_small(browser) == []
            shot(browser, "van-end")
            browser.get(url)
        until(browser, "No word from the service")
        assert not browser.find_element(By.ID, "lost").is_displayed()
        page.process.kill()
        until(browser, "This page has lost the van")
        assert findings(browser) == []
        shot(browser, "van-lost")
