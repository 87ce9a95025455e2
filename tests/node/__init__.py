"""The npm packages that tests use: installed when they are first needed, from the lock file beside this one."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@cache
def node_modules() -> Path:
    """The folder of the installed packages; skips with a reason where npm or its registry is not there."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed: run scripts/setup")
    modules = FOLDER / "node_modules"
    with (FOLDER / ".gitignore").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of the parallel test processes installs, the others wait
        stamp = modules / ".package-lock.json"
        if not stamp.exists() or stamp.stat().st_mtime < (FOLDER / "package-lock.json").stat().st_mtime:
            done = subprocess.run(
                [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=FOLDER, check=False, capture_output=True, text=True, timeout=170,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"npm could not install the packages of tests/node: {done.stderr.strip()[-200:]}")
    return modules
