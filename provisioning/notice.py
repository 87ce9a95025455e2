"""The public notice of a deployment, from its authority: one A4 page for the street, the same for the web.

It says who watches, why, where, when, what happens to a passer-by's face, how to complain, and how to ask for
the deletion of a custody image. Nothing in it is typed by hand, so it cannot promise other than what was signed.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from edge.custody.erase import LONGEST_MS
from edge.errors import AuthorityInvalid, BadInput, StoreUnavailable
from edge.trust.authority import Authority, Notice
from provisioning.notice_welsh import TITLE as WELSH_TITLE
from provisioning.notice_welsh import Welsh, welsh_sections

__all__ = ["WHAT_HAPPENS", "Section", "kept_for", "notice_html", "notice_of", "write_notice"]

LONGEST_S = LONGEST_MS // 1000
WHAT_HAPPENS = (
    "A camera compares faces with a list of people whom the police are looking for here and now. If you are not on it, "
    f"what the system made of your face is erased automatically, at the latest {LONGEST_S} seconds after the last "
    "picture of you; no picture of you is stored and none leaves the vehicle."
)
"""What the custody of biometrics enforces, in words; the number is the one that is enforced."""
TITLE = "Live facial recognition is in use here"
LONDON = ZoneInfo("Europe/London")
"""Whoever reads it in the street reads it in the street's time."""


@dataclass(frozen=True, slots=True)
class Section:
    """One question and its answer."""

    question: str
    answer: str


def notice_of(
    authority: Authority, *, zone: ZoneInfo = LONDON, easy: bool = False, welsh: Welsh | None = None
) -> tuple[Section, ...]:
    """The notice in sections; ``easy`` says it in short sentences, for people who find reading hard.

    With ``welsh``, the authority's own words as somebody has translated them, it is the notice in Welsh.

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
    if welsh is not None:
        return tuple(Section(question, answer) for question, answer in welsh_sections(authority, welsh, zone))
    kept = kept_for(authority.retention_h)
    when = _span(authority.starts.astimezone(zone), authority.ends.astimezone(zone))
    if easy:
        return _easy(authority, notice, kept, when)
    sections = [
        Section("Who", f"{notice.controller}. Authorised by: {authority.authorised_by}."),
        Section("Why", f"{authority.purpose}. Legal basis: {authority.legal_basis}."),
        Section("Where", authority.place.name),
        Section("When", when),
        Section(
            "What happens to your face",
            f"{WHAT_HAPPENS} If the system finds a likeness, a person compares both pictures before anybody acts. "
            f"Those pictures are erased after {kept}. The list is destroyed at the end.",
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
    if notice.phone:
        sections.append(Section("Questions", f"Telephone: {notice.phone}"))
    if notice.web:
        sections.append(Section("The record of this deployment", notice.web))
    sections.append(Section("Reference", f"Deployment {authority.deployment}"))
    return tuple(sections)


def kept_for(hours: int) -> str:
    """How long alerts are kept, as the public reads it."""
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"


def _easy(authority: Authority, notice: Notice, kept: str, when: str) -> tuple[Section, ...]:
    sections = [
        Section("Who is doing this?", f"{notice.controller}."),
        Section("What is it?", "A camera looks at faces. A computer checks them against a list of people."),
        Section("Who is on the list?", f"People the police are looking for. The reason is: {authority.purpose}."),
        Section("Where and when?", f"{authority.place.name}. {when}."),
        Section(
            "What happens to my face?",
            f"If you are not on the list, the computer forgets your face. It does so in {LONGEST_S} seconds or less. "
            "No picture of you is kept.",
        ),
        Section(
            "Can it be wrong?",
            "Yes. If the computer thinks it knows you, a police officer looks at both pictures first. "
            f"The pictures are deleted after {kept}.",
        ),
        Section("I am not happy about this", notice.complaints),
        Section("I have a question", f"Telephone: {notice.phone}" if notice.phone else notice.contact),
    ]
    if notice.web:
        sections.append(Section("More about it", notice.web))
    return tuple(sections)


def _code(authority: Authority) -> tuple[tuple[int, ...], ...]:
    """The modules of a QR code of the record's address, 1 dark; empty without an address, or without segno."""
    web = authority.notice.web.strip() if authority.notice is not None else ""
    if not web:
        return ()
    try:
        import segno  # noqa: PLC0415 - only offices have it
    except ImportError:
        return ()
    address = web if "://" in web else f"https://{web}"
    return tuple(tuple(int(dark) for dark in row) for row in segno.make(address, error="m", micro=False).matrix)


def _code_svg(code: tuple[tuple[int, ...], ...]) -> str:
    if not code:
        return ""
    side = len(code) + 8  # four modules of quiet on each side, as ISO/IEC 18004 asks
    dark = "".join(
        f"M{x + 4} {y + 4}h1v1h-1z" for y, row in enumerate(code) for x, is_dark in enumerate(row) if is_dark
    )
    return (
        f'<svg class="code" viewBox="0 0 {side} {side}" role="img" aria-label="QR code of the record">'
        f'<path fill="#fff" d="M0 0h{side}v{side}h-{side}z"/><path d="{dark}"/></svg>'
    )


SYMBOL = (
    '<svg class="symbol" viewBox="0 0 24 24" role="img" aria-label="A camera that looks at a face">'
    '<rect x="1" y="6" width="13" height="12" rx="2"/><path d="M15 11l8-5v12l-8-5z"/>'
    '<circle cx="7.5" cy="12" r="4" fill="#fff"/><circle cx="6.2" cy="11" r=".7"/><circle cx="8.8" cy="11" r=".7"/>'
    '<rect x="5.9" y="13.6" width="3.2" height=".6"/></svg>'
)


