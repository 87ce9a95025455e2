"""``lfr-provision watchlist``: see :mod:`provisioning.watchlist`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    from provisioning.watchlist import app as watchlist_app

    app.add_typer(watchlist_app, name="watchlist")
