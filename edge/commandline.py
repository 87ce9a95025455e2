"""How every command ends: done, or one plain line on standard error and an exit code instead of a traceback."""

from __future__ import annotations

import sys

import typer

from edge.errors import EdgeError

__all__ = ["INTERRUPTED", "run"]

INTERRUPTED = 130
"""As a shell reports a program that was stopped with Ctrl-C."""


def run(app: typer.Typer, name: str) -> None:
    """Run a command line application and end the process with its exit code.

    Args:
        app: the commands.
        name: of the program, which begins the line.
    """
    try:
        app()
    except EdgeError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - this is the one place that does
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
