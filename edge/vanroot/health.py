"""Could this van work in this image? The service's own self-test, and which of its parts an image must pass.

Run as the service's account. A van without a deployment has no list and may have no camera in view; what it has must
work. The broker never counts: a van out of coverage is not a broken image.
"""

# ruff: noqa: PLC0415 - the service's packages are slow to import and most starts do not need them

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from . import CAMERA

if TYPE_CHECKING:
    from edge.config import Config
    from edge.selftest import Check

__all__ = ["DEPLOYED", "bare", "failures", "main", "required"]

CONFIG = Path("/ops/lfr/lfr.toml")
DATA = Path("/data/lfr")
BARE = """[van]
id = "van"
[deployment]
id = "none"
[camera]
source = "{camera}"
[store]
directory = "{scratch}"
"""
"""Of a van without a deployment. Its store is a scratch folder: the self-test opens the audit log that it finds there,
and under another name than the van's it would sign a checkpoint that nobody can verify into the van's own."""
ALWAYS = frozenset({"memory", "models"})
DEPLOYED = frozenset({"memory", "models", "deployment", "keys", "camera"})


def required(*, deployed: bool, camera: str) -> frozenset[str]:
    """Parts of the self-test that must pass."""
    if deployed:
        return DEPLOYED
    return ALWAYS | ({"camera"} if camera else frozenset())


def failures(checks: Iterable[Check], needed: frozenset[str]) -> list[str]:
    """Sentences for the needed parts that failed or were not tried."""
    tried = {check.name: check for check in checks}
    said = [f"{name}: {tried[name].detail}" for name in sorted(needed) if name in tried and not tried[name].good]
    return said + [f"{name}: not tried" for name in sorted(needed - tried.keys())]


def bare(camera: str, scratch: Path, base: Path = DATA) -> Config:
    """The configuration of a van without a deployment; what it writes goes into ``scratch``."""
    from edge.config import parse

    return parse(BARE.format(camera=camera or "none", scratch=scratch), base=str(base))


def _store() -> list[str]:
    probe = DATA / ".health"
    try:
        with probe.open("wb") as stream:
            stream.write(b"x")
            stream.flush()
            os.fsync(stream.fileno())
        probe.unlink()
    except OSError as error:
        return [f"store: {DATA} cannot be written ({error.strerror})"]
    return []


def _clock() -> list[str]:
    built = Path("/etc/lfr/release.json").stat().st_mtime
    return [] if time.time() >= built else ["clock: stands before the day this image was built"]


def main() -> int:
    """0 when every needed part passes; otherwise 5, and a line for each that does not."""
    from edge.config import load
    from edge.selftest import self_test
    from edge.system import journal

    journal.configure()
    deployed = CONFIG.exists()
    camera = CAMERA.read_text(encoding="utf-8", errors="replace").strip() if CAMERA.exists() else ""
    with tempfile.TemporaryDirectory(prefix="lfr-health-") as scratch:
        config = load(CONFIG) if deployed else bare(camera, Path(scratch))
        said = failures(self_test(config), required(deployed=deployed, camera=camera)) + _store() + _clock()
    for line in said:
        sys.stdout.write(f"LFR-HEALTH {line}\n")
    return 5 if said else 0


if __name__ == "__main__":
    sys.exit(main())
