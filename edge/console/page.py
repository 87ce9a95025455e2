"""The crew's page: does this van match now, and if not, why. No script, no picture, nothing to edit.

It shows what the service last said of itself (:mod:`edge.system.health`), from the first step of its start on, and says
so when that is old: a page that goes on showing "matching" after the service has died would be worse than none. A
service that has failed keeps its reason on the page until it runs again. It is served on loopback, for the screen in
the van; nothing of a person can be on it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from edge.config import load
from edge.errors import EdgeError, for_crew
from edge.state import Condition
from edge.system.board import status_file
from edge.system.health import Health, read_status

__all__ = ["crew_page", "make_app"]

REFRESH_S = 2
STALE = timedelta(seconds=5)
"""The service writes every second; after five without a word it is taken for dead."""
STALE_START = timedelta(minutes=2)
"""One step of a start may take long: a list of 20,000 people is imported."""

HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE = """
:root { color-scheme: dark; font: 1.25rem/1.5 system-ui, sans-serif; background: #10151c; color: #f2f5f8 }
body { margin: 0; padding: 4vmin; max-width: 60rem }
h1 { font-size: clamp(2.2rem, 8vmin, 5rem); margin: 0 0 .3em; padding: .3em .5em; border-radius: .2em }
.yes { background: #0d5c2e } .but { background: #7a4b00 } .no { background: #8c1d18 } .wait { background: #33415c }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3em 1.5em }
dt { color: #b6c2cf } dd { margin: 0 } p { font-size: 1.6rem; margin: .4em 0 }
"""
_TITLES = {
    Condition.STARTING: ("Starting", "wait"),
    Condition.MATCHING: ("Matching", "yes"),
    Condition.NOT_MATCHING: ("Not matching", "no"),
    Condition.ENDED: ("Ended", "no"),
    Condition.FAILED: ("Stopped: something is wrong", "no"),
}


def crew_page(health: Health | None, trouble: str, now: datetime) -> str:
    """The page as HTML.

    Args:
        health: what the service wrote last; None when there is nothing to read.
        trouble: why there is nothing.
        now: to tell how old it is.
    """
    if health is None:
        return _page("No word from the service", "no", (trouble,), ())
    rows, age = _rows(health), now - health.at
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
        return _page("No word from the service", "no", (silent,), rows)
    title, colour = _TITLES[condition]
    why = tuple(dict.fromkeys([health.why, *(reason.why for reason in health.reasons)]))
    if condition is Condition.MATCHING and health.reasons:
        title, colour = "Matching, but", "but"
    if condition is Condition.STARTING and health.before:
        why = (*why, f"The last time it stopped: {health.before}")
    if ended:
        why = (*why, f"Since {health.at.astimezone():%H:%M:%S}.")
    return _page(title, colour, why, rows)


def _rows(health: Health) -> tuple[tuple[str, str], ...]:
    erased = health.erasure_ms
    forgotten = "nobody yet" if erased.max is None else f"after {erased.p50:.0f} ms, {erased.max:.0f} ms at most"
    return (
        ("Van", health.van),
        ("Deployment", health.deployment),
        ("On the list", f"people {health.list_entries}, score {health.threshold:.2f} or more"),
        ("People seen", str(health.faces_seen)),
        ("Alerts", f"{health.alerts}, of which {health.undelivered} wait for the control room"),
        ("Forgotten", forgotten),
        (
            "Frames per second",
            f"{health.fps:.1f}" + (f", {health.given_up} given up as too slow" if health.given_up else ""),
        ),
        ("Memory", "locked" if health.memory_locked else "not locked"),
    )


def _page(title: str, colour: str, why: tuple[str, ...], rows: tuple[tuple[str, str], ...]) -> str:
    table = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    reasons = "".join(f"<p>{escape(each)}</p>" for each in why if each)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="{REFRESH_S}">'
        f"<style>{STYLE}</style></head><body><main>"
        f'<h1 class="{colour}" role="status">{escape(title)}</h1>'
        f"{reasons}<dl>{table}</dl></main></body></html>"
    )


def make_app(config: Path) -> Starlette:
    """The web application that shows how the van of this configuration is.

    The file is read anew each time: one that is wrong keeps the service from starting, and the page says what is wrong.
    """

    async def page(_: Request) -> Response:
        health, trouble = None, ""
        try:
            health = read_status(status_file(load(config)))
        except EdgeError as error:
            trouble = for_crew(error)
        return HTMLResponse(crew_page(health, trouble, datetime.now(UTC)), headers=HEADERS)

    return Starlette(routes=[Route("/", page)])
