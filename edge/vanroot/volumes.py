"""The van's two encrypted volumes: ``data`` (outbox, audit, identity) and ``ops`` (the deployment's list).

Each is LUKS2 under a random key of 64 bytes. The key is sealed by ``systemd-creds``: to the TPM where there is one,
else to this system's own secret on the state volume. Retiring destroys ``ops`` twice over: the sealed key is
overwritten in place and deleted, before anything that could fail is tried, and every key slot is erased from its
header. Opening it again makes a new, empty one.

The volumes are mounted by systemd (``data.mount``, ``ops.mount``): the helpers run in a file system of their own, and a
mount made in there would not reach the van.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from . import OWNER
from .files import erase, read_small, replace_file

__all__ = ["destroy_key", "ended", "is_open", "main", "open_volume", "retire"]

SEALED = Path("/state/sealed")
MACHINE = Path("/state/machine-id")
SECRET = Path("/state/systemd")
"""Where systemd-creds keeps its own secret on a van without a TPM; the units name the file to it."""


def _run(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(words), input=stdin, capture_output=True, check=False)


def _must(*words: str, stdin: bytes | None = None) -> bytes:
    done = _run(*words, stdin=stdin)
    if done.returncode != 0:
        raise OSError(f"{words[0]} {words[1]}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout


def _creds(*words: str, stdin: bytes | None = None) -> bytes:
    """``systemd-creds`` under a machine identity that stays.

    It ties its secret to ``/etc/machine-id``, which on a read-only root is another one at every start. The units put
    the kept one (:data:`MACHINE`) in its place.
    """
    return _must("systemd-creds", *words, stdin=stdin)


def _identity() -> None:
    """Make the machine identity that stays, at the very first start."""
    if not MACHINE.exists():
        replace_file(MACHINE, uuid.uuid4().hex.encode() + b"\n", mode=0o644)


def _device(name: str) -> str:
    """The partition on the disk that the verified root was opened from (``80-lfr-disk.rules``), and on no other."""
    return f"/dev/lfr/{name}"


def _seal_with() -> str:
    return "tpm2" if Path("/dev/tpmrm0").exists() else "host"


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-VOLUME {text}\n")
    sys.stdout.flush()


def _make(name: str) -> bytes:
    """Format a volume under a new key. The key is on disk, sealed, before the first header that needs it."""
    key = os.urandom(64)
    SEALED.mkdir(mode=0o700, exist_ok=True)
    SECRET.mkdir(mode=0o700, exist_ok=True)
    sealed = _creds("encrypt", f"--with-key={_seal_with()}", f"--name=lfr-{name}", "-", "-", stdin=key)
    path = SEALED / f"{name}.cred"
    replace_file(path, sealed)
    # the key is 512 random bits: stretching it would cost every start and add nothing
    quick = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    _must("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *quick, _device(name), "-", stdin=key)
    return key


def is_open(name: str) -> bool:
    """Whether a volume is open."""
    return Path(f"/dev/mapper/lfr-{name}").exists()


def open_volume(name: str) -> bool:
    """Open and mount a volume; make it when it has none yet, or when its key was destroyed. True when it is new."""
    mapper = f"lfr-{name}"
    if is_open(name):
        return False
    path = SEALED / f"{name}.cred"
    fresh = not path.exists() or _run("cryptsetup", "isLuks", _device(name)).returncode != 0
    key = _make(name) if fresh else _creds("decrypt", f"--name=lfr-{name}", str(path), "-")
    _must("cryptsetup", "open", _device(name), mapper, "--key-file", "-", stdin=key)
    if _run("blkid", "-p", f"/dev/mapper/{mapper}").returncode != 0:
        # no file system yet: new, or power was cut between the header and here; nothing can be lost
        _must("mkfs.ext4", "-q", "-m", "0", f"/dev/mapper/{mapper}")
    _must("systemctl", "start", f"{name}.mount")
    _say(f"{name} is open{' and new' if fresh else ''}, key sealed to {_seal_with()}")
    return fresh


def _folder(name: str) -> None:
    """The service's folder on a volume. In a process of its own: one that mounted the volume does not see it."""
    if not is_open(name):
        return
    account = pwd.getpwnam(OWNER)
    folder = Path("/", name, OWNER)
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)


