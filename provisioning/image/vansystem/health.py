"""Could this van work in this image? The service's own self-test, and which of its parts an image must pass.

Run as the service's account. A van without a deployment has no list and may have no camera in view; what it has must
work. The broker never counts: a van out of coverage is not a broken image.
"""

# ruff: noqa: PLC0415 - the service's packages are slow to import and most starts do not need them

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.selftest import Check

__all__ = ["CAMERA", "DEPLOYED", "failures", "main", "required"]

CONFIG = Path("/ops/lfr/lfr.toml")
CAMERA = Path("/data/lfr/camera")
"""The last deployment's camera, where it was a device or a stream: an image that loses it may not stay."""
DATA = Path("/data/lfr")
BARE = """[van]
id = "van"
[deployment]
id = "none"
[camera]
source = "{camera}"
"""
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
    from edge.config import load, parse
    from edge.selftest import self_test
    from edge.system import journal

    journal.configure()
    deployed = CONFIG.exists()
    camera = CAMERA.read_text(encoding="utf-8").strip() if CAMERA.exists() else ""
    config = load(CONFIG) if deployed else parse(BARE.format(camera=camera or "none"), base=str(DATA))
    said = failures(self_test(config), required(deployed=deployed, camera=camera)) + _store() + _clock()
    for line in said:
        sys.stdout.write(line + "\n")
    return 5 if said else 0


if __name__ == "__main__":
    sys.exit(main())
