"""``lfr-provision image``: the commands stand in :mod:`provisioning.image.cli`."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    from provisioning.image.cli import app as image_app

    app.add_typer(image_app, name="image")
