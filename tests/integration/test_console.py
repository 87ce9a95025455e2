"""The control room's page in a real browser, with a real broker behind it."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("selenium")
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from edge.alert.adjudication import ADJUDICATION
from edge.controlroom.cases import State
from edge.errors import ConfigInvalid, EdgeError, StoreDamaged, StoreUnavailable
from edge.trust.events import Event
from edge.trust.keys import KnownSigners
from tests.broker import Site
from tests.browser import DESKTOP, TABLET, chromium
from tests.integration.page import PASSWORD, TODAY, Client, Console, console, findings, press, shot, sign_in, wait

__all__ = ["console"]
pytestmark = pytest.mark.broker


def test_an_alert_goes_from_its_arrival_to_its_outcome_by_keyboard_alone(console: Console) -> None:
    with chromium(DESKTOP) as browser:
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: "No alerts" in b.find_element(By.ID, "queue").text)
        alert = console.raise_alert()
        new_card = (By.CSS_SELECTOR, ".card.new")
        assert wait(browser).until(lambda b: b.find_element(*new_card).get_attribute("data-alert")) == alert
        assert "(1)" in browser.title

        press(browser, "j", Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)
        assert console.case_is(alert, State.SEEN)
        text = wait(browser).until(lambda b: b.find_element(By.ID, "detail").text)
        for words in ("S-0042", "wanted on warrant", "0.710", "threshold 0.339", "7 years ago", "S-0077; S-0100",
                      "Market Square", "9 frames"):  # fmt: skip
            assert words in text, words
        probe, reference = wait(browser).until(
            lambda b: [b.find_element(By.CSS_SELECTOR, f".frame:has(#{name})").rect for name in ("probe", "reference")]
        )
        assert reference["width"] == pytest.approx(probe["width"], abs=1)
        assert reference["height"] == pytest.approx(probe["height"], abs=1)
        assert probe["x"] < reference["x"]
        button = (By.CSS_SELECTOR, "#decision button")
        assert wait(browser).until(lambda b: [b.find_element(*button).is_enabled()]) == [False]
        shot(browser, "control-room-desktop")

        press(browser, "e")
        press(browser, "same person as far as can be seen")
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, "#decision button").is_enabled())
        assert findings(browser) == []
        press(browser, Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".state-word").text == "engage")
        assert console.case_is(alert, State.ENGAGE)
        assert not browser.find_elements(By.ID, "outcome"), "an operator closes no case"
        said = browser.find_element(By.ID, "detail").text
        assert "Recorded: engage, because: same person as far as can be seen" in said
        assert "Nobody has recorded yet what came of it" in said
        wait(browser).until(lambda b: "1 engaged without an outcome" in b.find_element(By.ID, "status").text)
        assert "no outcome for" in wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.engage").text)

    with chromium(TABLET) as browser:
        sign_in(browser, console, "eo-1")
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.engage"))
        press(browser, "j", Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.ID, "outcome"))
        wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)
        shot(browser, "control-room-tablet")
        assert findings(browser) == []
        press(browser, "o", " ", Keys.TAB, Keys.ARROW_RIGHT)
        browser.find_element(By.CSS_SELECTOR, 'input[name="correct"][value="yes"]').send_keys(" ")
        browser.find_element(By.CSS_SELECTOR, 'input[name="result"][value="arrest"]').send_keys(" ")
        browser.find_element(By.CSS_SELECTOR, "#outcome button").send_keys(Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, "#detail .closed"))
        said = browser.find_element(By.ID, "detail").text
        assert "Recorded: a correct alert, arrest" in said
        assert "Decision: engage, by op-1" in said
        assert browser.find_element(By.CSS_SELECTOR, ".state-word").text == "engage by op-1, closed"
        browser.find_element(By.CSS_SELECTOR, ".back").click()
        card = wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, "#queue .card.closed").text)
        assert "engage by op-1; a correct alert, arrest" in card
        assert "Nobody has recorded yet" not in said
        assert console.case_is(alert, State.CLOSED)

    rooms = KnownSigners.load(console.site.van("van-1") / "control-signing.jwks")
    deadline = time.monotonic() + 15
    while len(console.decisions) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    told = [ADJUDICATION.read(payload, rooms, "van-1") for kind, payload in console.decisions if kind == "adjudication"]
    assert [(body.state, body.by) for body in told] == [("seen", "op-1"), ("engage", "op-1"), ("closed", "eo-1")]
    assert (told[-1].correct, told[-1].result) == (True, "arrest")
    assert [entry["by"] for entry in console.audited(Event.ENTRY_CONSULTED)] == ["op-1", "eo-1"]
    assert [entry["verdict"] for entry in console.audited(Event.ALERT_ADJUDICATED)] == [
        "engage",
        "closed: correct, arrest",
    ]


def test_an_alert_that_nobody_opens_escalates_on_every_page(console: Console) -> None:
    with chromium() as browser:
        sign_in(browser, console, "op-1")
        alert = console.raise_alert()
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.new"))
        card = wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.escalated"))
        assert "escalated" in card.text
        shot(browser, "control-room-escalated")
        assert console.audited(Event.ALERT_ADJUDICATED) == [{"alert": alert, "by": "system", "verdict": "escalated"}]


def test_nobody_signs_in_with_lapsed_training_or_a_wrong_password(console: Console) -> None:
    with chromium() as browser:
        for number, password, words in (
            ("op-old", PASSWORD, "was trained until"),
            ("op-1", "wrong horse battery", "number or password is wrong"),
            ("nobody", PASSWORD, "number or password is wrong"),
        ):
            sign_in(browser, console, number, password)
            error = wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".error"))
            assert words in error.text
        assert findings(browser) == []
        browser.get(console.url)
        assert browser.current_url.endswith("/signin")
    assert [(entry["by"], entry["error"]) for entry in console.audited(Event.SIGN_IN_REFUSED)] == [
        ("op-old", "TrainingLapsed"),
        ("op-1", "SignInRefused"),
        ("(not on the list)", "SignInRefused"),
    ]


def test_training_that_lapses_during_a_shift_ends_the_session(console: Console) -> None:
    with chromium() as browser:
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: b.find_element(By.ID, "queue"))
        console.room.store.officers.renew_training("op-1", TODAY - timedelta(days=1))
        console.raise_alert()
        wait(browser).until(lambda b: b.current_url.endswith("/signin"))


class TestWithoutABrowser:
    """What the page refuses, asked directly."""

    @pytest.fixture
    def client(self, console: Console) -> Client:
        return Client(console)

    def test_a_decision_before_the_minimum_look_is_refused(self, console: Console, client: Client) -> None:
        alert = client.alert()
        assert client.get(f"/alerts/{alert}")[0] == 200
        form = {"engage": "no", "reason": "different person"}
        assert client.post(f"/alerts/{alert}/decision", form)[0] == 409, "nobody looked at all"
        assert client.get(f"/alerts/{alert}/probe.jpg")[0] == 200
        status, body = client.post(f"/alerts/{alert}/decision", form)
        assert status == 409
        assert "has been looked at" in body
        assert console.case_is(alert, State.SEEN)

    def test_the_lists_picture_is_not_handed_out_before_the_probe(self, client: Client) -> None:
        alert = client.alert()
        assert client.get(f"/alerts/{alert}/reference.jpg")[0] == 403
        assert client.get(f"/alerts/{alert}/probe.jpg")[0] == 200
        assert client.get(f"/alerts/{alert}/reference.jpg")[0] == 200

    def test_both_figures_are_shown_and_said_in_words(self, client: Client) -> None:
        page = client.get(f"/alerts/{client.alert()}")[1]
        assert 'aria-label="Score 0.412 on a scale from 0 to 1, threshold 0.339"' in page
        assert "Score <strong>0.412</strong>, threshold 0.339: 0.073 above the threshold" in page
        assert "similarity of the two faces 0.710" in page

    def test_an_alert_of_an_older_van_is_judged_by_its_similarity(self, client: Client) -> None:
        page = client.get(f"/alerts/{client.alert(score=None, threshold=0.7)}")[1]
        assert 'aria-label="Similarity 0.710 on a scale from 0 to 1, threshold 0.700"' in page
        assert "Similarity <strong>0.710</strong>, threshold 0.700: just above the threshold, by 0.010" in page
        assert "Score" not in page

    def test_without_a_session_nothing_is_shown(self, console: Console, client: Client) -> None:
        alert = client.alert()
        client.cookie = ""
        for path in ("/", "/queue", "/events", f"/alerts/{alert}", f"/alerts/{alert}/probe.jpg"):
            assert client.get(path)[0] == 303, path

    def test_a_form_from_another_site_is_refused(self, console: Console, client: Client) -> None:
        alert = client.alert()
        client.get(f"/alerts/{alert}")
        status, _ = client.post(
            f"/alerts/{alert}/decision", {"engage": "yes", "reason": "xxx"}, origin="https://elsewhere.example"
        )
        assert status == 400
        assert console.case_is(alert, State.SEEN)

    def test_every_answer_forbids_inline_code_framing_and_storing(self, client: Client) -> None:
        for path in ("/signin", "/", "/static/room.js"):
            client.get(path)
            headers = client.headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("trouble", [StoreUnavailable, StoreDamaged])
    def test_a_list_that_cannot_be_read_is_never_shown_as_no_alerts(
        self, console: Console, client: Client, monkeypatch: pytest.MonkeyPatch, trouble: type[EdgeError]
    ) -> None:
        client.alert()
        assert "1 unseen alert" in client.get("/queue")[1]

        def unreadable() -> list[object]:
            raise trouble("the store", "does not answer", "Wait")

        monkeypatch.setattr(console.room.desk, "listed", unreadable)
        monkeypatch.setattr(console.room, "damaged", lambda _: None)  # it would end the process, which says why
        status, page = client.get("/queue")
        assert status == 200, "htmx swaps nothing else in"
        assert "The list cannot be shown at the moment" in page
        assert "No alerts" not in page
        assert "unseen alert" not in page

    def test_passwords_can_be_guessed_five_times_a_minute(self, console: Console, client: Client) -> None:
        for _ in range(5):
            assert client.post("/signin", {"number": "op-1", "password": "guess"})[0] == 403
        assert client.post("/signin", {"number": "op-1", "password": PASSWORD})[0] == 429


def test_the_page_does_not_listen_beyond_this_machine_without_tls(site: Site) -> None:
    from edge.controlroom.serve import serve

    (site.room / "control.toml").write_text('[console]\nhost = "0.0.0.0"\n')
    with pytest.raises(ConfigInvalid, match="needs TLS"):
        serve(site.room / "control.toml")


def test_officers_are_kept_from_the_command_line(site: Site) -> None:
    def control(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge.controlroom.cli", *arguments, "--config", str(site.room / "control.toml")],
            input=stdin, check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    until = f"{datetime.now(UTC).date() + timedelta(days=30)}"
    added = control("staff", "add", "op-7", "--role", "operator", "--trained-until", until, "--password-stdin",
                    stdin=PASSWORD + "\n")  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert f"op-7  operator  trained until {until}" in control("staff", "list").stdout
    short = control("staff", "add", "op-8", "--role", "operator", "--trained-until", until, "--password-stdin",
                    stdin="short\n")  # fmt: skip
    assert short.returncode == 4
    assert control("staff", "renew", "op-9", "--trained-until", until).returncode == 4
