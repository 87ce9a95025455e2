"""How the programs are asked for help, how they print, and how they end: alike for every command."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from edge.commandline import commands, plain, table
from edge.errors import BadInput

PROGRAMS = {"lfr-edge": "edge.cli", "lfr-control": "edge.controlroom.cli", "lfr-provision": "provisioning.cli"}
BIN = Path(sys.executable).parent
ESCAPES = "[/x]\x1b[31m\nnext"


def every_command() -> Iterator[tuple[tuple[str, ...], Any]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if hasattr(command, "commands"):
            for name, each in sorted(command.commands.items()):
                yield from walk(each, (*path, name))
        else:
            yield path, command

    for program, module in PROGRAMS.items():
        yield from walk(get_command(importlib.import_module(module).app), (program,))


COMMANDS = {" ".join(path): (path, command) for path, command in every_command()}


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    program, *rest = arguments
    return subprocess.run([BIN / program, *rest], capture_output=True, text=True, timeout=60, check=False, **options)


def invoke(path: tuple[str, ...], *arguments: str) -> Any:
    program, *rest = path
    app = importlib.import_module(PROGRAMS[program]).app
    return CliRunner().invoke(app, [*rest, *arguments], prog_name=program, catch_exceptions=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_speaks_to_programs(name: str) -> None:
    path, command = COMMANDS[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    done = invoke(path, "-h")
    assert done.exit_code == 0
    assert name in done.stdout
    assert "bool" not in done.stdout.lower()
    assert done.stdout == invoke(path, "--help").stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_says_its_version_and_completes_in_the_shell(program: str) -> None:
    assert re.fullmatch(r"LFR Edge \d+\.\d+\.\d+\S*\n", run(program, "--version").stdout)
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    for shell in ("bash", "zsh", "fish"):
        script = run(program, env={**os.environ, variable: f"source_{shell}"}).stdout
        assert program in script
        assert variable in script
    words = {"COMP_WORDS": f"{program} ", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": f"{program} "}
    offered = run(program, env={**os.environ, **words, variable: "complete_bash"}).stdout.split()
    assert offered == sorted(offered) or len(offered) > 3


LATER = {
    "lfr-provision image lock",
    "lfr-provision image build",
    "lfr-provision image flash",
    "lfr-edge bench",
    "lfr-edge page",
}
"""They need the network, root or a minute before they look at a path; or show on a page that it is wrong."""


@pytest.mark.parametrize("made", ["missing", "a folder", "a text file"])
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - LATER))
def test_a_wrong_path_is_one_line_with_what_to_do(
    name: str, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, command = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / "[red]wrong"
    if made == "a folder":
        wrong.mkdir()
    elif made == "a text file":
        wrong.write_text("no more than a text")
    arguments: list[str] = []
    for parameter in command.params:
        is_path = "path" in str(parameter.bare_type()).lower()
        takes_path = is_path and parameter.name != "out"
        if not (parameter.required or (takes_path and parameter.name in {"config", "csv", "folder", "repository"})):
            continue
        value = str(wrong if takes_path else tmp_path / "out" if is_path else _value(parameter))
        arguments += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    done = invoke(path, *arguments)
    if done.exit_code == 0:
        assert name in NEEDS_NO_FILE
        return
    assert done.exit_code in {2, 3, 4, 5}, done.output
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{path[0]}: ")
    if done.exit_code != 2:
        assert lines[0].count(". ") >= 1, "the cause ends, and the next step follows"


NEEDS_NO_FILE = {
    "lfr-provision init",
    "lfr-provision image key authority",
    "lfr-provision repository init",
    "lfr-provision repository van-key",
    "lfr-provision watchlist revoker-key",
    "lfr-provision watchlist template",
    "lfr-edge threshold",
}


def _value(parameter: Any) -> str:
    return {
        "fpir": "1/1000",
        "entries": "1000",
        "kind": "development",
        "role": "operator" if "Role" in str(parameter.bare_type()) else "timestamp",
        "trained_until": "2030-01-01",
    }.get(parameter.name, "x-1")


# -- one line, whatever happens --------------------------------------------------------------------


def program(body: Any) -> typer.Typer:
    app = commands("A program.", name="prog")
    app.command()(body)
    app.command("other")(lambda: None)
    return app


def raising(error: BaseException) -> Any:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInput(ESCAPES, "is odd", "Look"), 4, "prog: [/x] [31m next: is odd. Look."),
        (KeyboardInterrupt(), 130, "prog: stopped; nothing more is done"),
        (typer.Abort(), 130, "prog: stopped; nothing more is done"),
        (typer.BadParameter("is wrong"), 2, "prog: Invalid value: is wrong. Help: prog body --help"),
        (PermissionError(13, "Permission denied", "/x"), 5,
         "prog: /x: Permission denied. Check the path, who owns it, and the disk."),
    ],
    ids=["refusal", "Ctrl-C", "declined", "usage", "file"],
)  # fmt: skip
def test_whatever_ends_a_command_is_one_line_and_a_code(error: BaseException, code: int, line: str) -> None:
    done = CliRunner().invoke(program(raising(error)), ["body"], prog_name="prog")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", f"{line}\n")


def test_a_fault_in_the_software_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(program(raising(ZeroDivisionError())), ["body"], catch_exceptions=False)


@pytest.mark.parametrize("after_ms", [5, 40, 120, 300, 700, 1500])
def test_ctrl_c_at_any_moment_is_one_line(after_ms: int) -> None:
    process = subprocess.Popen(
        [BIN / "lfr-edge", "bench", "--rounds", "500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        time.sleep(after_ms / 1000)  # the moment is what is tried
        while process.poll() is None:  # a library that is being loaded may swallow the first one
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        out, err = process.communicate()
    if process.returncode == -signal.SIGINT or "site.py" in err or "Fatal Python" in err or "import edge" in err:
        pytest.skip("Python itself had not begun")
    assert (process.returncode, out, err) == (130, "", "lfr-edge: stopped; nothing more is done\n")


def test_whoever_reads_no_further_ends_a_command_in_silence() -> None:
    done = subprocess.run(
        f"set -o pipefail; {BIN / 'lfr-edge'} evaluate --help | true", shell=True, executable="/bin/bash",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_a_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "lfr.toml").write_text('van.id = "van-1"\ndeployment.id = "op-1"\ncamera.source = "street.mp4"\n')
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = run("lfr-edge", "page", "--port", str(port), "--config", str(tmp_path / "lfr.toml"))
    assert done.returncode == 5
    line = f"lfr-edge: the page's address 127.0.0.1:{port}: cannot be used (Address already in use). "
    line += "Stop the program that uses it, or give another --port."
    assert (done.stdout, done.stderr) == ("", f"{line}\n")


# -- printing --------------------------------------------------------------------------------------


def test_a_table_in_a_pipe_is_one_line_a_row_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "what"), [("[/x]" * 40, "a\nb"), ("short", "\x1b]0;title\x07")], title="[title]")
    title, head, first, second = capsys.readouterr().out.splitlines()
    assert title == "[title]"
    assert head.split() == ["name", "what"]
    assert first == "[/x]" * 40 + "  a b"
    assert second.split() == ["short", "]0;title"]


def test_a_table_in_a_terminal_fits_and_loses_nothing() -> None:
    leader, follower = pty.openpty()
    code = f"from edge.commandline import table; table(('name', 'what'), [('{'[/x]' * 40}', 'end')])"
    subprocess.run([sys.executable, "-c", code], stdout=follower, env={**os.environ, "COLUMNS": "60"}, check=True)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):
        while some := os.read(leader, 65536):
            shown += some
    os.close(leader)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("[/x]") + sum(line.count("[/x") for line in ()) >= 30


def test_a_text_never_moves_the_cursor() -> None:
    assert plain("a\x1b[2J\r\nb\u202ec") == "a [2J  b c"


def test_nothing_of_the_runtime_is_on_standard_error() -> None:
    code = (
        "from edge.sight.runtime import load\n"
        "import sys, os\n"
        "load('mobilefacenet:dynamic-int8', kind='embedder')\n"
        "os.write(2, b'said afterwards\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "said afterwards\n"


def test_json_is_one_document() -> None:
    done = run("lfr-edge", "threshold", "--fpir", "1/1000", "--entries", "1000", "--json")
    assert json.loads(done.stdout)["entries"] == 1000
