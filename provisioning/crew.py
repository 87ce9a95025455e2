"""Who may sign in on a van's page and on which tablets: made in the office, into the van's folder.

``crew.json`` holds what :mod:`edge.console.crew` reads. A tablet's certificate is signed by the site's authority, as is
the page's own; the van lets in only those tablets that its file names, so taking a line out takes the tablet back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization

from edge.console.crew import SHORTEST_PIN, CrewFile, CrewOfficer, Tablet, read_crew
from edge.errors import BadInput
from edge.files import replace_file
from edge.officers import Officer
from edge.web.passwords import derive
from provisioning.site import VAN_LIFE, check_name, issue, load_authority, pair_files

__all__ = ["FILE", "TabletFiles", "add_officer", "add_page", "add_tablet", "held", "remove"]

FILE = "crew.json"
TABLET_LIFE = timedelta(days=397)
LONGEST_NUMBER = 64


@dataclass(frozen=True, slots=True)
class TabletFiles:
    """A tablet that may now connect: its certificate with key, and the fingerprint in the van's file."""

    certificate: Path
    key: Path
    sha256: str


def add_officer(van: Path, officer: Officer, pin: str) -> None:
    """Let an officer sign in, or give them a new role, date and PIN.

    Raises:
        BadInput: the number or the PIN will not do, or the file is damaged.
    """
    if not officer.number.isprintable() or not 1 <= len(officer.number) <= LONGEST_NUMBER:
        raise BadInput("number", f"must have 1 to {LONGEST_NUMBER} characters", "Give the badge or staff number")
    if not (pin.isascii() and pin.isdigit() and SHORTEST_PIN <= len(pin) <= 32) or len(set(pin)) < 3:
        raise BadInput(
            "PIN", "can be guessed too easily", f"Choose {SHORTEST_PIN} digits or more, three of them different"
        )
    known = held(van)
    added = CrewOfficer(officer.number, officer.role, officer.trained_until, derive(pin.encode()))
    others = [each for each in known.officers if each.number != officer.number]
    _write(van, CrewFile(tuple(sorted((*others, added), key=lambda each: each.number)), known.tablets))


def add_tablet(van: Path, name: str, site: Path) -> TabletFiles:
    """A certificate for a tablet or phone, and its fingerprint into the van's file.

    Raises:
        BadInput: the name is none, or there is such a tablet.
        KeyUnusable: the site's authority cannot be used.
    """
    check_name(name)
    known = held(van)
    if any(each.name == name for each in known.tablets):
        raise BadInput(f"tablet {name}", "is enrolled already", "Remove it first, or choose another name")
    pair = issue(load_authority(site), name, TABLET_LIFE)
    folder = van / "tablets"
    pair_files(folder, name, pair)
    print_of = hashlib.sha256(pair[0].public_bytes(serialization.Encoding.DER)).hexdigest()
    _write(van, CrewFile(known.officers, (*known.tablets, Tablet(name, print_of))))
    return TabletFiles(folder / f"{name}.crt", folder / f"{name}.key", print_of)


def add_page(van: Path, hosts: Sequence[str], site: Path) -> Path:
    """The page's certificate and key, for the names and addresses under which tablets ask for it.

    Raises:
        KeyUnusable: the site's authority cannot be used.
    """
    held(van)
    pair_files(van, "page", issue(load_authority(site), "page", VAN_LIFE, hosts=hosts))
    return van / "page.crt"


def remove(van: Path, name: str) -> None:
    """Take an officer or a tablet off the file.

    Raises:
        BadInput: it names neither.
    """
    known = held(van)
    left = CrewFile(
        tuple(each for each in known.officers if each.number != name),
        tuple(each for each in known.tablets if each.name != name),
    )
    if left == known:
        raise BadInput(name, "is neither an officer nor a tablet of this van", f"Look at {van / FILE}")
    _write(van, left)


def held(van: Path) -> CrewFile:
    """Who and what may connect to a van so far.

    Raises:
        BadInput: it is not the folder of a van, or its file is damaged.
    """
    if not (van / "van.crt").is_file():
        raise BadInput(str(van), "is not the folder of a van", "Give the van's folder, made by lfr-provision van enrol")
    return read_crew(van / FILE) if (van / FILE).exists() else CrewFile()


def _write(van: Path, crew: CrewFile) -> None:
    replace_file(van / FILE, msgspec.json.format(msgspec.json.encode(crew), indent=1) + b"\n")
