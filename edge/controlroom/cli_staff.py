"""``lfr-control staff``: who may sign in, who is locked, and who is signed in now.

Each command says what it does to the store; the running control room takes it up within a second, ends the sessions
that are no longer good, and writes it into the audit log with the account that ran the command.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commandline import AsJson, commands, show
from edge.officers import Officer, Role

if TYPE_CHECKING:
    from edge.controlroom.store import AlertStore

__all__ = ["app", "store_of", "who"]

app = commands("Who may sign in, until when their training is in date, and who is signed in.")
Json = Annotated[bool, AsJson]
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="the control room's TOML file")]
NumberArgument = Annotated[str, typer.Argument(help="badge or staff number")]
UntilOption = Annotated[datetime, typer.Option("--trained-until", formats=["%Y-%m-%d"], help="last day in date")]


@app.command("add")
def staff_add(
    number: Annotated[str, typer.Argument(help="badge or staff number, never a name")],
    role: Annotated[Role, typer.Option(help="what the officer is there for")],
    trained_until: UntilOption,
    config: ConfigOption = Path("control.toml"),
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="read the password from a pipe")] = False,
    as_json: Json = False,
) -> None:
    """Add an officer, or give them a new role, date and password."""
    from edge.controlroom import config as configuration

    configuration.load(config)  # before anybody types a password for nothing
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with store_of(config) as store:
        officer = Officer(number, role, trained_until.date())
        store.officers.enrol(officer, password, by=who())
    show(_row(officer), [f"{number} may sign in as {role} until {trained_until:%Y-%m-%d}."], as_json=as_json)


@app.command("renew")
def staff_renew(
    number: NumberArgument,
    trained_until: UntilOption,
    config: ConfigOption = Path("control.toml"),
    as_json: Json = False,
) -> None:
    """Record that an officer's training was renewed."""
    with store_of(config) as store:
        store.officers.renew_training(number, trained_until.date(), by=who())
    until = trained_until.date().isoformat()
    show({"number": number, "trained_until": until}, [f"{number} is trained until {until}."], as_json=as_json)


@app.command("remove")
def staff_remove(
    number: NumberArgument,
    config: ConfigOption = Path("control.toml"),
    as_json: Json = False,
) -> None:
    """Take an officer off the list: no sign-in from now on, and whoever is signed in is signed out."""
    with store_of(config) as store:
        store.officers.remove(number, by=who())
    show({"number": number}, [f"{number} may sign in no more."], as_json=as_json)


@app.command("lock")
def staff_lock(number: NumberArgument, config: ConfigOption = Path("control.toml"), as_json: Json = False) -> None:
    """Let an officer sign in no more until they are unlocked; whoever is signed in is signed out."""
    with store_of(config) as store:
        store.officers.lock(number, by=who())
    show({"number": number, "locked": True}, [f"{number} may not sign in until unlocked."], as_json=as_json)


@app.command("unlock")
def staff_unlock(number: NumberArgument, config: ConfigOption = Path("control.toml"), as_json: Json = False) -> None:
    """Let an officer sign in again who was locked."""
    with store_of(config) as store:
        store.officers.unlock(number, by=who())
    show({"number": number, "locked": False}, [f"{number} may sign in again."], as_json=as_json)


@app.command("sessions")
def staff_sessions(
    number: Annotated[str | None, typer.Argument(help="badge or staff number; without: everybody")] = None,
    config: ConfigOption = Path("control.toml"),
    as_json: Json = False,
) -> None:
    """Show who is signed in at the page, since when and from where."""
    with store_of(config) as store:
        seats = store.seats.all(number)
    rows = [
        {"session": each.number, "number": each.officer, "since": each.begun.isoformat(), "from": each.place}
        for each in seats
    ]
    lines = [
        f"session {each.number}: {each.officer} since {each.begun.astimezone():%Y-%m-%d %H:%M:%S} from {each.place}"
        for each in seats
    ]
    show(rows, lines or ["Nobody is signed in."], as_json=as_json)


@app.command("sign-out")
def staff_sign_out(
    number: NumberArgument,
    session: Annotated[int | None, typer.Option(min=1, help="which one; without: every session of theirs")] = None,
    config: ConfigOption = Path("control.toml"),
    as_json: Json = False,
) -> None:
    """End sessions of an officer, who may sign in again."""
    with store_of(config) as store:
        ended = store.officers.sign_out(store.seats, number, session, by=who())
    words = f"{ended} session{'' if ended == 1 else 's'} of {number} ended."
    show({"number": number, "ended": ended}, [words], as_json=as_json)


@app.command("list")
def staff_list(config: ConfigOption = Path("control.toml"), as_json: Json = False) -> None:
    """Show the officers."""
    with store_of(config) as store:
        officers = store.officers.everybody().values()
    lines = [
        f"{each.officer.number}  {each.officer.role}  trained until {each.officer.trained_until}"
        f"{'  locked' if each.locked else ''}"
        for each in officers
    ]
    show([{**_row(each.officer), "locked": each.locked} for each in officers], lines, as_json=as_json)


def _row(officer: Officer) -> dict[str, object]:
    return {
        "number": officer.number,
        "role": str(officer.role),
        "trained_until": officer.trained_until.isoformat(),
    }


def who() -> str:
    """Who runs this command, as the operating system knows them: for the audit log."""
    import getpass

    return f"account {getpass.getuser()}"


def store_of(config: Path) -> AlertStore:
    """The store of a control room, beside the process that works with it."""
    from edge.controlroom import config as configuration
    from edge.controlroom.recovery import open_room_store

    return open_room_store(configuration.load(config))
