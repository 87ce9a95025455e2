"""The authorising officer's paper: from a TOML file to a signed target of the repository."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import AuthorityInvalid, BadInput
from edge.parsing import toml_as
from edge.trust.authority import Authority, parse_authority
from edge.watchlist.bundle import Manifest
from provisioning.repository import Repository

__all__ = ["draft_authority", "publish_authority", "target_name"]


def target_name(deployment: str) -> str:
    """Where a deployment's authority lies in the repository."""
    return f"authorities/{deployment}.json"


def draft_authority(file: Path, manifest: Manifest, now: datetime) -> tuple[Authority, bytes]:
    """Read the officer's TOML, add what the reviewed list says, and check that the two agree.

    Args:
        file: with the fields of :class:`edge.trust.authority.Authority`; ``schema``, ``authorised_at``,
            ``watchlist`` and ``model`` are added here.
        manifest: of the list whose report the officer has read.
        now: when it is signed.

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
    for name, value in (("watchlist", manifest.watchlist), ("model", manifest.model)):
        if raw.setdefault(name, value) != value:
            raise AuthorityInvalid(
                f"{file}: {name}", "is not that of the reviewed list", "Correct it, or review the list that is meant"
            )
    content = msgspec.json.format(msgspec.json.encode(raw), indent=2) + b"\n"
    authority = parse_authority(content, str(file))
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
    return authority, content


def publish_authority(repository: Repository, authority: Authority, content: bytes, now: datetime) -> str:
    """Sign the authority as the role ``authorities`` and put it into the repository; returns its name there."""
    name = target_name(authority.deployment)
    repository.add(name, content, now)
    return name
