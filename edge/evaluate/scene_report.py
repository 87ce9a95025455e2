"""What a run on a labelled street is asked for, and what it answers."""

from __future__ import annotations

from msgspec import Struct

from edge.evaluate.street import StreetPlan

__all__ = ["SceneReport", "SceneSettings", "lines"]


class SceneSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured.

    Attributes:
        faces: folder with one folder of pictures per person.
        plan: the street.
        live: play the street at its own rate and keep the newest frame, as a camera; otherwise every frame is taken.
        entries: length of the list, filled up with made-up templates.
        fpir: false-alert budget per passage; sets the threshold.
        threads: of each model, where no configuration says so.
        minutes: repeat the street for so long; 0 runs it once. People and alerts count in the first round only.
    """

    faces: str
    plan: StreetPlan = StreetPlan()
    live: bool = False
    entries: int = 1000
    fpir: float = 1 / 1000
    threads: int = 2
    minutes: float = 0.0


class SceneReport(Struct, frozen=True, kw_only=True):
    """What came of it; times in milliseconds, memory in MiB. A list of three is median, 99th percentile, largest.

    Attributes:
        machine: processor and system.
        frames: that the pipeline finished.
        dropped: that were overtaken by a newer one.
        given_up: whose deadline came before this machine was done.
        frames_per_second: finished, over the time without the making of frames.
        people_per_minute: labelled people who walked past per minute of that time.
        faces_per_frame: labelled, in the mean.
        people: labelled walks; detected: of them found in at least one whole frame by the detector.
        listed: walks of people on the list; found: of them those with a right alert.
        missed: the other walks of the listed, by reason.
        false_alerts: alerts in the name of nobody who was in the picture.
        alert_after_frame_ms: from the arrival of the frame of an alert to the alert's handing over.
        alert_after_entry_ms: from the arrival of the first frame of that person to the alert's handing over.
        stage_ms_per_frame: by stage; stage_share: of the measured time.
        network_share: of the measured time that passed inside the networks.
        python_share: the rest.
        network_runs: by model.
        million_multiply_adds: of one run, by model, counted from its file.
        million_multiply_adds_per_frame: of all runs, per finished frame.
        processor_share: of all cores of this machine, while it ran.
        erasure_ms: from the last picture of somebody who raised no alert to the last overwritten byte.
        overdue: handles found past their deadline.
        rss_mib: at the start, at the end and the growth between.
        handles: open files at the start and at the end.
    """

    machine: str
    frames: int
    dropped: int
    given_up: int
    frames_per_second: float
    people_per_minute: float
    faces_per_frame: float
    people: int
    detected: int
    listed: int
    found: int
    missed: dict[str, int]
    false_alerts: int
    alert_after_frame_ms: list[float]
    alert_after_entry_ms: list[float]
    stage_ms_per_frame: dict[str, float]
    stage_share: dict[str, float]
    network_share: float
    python_share: float
    network_runs: dict[str, int]
    million_multiply_adds: dict[str, float]
    million_multiply_adds_per_frame: float
    processor_share: float
    erasure_ms: list[float]
    overdue: int
    rss_mib: list[float]
    handles: list[int]


def lines(report: SceneReport) -> list[str]:
    """The report as people read it."""

    def spread(values: list[float]) -> str:
        return "none" if not values else "{:.0f} ms median, {:.0f} p99, {:.0f} at most".format(*values)

    frames = f"{report.frames} done, {report.dropped} overtaken, {report.given_up} given up"
    shares = sorted(report.stage_share.items(), key=lambda one: -one[1])
    return [
        report.machine,
        f"  frames a second          {report.frames_per_second:8.2f}   {frames}",
        f"  people a minute          {report.people_per_minute:8.1f}   {report.faces_per_frame:.1f} faces a frame",
        f"  people found in a frame  {report.detected:5d} of {report.people}",
        f"  right alerts             {report.found:5d} of {report.listed}",
        *(f"    missed: {why:<30}{count:5d}" for why, count in report.missed.items() if count),
        f"  false alerts             {report.false_alerts:5d}",
        f"  alert after its frame    {spread(report.alert_after_frame_ms)}",
        f"  alert after first frame  {spread(report.alert_after_entry_ms)}",
        *(f"  {stage:<12}{report.stage_ms_per_frame[stage]:8.2f} ms a frame {share:7.1%}" for stage, share in shares),
        f"  inside the networks {report.network_share:.1%}, Python and the rest {report.python_share:.1%}",
        f"  all cores {report.processor_share:.1%} busy",
        f"  multiply-adds a frame    {report.million_multiply_adds_per_frame:8.0f} million",
        *(
            f"    {name:<32}{report.million_multiply_adds[name]:8.0f} million, {runs} runs"
            for name, runs in report.network_runs.items()
        ),
        f"  erased after last seen   {spread(report.erasure_ms)}; {report.overdue} overdue",
        "  memory {:.0f} MiB at the start, {:.0f} at the end, growth {:+.0f}; open files {} and {}".format(
            *report.rss_mib, *report.handles
        ),
    ]
