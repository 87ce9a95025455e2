"""An update stick: a medium labelled LFR-UPDATE with bundles is put into the van, and each is tried in order of name.

The first that installs ends it and restarts the van into the new image. The stick may stay: an image that runs, or that
did not stay, is not installed again unless a file ``try-again`` lies beside it. Every refusal is reported by a stable
name, on the console, in the journal and, where the stick can be written, in ``result.json`` beside the bundles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from . import failed_updates, floor
from .files import write_new
from .preinstall import ACCEPTED, AGAIN, REFUSAL

__all__ = ["explain", "main", "signer_names", "wants_again"]

MEDIUM = Path("/run/lfr/stick")

MOST = 50
"""Bundles of one stick that are tried."""

_CAUSES = (
    ("signature size", "Truncated", "the bundle ends too early or its end is damaged"),
    ("bundle is too small", "Truncated", "the bundle ends too early or its end is damaged"),
    ("bundle not properly", "Truncated", "the bundle ends too early or its end is damaged"),
    ("invalid bundle", "Truncated", "the bundle ends too early or its end is damaged"),
    ("failed to parse signature", "Truncated", "the bundle ends too early or its end is damaged"),
    ("failed to load cms", "Truncated", "the bundle ends too early or its end is damaged"),
    ("compatible mismatch", "WrongBoard", "the bundle was made for another board"),
    ("certificate revoked", "SignerRevoked", "the signer's certificate was revoked"),
    ("certificate has expired", "SignerExpired", "the signer's certificate has expired"),
    ("unsupported certificate purpose", "WrongPurpose", "the signer's certificate is not for signing code"),
    ("signature verification failed", "WrongAuthority", "the signer is not of this van's release authority"),
    ("input/output error", "PayloadDamaged", "the payload is damaged"),
)


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-UPDATE {text}\n")
    sys.stdout.flush()


def signer_names(bundle: Path) -> list[str]:
    """Issuers named by the certificates inside a bundle's signature; for the message only, never for trust."""
    length = bundle.stat().st_size
    if length < 8:
        return []
    with bundle.open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        size = int.from_bytes(stream.read(8), "big")
        if not 0 < size < 1 << 20 or size + 8 > length:
            return []
        stream.seek(-8 - size, os.SEEK_END)
        signature = stream.read(size)
    done = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout"],
        input=signature,
        capture_output=True,
        check=False,
    )
    lines = done.stdout.decode(errors="replace").splitlines()
    return [line.partition("=")[2].strip() for line in lines if line.startswith("issuer")]


def explain(said: str, issuers: list[str], refusal: dict[str, str] | None) -> tuple[str, str]:
    """Turn what RAUC, its handler and the signature say into one stable name and one sentence."""
    if refusal is not None:
        return refusal["name"], refusal["reason"]
    low = said.lower()
    for words, name, reason in _CAUSES:
        if words in low:
            if name == "WrongAuthority" and any("development" in i.lower() for i in issuers):
                return "DevelopmentSigned", "signed by a development authority; a van takes releases only"
            return name, reason
    return "NotInstalled", said.strip().splitlines()[-1][-200:] if said.strip() else "RAUC gave no reason"


def _install(bundle: Path) -> tuple[str, str]:
    REFUSAL.unlink(missing_ok=True)
    done = subprocess.run(["rauc", "install", str(bundle)], capture_output=True, check=False)
    if done.returncode == 0:
        _note_tried()
        return "Installed", "the van restarts into it"
    said = (done.stdout + done.stderr).decode(errors="replace")
    refusal = json.loads(REFUSAL.read_text()) if REFUSAL.exists() else None
    return explain(said, signer_names(bundle), refusal)


def _note_tried() -> None:
    try:
        failed_updates.add(floor.read_release(ACCEPTED))
    except (OSError, ValueError) as error:
        _say(f"that this was installed cannot be noted, and it may be installed again: {error}")


def wants_again(stick: Path, mark: Path = AGAIN) -> str:
    """Take ``try-again`` off the stick and let the handler know; what to say of it, or nothing when it is not there.

    It is taken off first: left there, it would bring back the restarts without end that it is an exception from.
    """
    mark.unlink(missing_ok=True)
    asked = stick / floor.AGAIN
    if not asked.exists():
        return ""
    try:
        asked.unlink()
        os.sync()
    except OSError as error:
        return f"{floor.AGAIN} is ignored: it cannot be taken off the stick ({error.strerror})"
    mark.touch()
    return f"{floor.AGAIN} is taken off the stick: an image may be installed once more"


def main() -> int:
    """Try the stick's bundles; 0 even when all are refused, because then the van simply goes on."""
    if said := wants_again(MEDIUM):
        _say(said)
    results: dict[str, dict[str, str]] = {}
    installed = False
    for bundle in sorted(MEDIUM.glob("*.raucb"))[:MOST]:
        _say(f"trying {bundle.name}")
        name, reason = _install(bundle)
        results[bundle.name] = {"result": name, "reason": reason}
        _say(f"{bundle.name}: {name}: {reason}")
        if name == "Installed":
            installed = True
            break
    try:
        write_new(MEDIUM / "result.json", json.dumps(results, indent=1).encode())
    except OSError as error:
        _say(f"the result cannot be written to the stick ({error.strerror})")
    _say("done")
    if installed:
        subprocess.run(["systemctl", "reboot"], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
