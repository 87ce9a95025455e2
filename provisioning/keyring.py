"""The keys that sign the repository: who holds which, in files or in a hardware module (PKCS#11).

A keyring is a folder with ``keyring.json``, which says for each role where its private keys are, as URIs:
``file2:<path>`` for a PEM file that only its owner may read, ``hsm:<id>?label=<token>`` for a token. In a
force each role's keys lie with other people; here the folder may hold only some of them, and a role whose
private keys are missing simply cannot sign.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, HSMSigner, Key, Signature, Signer, SSlibKey

from edge.errors import KeyUnusable
from edge.files import replace_file

__all__ = ["HeldKey", "Keyring"]

NAME = "keyring.json"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """One key of one role: its public part and where its private part is."""

    public: Key
    uri: str = field(repr=False)


class Keyring:
    """The keys of all roles.

    Args:
        folder: where ``keyring.json`` and the key files are.
        pin: asks for a token's PIN; only needed when a key lies in one.
    """

    def __init__(self, folder: Path, *, pin: Callable[[str], str] | None = None) -> None:
        self.folder = folder
        self._pin = pin
        self._roles: dict[str, list[HeldKey]] = {}
        path = folder / NAME
        if not path.exists():
            return
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            for role, keys in raw.items():
                self._roles[role] = [HeldKey(Key.from_dict(k["keyid"], dict(k["public"])), k["uri"]) for k in keys]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise KeyUnusable(str(path), f"cannot be read ({error})", "Restore it from its backup") from None

    def roles(self) -> tuple[str, ...]:
        """Roles that have keys, sorted."""
        return tuple(sorted(self._roles))

    def keys(self, role: str) -> list[HeldKey]:
        """The current keys of ``role``.

        Raises:
            KeyUnusable: it has none.
        """
        if not self._roles.get(role):
            raise KeyUnusable(f"role {role}", f"has no key in {self.folder}", "Run lfr-provision init")
        return list(self._roles[role])

    def signed(self, role: str, content: bytes, signatures: Mapping[str, Signature]) -> int:
        """How many of the keys of ``role`` have signed ``content``."""
        good = 0
        for held in self.keys(role):
            if (signature := signatures.get(held.public.keyid)) is not None:
                with contextlib.suppress(UnverifiedSignatureError):
                    held.public.verify_signature(signature, content)
                    good += 1
        return good

    def generate(self, role: str, count: int = 1) -> list[HeldKey]:
        """Make new Ed25519 keys in files for ``role``, without taking them into use: see :meth:`use`."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = []
        for _ in range(count):
            signer = CryptoSigner.generate_ed25519()
            path = self.folder / f"{role}-{signer.public_key.keyid[:12]}.pem"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(signer.private_bytes)
            made.append(HeldKey(signer.public_key, f"file2:{quote(path.name)}"))
        return made

    def from_token(self, token: str, key_id: int) -> HeldKey:
        """A key that lies in the PKCS#11 token labelled ``token`` under the number ``key_id``.

        Raises:
            KeyUnusable: no module (environment variable PYKCS11LIB), no such token or key.
        """
        try:
            uri, public = HSMSigner.import_(key_id, token, self._pin)
        except Exception as error:  # noqa: BLE001 - PKCS#11 modules raise what they like
            raise KeyUnusable(
                f"token {token}", f"gives no key {key_id} ({error})", "Check PYKCS11LIB, the label and the number"
            ) from None
        return HeldKey(public, uri)

    def use(self, role: str, keys: list[HeldKey]) -> None:
        """Make ``keys`` the current keys of ``role`` and write that down."""
        self._roles[role] = list(keys)
        content: dict[str, Any] = {
            name: [{"keyid": k.public.keyid, "public": k.public.to_dict(), "uri": k.uri} for k in held]
            for name, held in sorted(self._roles.items())
        }
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self.folder / NAME, json.dumps(content, indent=2).encode() + b"\n", mode=0o644)

    def signers(self, keys: list[HeldKey]) -> list[Signer]:
        """The private parts of ``keys`` that are at hand here.

        Raises:
            KeyUnusable: not one of them is.
        """
        found: list[Signer] = []
        missing = ""
        for held in keys:
            try:
                found.append(self._signer(held))
            except (OSError, ValueError) as error:
                missing = str(error)
        if not found:
            raise KeyUnusable(
                f"the keys in {self.folder}", f"cannot sign ({missing})", "Bring the medium that holds them"
            )
        return found

    def _signer(self, held: HeldKey) -> Signer:
        if held.uri.startswith("file2:"):
            path = self.folder / held.uri.removeprefix("file2:")
            if path.stat().st_mode & 0o077:
                raise KeyUnusable(str(path), "can be read by others than its owner", f"Run: chmod 600 {path}")
            if not isinstance(held.public, SSlibKey):
                raise KeyUnusable(str(path), "is of an unknown kind", "Make the key again")
            return CryptoSigner.from_priv_key_uri(f"file2:{path}", held.public)
        return Signer.from_priv_key_uri(held.uri, held.public, self._pin)
