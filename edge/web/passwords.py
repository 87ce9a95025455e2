"""Passwords and PINs that nobody can read back.

Stored as Argon2id with the memory and passes that RFC 9106 recommends for memory-constrained environments (64 MiB,
3 passes), in one lane: OpenSSL's threads for more of them wait for each other for ever when two derivations run at once
on a machine with few processors.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

__all__ = ["LANES", "derive", "fits", "stamp"]

_ARGON2: dict[str, Any] = {"length": 32, "iterations": 3, "lanes": 1, "memory_cost": 64 * 1024}
LANES = ",p=1$"
"""What stands in a hash that was derived in one lane."""


def derive(password: bytes) -> str:
    """A password as it is stored, in PHC form; another text each time."""
    return Argon2id(salt=os.urandom(16), **_ARGON2).derive_phc_encoded(password)


def fits(password: bytes, phc: str) -> bool:
    """Whether a password is the one that was stored; False for what is no hash, too."""
    try:
        Argon2id.verify_phc_encoded(password, phc)
    except (InvalidKey, ValueError):
        return False
    return True


def stamp(phc: str) -> str:
    """A word that changes with the password and says nothing of it."""
    return hashlib.sha256(phc.encode()).hexdigest()
