"""The public notice in Welsh: our fixed sentences, and the authority's own words as a person has translated them.

A machine translates no authority. Whatever the officer wrote in English comes from a file that somebody who speaks
Welsh has written; the fixed sentences are here, and the whole notice must be read by such a person before it goes out.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Struct

from edge.custody.erase import LONGEST_MS
from edge.errors import BadInput
from edge.fields import in_words
from edge.parsing import toml_as
from edge.trust.authority import Authority

__all__ = ["TITLE", "Welsh", "read_welsh", "welsh_sections"]

TITLE = "Mae adnabod wynebau byw ar waith yma"
DAYS = ("Llun", "Mawrth", "Mercher", "Iau", "Gwener", "Sadwrn", "Sul")
MONTHS = (
    "Ionawr", "Chwefror", "Mawrth", "Ebrill", "Mai", "Mehefin", "Gorffennaf", "Awst", "Medi", "Hydref", "Tachwedd",
    "Rhagfyr",
)  # fmt: skip
Words = Annotated[str, Meta(min_length=3, max_length=1000)]


class Welsh(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The authority's own words in Welsh; fields as in :class:`edge.trust.authority.Authority` and its notice.

    Attributes:
        deployment: of which deployment, so that no other one's translation is used.
        place: the place in words.
    """

    deployment: str
    purpose: Words
    legal_basis: Words
    authorised_by: Words
    place: Words
    controller: Words
    contact: Words
    complaints: Words
    deletion: Words


def read_welsh(file: Path, authority: Authority) -> Welsh:
    """Read a translation.

    Raises:
        BadInput: it cannot be read, lacks something, or is another deployment's.
    """
    try:
        found = toml_as(file.read_bytes(), Welsh)
    except OSError as error:
        raise BadInput(str(file), f"cannot be read ({error.strerror})", "Give the translation as TOML") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(str(file), in_words(error), f"Its fields are {', '.join(Welsh.__struct_fields__)}") from None
    if found.deployment != authority.deployment:
        cause = f"is of deployment {found.deployment}, the authority is of {authority.deployment}"
        raise BadInput(str(file), cause, "Give this deployment's translation")
    return found


def welsh_sections(authority: Authority, welsh: Welsh, zone: ZoneInfo) -> list[tuple[str, str]]:
    """Questions and answers, in the order of the English notice."""
    hours = authority.retention_h
    kept = f"{hours} awr" if hours < 48 else f"{hours // 24} diwrnod"
    seconds = LONGEST_MS // 1000
    phone = authority.notice.phone if authority.notice is not None else ""
    web = authority.notice.web if authority.notice is not None else ""
    face = (
        "Mae camera yn cymharu wynebau â rhestr o bobl y mae'r heddlu yn chwilio amdanynt yma ac yn awr. Os nad ydych "
        "ar y rhestr, caiff yr hyn a wnaeth y system o'ch wyneb ei ddileu'n awtomatig, fan bellaf "
        f"{seconds} eiliad ar ôl y llun olaf ohonoch; ni chaiff unrhyw lun ohonoch ei gadw ac nid oes dim un yn gadael "
        "y cerbyd. Os yw'r system yn gweld tebygrwydd, bydd person yn cymharu'r ddau lun cyn i neb weithredu. Caiff "
        f"y lluniau hynny eu dileu ar ôl {kept}. Caiff y rhestr ei dinistrio ar y diwedd."
    )
    errors = (
        "Mae'r system wedi'i gosod fel y disgwylir i un person ar y mwyaf ym mhob "
        f"{authority.budget_one_in:,} sy'n mynd heibio, ac nad yw ar y rhestr, gael ei gymryd am rywun sydd arni."
    )
    sections = [
        ("Pwy", f"{welsh.controller}. Awdurdodwyd gan: {welsh.authorised_by}."),
        ("Pam", f"{welsh.purpose}. Sail gyfreithiol: {welsh.legal_basis}."),
        ("Ble", welsh.place),
        ("Pryd", _span(authority.starts.astimezone(zone), authority.ends.astimezone(zone))),
        ("Beth sy'n digwydd i'ch wyneb", face),
        ("Camgymeriadau", errors),
        ("Eich data", welsh.contact),
        ("Cwynion", welsh.complaints),
        ("Os oes gan yr heddlu lun ohonoch o'r ddalfa", welsh.deletion),
    ]
    if phone:
        sections.append(("Cwestiynau", f"Ffôn: {phone}"))
    if web:
        sections.append(("Cofnod y defnydd hwn", web))
    return [*sections, ("Cyfeirnod", f"Defnydd {authority.deployment}")]


def _span(start: datetime, end: datetime) -> str:
    if start.date() == end.date():
        return f"{_day(start)}, {start:%H:%M} i {end:%H:%M}"
    return f"{_day(start)} {start:%H:%M} i {_day(end)} {end:%H:%M}"


def _day(at: datetime) -> str:
    return f"Dydd {DAYS[at.weekday()]} {at.day} {MONTHS[at.month - 1]} {at.year}"
