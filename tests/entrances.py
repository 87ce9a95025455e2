"""Every place where a stranger's bytes are parsed: a good example, and what it is given to."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyrage

from edge import config
from edge.alert import message, status, topics
from edge.alert.adjudication import ADJUDICATION, AdjudicationBody
from edge.alert.receipt import RECEIPT, Held, ReceiptBody, message_digest
from edge.controlroom import config as room_config
from edge.controlroom.checkpoints import keep_checkpoint
from edge.controlroom.record import load_facts
from edge.controlroom.to_vans import read_lines
from edge.deployment.position import Gpsd
from edge.errors import EdgeError
from edge.sight.picture import decode_image
from edge.trust import keys
from edge.trust.audit import CHECKPOINT, AuditLog, read_log
from edge.trust.authority import parse_authority
from edge.trust.canonical import sha256
from edge.trust.events import Event
from edge.trust.revocation import REVOCATION, Revocation, parse_revocation
from edge.vanroot import answer, compose
from edge.watchlist.bundle import parse_manifest
from provisioning.changes import compare, read_report
from provisioning.list_page import page_of_list, read_page
from provisioning.notice_welsh import read_welsh
from tests.broker import make_alert
from tests.sim.clock import HandClock

__all__ = ["ENTRANCES", "Entrance"]

VAN = keys.SigningKey.generate()
ROOM = keys.DecryptionKeys.generate()
KNOWN = keys.KnownSigners.of([VAN.public_jwk(owner="van-1")])
RECIPIENTS = keys.Recipients.of(ROOM.public_jwks()["keys"])
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEALED = message.seal(make_alert(), VAN, RECIPIENTS)
EVENT = json.loads(SEALED)
TOKEN = ROOM.decrypt(EVENT["data"], "JOSE")
Form = Literal["json", "toml", "lines", "bytes"]


@dataclass(frozen=True)
class Entrance:
    """One parser.

    Attributes:
        name: of its folder in the corpus.
        form: how an example is taken apart.
        examples: what it takes.
        feed: gives it bytes; ``scratch`` is a folder for what it reads from a file.
        promised: the errors that may come out.
    """

    name: str
    form: Form
    examples: tuple[bytes, ...]
    feed: Callable[[bytes, Path], object]
    promised: tuple[type[Exception], ...] = (EdgeError,)

    def try_out(self, content: bytes, scratch: Path) -> None:
        """Feed it; an error that was not promised, or one that carries what was sent, comes out."""
        try:
            self.feed(content, scratch)
        except self.promised as error:
            if len(str(error)) > 1500 or not str(error).isprintable():
                raise RuntimeError(f"{self.name}: an error carries what was sent") from error


def from_file(read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def feed(content: bytes, scratch: Path) -> object:
        path = scratch / "fed"
        path.write_bytes(content)
        return read(path)

    return feed


def signed(kind: str, read: Callable[[bytes], object]) -> Callable[[bytes, Path], object]:
    """A body that a believed key has signed: the signature must not be all that stands before a parser."""
    return lambda content, _: read(VAN.sign(content, kind))


def encrypted(token: bytes) -> object:
    sealed = {**EVENT, "data": RECIPIENTS.encrypt(token, "JOSE")}
    return message.open_alert(json.dumps(sealed).encode(), ROOM, KNOWN)


def gpsd(content: bytes, _: Path) -> object:
    """A line of gpsd's, as the receiver takes it."""
    receiver = Gpsd(HandClock(NOW))
    for line in content.splitlines():
        receiver.take_line(line)
    return receiver.position()


def settings() -> bytes:
    return answer.describe(
        answer.Settings("van-7", "broker.example", 8883, fixed=(51.5, -0.1)), NOW, dict.fromkeys(answer.FILES, b"")
    )


def _authority() -> bytes:
    from tests.test_authority import written

    return written()


def said(**changes: Any) -> bytes:
    body = Revocation(deployment="D-1", reference="R-1", cause="granted", issued_at=NOW)
    return VAN.sign(msgspec.json.encode(msgspec.structs.replace(body, **changes)), REVOCATION)


