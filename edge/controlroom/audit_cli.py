"""``lfr-control audit``: what an overseer runs. Needs the log and public keys, and nobody's help."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edge.errors import EdgeError, StoreUnavailable
from edge.trust.audit import Verified, verify
from edge.trust.history import was_listed
from edge.trust.keys import KnownSigners

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Verify a van's audit log and answer questions from it.")

Keys = Annotated[Path, typer.Option(help="JWK Set with the vans' public signing keys")]
Published = Annotated[
    list[Path] | None,
    typer.Option("--checkpoint", help="file of checkpoints that were received off the van; may be given often"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object, nothing else")]


def _fail(error: EdgeError) -> typer.Exit:
    Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(error.exit_code)


def _verified(log: Path, keys: Path, published: list[Path] | None) -> Verified:
    tokens: list[str] = []
    for path in published or ():
        try:
            tokens += path.read_text(encoding="ascii", errors="replace").split()
        except OSError as error:
            raise StoreUnavailable(str(path), f"cannot be read ({error.strerror})", "Check the path") from None
    return verify(log, KnownSigners.load(keys), published=tokens)


@app.command("verify")
def verify_command(
    log: Annotated[Path, typer.Argument(help="the audit log; its checkpoints lie beside it")],
    keys: Keys,
    checkpoint: Published = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Find out whether any entry was altered, removed, moved or cut off. Exit code 3 when one was."""
    try:
        found = _verified(log, keys, checkpoint)
    except EdgeError as error:
        raise _fail(error) from None
    counts = dict(sorted(Counter(entry.event for entry in found.entries).items()))
    last = found.entries[-1].at if found.entries else None
    unsigned = len(found.entries) - found.signed_to
    if as_json:
        summary = {
            "entries": len(found.entries),
            "checkpoints": found.checkpoints,
            "unsigned": unsigned,
            "closed": found.closed,
            "last": last,
            "events": counts,
        }
        typer.echo(json.dumps(summary))
        return
    console = Console()
    console.print(f"{len(found.entries)} entries, unbroken; {found.checkpoints} checkpoints verified.")
    if unsigned:
        console.print(f"The last {unsigned} are chained but no checkpoint vouches for them yet.")
    if not found.closed:
        console.print("The log does not end with the van's farewell: it is still running, or it lost its power.")
    for event, count in counts.items():
        console.print(f"  {count:6d}  {event}", highlight=False)


@app.command("was-listed")
def was_listed_command(
    log: Annotated[list[Path], typer.Argument(help="audit logs of the deployments in question")],
    keys: Keys,
    reference: Annotated[str, typer.Option(help="the force's reference of the person who asks")],
    checkpoint: Published = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Say whether, when and for how long a reference was on a list. Every log is verified first."""
    try:
        found = [
            listing for path in log for listing in was_listed(_verified(path, keys, checkpoint).entries, reference)
        ]
    except EdgeError as error:
        raise _fail(error) from None
    if as_json:
        rows = [
            {
                "deployment": item.deployment,
                "van": item.van,
                "list": item.watchlist,
                "since": item.since,
                "until": item.until,
                "cause": item.cause,
            }
            for item in found
        ]
        typer.echo(json.dumps({"reference": reference, "listed": bool(rows), "times": rows}, ensure_ascii=False))
        return
    console = Console()
    if not found:
        console.print(f"{reference} was on no list in these logs.", markup=False)
        return
    table = Table("deployment", "van", "since", "until", "ended by", title=f"{reference} was on {len(found)} list(s)")
    for item in found:
        table.add_row(item.deployment, item.van, item.since, item.until or "not destroyed yet", item.cause or "–")
    console.print(table)
