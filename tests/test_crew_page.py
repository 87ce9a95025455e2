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
from edge.system.health import Health, spread, write_status


@contextmanager
def served(status: Path) -> Iterator[str]:
    """The page on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(make_app(status), host="127.0.0.1", port=0, log_level="error"))
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
        "state": "watching",
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
    page = crew_page(health(state="refused", why="authority op-1: begins at 14:00. Wait until then."), "", NOW)
    assert ">Not matching<" in page
    assert "begins at 14:00" in page


def test_old_news_is_no_news() -> None:
    page = crew_page(health(at=NOW - timedelta(seconds=9)), "", NOW)
    assert ">No word from the service<" in page
    assert "9 seconds ago" in page
    assert ">Matching<" not in page


def test_what_the_service_says_is_text_and_never_markup() -> None:
    page = crew_page(health(state="refused", why="<script>alert(1)</script>"), "", NOW)
    assert "<script>" not in page


@pytest.mark.parametrize("content", [None, b"{"], ids=["missing", "damaged"])
def test_a_missing_or_damaged_status_is_shown_as_such(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "status.json").write_bytes(content)
    with served(tmp_path / "status.json") as address, urlopen(address) as answer:
        assert "No word from the service" in answer.read().decode()


def test_the_page_is_served_fresh_and_allows_no_script(tmp_path: Path) -> None:
    write_status(tmp_path / "status.json", health(at=datetime.now(UTC)))
    with served(tmp_path / "status.json") as address, urlopen(address) as answer:
        assert ">Matching<" in answer.read().decode()
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
