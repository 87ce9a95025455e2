"""The crew's page says whether the van matches, and never goes on saying so after the service has died."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
import uvicorn

from edge.console.page import crew_page, make_app
from edge.system.health import Health, Reason, spread, write_status

CONFIG = """
van.id = "van-1"
deployment.id = "op-1"
camera.source = "street.mp4"
store.runtime = "run"
"""


@contextmanager
def served(folder: Path, text: str = "") -> Iterator[str]:
    """The page of a van whose configuration lies in ``folder``, on a free port of loopback."""
    (folder / "lfr.toml").write_text(CONFIG + text)
    server = uvicorn.Server(uvicorn.Config(make_app(folder / "lfr.toml"), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(5)


NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def health(**changes: object) -> Health:
    values = {
        "van": "van-1",
        "deployment": "op-1",
        "state": "matching",
        "at": NOW,
        "erasure_ms": spread([650.0, 900.0]),
    }
    return Health(**{**values, **changes})  # type: ignore[arg-type]


def test_a_van_that_matches_says_so() -> None:
    page = crew_page(health(faces_seen=12), "", NOW)
    assert ">Matching<" in page
    assert "<dt>People seen</dt><dd>12</dd>" in page
    assert "900 ms at most" in page


def test_a_van_that_may_not_match_says_why() -> None:
    page = crew_page(health(state="not matching", why="authority op-1: begins at 14:00. Wait until then."), "", NOW)
    assert ">Not matching<" in page
    assert "begins at 14:00" in page


def test_old_news_is_no_news() -> None:
    page = crew_page(health(at=NOW - timedelta(seconds=9)), "", NOW)
    assert ">No word from the service<" in page
    assert "9 seconds ago" in page
    assert ">Matching<" not in page


def test_a_clock_that_was_set_back_keeps_no_dead_service_green() -> None:
    page = crew_page(health(at=NOW + timedelta(hours=1)), "", NOW)
    assert ">No word from the service<" in page
    assert "3600 seconds ahead of this clock" in page
    assert ">Matching<" not in page


def test_what_the_service_says_is_text_and_never_markup() -> None:
    page = crew_page(health(state="failed", why="<script>alert(1)</script>"), "", NOW)
    assert "<script>" not in page


@pytest.mark.parametrize("content", [None, b"{"], ids=["missing", "damaged"])
def test_a_missing_or_damaged_status_is_shown_as_such(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    if content is not None:
        (tmp_path / "run/status.json").write_bytes(content)
    with served(tmp_path) as address, urlopen(address) as answer:
        assert "No word from the service" in answer.read().decode()


def test_the_page_is_served_fresh_and_allows_no_script(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    write_status(tmp_path / "run/status.json", health(at=datetime.now(UTC)))
    with served(tmp_path) as address, urlopen(address) as answer:
        assert ">Matching<" in answer.read().decode()
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_configuration_that_is_wrong_keeps_the_van_from_starting_and_the_page_says_what_is_wrong(
    tmp_path: Path,
) -> None:
    with served(tmp_path, "camera.sauce = 1\n") as address, urlopen(address) as answer:
        page = answer.read().decode()
    assert "No word from the service" in page
    assert "camera.sauce" in page
    assert "Call the engineer, who can do this: " in page


def test_every_reason_is_shown_and_a_van_whose_alerts_wait_is_not_plainly_green() -> None:
    away = Reason("link", "The broker cannot be reached: alerts wait in the van.", blocks=False)
    page = crew_page(health(reasons=(away,), why=away.why), "", NOW)
    assert ">Matching, but<" in page
    assert 'class="but"' in page
    assert page.count(away.why) == 1
    place = Reason("permission", "authority op-1: is for another street. Drive there.", blocks=True)
    page = crew_page(health(state="not matching", why=place.why, reasons=(place, away)), "", NOW)
    assert ">Not matching<" in page
    assert place.why in page
    assert away.why in page


def test_a_failure_stays_on_the_page_until_the_service_runs_again() -> None:
    why = "/dev/video0: there is no such camera. Check its cable."
    page = crew_page(health(state="failed", why=why, at=NOW - timedelta(hours=1)), "", NOW)
    assert ">Stopped: something is wrong<" in page
    assert why in page
    page = crew_page(health(state="starting", why="opening the camera", before=why), "", NOW)
    assert ">Starting<" in page
    assert why in page
    assert ">Matching" not in page


def test_a_start_that_takes_too_long_is_no_start() -> None:
    page = crew_page(health(state="starting", at=NOW - timedelta(seconds=60)), "", NOW)
    assert ">Starting<" in page
    page = crew_page(health(state="starting", at=NOW - timedelta(seconds=121)), "", NOW)
    assert ">No word from the service<" in page
