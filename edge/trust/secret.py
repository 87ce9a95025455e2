"""Where a secret comes from: a file that only its owner may read, or a systemd credential.

systemd decrypts credentials (bound to the TPM where one is fitted) into a private RAM directory and
tells the service where: ``credential:NAME`` reads them there. Everything else is a path.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from edge.errors import KeyUnusable

__all__ = ["create_secret", "read_secret"]

CREDENTIAL = "credential:"


def read_secret(spec: str, base: Path = Path()) -> bytes:
    """The secret that ``spec`` names: hexadecimal text becomes bytes, anything else is returned as it is.

    Args:
        spec: a path, relative to ``base``, or ``credential:NAME``.
        base: the configuration's folder.

    Raises:
        KeyUnusable: missing, unreadable, empty, or readable by others than its owner.
    """
    if spec.startswith(CREDENTIAL):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise KeyUnusable(
                spec, "systemd passed no credentials to this process", "Start the unit, or name a key file instead"
            )
        path = Path(folder, spec.removeprefix(CREDENTIAL))
    else:
        path = base / spec
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise KeyUnusable(str(path), f"cannot be read ({error.strerror})", "Give the path of the key") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyUnusable(str(path), "can be read by others than its owner", f"Run: chmod 600 {path}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KeyUnusable(str(path), f"cannot be read ({error.strerror})", "Give the path of the key") from None
    if not content.strip():
        raise KeyUnusable(str(path), "is empty", "Make the key again")
    try:
        return bytes.fromhex(content.decode("ascii").strip())
    except (UnicodeDecodeError, ValueError):
        return content


def create_secret(path: Path, length: int = 32) -> bytes:
    """Make a new random secret in a file that only its owner may read, and return it.

    Raises:
        KeyUnusable: a file is there already: a key is never overwritten by accident.
    """
    value = secrets.token_bytes(length)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyUnusable(str(path), "exists already", "Remove it first if it really is to be replaced") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(value.hex() + "\n")
    return value
