"""Run the machine's own tools, and say in words which one is lacking or failed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.errors import BadInput, EnvironmentFault, PolicyRefusal

__all__ = [
    "EPOCH",
    "ImageRefused",
    "ImageUnusable",
    "ToolFailed",
    "ToolMissing",
    "pinned_environment",
    "require",
    "run",
    "sha256_file",
]

EPOCH = 1_767_225_600
"""2026-01-01T00:00:00Z: every time stamp inside an image, so that two builds are the same bytes."""

_CHUNK = 1 << 20


class ToolMissing(EnvironmentFault):
    """A program of the operating system is not installed."""


class ToolFailed(EnvironmentFault):
    """A program of the operating system was run and reported failure."""


class ImageUnusable(BadInput):
    """An image, bundle, lock or release record is missing, damaged or of another kind."""


class ImageRefused(PolicyRefusal):
    """An image or a target could be used and must not be."""


def require(*programs: str) -> None:
    """Check that programs are on the path.

    Raises:
        ToolMissing: names all that are not.
    """
    lacking = [p for p in programs if shutil.which(p, path=_path()) is None]
    if lacking:
        raise ToolMissing(", ".join(lacking), "not installed on this machine", "Run scripts/setup-image as root")


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def pinned_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with everything pinned that tools let seep into their output: time, language, zone."""
    pinned = {"SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": _path(), "PYTHONHASHSEED": "0"}
    return {**os.environ, **pinned, **(extra or {})}


def run(
    command: Sequence[str | Path],
    *,
    thing: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    next_step: str = "Read what the tool says above and correct what it names",
) -> str:
    """Run one tool to its end and return its standard output.

    Args:
        command: program and arguments; never through a shell.
        thing: what is being made or read, for the message.
        cwd: folder to run in.
        environment: variables over the pinned ones.
        stdin: bytes handed to the tool; secrets go this way, never as an argument.
        next_step: what the reader should do when it fails.

    Raises:
        ToolMissing: the program is not installed.
        ToolFailed: it ended with another code than 0; carries the last lines it wrote.
    """
    words = [str(part) for part in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=pinned_environment(environment),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolMissing(words[0], "not installed on this machine", "Run scripts/setup-image as root") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-6:]
        raise ToolFailed(thing, f"{words[0]} ended with {done.returncode}: {' | '.join(said)}", next_step)
    return done.stdout.decode(errors="replace")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
