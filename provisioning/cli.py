"""``lfr-provision``: what the people run who may give a van its identity, its list, its authority and its image."""

from __future__ import annotations

import typer

from edge.commandline import run
from provisioning import cli_authority, cli_publish, cli_site
from provisioning.image.cli import app as image
from provisioning.watchlist import app as watchlist

__all__ = ["app", "main"]

app = typer.Typer(
    name="lfr-provision",
    help="Keys, vans, watchlists, authorities and images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cli_site.register(app)
app.add_typer(watchlist, name="watchlist")
cli_authority.register(app)
cli_publish.register(app)
app.add_typer(image, name="image")


def main() -> None:
    """Entry point of ``lfr-provision``."""
    run(app, "lfr-provision")


if __name__ == "__main__":
    main()
