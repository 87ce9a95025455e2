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


def _right(result: Result, footage: Footage) -> int:
    """How many alerts are of a person on the list who was passing just then; each passage counts once."""
    if footage.truth is None:
        return 0
    open_passages: list[PassageTruth] = [p for p in footage.truth.passages if p.reference is not None]
    right = 0
    for alert in result.alerts:
        at = datetime.fromisoformat(alert["seen_at"]).timestamp() - result.began
        for passage in open_passages:
            first, last = passage.first_frame / footage.fps - SLACK_S, passage.last_frame / footage.fps + SLACK_S
            if passage.reference == alert["reference"] and first <= at <= last:
                open_passages.remove(passage)
                right += 1
                break
    return right


def summarise(result: Result, footage: Footage, incidents: Incidents) -> Summary:
    """Hold a run against what should have come of it. Alerts that waited for the broker are not counted as latency."""
    health = result.health
    received = len(result.alerts)
    known = footage.truth is not None
    expected = footage.truth.alerts_expected if footage.truth is not None else None
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
        "nonmatch_overdue": health["nonmatch_overdue"],
        "left_the_list": incidents.leaves if incidents.revoked_at is not None else None,
        "kept_while_the_broker_was_gone": kept,
        "fps": health["fps"],
        "audit_log": str(result.audit_log),
    }
    in_time = erasure["max"] is None or erasure["max"] <= LIMIT_MS
    good = health["nonmatch_overdue"] == 0 and in_time and not result.refused and not result.incomplete
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
    receipt = result.receipt
    lines.append(f"The list {receipt['digest'][:23]}… was destroyed: {', '.join(receipt['files'])}.")
    verified = result.verified
    lines.append(f"The audit log holds: {verified['entries']} entries, each in its place and signed.")
    lines.append(f"Pictures of the alerts: {result.folder / 'pictures'}")
    lines.append(
        f"Logs: {result.folder / 'van.log'}, {result.folder / 'control.log'}; audit log: {figures['audit_log']}"
    )
    lines.append("")
    return lines
