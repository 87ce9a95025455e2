"""What every command has in common: how it is asked for help, how it prints, and how it ends.

A command ends with 0, or with one plain line on standard error, ``program: thing: cause. Next step.``, and an exit
code; never with a traceback. What it prints of other people's text is never read as markup and never moves the cursor.
A table fits the terminal; in a pipe nothing is cut and each row is one line.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from typer.core import TyperGroup

from edge.errors import EdgeError

__all__ = [
    "INTERRUPTED",
    "PARTLY",
    "AsJson",
    "commands",
    "complain",
    "counted",
    "plain",
    "run",
    "say",
    "several",
    "show",
    "table",
]

INTERRUPTED = 130
"""As a shell reports a program that was stopped with Ctrl-C."""
PARTLY = 6
"""Done, but a part of what was handed in was left out, and nobody said that this is meant."""
USAGE = 2
WIDTH_IN_A_PIPE = 120

AsJson = typer.Option("--json", help="one JSON document on standard output, nothing else")
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The base of every complaint about a command line: Typer has it under a private name."""


class Commands(TyperGroup):
    """A group of commands that ends as the first lines of this module say, however it is run."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command that the arguments name; ends the process unless ``standalone_mode`` is off."""
        alone = options.get("standalone_mode", True)
        options["standalone_mode"] = False
        if not alone:
            return super().main(*args, **options)
        name = str(options.get("prog_name") or Path(sys.argv[0]).name)
        try:
            done = super().main(*args, **options)
        except EdgeError as error:
            complain(name, error)
            sys.exit(error.exit_code)
        except _UsageError as error:
            _usage(name, error)
            sys.exit(USAGE)
        except (typer.Abort, KeyboardInterrupt):
            done = INTERRUPTED
        except BrokenPipeError:  # whoever read our output has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as error:
            if error.filename is None:  # nothing that a person named: a fault in the software
                raise
            complain(name, f"{error.filename}: {error.strerror}. Check the path, who owns it, and the disk.")
            sys.exit(EdgeError.exit_code)
        if done == INTERRUPTED:
            complain(name, "stopped; nothing more is done")
        sys.exit(done if isinstance(done, int) else 0)


def _usage(name: str, error: Any) -> None:
    """One line of what is wrong with a command line; the whole help where there is none."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help(), file=sys.stderr)  # noqa: T201
        return
    path = error.ctx.command_path if error.ctx is not None else name
    complain(name, f"{error.format_message().rstrip('.')}. Help: {path} --help")


def _show_version(asked: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if asked:
        say(f"LFR Edge {importlib.metadata.version('lfr-edge')}")
        raise typer.Exit


def commands(help_text: str, *, name: str | None = None) -> typer.Typer:
    """A group of commands; ``name`` makes it a program, with its version and shell completion."""
    app = typer.Typer(
        name=name,
        cls=Commands,
        help=help_text,
        no_args_is_help=True,
        add_completion=name is not None,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "terminal_width": None if sys.stdout.isatty() else WIDTH_IN_A_PIPE,
        },
    )
    if name is not None:

        @app.callback(help=help_text)
        def program(
            version: Annotated[  # noqa: FBT002
                bool, typer.Option("--version", is_eager=True, callback=_show_version, help="show the version and end")
            ] = False,
        ) -> None:
            """Take what belongs to the whole program."""

    return app


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a program and end the process with its exit code."""
    app(prog_name=name)
    sys.exit(0)


# -- printing ------------------------------------------------------------------------------------


def plain(text: object) -> str:
    """A text on one line, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def say(text: object) -> None:
    """Print one line on standard output as it is: nothing in it is markup, and it is not wrapped."""
    print(plain(text), flush=True)  # noqa: T201 - this is one of the places that do


def complain(name: str, text: object) -> None:
    """Print one line on standard error, begun by the program's name."""
    print(f"{name}: {plain(text)}", file=sys.stderr, flush=True)  # noqa: T201


def show(document: Any, lines: Iterable[object], *, as_json: bool) -> None:
    """Print what came of a command: the document for programs, or the lines for people."""
    if as_json:
        print(msgspec.json.encode(document, enc_hook=str).decode(), flush=True)  # noqa: T201
    else:
        for line in lines:
            say(line)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print a table: folded into the terminal's width, or, in a pipe, one line a row with nothing cut."""
    texts = [[plain(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 - where there is a terminal
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        drawn = Table(title=Text(plain(title)) if title else None)
        for column in columns:
            drawn.add_column(Text(column), overflow="fold")
        for row in texts:
            drawn.add_row(*(Text(cell) for cell in row))
        Console().print(drawn)
        return
    if title:
        say(title)
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in (list(columns), *texts):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def several(count: int, one: str, many: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count:,} {one if count == 1 else many}"


def counted(counts: Mapping[str, int]) -> str:
    """``custody (3), family (1)``: numbers of things on one line."""
    return ", ".join(f"{what} ({count})" for what, count in counts.items())