def body_of(kind: Any) -> bytes:
    if kind is RECEIPT:
        held = Held(alert_id=make_alert().alert_id, digest=message_digest(b""))
        return msgspec.json.encode(ReceiptBody(van="van-1", alerts=[held], at=NOW))
    return msgspec.json.encode(
        AdjudicationBody(
            alert_id=make_alert().alert_id, van="van-1", state="engage", by="op-1", role="operator", at=NOW
        )
    )


MANIFEST = {
    "schema": 1, "deployment": "D-1", "vans": ["van-1"], "watchlist": f"sha256:{'a' * 64}", "model": "m",
    "dimension": 128, "entries": 3, "built": NOW.isoformat(), "bundle": "b.age",
}  # fmt: skip
STATE = {
    "v": 1, "van": "van-1", "state": "online", "since": NOW.isoformat(), "condition": "matching", "detail": "all well",
}  # fmt: skip


def log() -> bytes:
    """Of two entries."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "audit.log")
        with AuditLog(path, van="van-1", clock=HandClock(NOW), signer=VAN) as written:
            for cause in ("one", "two"):
                written.record(Event.STOPPED, {"cause": cause})
        return path.read_bytes()


TPV = {
    "class": "TPV", "mode": 3, "lat": 51.5, "lon": -0.1, "eph": 4.2, "time": NOW.isoformat().replace("+00:00", "Z"),
}  # fmt: skip
DEPLOYMENT = (
    b'[deployment]\nid = "D-1"\nplace = "Square"\n[camera]\nsource = "rtsp://camera.example/1"\n[decision]\nvotes = 3\n'
)
FACTS = (
    b'id = "d-1"\ndate = "2026-05-01"\ntype = "overt"\nhours = 5.5\ncameras = 2\nwatchlist = 12\nfaces_seen = 14\n'
    b"[blue_list]\npasses = 40\nrecognised = 34\n"
)
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////"
    "////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AR//Z"
)


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


LIST = f"sha256:{'1' * 64}"
PAGE = f'<html><meta name="lfr-list" content="{LIST}">'.encode()
SIGNED_PAGE = {"deployment": "D-1", "watchlist": LIST, "page": sha256(PAGE), "signed_at": NOW.isoformat()}
REPORT = {
    "digest": LIST,
    "records": {
        "R-1": {
            "category": "wanted",
            "review_by": "2026-05-01",
            "custody_image": True,
            "lookalikes": ["R-2"],
            "pictures": [{"file": "a.jpg", "sha256": "ab", "turned": 0, "quality": {"Sharpness": 40.0}}],
        }
    },
}
WELSH = (
    b"".join(
        f'{name} = "geiriau"\n'.encode()
        for name in (
            "purpose",
            "legal_basis",
            "authorised_by",
            "place",
            "controller",
            "contact",
            "complaints",
            "deletion",
        )
    )
    + b'deployment = "D-1"\n'
)
READER = pyrage.x25519.Identity.generate()


def signed_page(token: bytes, scratch: Path) -> None:
    """A page that its unit signed with ``token``."""
    (scratch / "list.html.jws").write_bytes(token)
    page_of_list(scratch / "list.html", PAGE, LIST, KNOWN)


def encrypted_page() -> bytes:
    return bytes(pyrage.encrypt(PAGE, [READER.to_public()]))


def opened_page(content: bytes, scratch: Path) -> None:
    (scratch / "list.html.age").write_bytes(content)
    (scratch / "reader.key").write_text(f"{READER}\n")
    read_page(scratch / "list.html.age", scratch / "reader.key")


ENTRANCES = (
    Entrance("alert", "json", (SEALED,), lambda c, _: message.open_alert(c, ROOM, KNOWN)),
    Entrance(
        "alert-body", "json", (KNOWN.verify(TOKEN, message.JWS_TYPE).payload,),
        lambda c, _: encrypted(VAN.sign(c, message.JWS_TYPE)),
    ),
    Entrance("alert-token", "bytes", (TOKEN,), lambda c, _: encrypted(c)),
    Entrance("state", "json", (dumped(STATE),), lambda c, _: status.read_state(c, "van-1")),
    Entrance(
        "health", "json", (msgspec.json.encode(status.HealthBody(van="van-1", at=NOW)),),
        lambda c, _: status.read_health(c, "van-1"),
    ),
    Entrance("topic", "bytes", (b"lfr/1/van-1/alert",), lambda c, _: topics.parse(c.decode("utf-8", "replace"))),
    *(
        Entrance(
            kind.name, "json", (body_of(kind),),
            signed(kind.jws_type, lambda token, k=kind: k.read(token, KNOWN, "van-1")),
        )
        for kind in (RECEIPT, ADJUDICATION)
    ),
    *(
        Entrance(
            f"{kind.name}-token", "bytes", (VAN.sign(body_of(kind), kind.jws_type),),
            lambda c, _, k=kind: k.read(c, KNOWN, "van-1"),
        )
        for kind in (RECEIPT, ADJUDICATION)
    ),
    Entrance(
        "revocation", "json",
        (msgspec.json.encode(Revocation(deployment="D-1", reference="R-1", cause="granted", issued_at=NOW)),),
        signed(REVOCATION, lambda t: parse_revocation(t, KNOWN, deployment="D-1")),
    ),
    Entrance("revocation-lines", "lines", (said() + b"\n" + said(reference="*") + b"\n",), lambda c, _: read_lines(c)),
    Entrance(
        "checkpoint", "json", (dumped({"at": NOW.isoformat(), "hash": "a" * 64, "seq": 3, "van": "van-1"}),),
        lambda c, _: keep_checkpoint(None, "van-1", VAN.sign(c, CHECKPOINT), KNOWN),
    ),
    Entrance("audit-log", "lines", (log(),), from_file(read_log)),
    Entrance("authority", "json", (_authority(),), lambda c, _: parse_authority(c)),
    Entrance("manifest", "json", (dumped(MANIFEST),), lambda c, _: parse_manifest(c)),
    Entrance("enrolment-answer", "json", (settings(),), lambda c, _: answer.parse(c), (ValueError,)),
    Entrance("deployment", "toml", (DEPLOYMENT,), lambda c, _: compose.compose(c, settings()), (ValueError,)),
    Entrance("deployment-answer", "json", (settings(),), lambda c, _: compose.compose(DEPLOYMENT, c), (ValueError,)),
    Entrance(
        "van-configuration", "toml", (DEPLOYMENT + b'[van]\nid = "van-1"\n',),
        lambda c, _: config.parse(c.decode("utf-8", "replace")),
    ),
    Entrance(
        "room-configuration", "toml", (b'[broker]\nhost = "b"\nport = 8883\n[console]\nlook_s = 5\n',),
        lambda c, _: room_config.parse(c.decode("utf-8", "replace")),
    ),
    Entrance("deployment-facts", "toml", (FACTS,), from_file(load_facts)),
    Entrance("gpsd", "json", (dumped(TPV),), gpsd),
    Entrance("last-report", "json", (dumped(REPORT),), from_file(lambda path: compare(read_report(path), REPORT))),
    Entrance("welsh", "toml", (WELSH,), from_file(lambda path: read_welsh(path, parse_authority(_authority())))),
    Entrance("list-page", "bytes", (PAGE,), lambda c, scratch: page_of_list(scratch / "list.html", c, "")),
    Entrance(
        "list-page-signature", "json", (dumped(SIGNED_PAGE),),
        lambda c, scratch: signed_page(VAN.sign(c, "lfr-list-page"), scratch),
    ),
    Entrance("list-page-token", "bytes", (VAN.sign(dumped(SIGNED_PAGE), "lfr-list-page"),), signed_page),
    Entrance("encrypted-page", "bytes", (encrypted_page(),), opened_page),
    Entrance("picture", "bytes", (JPEG,), lambda c, _: decode_image(np.frombuffer(c, np.uint8), "the picture")),
)  # fmt: skip
