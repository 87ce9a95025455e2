"""The page's HTML."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from edge.console.standing import standing
from edge.console.wire import Report
from edge.system.health import Health

__all__ = ["PAGE", "crew_page", "render", "state_values"]

PAGE = Path(__file__).parent / "page"


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["clock"] = lambda moment: f"{moment.astimezone():%H:%M:%S}"
    made.filters["minute"] = lambda moment: f"{moment.astimezone():%H:%M}"
    return made


def render(template: str, **values: Any) -> str:
    """A template of the page."""
    return _environment().get_template(template).render(values)


def state_values(known: Report | Health | None, trouble: str, now: datetime) -> dict[str, Any]:
    """What the state's templates show; see :func:`edge.console.standing.standing`."""
    shown = standing(known, trouble, now)
    left = None if shown.ends is None else max(0, int((shown.ends - now).total_seconds()))
    return {"standing": shown, "left": None if left is None else (left // 3600, left // 60 % 60)}


def crew_page(known: Report | Health | None, trouble: str, now: datetime) -> str:
    """All of the page for whoever is not signed in."""
    return render("crew.html", officer=None, **state_values(known, trouble, now))
