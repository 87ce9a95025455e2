"""The crew's page says whether the van matches, and never goes on saying so after the service has died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from edge.console.standing import standing
from edge.console.views import crew_page
from edge.console.wire import Camera, Fact, Report
from edge.system.health import Health, Reason, spread

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
    assert "<script>alert" not in page


def test_every_reason_is_shown_and_a_van_whose_alerts_wait_is_not_plainly_green() -> None:
    away = Reason("link", "The broker cannot be reached: alerts wait in the van.", blocks=False)
    page = crew_page(health(reasons=(away,), why=away.why), "", NOW)
    assert ">Matching, but<" in page
    assert 'class="big but"' in page
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


def test_a_van_that_waits_for_its_hour_is_ready_and_not_refused() -> None:
    report = Report(health(state="not matching", why="authority op-1: begins at 14:00."), ready=True)
    assert standing(report, "", NOW).title == "Ready"
    assert standing(report.health, "", NOW).title == "Not matching"


def test_each_camera_says_for_itself_whether_it_matches() -> None:
    cameras = (Camera("1", "kerb", matching=True), Camera("2", "roof", matching=False, why=("roof is frozen.",)))
    page = crew_page(Report(health(), cameras=cameras), "", NOW)
    assert "<strong>kerb</strong>\n    <span>gives pictures</span>" in page
    assert "<strong>roof</strong>\n    <span>does not match</span>" in page
    assert "roof is frozen." in page


def test_what_cannot_be_known_is_said_so_and_never_green() -> None:
    page = crew_page(Report(health(), facts=(Fact("Power", ""), Fact("Disk", "0.1 GB", good=False))), "", NOW)
    assert "<div><dt>Power</dt><dd>cannot be known</dd></div>" in page
    assert '<div class="bad"><dt>Disk</dt>' in page


def test_the_time_that_is_left_is_counted_from_the_authority() -> None:
    page = crew_page(Report(health(), ends=NOW + timedelta(hours=2, minutes=5)), "", NOW)
    assert "2 h 5 min left" in page
