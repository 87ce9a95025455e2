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
from provisioning.demo.vans import Van

__all__ = ["Summary", "summarise"]

SLACK_S = 2.0
"""An alert belongs to a passage that was in the picture when the alert's frame was captured, give or take
the time between the van's first word and its first frame."""
LIMIT_MS = 3000
TOO_SLOW = 0.85
"""A van that watched a smaller share of the film's pictures says so."""
UNEVEN = 0.25
"""By how much of the time since its start a van that drops no frame may be ahead of or behind its own mean pace."""


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


def _pace(van: Van, footage: Footage, *, live: bool) -> float:
    """Seconds of the film for one second of the day: a van that drops no frame has a pace of its own."""
    return 1.0 if live else van.health["fps"] / footage.fps


def _missed(van: Van, passages: list[PassageTruth], result: Result, footage: Footage) -> list[PassageTruth]:
    """Whose passages raised no alert in one van; an alert of the person who was passing just then takes its passage."""
    missed = list(passages)
    pace, uneven = _pace(van, footage, live=result.live), 0.0 if result.live else UNEVEN
    for alert in result.alerts:
        at = (datetime.fromisoformat(alert["seen_at"]).timestamp() - van.began) * pace
        slack = SLACK_S + uneven * at
        for passage in missed if alert["van"] == van.name else ():
            first, last = passage.first_frame / footage.fps - slack, passage.last_frame / footage.fps + slack
            if passage.reference == alert["reference"] and first <= at <= last:
                missed.remove(passage)
                break
    return missed


def summarise(result: Result, footage: Footage, incidents: Incidents) -> Summary:
    """Hold a run against what should have come of it. Alerts that waited for the broker are not counted as latency."""
    came = [van for van in result.vans if van.process is not None]
    health = came[0].health
    received = len(result.alerts)
    known = footage.truth is not None
    expected = false = None
    missed: dict[str, list[PassageTruth]] = {}
    if known:
        due = {van.name: _expected(footage, came_later=number > 0) for number, van in enumerate(came)}
        missed = {van.name: _missed(van, due[van.name], result, footage) for van in came}
        expected = sum(len(passages) for passages in due.values())
        false = received - expected + sum(len(passages) for passages in missed.values())
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
        "missed": {name: [passage.reference for passage in passages] for name, passages in missed.items()},
        "fps": health["fps"],
        "frames_due": {van.name: round(footage.frames * min(1.0, van.fps / footage.fps)) for van in came},
        "vans": {van.name: {"frames": van.health["frames"], "alerts": van.health["alerts"]} for van in came},
        "audit_log": str(came[0].audit_log),
    }
    longest = [van.health["erasure_ms"]["max"] for van in came]
    in_time = all(each is None or each <= LIMIT_MS for each in longest)
    good = figures["nonmatch_overdue"] == 0 and in_time and not result.refused and not result.incomplete
    if known:
        good = good and received == expected and false == 0
    return Summary(figures, _lines(result, figures), good)


def _too_slow(van: Van, result: Result, due: float) -> list[str]:
    """What a machine that could not keep up did about it; nothing where it could."""
    health, film = van.health, van.fps
    if not result.live:
        if health["fps"] >= TOO_SLOW * film:
            return []
        return [f"{van.name}: this machine is too slow for {film:.0f} pictures a second: it watched all, but late."]
    watched = health["frames"] / due if due and not result.incomplete else 1.0
    left_out = round(due) - health["frames"]
    if watched >= TOO_SLOW:
        return []
    said = (
        f"{van.name}: this machine is too slow for {film:.0f} pictures a second: it watched {watched:.0%} of them and "
        f"left out {left_out}, so that nobody was kept for longer. Run it with --every-frame to see all of them."
    )
    return [said]


def _not_found(van: Van, figures: dict[str, Any]) -> list[str]:
    """Who was not found, and what the van says of the faces that it saw."""
    names = figures["missed"].get(van.name, [])
    if not names:
        return []
    health = van.health
    refused = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in sorted(health["refused"].items()))
    left_out = health["dropped"] + health["given_up"]
    said = (
        f"{van.name} did not find {', '.join(names)}: it watched {health['frames']} pictures and left out {left_out}, "
        f"saw {health['faces_seen']} people, searched for {health['embedded']} faces and refused {refused or 'none'}."
    )
    return [said]


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
    for van in result.vans:
        if van.process is not None:
            lines += _too_slow(van, result, figures["frames_due"][van.name])
            lines += _not_found(van, figures)
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
