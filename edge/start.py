"""How a program begins: its commands are loaded here, so that Ctrl-C in that second is one line, too."""

from __future__ import annotations

import sys
from importlib import import_module

__all__ = ["control", "edge", "start"]

INTERRUPTED = 130


def start(module: str, name: str) -> None:
    """Load ``module`` and call its ``main``."""
    try:
        import_module(module).main()
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: stopped; nothing more is done\n")
        sys.exit(INTERRUPTED)


def edge() -> None:
    """Entry point of ``lfr-edge``."""
    start("edge.cli", "lfr-edge")


def control() -> None:
    """Entry point of ``lfr-control``."""
    start("edge.controlroom.cli", "lfr-control")
