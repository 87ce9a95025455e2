"""``lfr-provision watchlist revoke``, ``withdraw`` and ``revoker-key``: taking people off lists, and lists off vans."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge.commandline import AsJson, complain, show
from edge.errors import EntryNotFound, KeyUnusable
from edge.trust.keys import SigningKey, write_private, write_public
from edge.trust.revocation import EVERYBODY, REVOCATION, Revocation
from edge.trust.secret import read_secret
from edge.watchlist.store import WatchlistStore
from provisioning.watchlist import KEY, STORE

__all__ = ["register"]

Json = Annotated[bool, AsJson]


def register(app: typer.Typer) -> None:
    """Add these commands to ``watchlist``."""
    for command in (revoke, withdraw, revoker_key):
        app.command(command.__name__.replace("_", "-"))(command)


def revoke(
    key: Annotated[Path, typer.Option(help="the revoker's private key (JWK)")],
    reference: Annotated[str, typer.Option(help="who leaves the list")],
    cause: Annotated[str, typer.Option(help="why, for the audit log")],
    deployment: Annotated[str, typer.Option(help="whose list; * for every one")] = "*",
    built: Annotated[
        list[Path] | None, typer.Option("--list", help="folder of a list that the person must be on; once for each")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign a revocation. Publish the line it prints with lfr-control revoke or lfr-provision publish.

    With --list a reference that is on none of the lists is refused. Without it nothing is checked.
    """
    if built:
        _must_be_listed(reference, built)
    signer = SigningKey.load(str(key.absolute()))
    found = Revocation(deployment=deployment, reference=reference, cause=cause, issued_at=datetime.now(UTC))
    token = signer.sign(msgspec.json.encode(found), REVOCATION).decode("ascii")
    show({"reference": reference, "deployment": deployment, "revocation": token}, [token], as_json=as_json)
    if not built:
        complain("lfr-provision", f"{reference}: was not looked up on any list. Give --list to have it checked.")


def withdraw(
    key: Annotated[Path, typer.Option(help="the revoker's private key (JWK)")],
    deployment: Annotated[str, typer.Option(help="whose authority ends now; * for every deployment's")],
    cause: Annotated[str, typer.Option(help="why: the crew reads it, and it is in the audit log")],
    as_json: Json = False,
) -> None:
    """Sign the withdrawal of an authority: the van stops matching within seconds and destroys its list.

    Publish the line it prints with lfr-control revoke or, among the revocations, with lfr-provision publish. It ends
    every authority of the deployment that was signed before this moment; one that is signed afterwards counts.
    """
    signer = SigningKey.load(str(key.absolute()))
    found = Revocation(deployment=deployment, reference=EVERYBODY, cause=cause, issued_at=datetime.now(UTC))
    token = signer.sign(msgspec.json.encode(found), REVOCATION).decode("ascii")
    show({"deployment": deployment, "revocation": token}, [token], as_json=as_json)


def _must_be_listed(reference: str, folders: list[Path]) -> None:
    known: set[str] = set()
    for folder in folders:
        secret = read_secret(str((folder / KEY).absolute()))
        with WatchlistStore.open(folder / STORE, secret) as store:
            known.update(store.references())
    if reference not in known:
        close = difflib.get_close_matches(reference, known, n=1)
        hint = f"Did you mean {close[0]}" if close else "Check the reference: lfr-provision watchlist inspect"
        raise EntryNotFound(reference, "is on none of these lists, so nothing was signed", hint)


def revoker_key(
    out: Annotated[Path, typer.Argument(help="where the private key goes; the public half lies beside it as .jwks")],
    owner: Annotated[str, typer.Option(help="whose it is, for the audit log")] = "intelligence-unit",
    as_json: Json = False,
) -> None:
    """Make the key with which revocations are signed. Vans get the public half."""
    if out.exists():
        raise KeyUnusable(str(out), "exists already", "Remove it first if it really is to be replaced")
    key, public = SigningKey.generate(), out.with_suffix(".jwks")
    write_private(out, key.private_jwk())
    write_public(public, {"keys": [key.public_jwk(owner=owner)]})
    show({"private": str(out), "public": str(public)}, [f"{public} goes into every van."], as_json=as_json)
