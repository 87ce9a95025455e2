"""Asking a script what it does does nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NO_SCRIPTS = {"apt-packages"}
"""What lies in scripts/ and is only read."""
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and path.suffix != ".py")
INSTALLERS = (
    "apt-get",
    "apt",
    "dpkg",
    "dpkg-query",
    "sudo",
    "pip",
    "pip3",
    "npm",
    "node",
    "mount",
    "mmdebstrap",
    "git",
)


def state(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder, and what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The scripts in a checkout that nobody has set up, on a machine where everything that installs only tells."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "scripts", tree / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "models" / "builder").mkdir(parents=True)
    for name in ("setup.cfg", "pyproject.toml", "models/builder/requirements.txt"):
        shutil.copy(ROOT / name, tree / name)
    (tmp_path / "home").mkdir()
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    told = f'printf "%s\\n" "$0 $*" >> {tmp_path}/installed\nexit 97\n'
    for name in INSTALLERS:
        (bin_folder / name).write_text(f"#!/bin/sh\n{told}")
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    for name in ("python3", "python3.11"):
        # Without site-packages: what helps may not need what only the set-up brings.
        (bin_folder / name).write_text(f'#!/bin/sh\nif [ "$1" = -m ]; then\n{told}fi\nexec {base} -S "$@"\n')
    for path in bin_folder.iterdir():
        path.chmod(0o755)
    return tmp_path


def ask(bare: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [bare / "tree" / "scripts" / script, *arguments],
        cwd=bare / "home",
        env={
            "PATH": f"{bare / 'bin'}:/usr/bin:/bin",
            "HOME": str(bare / "home"),
            "TMPDIR": str(bare / "home"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("script", [name for name in SCRIPTS if name not in NO_SCRIPTS])
def test_a_script_says_how_it_is_used_and_does_nothing_else(bare: Path, script: str, flag: str) -> None:
    before = state(bare)
    done = ask(bare, script, flag)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert script in done.stdout
    assert state(bare) == before


def test_the_machine_of_this_test_notices_an_installation(bare: Path) -> None:
    assert ask(bare, "setup").returncode != 0
    assert "dpkg-query" in (bare / "installed").read_text()


def test_everything_in_the_folder_can_be_run(bare: Path) -> None:
    for name in SCRIPTS:
        assert os.access(ROOT / "scripts" / name, os.X_OK) == (name not in NO_SCRIPTS), name
