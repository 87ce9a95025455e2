"""``lfr-control``: what the control room runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import EdgeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="lfr-control",
    help="Receive alerts, decide on them, keep the record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="the control room's TOML file")]


@app.callback()
def _callback() -> None:
    """Receive alerts, decide on them, keep the record."""


@app.command()
def watch(  # noqa: PLR0917
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
    name: Annotated[str, typer.Option(help="client identifier: one for each watcher at a time")] = "control-room-watch",
) -> None:
    """Verify, decrypt and print alerts as they arrive.

    Ends with 0 when --count alerts have arrived, when --timeout is over and no --count was asked for, or on an
    interrupt; with 5 when --timeout is over first.
    """
    from edge.controlroom.watch import Watch

    Watch.prepare(config, host=host, port=port, pictures=pictures, as_json=as_json, name=name, health=health).run(
        count, timeout
    )


def main() -> None:
    """Entry point: one line on standard error and an exit code instead of a traceback."""
    try:
        app()
    except EdgeError as error:
        print(f"lfr-control: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()
