"""What the crew's page says: the one word, why, the cameras, and what else a crew should know. Pure.

It is made of what the service says on its socket, or, where that does not answer, of the status that it wrote last
(:mod:`edge.system.health`). Old news is no news: a page that goes on showing "matching" after the service has died
would be worse than none. A service that has failed keeps its reason on the page until it runs again. Nothing of a
person can be in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from edge.console.wire import Camera, Fact, Report
from edge.state import Condition
from edge.system.health import Health

__all__ = ["Standing", "standing"]

STALE = timedelta(seconds=5)
"""The service writes every second; after five without a word it is taken for dead."""
STALE_START = timedelta(minutes=2)
"""One step of a start may take long: a list of 20,000 people is imported."""

_TITLES = {
    Condition.STARTING: ("Starting", "wait"),
    Condition.MATCHING: ("Matching", "yes"),
    Condition.NOT_MATCHING: ("Not matching", "no"),
    Condition.ENDED: ("Ended", "no"),
    Condition.FAILED: ("Stopped: something is wrong", "no"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the page says.

    Attributes:
        title: the one word.
        colour: ``yes``, ``but``, ``no``, ``wait`` or ``ready``.
        why: reasons and what to do.
        since: when it ended or failed; None while it runs.
        cameras: each of them; empty where the service does not answer.
        facts: what else a crew should know.
        ends: when the authority ends; None without one.
        health: state and counters; None when nothing is known.
    """

    title: str
    colour: str
    why: tuple[str, ...] = ()
    since: datetime | None = None
    cameras: tuple[Camera, ...] = ()
    facts: tuple[Fact, ...] = ()
    ends: datetime | None = None
    health: Health | None = None


def standing(known: Report | Health | None, trouble: str, now: datetime) -> Standing:
    """What the page says.

    Args:
        known: what the service answers, or wrote last; None when there is nothing to read.
        trouble: why there is nothing.
        now: to tell how old it is.
    """
    if known is None:
        return Standing("No word from the service", "no", (trouble,) if trouble else ())
    health, report = (known.health, known) if isinstance(known, Report) else (known, None)
    age = now - health.at
    condition = Condition(health.state) if health.state in set(Condition) else Condition.FAILED
    ended = condition in {Condition.ENDED, Condition.FAILED}
    # A clock that was set back makes what was said last a word from the future: that is no word either.
    if not ended and abs(age) > (STALE_START if condition is Condition.STARTING else STALE):
        seconds = f"{abs(age).total_seconds():.0f} seconds"
        when = f"{seconds} ago" if age > timedelta(0) else f"at a moment that is {seconds} ahead of this clock"
        silent = (
            f"The service last spoke {when}. Switch the van's computer off and on; "
            "if that does not help, call the engineer."
        )
        return Standing("No word from the service", "no", (silent,), health=health)
    title, colour = _TITLES[condition]
    why = tuple(dict.fromkeys(each for each in (health.why, *(reason.why for reason in health.reasons)) if each))
    if condition is Condition.MATCHING and health.reasons:
        title, colour = "Matching, but", "but"
    if condition is Condition.NOT_MATCHING and report is not None and report.ready:
        title, colour = "Ready", "ready"
    if condition is Condition.STARTING and health.before:
        why = (*why, f"The last time it stopped: {health.before}")
    return Standing(
        title,
        colour,
        why,
        since=health.at if ended else None,
        cameras=report.cameras if report is not None else (),
        facts=report.facts if report is not None else (),
        ends=report.ends if report is not None else None,
        health=health,
    )
