"""``lfr-provision crew``: who may sign in on a van's page, and on which tablets."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.commandline import AsJson, commands, show
from edge.officers import Officer, Role

__all__ = ["app"]

app = commands("Who may sign in on a van's page, and on which tablets.")
Json = Annotated[bool, AsJson]
VanOption = Annotated[Path, typer.Option("--van", help="the van's folder, made by van enrol")]
SiteOption = Annotated[Path, typer.Option("--site", help="the site's folder, made by init")]


@app.command("add")
def add(
    number: Annotated[str, typer.Argument(help="badge or staff number, never a name")],
    van: VanOption,
    role: Annotated[Role, typer.Option(help="what the officer is there for")],
    trained_until: Annotated[datetime, typer.Option("--trained-until", formats=["%Y-%m-%d"], help="last day in date")],
    pin_stdin: Annotated[bool, typer.Option("--pin-stdin", help="read the PIN from a pipe")] = False,
    as_json: Json = False,
) -> None:
    """Let an officer sign in, or give them a new role, date and PIN."""
    from provisioning.crew import FILE, add_officer, held

    held(van)  # before anybody types a PIN for nothing
    if pin_stdin:
        pin = sys.stdin.readline().rstrip("\n")
    else:
        pin = typer.prompt("PIN, six digits or more", hide_input=True, confirmation_prompt=True)
    add_officer(van, Officer(number, role, trained_until.date()), pin)
    line = f"{number} may sign in as {role} until {trained_until:%Y-%m-%d}: bring {van / FILE} onto the van."
    show({"number": number, "file": str(van / FILE)}, [line], as_json=as_json)


@app.command("tablet")
def tablet(
    name: Annotated[str, typer.Argument(help="the tablet's or phone's name")],
    van: VanOption,
    site: SiteOption,
    as_json: Json = False,
) -> None:
    """Enrol a tablet or phone: its certificate, and its fingerprint for the van."""
    from provisioning.crew import FILE, add_tablet

    made = add_tablet(van, name, site)
    lines = [
        f"{made.certificate} and {made.key} go onto the tablet, and onto no other; then delete them here.",
        f"{van / FILE} goes onto the van.",
    ]
    document = {"name": name, "certificate": str(made.certificate), "key": str(made.key), "sha256": made.sha256}
    show(document, lines, as_json=as_json)


@app.command("page")
def page(
    van: VanOption,
    site: SiteOption,
    host: Annotated[list[str], typer.Option(help="name or address of the van on its network; repeat for several")],
    as_json: Json = False,
) -> None:
    """Make the certificate of a van's page, for its tablets."""
    from provisioning.crew import add_page

    made = add_page(van, tuple(host), site)
    show({"certificate": str(made)}, [f"{made} and its key go onto the van."], as_json=as_json)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="an officer's number, or a tablet's name")],
    van: VanOption,
    as_json: Json = False,
) -> None:
    """Take an officer or a tablet off a van."""
    from provisioning.crew import FILE
    from provisioning.crew import remove as take_off

    take_off(van, name)
    show({"removed": name}, [f"{name} is off the list: bring {van / FILE} onto the van."], as_json=as_json)
