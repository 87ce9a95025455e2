"""How ``lfr-provision`` begins."""

from __future__ import annotations

from edge.start import start

__all__ = ["provision"]


def provision() -> None:
    """Entry point of ``lfr-provision``."""
    start("provisioning.cli", "lfr-provision")
