"""The crew's page: does this van match now, and if not, why. No script, no picture, nothing to edit.

It shows what the service last wrote about itself (:mod:`edge.system.health`) and says so when that is old:
a page that goes on showing "watching" after the service has died would be worse than none. It is served on
loopback, for the screen in the van; nothing of a person can be on it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from edge.errors import EdgeError
from edge.system.health import Health, read_status

__all__ = ["crew_page", "make_app"]

REFRESH_S = 2
STALE = timedelta(seconds=5)
"""The service writes every second; after five without a word it is taken for dead."""

HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE = """
:root { color-scheme: dark; font: 1.25rem/1.5 system-ui, sans-serif; background: #10151c; color: #f2f5f8 }
body { margin: 0; padding: 4vmin; max-width: 60rem }
h1 { font-size: clamp(2.2rem, 8vmin, 5rem); margin: 0 0 .3em; padding: .3em .5em; border-radius: .2em }
.yes { background: #0d5c2e } .no { background: #8c1d18 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3em 1.5em }
dt { color: #b6c2cf } dd { margin: 0 } p { font-size: 1.6rem }
"""


def crew_page(health: Health | None, trouble: str, now: datetime) -> str:
    """The page as HTML.

    Args:
        health: what the service wrote last; None when there is nothing to read.
        trouble: why there is nothing.
        now: to tell how old it is.
    """
    if health is None:
        return _page("No word from the service", trouble, good=False, rows=())
    age = now - health.at
    erased = health.erasure_ms
    forgotten = "nobody yet" if erased.max is None else f"after {erased.p50:.0f} ms, {erased.max:.0f} ms at most"
    rows = (
        ("Van", health.van),
        ("Deployment", health.deployment),
        ("On the list", f"templates {health.list_entries}, threshold {health.threshold:.2f}"),
        ("People seen", str(health.faces_seen)),
        ("Alerts", f"{health.alerts}, of which {health.undelivered} wait for the control room"),
        ("Forgotten", forgotten),
        (
            "Frames per second",
            f"{health.fps:.1f}" + (f", {health.given_up} given up as too slow" if health.given_up else ""),
        ),
        ("Memory", "locked" if health.memory_locked else "not locked"),
    )
    if age > STALE:
        why = f"The service last spoke {age.total_seconds():.0f} seconds ago. Restart it, or call the engineer."
        return _page("No word from the service", why, good=False, rows=rows)
    if health.state == "watching":
        return _page("Matching", "", good=True, rows=rows)
    return _page("Not matching", health.why or health.state, good=False, rows=rows)


def _page(title: str, why: str, *, good: bool, rows: tuple[tuple[str, str], ...]) -> str:
    table = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="{REFRESH_S}">'
        f"<style>{STYLE}</style></head><body><main>"
        f'<h1 class="{"yes" if good else "no"}" role="status">{escape(title)}</h1>'
        f"{f'<p>{escape(why)}</p>' if why else ''}<dl>{table}</dl></main></body></html>"
    )


def make_app(status_file: Path) -> Starlette:
    """The web application that shows ``status_file``."""

    async def page(_: Request) -> Response:
        health, trouble = None, ""
        try:
            health = read_status(status_file)
        except EdgeError as error:
            trouble = str(error)
        return HTMLResponse(crew_page(health, trouble, datetime.now(UTC)), headers=HEADERS)

    return Starlette(routes=[Route("/", page)])
