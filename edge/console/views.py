"""The page's HTML, in the language of whoever looks."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from edge.console.languages import LANGUAGES, translations
from edge.console.standing import Standing, standing
from edge.console.wire import Report
from edge.system.health import Health

__all__ = ["PAGE", "crew_page", "render", "state_values"]

PAGE = Path(__file__).parent / "page"


@cache
def _environment(language: str) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    catalogue = translations(language)
    made.install_gettext_translations(catalogue, newstyle=True)  # type: ignore[attr-defined]  # the extension's
    made.filters["clock"] = lambda moment: f"{moment.astimezone():%H:%M:%S}"
    made.filters["minute"] = lambda moment: f"{moment.astimezone():%H:%M}"
    made.globals["language"] = language
    made.globals["languages"] = LANGUAGES
    # Text that is not the templates' own: the extension's _() would take it for markup.
    made.globals["said"] = catalogue.gettext
    made.globals["known"] = lambda text: language == "en" or catalogue.gettext(text) != text
    return made


def render(template: str, language: str, **values: Any) -> str:
    """A template of the page in a language."""
    return _environment(language if language in LANGUAGES else "en").get_template(template).render(values)


def state_values(known: Report | Health | None, trouble: str, now: datetime) -> dict[str, Any]:
    """What the state's templates show; see :func:`edge.console.standing.standing`."""
    shown: Standing = standing(known, trouble, now)
    left = None if shown.ends is None else max(0, int((shown.ends - now).total_seconds()))
    return {"standing": shown, "left": None if left is None else (left // 3600, left // 60 % 60), "now": now}


def crew_page(known: Report | Health | None, trouble: str, now: datetime, language: str = "en") -> str:
    """All of the page for whoever is not signed in."""
    return render("crew.html", language, officer=None, **state_values(known, trouble, now))
