"""``lfr-control audit``: what an overseer runs. Needs the log and public keys, and nobody's help."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from edge.commandline import AsJson, commands, say, show, table
from edge.errors import StoreUnavailable
from edge.trust.audit import Verified, verify
from edge.trust.events import Event
from edge.trust.history import was_listed
from edge.trust.keys import KnownSigners

__all__ = ["app"]

app = commands("Verify a van's audit log and answer questions from it.")

Keys = Annotated[Path, typer.Option(help="JWK Set with the vans' public signing keys")]
Published = Annotated[
    list[Path] | None,
    typer.Option("--checkpoint", help="file of checkpoints that were received off the van; may be given often"),
]
Json = Annotated[bool, AsJson]


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
    as_json: Json = False,
) -> None:
    """Find out whether any entry was altered, removed, moved or cut off. Exit code 3 when one was."""
    found = _verified(log, keys, checkpoint)
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
        show(summary, (), as_json=True)
        return
    say(f"{len(found.entries)} entries, unbroken; {found.checkpoints} checkpoints verified.")
    if unsigned:
        say(f"The last {unsigned} are chained but no checkpoint vouches for them yet.")
    life = [entry.event for entry in found.entries if entry.event in {Event.STARTED, Event.STOPPED}]
    if not found.closed and life[-1:] == [Event.STOPPED]:
        say("The service has stopped. What follows in the log was written by commands on the van.")
    elif not found.closed:
        say("The log does not end with the van's farewell: it is still running, or it lost its power.")
    for event, count in counts.items():
        say(f"  {count:6d}  {event}")


@app.command("was-listed")
def was_listed_command(
    log: Annotated[list[Path], typer.Argument(help="audit logs of the deployments in question")],
    keys: Keys,
    reference: Annotated[str, typer.Option(help="the force's reference of the person who asks")],
    checkpoint: Published = None,
    as_json: Json = False,
) -> None:
    """Say whether, when and for how long a reference was on a list. Every log is verified first."""
    found = [listing for path in log for listing in was_listed(_verified(path, keys, checkpoint).entries, reference)]
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
        show({"reference": reference, "listed": bool(rows), "times": rows}, (), as_json=True)
        return
    if not found:
        say(f"{reference} was on no list in these logs.")
        return
    shown = [(it.deployment, it.van, it.since, it.until or "not destroyed yet", it.cause or "–") for it in found]
    title = f"{reference} was on {len(found)} list(s)"
    table(("deployment", "van", "since", "until", "ended by"), shown, title=title)
