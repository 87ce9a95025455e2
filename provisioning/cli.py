"""``lfr-provision``: what the people run who may give a van its identity, its list, its authority and its image."""

from __future__ import annotations

from edge.commandline import commands, run
from provisioning import cli_authority, cli_crew, cli_look, cli_publish, cli_revoke, cli_site
from provisioning.image.cli import app as image
from provisioning.watchlist import app as watchlist

__all__ = ["app", "main"]

app = commands("Keys, vans, watchlists, authorities and images.", name="lfr-provision")
cli_site.register(app)
cli_look.register(watchlist)
cli_revoke.register(watchlist)
app.add_typer(watchlist, name="watchlist")
cli_authority.register(app)
cli_publish.register(app)
app.add_typer(cli_crew.app, name="crew")
app.add_typer(image, name="image")


def main() -> None:
    """Entry point of ``lfr-provision``."""
    run(app, "lfr-provision")


if __name__ == "__main__":
    main()
