"""The van's two encrypted volumes: ``data`` (outbox, audit, identity) and ``ops`` (the deployment's list).

Each is LUKS2 under a random key of 64 bytes. The key is sealed by ``systemd-creds``: to the TPM where there is one,
else to this system's own secret on the state volume. Retiring destroys ``ops`` twice over: every key slot is erased
from its header, and the sealed key is overwritten and deleted. Opening it again makes a new, empty one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from .files import replace_file

__all__ = ["main", "open_volume", "retire"]

SEALED = Path("/state/sealed")
MACHINE = Path("/state/machine-id")
SECRET = Path("/state/systemd")
"""Where systemd-creds keeps its own secret on a van without a TPM; the units name the file to it."""
OWNER = "lfr"


def _run(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(words), input=stdin, capture_output=True, check=False)


def _must(*words: str, stdin: bytes | None = None) -> bytes:
    done = _run(*words, stdin=stdin)
    if done.returncode != 0:
        raise OSError(f"{words[0]} {words[1]}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout


def _creds(*words: str, stdin: bytes | None = None) -> bytes:
    """``systemd-creds`` under a machine identity that stays.

    It ties its secret to ``/etc/machine-id``, which on a read-only root is another one at every start. Only this
    child sees the kept one.
    """
    if not MACHINE.exists():
        replace_file(MACHINE, uuid.uuid4().hex.encode() + b"\n", mode=0o644)
    bind = f'mount --bind {MACHINE} /etc/machine-id && exec systemd-creds "$@"'
    return _must("unshare", "--mount", "sh", "-c", bind, "systemd-creds", *words, stdin=stdin)


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


def open_volume(name: str) -> None:
    """Open and mount a volume; make it when it has none yet, or when its key was destroyed."""
    mapper = f"lfr-{name}"
    if Path(f"/dev/mapper/{mapper}").exists():
        return
    path = SEALED / f"{name}.cred"
    fresh = not path.exists() or _run("cryptsetup", "isLuks", _device(name)).returncode != 0
    key = _make(name) if fresh else _creds("decrypt", f"--name=lfr-{name}", str(path), "-")
    _must("cryptsetup", "open", _device(name), mapper, "--key-file", "-", stdin=key)
    if _run("blkid", "-p", f"/dev/mapper/{mapper}").returncode != 0:
        # no file system yet: new, or power was cut between the header and here; nothing can be lost
        _must("mkfs.ext4", "-q", "-m", "0", f"/dev/mapper/{mapper}")
    _must("mount", "-o", "noatime,nosuid,nodev,noexec", f"/dev/mapper/{mapper}", f"/{name}")
    folder = Path("/", name, OWNER)
    folder.mkdir(mode=0o700, exist_ok=True)
    _must("chown", f"{OWNER}:{OWNER}", str(folder))
    _say(f"{name} is open{' and new' if fresh else ''}, key sealed to {_seal_with()}")


def retire() -> None:
    """Destroy the deployment's volume; afterwards nobody can open it, with or without the medium's old keys.

    Raises:
        OSError: a step failed, or the volume can still be opened.
    """
    path = SEALED / "ops.cred"
    key = _creds("decrypt", "--name=lfr-ops", str(path), "-") if path.exists() else b""
    for _ in range(20):
        if _run("findmnt", "/ops").returncode != 0 or _run("umount", "/ops").returncode == 0:
            break
        time.sleep(0.5)
    if Path("/dev/mapper/lfr-ops").exists():
        _must("cryptsetup", "close", "lfr-ops")
    if _run("cryptsetup", "isLuks", _device("ops")).returncode == 0:
        _must("cryptsetup", "erase", "--batch-mode", _device("ops"))
    if path.exists():
        with path.open("r+b") as stream:
            stream.write(os.urandom(path.stat().st_size))
            stream.flush()
            os.fsync(stream.fileno())
        path.unlink()
    os.sync()
    if (
        key
        and _run("cryptsetup", "open", "--test-passphrase", _device("ops"), "--key-file", "-", stdin=key).returncode
        == 0
    ):
        raise OSError("volume ops can still be opened with its old key")
    _say("ops is retired: its old key was tried and no longer opens it")


def main(arguments: list[str]) -> int:
    """``start`` opens ``data``, and ``ops`` where a deployment is on; ``begin`` makes ``ops``; ``retire`` ends it."""
    try:
        if arguments == ["start"]:
            open_volume("data")
            if (SEALED / "ops.cred").exists():
                open_volume("ops")
        elif arguments == ["begin"]:
            open_volume("ops")
        elif arguments == ["retire"]:
            retire()
        else:
            sys.stderr.write("say one of: start, begin, retire\n")
            return 2
    except OSError as error:
        _say(f"failed: {error}")
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
