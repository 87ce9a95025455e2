"""``lfr-provision repository`` and ``publish``: from what vans take lists, authorities, models and revocations."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commandline import AsJson, commands, show

if TYPE_CHECKING:
    from provisioning.repository import Repository

__all__ = ["register"]

repository_app = commands("Make the repository, rotate its keys, look at it.")

JsonOption = Annotated[bool, AsJson]
RepositoryOption = Annotated[Path, typer.Option("--repository", help="the repository's folder")]
KeysOption = Annotated[Path, typer.Option("--keys", help="folder with the keyring")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(repository_app, name="repository")
    app.command()(publish)


def _open(repository: Path, keys: Path) -> Repository:
    from provisioning.keyring import Keyring
    from provisioning.repository import Repository

    return Repository(repository, Keyring(keys, pin=lambda what: getpass.getpass(f"{what}: ")))


@repository_app.command()
def init(
    repository: RepositoryOption,
    keys: KeysOption,
    officers: Annotated[int, typer.Option(min=1, max=9, help="how many may sign authorities, each with a key")] = 1,
    signatures: Annotated[int, typer.Option(min=1, max=9, help="how many of them must sign each authority")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Make keys for every role, root needing two of three, and the first state of an empty repository."""
    made = _open(repository, keys)
    made.init(datetime.now(UTC), officers=officers, signatures=signatures)
    root = repository / "root.json"
    root.write_bytes(made.root())
    lines = [
        f"{root} goes into every van at its enrolment: it is what the van believes first.",
        f"The three root keys in {keys} go to three people, offline; each other key goes to the role that it names.",
    ]
    show({"root": str(root), "keys": str(keys)}, lines, as_json=as_json)


@repository_app.command()
def rotate(
    role: Annotated[str, typer.Argument(help="root, targets, snapshot, timestamp, or a delegated role")],
    repository: RepositoryOption,
    keys: KeysOption,
    token: Annotated[str, typer.Option(help="label of a PKCS#11 token that holds the new key")] = "",
    key_id: Annotated[int, typer.Option(help="its number there")] = 2,
    officers: Annotated[
        int | None, typer.Option(min=1, max=9, help="authorities only: how many may sign, as now when not given")
    ] = None,
    signatures: Annotated[
        int | None, typer.Option(min=1, max=9, help="authorities only: how many of them must, as now when not given")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a role new keys: in files, or one that lies in a hardware token."""
    from edge.errors import BadInput
    from provisioning.repository import DELEGATED, TOP

    if role not in (*TOP, *DELEGATED):
        raise BadInput(f"role {role}", "does not exist", f"Name one of {', '.join((*TOP, *DELEGATED))}")
    opened = _open(repository, keys)
    new = [opened.keys.from_token(token, key_id)] if token else None
    opened.rotate(role, datetime.now(UTC), keys=new, officers=officers, signatures=signatures)
    lines = [f"{role} has new keys; the old ones are worth nothing from now on. Destroy them."]
    show({"role": role}, lines, as_json=as_json)


@repository_app.command("show")
def list_signed(repository: RepositoryOption, keys: KeysOption, as_json: JsonOption = False) -> None:
    """List what each role has signed."""
    from provisioning.repository import DELEGATED

    opened = _open(repository, keys)
    signed = {role: list(opened.names(role)) for role in DELEGATED}
    lines = [f"{role:12s} {name}" for role, names in signed.items() for name in names or ("(nothing)",)]
    show(signed, lines, as_json=as_json)


@repository_app.command("van-key")
def van_key(
    out: Annotated[Path, typer.Argument(help="where the van's private key goes")], as_json: JsonOption = False
) -> None:
    """Make the key to which a van's lists are encrypted; prints the public part for watchlist build --van."""
    from provisioning.bundle import new_identity

    public = new_identity(out)
    show({"private": str(out), "public": public}, [public], as_json=as_json)


def publish(
    repository: RepositoryOption,
    keys: KeysOption,
    watchlist: Annotated[Path | None, typer.Option("--list", help="folder that watchlist build --van wrote")] = None,
    revocations: Annotated[Path | None, typer.Option(help="file of signed revocations, one per line")] = None,
    deployment: Annotated[str, typer.Option(help="whose revocations these are")] = "",
    as_json: JsonOption = False,
) -> None:
    """Add what is given, tie everything together, and vouch for it for 24 hours. Run it daily."""
    from edge.errors import BadInput
    from edge.watchlist.bundle import parse_manifest
    from provisioning.repository import DELEGATED

    opened, now, lines = _open(repository, keys), datetime.now(UTC), []
    try:
        if watchlist is not None:
            manifest = (watchlist / "manifest.json").read_bytes()
            described = parse_manifest(manifest)
            bundle = (watchlist / described.bundle).read_bytes()
            opened.add(f"watchlists/{described.deployment}.json", manifest, now)
            opened.add(f"watchlists/{described.deployment}.age", bundle, now, custom={"vans": list(described.vans)})
            lines.append(f"List for {described.deployment}: {described.entries} people, {len(bundle):,} bytes.")
        if revocations is not None:
            if not deployment:
                raise BadInput("--revocations", "do not say for which deployment they are", "Add --deployment")
            opened.add(f"revocations/{deployment}.jws", revocations.read_bytes(), now)
    except OSError as error:
        raise BadInput(str(error.filename), f"cannot be read ({error.strerror})", "Check the path") from None
    opened.publish(now)
    waiting = {role: found for role in DELEGATED if (found := opened.pending(role)) is not None}
    lines += [
        f"Not published yet: {', '.join(found.names)} has {found.have} of {found.need} signatures."
        for found in waiting.values()
    ]
    lines.append(f"Published at {now:%Y-%m-%d %H:%M %Z}; good for 24 hours.")
    left = [name for found in waiting.values() for name in found.names]
    document = {"published": now, "good_until": now + timedelta(hours=24), "not_published": left}
    show(document, lines, as_json=as_json)
