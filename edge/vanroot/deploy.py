"""The beginning and the end of a deployment, as the machine sees them.

``begin``: a medium labelled LFR-DEPLOY carries ``lfr.toml`` and the signed ``repository``. They are copied to a new
``ops`` volume, ``lfr-edge fetch`` checks every signature, and the service starts. ``end``: a medium labelled
LFR-RETIRE is put in. The list is destroyed with its receipt, then the volume's key.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from . import AS_SERVICE, CAMERA, volumes

__all__ = ["main"]

STICK = Path("/dev/disk/by-label/LFR-DEPLOY")
MOUNT = Path("/run/lfr/deploy")
HERE = Path("/ops/lfr")
OWNER = "lfr"
_LIVE = ("/dev/", "rtsp://", "rtsps://")


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-DEPLOY {text}\n")
    sys.stdout.flush()


def _as_service(*words: str) -> int:
    command = [*AS_SERVICE, "/usr/bin/lfr-edge", *words]
    done = subprocess.run(command, capture_output=True, check=False, cwd="/")
    for line in (done.stdout + done.stderr).decode(errors="replace").strip().splitlines():
        _say(line)
    return done.returncode


def begin() -> int:
    """Take a deployment in from its medium."""
    if (HERE / "lfr.toml").exists():
        _say("a deployment is on already; end it first")
        return 3
    MOUNT.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-o", "ro,nosuid,nodev,noexec", str(STICK), str(MOUNT)], check=False).returncode != 0:
        _say("the medium cannot be mounted")
        return 5
    try:
        if not (MOUNT / "lfr.toml").exists():
            _say("the medium holds no lfr.toml")
            return 4
        volumes.open_volume("ops")
        for path in MOUNT.iterdir():
            if path.name != "lfr.toml":
                target = HERE / path.name
                shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)
        shutil.copyfile(MOUNT / "lfr.toml", HERE / "lfr.toml")  # last: with it the deployment is whole
    finally:
        subprocess.run(["umount", str(MOUNT)], check=False)
    for path in (HERE, *HERE.rglob("*")):
        shutil.chown(path, OWNER, OWNER)
        path.chmod(0o700 if path.is_dir() else 0o600)
    source = str(tomllib.loads((HERE / "lfr.toml").read_text(encoding="utf-8")).get("camera", {}).get("source", ""))
    if source.startswith(_LIVE):
        CAMERA.write_text(source, encoding="utf-8")
    fetched = _as_service("fetch", "--config", str(HERE / "lfr.toml"))
    if fetched != 0:
        _say("the deployment is refused and forgotten again")
        volumes.main(["retire"])
        return fetched
    subprocess.run(["sync"], check=False)
    _say("the deployment is on the van; keep its medium locked away or destroy it")
    subprocess.run(["systemctl", "--no-block", "start", "lfr-edge.service"], check=False)
    return 0


def end() -> int:
    """Stop the service, destroy the list with its receipt, then the volume's key."""
    subprocess.run(["systemctl", "stop", "lfr-edge.service"], check=False)
    if (HERE / "lfr.toml").exists():
        _as_service("retire", "--config", str(HERE / "lfr.toml"))
    return volumes.main(["retire"])


def main(arguments: list[str]) -> int:
    """``begin`` or ``end``."""
    if arguments == ["begin"]:
        return begin()
    if arguments == ["end"]:
        return end()
    sys.stderr.write("say begin or end\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
