"""What stands on this van, for an engineer: a medium labelled LFR-REPORT is put in, and the answer is written to it.

The console has no login, so this is how somebody on the bench learns which image runs, what the floor is, whether the
audit log is whole and how many alerts wait. Numbers and names of software only: nothing of a list or of a person.
"""

# ruff: noqa: PLC0415 - the service's packages are slow to import and most starts do not need them

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import OWNER, floor, slots
from .commit import standing
from .files import write_new

__all__ = ["gather", "main", "sentences"]

MEDIUM = Path("/run/lfr/report")
MINE = Path("/data/lfr")
STORE = MINE / "state"


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-REPORT {text}\n")
    sys.stdout.flush()


def gather(mine: Path, store: Path, *, running: bool) -> dict[str, Any]:
    """What the encrypted volume holds, in numbers. Run as the service's account, which alone may read it.

    Args:
        mine: the van's keys and certificate.
        store: outbox and audit log.
        running: the service is at work: the outbox is its own and is left alone.

    Returns:
        ``van`` and ``until`` of an enrolled van; ``audit`` with entries and how far a signature vouches; ``outbox``
        with how many alerts were ever raised and how many wait. What is not there is None; what is there and cannot be
        believed is a sentence under ``fault``.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    from edge.alert.outbox import Outbox
    from edge.errors import EdgeError
    from edge.trust.audit import verify
    from edge.trust.keys import KnownSigners, SigningKey
    from edge.trust.secret import read_secret

    found: dict[str, Any] = {"van": None, "until": None, "audit": None, "outbox": None, "fault": []}
    if not (mine / "van.crt").exists():
        return found
    certificate = x509.load_pem_x509_certificate((mine / "van.crt").read_bytes())
    van = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    found |= {"van": van, "until": certificate.not_valid_after_utc.isoformat()}
    try:
        if (store / "audit.jsonl").exists():
            signing = SigningKey.load("van-signing.jwk", mine)
            log = verify(store / "audit.jsonl", KnownSigners.of([signing.public_jwk(owner=van)]))
            found["audit"] = {"entries": len(log.entries), "signed_to": log.signed_to}
    except EdgeError as error:
        found["fault"].append(str(error))
    try:
        if (store / "outbox.db").exists() and not running:
            with Outbox(store / "outbox.db", read_secret("outbox.key", mine), van) as box:
                counters = box.counters()
            found["outbox"] = {"raised": counters.reserved, "waiting": counters.waiting}
    except EdgeError as error:
        found["fault"].append(str(error))
    return found


def _system() -> dict[str, Any]:
    own = floor.read_release(floor.RELEASE)
    now = floor.van_floor().read()
    return {
        "slot": slots.booted(),
        "version": own.version,
        "epoch": own.epoch,
        "standing": standing(own, now).value,
        "floor": {"version": now.version, "epoch": now.epoch},
        "deployment": Path("/dev/mapper/lfr-ops").exists(),
    }


def sentences(report: dict[str, Any]) -> list[str]:
    """The report as the console says it."""
    said = [
        f"slot {report['slot']} version {report['version']} epoch {report['epoch']} is {report['standing']}",
        f"floor is version {report['floor']['version']} epoch {report['floor']['epoch']}",
        f"van {report['van']}, certificate until {report['until']}" if report["van"] else "this van is not enrolled",
    ]
    if audit := report["audit"]:
        said.append(f"audit log is whole: {audit['entries']} entries, signed to {audit['signed_to']}")
    if outbox := report["outbox"]:
        said.append(f"outbox: {outbox['waiting']} waiting of {outbox['raised']} ever raised")
    return said + [f"fault: {fault}" for fault in report["fault"]]


def main(arguments: list[str]) -> int:
    """Write the report to its medium; ``gather`` is the part that runs as the service's account."""
    if arguments[:1] == ["gather"]:
        sys.stdout.write(json.dumps(gather(MINE, STORE, running="running" in arguments)))
        return 0
    active = subprocess.run(["systemctl", "--quiet", "is-active", "lfr-edge.service"], check=False).returncode == 0
    state = "running" if active else "at-rest"
    command = ["/usr/lib/lfr/van", "report", "gather", state]
    done = subprocess.run(command, capture_output=True, check=False, cwd="/", user=OWNER, group=OWNER, extra_groups=[])
    if done.returncode != 0:
        _say(f"failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return 5
    report = _system() | json.loads(done.stdout)
    for sentence in sentences(report):
        _say(sentence)
    try:
        write_new(MEDIUM / "report.json", json.dumps(report, indent=1).encode())
    except OSError as error:
        _say(f"the medium cannot be written ({error.strerror}), so the report stands here only")
    _say("done " + json.dumps(report, sort_keys=True))
    return 5 if report["fault"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
