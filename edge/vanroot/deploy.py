"""The beginning and the end of a deployment, as the machine sees them.

A medium labelled LFR-DEPLOY carries ``lfr.toml`` and the signed ``repository``. ``check`` judges ``lfr.toml``
(:mod:`edge.vanroot.compose`) before anything is made for it. ``begin``, once the new ``ops`` volume is open, has
``take`` copy the repository and, where it is one, the camera's file to it and put the configuration together, has
``lfr-edge fetch`` check every signature, and starts the service. What a stranger wrote is read under the service's
account only: ``check``, ``take`` and ``fetch`` run in units of their own.

``end``: a medium labelled LFR-RETIRE is put in. The volume's sealed key is destroyed before anything else is tried,
then the list with its receipt, then the volume.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from . import CAMERA, volumes
from .compose import compose, is_live, source_of
from .files import read_small, replace_file
from .medium import Budget, copy_file, copy_folder

__all__ = ["check", "main", "take_in"]

MEDIUM = Path("/run/lfr/deploy")
HERE = Path("/ops/lfr")
ANSWER = Path("/data/lfr/answer.json")
LIMIT = 65_536
"""Bytes of a deployment's configuration at most."""


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-DEPLOY {text}\n")
    sys.stdout.flush()


def _systemctl(*words: str) -> int:
    return subprocess.run(["systemctl", *words], check=False).returncode


def check(medium: Path, answer: Path) -> tuple[str, str]:
    """The configuration that a medium asks for, and the camera's source.

    Raises:
        ValueError: it asks for what no deployment may set, or the van is not enrolled.
        OSError: there is no ``lfr.toml``, or it is no plain file of sensible size.
    """
    try:
        enrolled = read_small(answer, LIMIT)
    except OSError:
        raise ValueError("this van is not enrolled") from None
    return compose(read_small(medium / "lfr.toml", LIMIT), enrolled)


def take_in(medium: Path, here: Path, answer: Path) -> None:
    """Copy a deployment to its empty volume.

    Raises:
        ValueError, OSError: see :func:`check`; also when something on the medium is no plain file, or is too large.
    """
    configuration, source = check(medium, answer)
    budget = Budget()
    copy_folder(medium / "repository", here / "repository", budget)
    if source and not is_live(source):
        copy_file(medium / source, here / source, budget)
    replace_file(here / "lfr.toml", configuration.encode())  # last: with it the deployment is whole


def _refused(error: Exception) -> int:
    cause = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
    _say(f"refused: {cause}")
    return 3


def _check() -> int:
    if (HERE / "lfr.toml").exists():
        _say("a deployment is on already; end it first")
        return 3
    try:
        check(MEDIUM, ANSWER)
    except (ValueError, OSError) as error:
        return _refused(error)
    return 0


def _take() -> int:
    try:
        take_in(MEDIUM, HERE, ANSWER)
    except (ValueError, OSError) as error:
        return _refused(error)
    return 0


def _camera() -> int:
    """Note the camera of a deployment whose signatures are good: a new image must find it, too."""
    source = source_of(read_small(HERE / "lfr.toml", LIMIT))
    if is_live(source):
        replace_file(CAMERA, source.encode())
    return 0


def _begin() -> int:
    if _systemctl("start", "lfr-take.service") != 0:
        _say("the deployment is refused and forgotten again")
        volumes.main(["retire"])
        return 3
    subprocess.run(["sync"], check=False)
    _say("the deployment is on the van; keep its medium locked away or destroy it")
    _systemctl("--no-block", "start", "lfr-edge.service")
    return 0


def _end() -> int:
    status, former = 0, b""
    try:
        former = volumes.destroy_key("ops")
    except OSError as error:
        _say(f"the sealed key cannot be overwritten ({error.strerror}); the volume's header is destroyed all the same")
        status = 5
    _systemctl("stop", "lfr-edge.service")
    _systemctl("start", "lfr-forget.service")
    return max(status, volumes.ended(former))


def main(arguments: list[str]) -> int:
    """``check``, ``take``, ``camera``, ``begin`` or ``end``."""
    step = {"check": _check, "take": _take, "camera": _camera, "begin": _begin, "end": _end}.get(" ".join(arguments))
    if step is None:
        sys.stderr.write("say check, take, camera, begin or end\n")
        return 2
    return step()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
