"""The public notice of a deployment, from its authority: one A4 page for the street, the same for the web.

It says who watches, why, where, when, what happens to a passer-by's face, how to complain, and how to ask for
the deletion of a custody image. Nothing in it is typed by hand, so it cannot promise other than what was signed.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.errors import AuthorityInvalid, BadInput, StoreUnavailable
from edge.trust.authority import Authority

__all__ = ["Section", "notice_html", "notice_of", "write_notice"]

TITLE = "Live facial recognition is in use here"
LONDON = ZoneInfo("Europe/London")
"""Whoever reads it in the street reads it in the street's time."""


@dataclass(frozen=True, slots=True)
class Section:
    """One question and its answer."""

    question: str
    answer: str


def notice_of(authority: Authority, *, zone: ZoneInfo = LONDON) -> tuple[Section, ...]:
    """The notice in sections.

    Raises:
        AuthorityInvalid: the authority has no ``notice`` part, so the public cannot be told how to complain.
    """
    notice = authority.notice
    if notice is None:
        raise AuthorityInvalid(
            f"authority {authority.deployment}",
            "has no part [notice]: it does not say whom people can turn to",
            "Add controller, contact, complaints and deletion",
        )
    hours = authority.retention_h
    kept = f"{hours} hours" if hours < 48 else f"{hours // 24} days"
    sections = [
        Section("Who", f"{notice.controller}. Authorised by: {authority.authorised_by}."),
        Section("Why", f"{authority.purpose}. Legal basis: {authority.legal_basis}."),
        Section("Where", authority.place.name),
        Section("When", _span(authority.starts.astimezone(zone), authority.ends.astimezone(zone))),
        Section(
            "What happens to your face",
            "A camera compares faces with a list of people whom the police are looking for here and now. If you are "
            "not on it, what the system made of your face is erased automatically, at the latest three seconds after "
            "you have passed; no picture of you is stored and none leaves the vehicle. If the system finds a likeness, "
            f"a person compares both pictures before anybody acts. Those pictures are erased after {kept}. The list "
            "is destroyed at the end.",
        ),
        Section(
            "Errors",
            f"The system is set so that at most one passer-by in {authority.budget_one_in:,} who is not on the list "
            "is expected to be taken for somebody who is.",
        ),
        Section("Your data", notice.contact),
        Section("Complaints", notice.complaints),
        Section("If the police hold a custody picture of you", notice.deletion),
    ]
    if notice.web:
        sections.append(Section("The record of this deployment", notice.web))
    sections.append(Section("Reference", f"Deployment {authority.deployment}"))
    return tuple(sections)


def _span(start: datetime, end: datetime) -> str:
    if start.date() == end.date():
        return f"{start:%A %d %B %Y}, {start:%H:%M} to {end:%H:%M}"
    return f"{start:%A %d %B %Y %H:%M} to {end:%A %d %B %Y %H:%M}"


def notice_html(authority: Authority, *, zone: ZoneInfo = LONDON) -> str:
    """The notice as one HTML page that needs nothing else; prints on one A4 sheet."""
    body = "\n".join(
        f"<section><h2>{html.escape(section.question)}</h2><p>{html.escape(section.answer)}</p></section>"
        for section in notice_of(authority, zone=zone)
    )
    return f"""<!doctype html>
<html lang="en-GB"><head><meta charset="utf-8"><title>{TITLE}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
@page {{ size: A4; margin: 15mm }}
body {{ font: 12pt/1.4 sans-serif; max-width: 180mm; margin: auto; padding: 1em; color: #111; background: #fff }}
h1 {{ font-size: 24pt; line-height: 1.1; border-bottom: 2mm solid #111; padding-bottom: 3mm }}
h2 {{ font-size: 12pt; margin: 1em 0 0 }}
p {{ margin: .2em 0 }}
</style></head>
<body><main><h1>{TITLE}</h1>
{body}
</main></body></html>
"""


def notice_pdf(authority: Authority, *, zone: ZoneInfo = LONDON) -> bytes:
    """The notice as one A4 page of PDF.

    Raises:
        BadInput: it has letters that the built-in fonts lack, or the PDF library is not installed.
    """
    try:
        from fpdf import FPDF  # noqa: PLC0415 - only offices have it
        from fpdf.errors import FPDFUnicodeEncodingException  # noqa: PLC0415
    except ImportError:
        raise BadInput("the notice", "needs fpdf2 to become a PDF", "Install lfr-edge[office], or write HTML") from None
    page = FPDF(format="A4")
    page.set_title(TITLE)
    page.set_auto_page_break(auto=True, margin=12)
    page.add_page()
    try:
        page.set_font("Helvetica", "B", 30)
        page.multi_cell(0, 14, TITLE, new_x="LMARGIN", new_y="NEXT")
        page.ln(3)
        for section in notice_of(authority, zone=zone):
            page.set_font("Helvetica", "B", 14)
            page.multi_cell(0, 7, _plain(section.question), new_x="LMARGIN", new_y="NEXT")
            page.set_font("Helvetica", "", 12.5)
            page.multi_cell(0, 6, _plain(section.answer), align="L", new_x="LMARGIN", new_y="NEXT")
            page.ln(2)
    except FPDFUnicodeEncodingException as error:
        raise BadInput("the notice", f"has letters that a PDF here cannot show ({error})", "Write HTML") from None
    return bytes(page.output())


_PLAIN = {ord(fancy): plain for fancy, plain in zip("–—‘’“”…", ("-", "-", "'", "'", '"', '"', "..."), strict=True)}


def _plain(text: str) -> str:
    """The quotes and dashes that office programs put in, as the built-in fonts have them."""
    return text.translate(_PLAIN)


def write_notice(authority: Authority, out: Path) -> None:
    """Write the notice to ``out``; its suffix, ``.html`` or ``.pdf``, says how.

    Raises:
        BadInput: another suffix, or see :func:`notice_pdf`.
        AuthorityInvalid: see :func:`notice_of`.
        StoreUnavailable: it cannot be written.
    """
    match out.suffix.lower():
        case ".html":
            content = notice_html(authority).encode()
        case ".pdf":
            content = notice_pdf(authority)
        case _:
            raise BadInput(str(out), "does not end in .html or .pdf", "Give a name that does")
    try:
        out.write_bytes(content)
    except OSError as error:
        raise StoreUnavailable(str(out), f"cannot be written ({error.strerror})", "Give another path") from None
