"""What the demo says at its end: a machine that is too slow is told so, and a late alert is no false one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from provisioning.demo.deployment import Result
from provisioning.demo.footage import Footage
from provisioning.demo.incidents import Incidents
from provisioning.demo.scene import PassageTruth
from provisioning.demo.script import SceneTruth
from provisioning.demo.summary import Summary, summarise
from provisioning.demo.vans import Van

BEGAN = 1_750_000_000.0
FPS, FRAMES = 15.0, 600
PASSAGES = (("R-1", 30, 90), ("R-2", 420, 480))


def ended(
    alerts: list[tuple[str, float]], *, live: bool, fps: float = FPS, dropped: int = 0, asked: float = FPS
) -> Summary:
    """The summary of a van that raised alerts of those references, so many seconds after its start."""
    van = Van("van-demo", Path("van"), asked, process=cast("Any", object()), began=BEGAN)
    van.health = {
        "frames": FRAMES - dropped, "dropped": dropped, "given_up": 0, "unreadable": 0, "fps": fps, "faces_seen": 2,
        "embedded": 7, "refused": {"too_small": 3}, "alerts": len(alerts), "nonmatch_overdue": 0,
        "erasure_ms": {"p50": 600.0, "p99": 700.0, "max": 800.0},
    }  # fmt: skip
    van.receipt, van.verified = {"files": ["list.db"]}, {"entries": 9}
    passages = tuple(PassageTruth(n, name, "p.jpg", name, a, b, (60, 90)) for n, (name, a, b) in enumerate(PASSAGES))
    truth = SceneTruth(960, 540, int(FPS), FRAMES, 1, len(passages), passages, ())
    result = Result(Path("demo"), [van], live=live)
    for reference, at in alerts:
        seen = datetime.fromtimestamp(BEGAN + at, UTC).isoformat()
        result.alerts.append({"van": van.name, "reference": reference, "seen_at": seen, "received_at": seen})
    incidents = Incidents("", lambda _: None, lambda: None, lambda: None)
    return summarise(result, Footage(Path("film"), Path("list"), FRAMES, FPS, truth, 30.0), incidents)


@pytest.mark.parametrize("live", [True, False])
def test_alerts_in_time_are_right(live: bool) -> None:
    summary = ended([("R-1", 4), ("R-2", 30)], live=live)
    assert summary.good
    assert summary.figures["missed"] == {"van-demo": []}
    assert "too slow" not in " ".join(summary.lines)


def test_a_van_that_drops_no_frame_is_late_on_a_slow_machine_and_its_alerts_are_right_and_it_says_so() -> None:
    summary = ended([("R-1", 12), ("R-2", 90)], live=False, fps=5.0)
    assert summary.figures["false_alerts"] == 0
    assert summary.good
    assert "too slow for 15 pictures a second: it watched all, but late" in " ".join(summary.lines)


def test_the_wrong_name_or_somebody_who_is_not_there_is_a_false_alert_however_late_the_van_is() -> None:
    assert ended([("R-9", 12), ("R-2", 90)], live=False, fps=5.0).figures["false_alerts"] == 1
    assert ended([("R-2", 12), ("R-2", 90)], live=False, fps=5.0).figures["false_alerts"] == 1
    assert ended([("R-1", 12), ("R-2", 90)], live=True).figures["false_alerts"] == 2


def test_nobody_found_is_said_with_its_cause() -> None:
    summary = ended([], live=True, fps=5.0, dropped=400)
    text = " ".join(summary.lines)
    assert not summary.good
    assert "watched 33% of them and left out 400" in text
    assert "van-demo did not find R-1, R-2: it watched 200 pictures and left out 400, saw 2 people" in text
    assert "refused 3 too small" in text


def test_a_van_that_is_to_look_at_fewer_pictures_a_second_is_not_called_too_slow() -> None:
    summary = ended([("R-1", 4), ("R-2", 30)], live=True, fps=7.5, dropped=300, asked=7.5)
    assert "too slow" not in " ".join(summary.lines)


def test_a_van_that_drops_no_frame_and_is_faster_than_the_film_is_right_as_well() -> None:
    assert ended([("R-1", 2), ("R-2", 15)], live=False, fps=30.0).good
