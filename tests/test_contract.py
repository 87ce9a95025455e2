"""The contract's documents say what the code does, are valid, and real messages obey them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from edge.alert.adjudication import AdjudicationBody
from edge.alert.message import seal
from edge.alert.receipt import Held, ReceiptBody, message_digest
from edge.alert.status import HealthBody, StateBody
from edge.trust.keys import DecryptionKeys, Recipients, SigningKey
from edge.trust.revocation import Revocation
from tests.broker import make_alert
from tests.node import FOLDER, node_modules

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime.now(UTC)


def validate(*arguments: str | Path, message: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    node_modules()
    node = shutil.which("node")
    assert node
    return subprocess.run(
        [node, FOLDER / "validate.mjs", *arguments],
        cwd=FOLDER,
        input=message,
        check=False,
        capture_output=True,
        timeout=60,
    )


def body() -> dict[str, Any]:
    alert = {"v": 1, **json.loads(msgspec.json.encode(asdict(make_alert())))}
    for name in ("probe_jpeg", "reference_jpeg"):
        alert[name] = base64.urlsafe_b64encode(base64.b64decode(alert[name])).decode().rstrip("=")
    return alert


HELD = Held(alert_id=uuid4(), digest=message_digest(b"a message"))


def sealed() -> bytes:
    recipients = Recipients.of(DecryptionKeys.generate().public_jwks()["keys"])
    return seal(make_alert(), SigningKey.generate(), recipients)


MESSAGES: dict[str, bytes] = {
    "alert-envelope": sealed(),
    "alert-body": json.dumps(body()).encode(),
    "state": msgspec.json.encode(StateBody(van="van-1", state="online", since=NOW)),
    "health": msgspec.json.encode(HealthBody(van="van-1", at=NOW)),
    "receipt-body": msgspec.json.encode(ReceiptBody(van="van-1", alerts=[HELD], at=NOW)),
    "adjudication-body": msgspec.json.encode(
        AdjudicationBody(alert_id=uuid4(), van="van-1", state="engage", by="op-1", role="operator", at=NOW)
    ),
    "revocation-body": msgspec.json.encode(
        Revocation(deployment="*", reference="R-1", cause="deletion was granted", issued_at=NOW)
    ),
}


def test_the_documents_say_what_the_code_does() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "contract", "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout


def test_the_asyncapi_document_is_valid_and_the_validator_would_notice(tmp_path: Path) -> None:
    document = ROOT / "docs" / "asyncapi.json"
    assert validate("asyncapi", document).returncode == 0
    broken = json.loads(document.read_text())
    broken["operations"]["receiveAlert"]["action"] = "fetch"
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    assert validate("asyncapi", tmp_path / "broken.json").returncode == 1


def test_every_body_on_the_wire_is_tried_against_its_schema() -> None:
    assert {file.stem for file in (ROOT / "docs" / "schemas").glob("*.json")} == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_real_message_obeys_its_schema_and_an_extra_field_does_not(name: str) -> None:
    schema = ROOT / "docs" / "schemas" / f"{name}.json"
    good = validate("schema", schema, message=MESSAGES[name])
    assert good.returncode == 0, good.stderr.decode()
    more = {**json.loads(MESSAGES[name]), "name_of_the_subject": "no"}
    assert validate("schema", schema, message=json.dumps(more).encode()).returncode == 1
