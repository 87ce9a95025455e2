"""``lfr-control``: what the control room runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.commandline import AsJson, commands, run, show
from edge.controlroom import audit_cli, cli_staff
from edge.controlroom.cli_staff import store_of, who

__all__ = ["app", "main"]

app = commands("Receive alerts, decide on them, keep the record.", name="lfr-control")

Json = Annotated[bool, AsJson]
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="the control room's TOML file")]


@app.command()
def watch(
    config: ConfigOption = Path("control.toml"),
    host: Annotated[str | None, typer.Option(help="broker, instead of the file's")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="its port, instead of the file's")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="folder to write both pictures of each alert to; yours to erase")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="end after so many alerts")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="end after so many seconds")] = None,
    health: Annotated[bool, typer.Option("--health", help="show the vans' counters too")] = False,
    name: Annotated[
        str, typer.Option(help="whose certificate: each watcher has its own; control-room confirms, too")
    ] = "control-room-watch",
) -> None:
    """Verify, decrypt and print alerts as they arrive.

    Ends with 0 when --count alerts have arrived, when --timeout is over and no --count was asked for, or on an
    interrupt; with 5 when --timeout is over first.
    """
    from edge.controlroom.watch import Watch

    Watch.prepare(config, host=host, port=port, pictures=pictures, as_json=as_json, name=name, health=health).run(
        count, timeout
    )


@app.command()
def console(config: ConfigOption = Path("control.toml"), as_json: Json = False) -> None:
    """Run the page on which people see alerts and decide on them."""
    from edge.controlroom import config as configuration
    from edge.controlroom.serve import serve

    settings = configuration.load(config).console
    scheme = "https" if settings.certificate else "http"
    address = f"{scheme}://{settings.host}:{settings.port}/"
    show({"address": address}, [address], as_json=as_json)
    serve(config)


@app.command()
def record(
    facts: Annotated[Path, typer.Argument(help="TOML file with what the crew knows of the deployment")],
    out: Annotated[Path, typer.Option(help="folder for record.csv, record.json and record.html")],
    config: ConfigOption = Path("control.toml"),
    as_json: Json = False,
) -> None:
    """Write the public record of a deployment whose cases are all closed."""
    from edge.controlroom.record import load_facts, make_record
    from edge.errors import EnvironmentFault

    known = load_facts(facts)
    with store_of(config) as store:
        made = make_record(known, store.cases())
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "record.csv").write_text(made.as_csv(), "utf-8")
        (out / "record.json").write_bytes(made.as_json())
        (out / "record.html").write_text(made.as_page(), "utf-8")
    except OSError as error:
        raise EnvironmentFault(str(out), f"cannot be written ({error.strerror})", "Give another --out") from None
    typer.echo(made.as_json().decode().rstrip() if as_json else f"{out}/record.html")


@app.command()
def revoke(
    file: Annotated[Path, typer.Argument(help="signed revocations or withdrawals, one per line; - for a pipe")],
    van: Annotated[list[str] | None, typer.Option(help="which van; once for each. Without: every van")] = None,
    config: ConfigOption = Path("control.toml"),
    as_json: Json = False,
) -> None:
    """Take people off the lists of vans that are out, or withdraw an authority: the running console says it to them.

    The lines come from lfr-provision watchlist revoke and withdraw. All that were handed over in the last 31 days are
    said together, also to a van that connects later, so none takes another's place. The audit log has who did it.
    """
    from edge.controlroom import config as configuration
    from edge.controlroom.to_vans import read_lines
    from edge.errors import BadInput
    from edge.trust.keys import KnownSigners
    from edge.trust.revocation import EVERYBODY

    settings = configuration.load(config)
    try:
        found = read_lines(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except OSError as error:
        raise BadInput(str(file), f"cannot be read ({error.strerror})", "Give the file of signed lines") from None
    known = KnownSigners.load(settings.path(settings.keys.vans)).owners()
    strangers = sorted(set(van or ()) - known)
    if strangers:
        raise BadInput(strangers[0], "is not a van of this control room", f"Choose from {', '.join(sorted(known))}")
    with store_of(config) as store:
        fresh = {name: store.to_vans.stand(name, found, by=who()) for name in sorted(van or known)}
    lines = [
        f"{'everybody' if said.reference == EVERYBODY else said.reference} of {said.deployment}: {said.cause}"
        for said in found.values()
    ]
    lines.append(f"Said to {', '.join(fresh)} within seconds while the console runs.")
    show({"revocations": len(found), "new": fresh}, lines, as_json=as_json)


app.add_typer(audit_cli.app, name="audit")
app.add_typer(cli_staff.app, name="staff")


def main() -> None:
    """Entry point of ``lfr-control``."""
    run(app, "lfr-control")


if __name__ == "__main__":
    main()
