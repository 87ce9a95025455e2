"""What vouches for the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.trust.timing import built_at, clock_confirmed, clock_floor, kernel_says_synchronised, last_audit_time

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_floor_is_the_latest_thing_that_is_certainly_past(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text('{"at":"2026-02-01T00:00:00+00:00"}\n{"at":"2026-02-03T00:00:00+00:00"}\ntorn')
    third = datetime(2026, 2, 3, tzinfo=UTC)
    assert last_audit_time(log) == third
    assert clock_floor(built=NOW - timedelta(days=90), log=log) == third
    assert clock_floor(built=NOW, log=log) == NOW
    assert clock_floor(built=NOW, log=log, published=NOW + timedelta(days=1)) == NOW + timedelta(days=1)
    assert clock_floor(built=NOW, log=tmp_path / "nothing") == NOW
    assert built_at() <= datetime.now(UTC)


def test_a_clock_is_confirmed_by_a_battery_a_server_or_the_satellites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel_says_synchronised() in {True, False}
    monkeypatch.setattr("edge.trust.timing.kernel_says_synchronised", lambda: False)
    none = tmp_path / "none"
    assert not clock_confirmed(NOW, rtc=none)
    assert clock_confirmed(NOW, rtc=tmp_path)
    assert clock_confirmed(NOW, rtc=none, satellite_time=NOW - timedelta(seconds=3))
    assert not clock_confirmed(NOW, rtc=none, satellite_time=NOW - timedelta(hours=1))
    monkeypatch.setattr("edge.trust.timing.kernel_says_synchronised", lambda: True)
    assert clock_confirmed(NOW, rtc=none)