def _span(start: datetime, end: datetime) -> str:
    if start.date() == end.date():
        return f"{start:%A %d %B %Y}, {start:%H:%M} to {end:%H:%M}"
    return f"{start:%A %d %B %Y %H:%M} to {end:%A %d %B %Y %H:%M}"


def notice_html(
    authority: Authority, *, zone: ZoneInfo = LONDON, easy: bool = False, welsh: Welsh | None = None
) -> str:
    """The notice as one HTML page that needs nothing else; prints on one A4 sheet."""
    language, title = ("cy", WELSH_TITLE) if welsh is not None else ("en-GB", TITLE)
    body = "\n".join(
        f"<section><h2>{html.escape(section.question)}</h2><p>{html.escape(section.answer)}</p></section>"
        for section in notice_of(authority, zone=zone, easy=easy, welsh=welsh)
    )
    size = 18 if easy else 12
    return f"""<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
@page {{ size: A4; margin: 15mm }}
body {{ font: {size}pt/1.4 sans-serif; max-width: 180mm; margin: auto; padding: 1em; color: #111; background: #fff }}
h1 {{ font-size: 24pt; line-height: 1.1; border-bottom: 2mm solid #111; padding-bottom: 3mm }}
h2 {{ font-size: {size}pt; margin: 1em 0 0 }}
p {{ margin: .2em 0 }}
.symbol {{ float: right; width: 24mm; height: 24mm }} .code {{ width: 32mm; height: 32mm; margin-top: 4mm }}
</style></head>
<body><main>{SYMBOL}<h1>{title}</h1>
{body}
{_code_svg(_code(authority))}
</main></body></html>
"""


def notice_pdf(
    authority: Authority, *, zone: ZoneInfo = LONDON, easy: bool = False, welsh: Welsh | None = None
) -> bytes:
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
    title = WELSH_TITLE if welsh is not None else TITLE
    page.set_title(title)
    page.set_auto_page_break(auto=True, margin=12)
    page.add_page()
    try:
        page.set_font("Helvetica", "B", 30)
        page.multi_cell(page.epw - 28, 14, title, new_x="LMARGIN", new_y="NEXT")
        _draw_symbol(page, page.w - page.r_margin - 24, 12)
        page.ln(3)
        for section in notice_of(authority, zone=zone, easy=easy, welsh=welsh):
            page.set_font("Helvetica", "B", 16 if easy else 13)
            page.multi_cell(0, 7, _plain(section.question), new_x="LMARGIN", new_y="NEXT")
            page.set_font("Helvetica", "", 15 if easy else 11.5)
            page.multi_cell(0, 6.5 if easy else 5.2, _plain(section.answer), align="L", new_x="LMARGIN", new_y="NEXT")
            page.ln(2 if easy else 1.5)
        _draw_code(page, _code(authority))
    except FPDFUnicodeEncodingException as error:
        raise BadInput("the notice", f"has letters that a PDF here cannot show ({error})", "Write HTML") from None
    return bytes(page.output())


def _draw_symbol(page: Any, x: float, y: float) -> None:
    page.set_fill_color(0)
    page.rect(x, y + 5, 14, 13, style="F")
    page.polygon([(x + 15, y + 10), (x + 24, y + 5), (x + 24, y + 18), (x + 15, y + 13)], style="F")
    page.set_fill_color(255)
    page.ellipse(x + 2.5, y + 7, 9, 9, style="F")
    page.set_fill_color(0)
    page.ellipse(x + 4.8, y + 10, 1.4, 1.4, style="F")
    page.ellipse(x + 7.8, y + 10, 1.4, 1.4, style="F")
    page.rect(x + 5.2, y + 13.2, 3.6, 0.6, style="F")


def _draw_code(page: Any, code: tuple[tuple[int, ...], ...]) -> None:
    """The QR code below the text, 28 mm wide, where it still fits on the page."""
    if not code:
        return
    module, top = 28.0 / len(code), page.get_y() + 2
    if top + 28 > page.h - page.b_margin:
        return
    for y, row in enumerate(code):
        for x, dark in enumerate(row):
            if dark:
                page.rect(page.l_margin + x * module, top + y * module, module, module, style="F")


_PLAIN = {ord(fancy): plain for fancy, plain in zip("–—‘’“”…", ("-", "-", "'", "'", '"', '"', "..."), strict=True)}


def _plain(text: str) -> str:
    """The quotes and dashes that office programs put in, as the built-in fonts have them."""
    return text.translate(_PLAIN)


def write_notice(authority: Authority, out: Path, *, easy: bool = False, welsh: Welsh | None = None) -> None:
    """Write the notice to ``out``; its suffix, ``.html`` or ``.pdf``, says how. The rest as :func:`notice_of`.

    Raises:
        BadInput: another suffix, or see :func:`notice_pdf`.
        AuthorityInvalid: see :func:`notice_of`.
        StoreUnavailable: it cannot be written.
    """
    match out.suffix.lower():
        case ".html":
            content = notice_html(authority, easy=easy, welsh=welsh).encode()
        case ".pdf":
            content = notice_pdf(authority, easy=easy, welsh=welsh)
        case _:
            raise BadInput(str(out), "does not end in .html or .pdf", "Give a name that does")
    try:
        out.write_bytes(content)
    except OSError as error:
        raise StoreUnavailable(str(out), f"cannot be written ({error.strerror})", "Give another path") from None
