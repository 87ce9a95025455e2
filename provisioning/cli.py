"""``lfr-provision``: what the people run who may give a van its identity, its list, its authority and its image.

Each group of commands is a module of its own that offers ``register(app)``; one that is not installed is left out.
"""

from __future__ import annotations

import importlib
import importlib.util

import typer

from edge.commandline import run

__all__ = ["app", "main"]

GROUPS = ("site", "watchlist", "authority", "publish", "image")
"""``provisioning/cli_<group>.py``, in the order in which ``--help`` shows them."""

app = typer.Typer(
    name="lfr-provision",
    help="Keys, vans, watchlists, authorities and images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

for _group in GROUPS:
    _module = f"provisioning.cli_{_group}"
    if importlib.util.find_spec(_module) is not None:
        importlib.import_module(_module).register(app)


def main() -> None:
    """Entry point of ``lfr-provision``."""
    run(app, "lfr-provision")


if __name__ == "__main__":
    main()
