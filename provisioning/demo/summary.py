"""What came of the demo, held against the scene's truth: for a person in sentences, for a machine in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.system.health import spread
from provisioning.demo.deployment import Result
from provisioning.demo.footage import Footage
from provisioning.demo.incidents import Incidents
from provisioning.demo.scene import PassageTruth

__all__ = ["Summary", "summarise"]

SLACK_S = 2.0
"""An alert belongs to a passage that was in the picture when the alert's frame was captured, give or take
the time between the van's first word and its first frame."""
LIMIT_MS = 3000


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of the demo.

    Attributes:
        figures: the JSON of the last line.
        lines: the same for people.
        good: whether the main job was done: every expected alert, no other, everybody else forgotten in time.
    """

    figures: dict[str, Any]
    lines: list[str]
    good: bool


def _expected(footage: Footage, *, came_later: bool) -> list[PassageTruth]:
    """Whose passages must alert: whoever left the list is on it no more for a van that came later."""
    if footage.truth is None:
        return []
    gone = footage.leaves if came_later else None
    return [p for p in footage.truth.passages if p.reference is not None and p.reference != gone]


def _right(result: Result, footage: Footage) -> int:
    """How many alerts are of a person on the list who was passing just then; each passage counts once for each van."""
    right = 0
    for number, van in enumerate(result.vans):
        open_passages = _expected(footage, came_later=number > 0)
        for alert in result.alerts:
            at = datetime.fromisoformat(alert["seen_at"]).timestamp() - van.began
            for passage in open_passages if alert["van"] == van.name else ():
                first, last = passage.first_frame / footage.fps - SLACK_S, passage.last_frame / footage.fps + SLACK_S
                if passage.reference == alert["reference"] and first <= at <= last:
                    open_passages.remove(passage)
                    right += 1
                    break
    return right


def summarise(result: Result, footage: Footage, incidents: Incidents) -> Summary:
    """Hold a run against what should have come of it. Alerts that waited for the broker are not counted as latency."""
    came = [van for van in result.vans if van.process is not None]
    health = came[0].health
    received = len(result.alerts)
    known = footage.truth is not None
    expected = None
    if known:
        expected = sum(len(_expected(footage, came_later=number > 0)) for number, van in enumerate(came))
    false = received - _right(result, footage) if known else None
    latency = spread(
        [
            (datetime.fromisoformat(a["received_at"]) - datetime.fromisoformat(a["seen_at"])).total_seconds() * 1000
            for a in result.alerts
            if not incidents.while_away(datetime.fromisoformat(a["seen_at"]).timestamp())
        ]
    )
    kept = sum(incidents.while_away(datetime.fromisoformat(a["seen_at"]).timestamp()) for a in result.alerts)
    erasure = health["erasure_ms"]
    figures = {
        "frames": health["frames"],
        "frames_unreadable": health["unreadable"],
        "faces_seen": health["faces_seen"],
        "alerts_received": received,
        "alerts_expected": expected,
        "false_alerts": false,
        "latency_ms": {"p50": latency.p50, "p99": latency.p99},
        "erasure_ms": erasure,
        "nonmatch_overdue": sum(van.health["nonmatch_overdue"] for van in came),
        "left_the_list": incidents.leaves if incidents.revoked_at is not None else None,
        "kept_while_the_broker_was_gone": kept,
        "fps": health["fps"],
        "vans": {van.name: {"frames": van.health["frames"], "alerts": van.health["alerts"]} for van in came},
        "audit_log": str(came[0].audit_log),
    }
    longest = [van.health["erasure_ms"]["max"] for van in came]
    in_time = all(each is None or each <= LIMIT_MS for each in longest)
    good = figures["nonmatch_overdue"] == 0 and in_time and not result.refused and not result.incomplete
    if known:
        good = good and received == expected and false == 0
    return Summary(figures, _lines(result, figures), good)


def _lines(result: Result, figures: dict[str, Any]) -> list[str]:
    erasure = figures["erasure_ms"]
    lines = [
        "",
        f"{figures['faces_seen']} people passed; {figures['alerts_received']} alert(s) reached the control room.",
    ]
    if result.incomplete:
        lines.append(f"Not all of the video was watched: {result.incomplete}")
    if figures["alerts_expected"] is not None:
        lines.append(f"Expected were {figures['alerts_expected']}; {figures['false_alerts']} were false.")
    if figures["left_the_list"]:
        lines.append(
            f"{figures['left_the_list']} left the list in the middle: one alert before, none when they passed again."
        )
    if figures["kept_while_the_broker_was_gone"]:
        lines.append(
            f"The broker was gone for a while: {figures['kept_while_the_broker_was_gone']} alert(s) waited in the van, "
            "and arrived when it was back."
        )
    if erasure["max"] is not None:
        lines.append(
            f"Everybody else was forgotten {erasure['p50']:.0f} ms after their last frame in the median, "
            f"{erasure['max']:.0f} ms at most; {figures['nonmatch_overdue']} overdue."
        )
    lines += [
        f"{van.name}: {van.health['frames']} frames; its list was destroyed ({', '.join(van.receipt['files'])}); its "
        f"audit log holds, {van.verified['entries']} entries, each in its place and signed."
        for van in result.vans
        if van.process is not None
    ]
    logs = f"{result.folder / result.vans[0].name}.log, {result.folder / 'control.log'}"
    lines.append(f"Pictures of the alerts: {result.folder / 'pictures'}")
    lines.append(f"Logs: {logs}; audit log: {figures['audit_log']}")
    lines.append("")
    return lines
