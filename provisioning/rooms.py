"""Further control rooms of a site: each has a certificate of its own, and the keys that all of them share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edge.errors import BadInput, EnvironmentFault, KeyUnusable
from edge.files import replace_file
from edge.parsing import DecodeError, toml_as
from provisioning.site import (
    CONTROL_LIFE,
    CONTROL_ROOM,
    issue,
    load_authority,
    pair_files,
    pem,
    revoke_certificates,
    watcher_names,
)

__all__ = ["add_room", "revoke_room"]

_SECRET = ("control-decryption.jwks", "control-signing.jwk", "control-store.key")
_PUBLIC = ("ca.crt", "vans.jwks")


def add_room(name: str, site: Path, out: Path) -> Path:
    """Make the folder of one more control room in ``out``; returns it. The broker's rules come after it.

    Raises:
        BadInput: the name could not be a room's, or is a watcher's; the site's ``control.toml`` names files of its own.
        KeyUnusable: a key or the authority is not there, there is a room of this name, or ``out`` holds something.
        EnvironmentFault: a folder cannot be written.
    """
    own = _certificate_name(name)
    if own in watcher_names(site):
        raise BadInput(f"room {name!r}", "is the name of a watcher", "Choose another name")
    copy = site / "rooms" / f"{own}.crt"
    if copy.exists():
        raise KeyUnusable(str(copy), "exists already", "Give another name, or revoke that room first")
    authority = load_authority(site)
    first = site / CONTROL_ROOM
    try:
        text = (first / "control.toml").read_text()
        broker = toml_as(text, dict[str, Any]).get("broker", {})
        if text.count("[broker]\n") != 1 or {"certificate", "certificate_key"} & set(broker):
            raise BadInput(str(first / "control.toml"), "names certificates of its own", "Take them out of [broker]")
        content = {each: (first / each).read_bytes() for each in (*_SECRET, *_PUBLIC)}
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(out.iterdir()):
            raise KeyUnusable(str(out), "is not empty", "Give a new folder")
        out.chmod(0o700)
        for each, data in content.items():
            replace_file(out / each, data, mode=0o600)
        pair = issue(authority, own, CONTROL_LIFE)
        copy.parent.mkdir(exist_ok=True)
        replace_file(copy, pem(pair[0]), mode=0o644)  # first: what is not known here cannot be taken back
        pair_files(out, own, pair)
        lines = f'[broker]\ncertificate = "{own}.crt"\ncertificate_key = "{own}.key"\n'
        replace_file(out / "control.toml", text.replace("[broker]\n", lines).encode(), mode=0o600)
    except DecodeError as error:
        raise BadInput(str(first / "control.toml"), f"cannot be read ({error})", "Correct it") from None
    except OSError as error:
        raise EnvironmentFault(str(error.filename or out), f"cannot be used ({error.strerror})", "Check it") from None
    return out


def revoke_room(name: str, site: Path) -> None:
    """Take a room's certificate back. The broker needs its new list of revocations and its new rules.

    Raises:
        BadInput: no such room was enrolled.
        KeyUnusable: the site's authority is not there.
    """
    copy = site / "rooms" / f"{_certificate_name(name)}.crt"
    if not copy.exists():
        raise BadInput(f"room {name!r}", "is not enrolled at this site", "Check its name: ls rooms/")
    revoke_certificates(site, [copy])
    copy.unlink()


def _certificate_name(name: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,31}", name) or name.startswith(CONTROL_ROOM):
        raise BadInput(f"room {name!r}", "cannot be a room's name", "Use small letters, digits and hyphens: north")
    return f"{CONTROL_ROOM}-{name}"