def destroy_key(name: str) -> bytes:
    """Overwrite and delete a volume's sealed key, before anything else and whatever else fails; returns what it was.

    Nothing is written anew for it: a full disk does not hinder it. From here on nobody who starts this van, or takes
    its medium out, opens the volume.

    Raises:
        OSError: the device refuses to be written at all.
    """
    path = SEALED / f"{name}.cred"
    try:
        former = read_small(path)
    except OSError:
        former = b""
    erase(path)
    return former


def retire(former: bytes | None = None) -> None:
    """Destroy the deployment's volume; afterwards nobody can open it, with or without the medium's old keys.

    Args:
        former: the sealed key as it was, when it is destroyed already.

    Raises:
        OSError: a step failed, or the volume can still be opened. The sealed key is gone all the same.
    """
    sealed = destroy_key("ops") if former is None else former
    for _ in range(20):
        if _run("systemctl", "stop", "ops.mount").returncode == 0:
            break
        time.sleep(0.5)
    failed = ""
    if is_open("ops"):
        closed = _run("cryptsetup", "close", "lfr-ops")
        failed = closed.stderr.decode(errors="replace").strip()[-300:] if closed.returncode != 0 else ""
    if _run("cryptsetup", "isLuks", _device("ops")).returncode == 0:
        _must("cryptsetup", "erase", "--batch-mode", _device("ops"))
    os.sync()
    if failed:
        raise OSError(f"the volume is still open in memory until the van is switched off ({failed})")
    _say(_proof(sealed))


def _proof(sealed: bytes) -> str:
    """Try the old key, unsealed from memory, on what is left.

    Raises:
        OSError: it still opens the volume.
    """
    if not sealed:
        return "ops is retired: there was no key"
    try:
        key = _creds("decrypt", "--name=lfr-ops", "-", "-", stdin=sealed)
    except OSError:
        return "ops is retired; its old key could not be tried, but its header holds none any more"
    tried = _run("cryptsetup", "open", "--test-passphrase", _device("ops"), "--key-file", "-", stdin=key)
    if tried.returncode == 0:
        raise OSError("volume ops can still be opened with its old key")
    return "ops is retired: its old key was tried and no longer opens it"


def ended(former: bytes) -> int:
    """:func:`retire` with a key that is destroyed already, as an exit status."""
    try:
        retire(former)
    except OSError as error:
        _say(f"failed: {error}")
        return 5
    return 0


def _begin() -> None:
    if is_open("ops"):  # power was cut while a deployment was taken in
        retire()
    open_volume("ops")


def _start() -> None:
    if open_volume("data"):
        # what an unknown card says of itself is not believed: a deployment belongs to the data beside it
        destroy_key("ops")
    if (SEALED / "ops.cred").exists():
        open_volume("ops")


def main(arguments: list[str]) -> int:
    """Run one of :data:`_STEPS`."""
    step = _STEPS.get(" ".join(arguments))
    if step is None:
        sys.stderr.write(f"say one of: {', '.join(_STEPS)}\n")
        return 2
    try:
        step()
    except OSError as error:
        _say(f"failed: {error}")
        return 5
    return 0


_STEPS: dict[str, Callable[[], object]] = {
    "identity": _identity,
    "start": _start,
    "begin": _begin,
    "folder data": lambda: _folder("data"),
    "folder ops": lambda: _folder("ops"),
    "retire": retire,
}
"""``start`` opens ``data``, and ``ops`` where a deployment is on; ``begin`` makes ``ops``; ``retire`` ends it."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
