"""The authorising officer's authority: from a TOML file to a signed target of the repository."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import AuthorityInvalid, BadInput
from edge.fields import in_words
from edge.parsing import toml_as
from edge.trust.authority import Authority, parse_authority
from edge.trust.place import Place
from edge.watchlist.bundle import Manifest
from provisioning.repository import Repository

__all__ = ["draft_authority", "publish_authority", "read_force", "require_dated", "target_name"]

CLOCKS_DIFFER = timedelta(minutes=5)
"""By so much the clocks of two offices may."""
PROTEST = re.compile(r"protest|demonstration|rally|march\b|vigil|assembly|picket", re.IGNORECASE)
"""Words by which an authority tells that people assemble there: their rights weigh, and the officer must say so."""


def target_name(deployment: str) -> str:
    """Where a deployment's authority lies in the repository."""
    return f"authorities/{deployment}.json"


def draft_authority(
    file: Path,
    manifest: Manifest,
    now: datetime,
    *,
    report: dict[str, Any] | None = None,
    page: str = "",
    force: Place | None = None,
) -> tuple[Authority, bytes]:
    """Read the officer's TOML, add what the reviewed list says, and check that the two agree.

    Args:
        file: with the fields of :class:`edge.trust.authority.Authority`; ``schema``, ``authorised_at``,
            ``watchlist`` and ``model`` are added here.
        manifest: of the list whose report the officer has read.
        now: when it is signed.
        report: of the list, as ``watchlist build`` wrote it; tells of under 18s.
        page: ``sha256:…`` of the page that the officer looked at.
        force: the area in which the force may deploy.

    Returns:
        The authority, and its bytes as they will be signed.

    Raises:
        BadInput: the file cannot be read.
        AuthorityInvalid: it lacks something, contradicts itself or the manifest.
    """
    try:
        raw = toml_as(file.read_bytes(), dict[str, Any])
    except OSError as error:
        raise BadInput(str(file), f"cannot be read ({error.strerror})", "Give the authority as a TOML file") from None
    except msgspec.DecodeError as error:
        raise BadInput(str(file), f"is not valid TOML ({error})", "Correct the line that is named") from None
    raw.setdefault("schema", 1)
    raw.setdefault("authorised_at", now.replace(microsecond=0))
    for name, value in (
        ("watchlist", manifest.watchlist),
        ("model", manifest.model),
        *((("report", page),) if page else ()),
    ):
        if raw.setdefault(name, value) != value:
            raise AuthorityInvalid(
                f"{file}: {name}", "is not that of the reviewed list", "Correct it, or review the list that is meant"
            )
    content = msgspec.json.format(msgspec.json.encode(raw), indent=2) + b"\n"
    authority = parse_authority(content, str(file))
    require_dated(authority, str(file), now)
    if authority.deployment != manifest.deployment:
        raise AuthorityInvalid(
            f"{file}: deployment",
            f"is {authority.deployment}, the list is for {manifest.deployment}",
            "Make them agree",
        )
    strangers = sorted(set(authority.vans) - set(manifest.vans))
    if strangers:
        raise AuthorityInvalid(
            f"{file}: vans",
            f"names {', '.join(strangers)}, for which the list is not encrypted",
            "Build the list for them too",
        )
    _weighed(file, authority, report or {})
    if force is not None:
        _within(file, authority.place, force)
    return authority, content


def _weighed(file: Path, authority: Authority, report: dict[str, Any]) -> None:
    """Refuse an authority that does not say what the officer weighed."""
    grounds = authority.grounds
    if grounds is None:
        raise AuthorityInvalid(
            f"{file}: grounds",
            "is missing: it says why this deployment is necessary, and why here",
            "Add the part [grounds] with use_case, necessity, why_here, seriousness and rank",
        )
    if report.get("under_18") and not grounds.children.strip():
        count = len(report["under_18"])
        raise AuthorityInvalid(
            f"{file}: grounds.children",
            f"is empty, and {count} of the people on the list are under 18",
            "Say why they are on it, or have the list built without them",
        )
    said = f"{authority.purpose} {authority.place.name} {grounds.use_case} {grounds.why_here}"
    if (found := PROTEST.search(said)) and not grounds.protest.strip():
        raise AuthorityInvalid(
            f"{file}: grounds.protest",
            f"is empty, and the authority speaks of a {found[0].lower()}",
            "Say why it is needed although people assemble there, or choose another place or time",
        )


def _within(file: Path, place: Place, force: Place) -> None:
    """Refuse a place that lies outside the force's area; one whose numbers were swapped is recognised."""
    corners = place.polygon or (place.middle,)
    if all(force.contains(*corner) for corner in corners):
        return
    turned = all(force.contains(longitude, latitude) for latitude, longitude in corners)
    step = "Latitude comes first, then longitude: they are the wrong way round" if turned else "Correct the place"
    north, east = place.middle
    raise AuthorityInvalid(
        f"{file}: place", f"lies around {north:.4f}, {east:.4f}, which is not all in {force.name}", step
    )


def read_force(file: Path) -> Place:
    """The force's area from a TOML file with ``name`` and ``polygon``, or ``centre`` and ``radius_m``.

    Raises:
        BadInput: it cannot be read, or is not a place.
    """
    try:
        return toml_as(file.read_bytes(), Place)
    except OSError as error:
        raise BadInput(str(file), f"cannot be read ({error.strerror})", "Give the force's area as TOML") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(str(file), in_words(error), "Give name and polygon") from None


def require_dated(authority: Authority, name: str, now: datetime) -> None:
    """Refuse an authority that says it was signed later than now: no withdrawal before that moment would end it.

    Raises:
        AuthorityInvalid: it does.
    """
    if authority.authorised_at > now + CLOCKS_DIFFER:
        raise AuthorityInvalid(
            f"{name}: authorised_at",
            "lies ahead: a withdrawal before that moment would not count",
            "Leave it out; the moment of signing is added",
        )


def publish_authority(repository: Repository, authority: Authority, content: bytes, now: datetime) -> str:
    """Sign the authority as the role ``authorities`` and put it into the repository; returns its name there."""
    name = target_name(authority.deployment)
    repository.add(name, content, now)
    return name
