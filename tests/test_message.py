"""The sealed message: what it carries, and everything that must not be believed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from edge.alert import topics
from edge.alert.message import MAX_MESSAGE, MAX_PICTURE, open_alert, seal
from edge.errors import AlertRejected, EdgeError, KeyUnusable, SignatureInvalid
from edge.trust.keys import DecryptionKeys, KnownSigners, Recipients, SigningKey, write_private, write_public
from tests.broker import JPEG, make_alert

VAN = SigningKey.generate()
OTHER_VAN = SigningKey.generate()
ROOM = DecryptionKeys.generate()
OTHER_ROOM = DecryptionKeys.generate()
KNOWN = KnownSigners.of([VAN.public_jwk(owner="van-1"), OTHER_VAN.public_jwk(owner="van-2")])
TO_ROOM = Recipients.of(ROOM.public_jwks()["keys"])

Event = dict[str, Any]


def test_what_is_sealed_is_what_is_opened() -> None:
    alert = make_alert()
    assert asdict(open_alert(seal(alert, VAN, TO_ROOM), ROOM, KNOWN)) == asdict(alert)


def test_each_of_several_control_rooms_can_read_it_and_no_other() -> None:
    both = Recipients.of([*ROOM.public_jwks()["keys"], *OTHER_ROOM.public_jwks()["keys"]])
    message = seal(make_alert(), VAN, both)
    for keys in (ROOM, OTHER_ROOM):
        assert open_alert(message, keys, KNOWN).sequence == 1
    with pytest.raises(AlertRejected, match="not for this control room"):
        open_alert(message, DecryptionKeys.generate(), KNOWN)


def test_a_control_room_that_rotates_its_key_still_reads_what_was_sent_to_the_former(tmp_path: Path) -> None:
    fresh = DecryptionKeys.generate().private_jwks()["keys"]
    write_private(tmp_path / "keys.jwks", {"keys": fresh + ROOM.private_jwks()["keys"]})
    both = DecryptionKeys.load(str(tmp_path / "keys.jwks"))
    assert open_alert(seal(make_alert(), VAN, TO_ROOM), both, KNOWN).sequence == 1


def test_nothing_of_the_subject_can_be_read_on_the_way() -> None:
    alert = make_alert(reference="SUBJECT-77", probe_jpeg=JPEG + b"canary-in-the-picture")
    message = seal(alert, VAN, TO_ROOM)
    for secret in (b"SUBJECT-77", b"wanted", b"Market", b"canary", base64.urlsafe_b64encode(alert.probe_jpeg)[:20]):
        assert secret not in message
    assert set(json.loads(message)) == {"specversion", "id", "source", "type", "time", "datacontenttype", "data"}


def _change(path: str, value: Any) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        place: Any = event
        *way, last = path.split(".")
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value(place[last]) if callable(value) else value

    return change


def _flip(text: str) -> str:
    return text[:8] + ("A" if text[8] != "A" else "B") + text[9:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_change("id", str(uuid4())), "differs from what the van signed"),
        (_change("source", "lfr/1/van-2"), "differs from what the van signed"),
        (_change("time", "2030-01-01T00:00:00Z"), "differs from what the van signed"),
        (_change("data.ciphertext", _flip), "damaged or was altered"),
        (_change("data.tag", _flip), "damaged or was altered"),
        (_change("data.iv", _flip), "damaged or was altered"),
        (_change("data.protected", _flip), "damaged or was altered"),
        (_change("data.recipients.0.encrypted_key", _flip), "damaged or was altered"),
        (_change("data.recipients.0.header.alg", "dir"), "damaged or was altered"),
        (_change("data.recipients.0.header.kid", "another"), "not for this control room"),
        (_change("data.recipients", []), "not an alert of version 1"),
        (_change("data.unprotected", {}), "not an alert of version 1"),
        (_change("type", "lfr.alert.v2"), "not an alert of version 1"),
        (_change("extra", 1), "not an alert of version 1"),
        (_change("specversion", "0.3"), "not an alert of version 1"),
    ],
)
def test_an_envelope_that_was_changed_is_refused(change: Callable[[Event], None], words: str) -> None:
    event = json.loads(seal(make_alert(), VAN, TO_ROOM))
    change(event)
    with pytest.raises(AlertRejected, match=words):
        open_alert(json.dumps(event).encode(), ROOM, KNOWN)


PICTURES = ("probe_jpeg", "reference_jpeg")


def _body(**changes: Any) -> Event:
    alert = asdict(make_alert())
    pictures = {name: base64.urlsafe_b64encode(alert.pop(name)).decode().rstrip("=") for name in PICTURES}
    return {"v": 1, **alert, **pictures, **changes}


def _sealed(body: Event, key: SigningKey = VAN, kind: str = "lfr-alert+json", content_type: str = "JOSE") -> bytes:
    """A message that only a van's key could make, with any body at all."""
    token = key.sign(json.dumps(body, default=str).encode(), kind)
    event = {
        "specversion": "1.0", "id": str(body.get("alert_id", uuid4())), "source": f"lfr/1/{body.get('van')}",
        "type": "lfr.alert.v1", "time": str(body.get("raised_at", "2026-01-01T00:00:00Z")),
        "datacontenttype": "application/jose+json", "data": TO_ROOM.encrypt(token, content_type),
    }  # fmt: skip
    return json.dumps(event).encode()


def test_the_helper_of_these_tests_makes_a_good_message_when_nothing_is_wrong() -> None:
    assert open_alert(_sealed(_body()), ROOM, KNOWN).van == "van-1"


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (lambda: _sealed(_body(), OTHER_VAN), SignatureInvalid, "alert of van-1.*signed by van-2"),
        (lambda: _sealed(_body(), SigningKey.generate()), SignatureInvalid, "is not known here"),
        (
            lambda: _sealed(_body(), kind="lfr-adjudication+json"),
            SignatureInvalid,
            "another kind of message",
        ),
        (lambda: _sealed(_body(), content_type="text"), AlertRejected, "is of another kind than JOSE"),
        (lambda: _sealed(_body(v=2)), AlertRejected, "does not have the agreed form"),
        (lambda: _sealed(_body(more="?")), AlertRejected, "does not have the agreed form"),
        (lambda: _sealed(_body(sequence=0)), AlertRejected, "does not have the agreed form"),
        (lambda: _sealed(_body(similarity=float("nan"))), AlertRejected, "does not have the agreed form"),
        (lambda: _sealed(_body(seen_at="2026-01-01T00:00:00")), AlertRejected, "does not have the agreed form"),
        (lambda: _sealed(_body(probe_jpeg="A" * (MAX_PICTURE * 2))), AlertRejected, "does not have the agreed form"),
        (lambda: _sealed(_body(probe_jpeg="not base64!")), AlertRejected, "does not have the agreed form"),
        (lambda: b"x" * (MAX_MESSAGE + 1), AlertRejected, "bytes"),
        (lambda: b"", AlertRejected, "not an alert of version 1"),
        (lambda: b"[" * 100_000, AlertRejected, "not an alert of version 1"),
        (lambda: b"\xff\xfe", AlertRejected, "not an alert of version 1"),
        (lambda: b'{"id":"\x93"}', AlertRejected, "not an alert of version 1"),
        (
            lambda: seal(make_alert(), VAN, TO_ROOM).replace(b"lfr/1/van-1", b"lfr/1/van\x93"),
            AlertRejected,
            "not an alert",
        ),
    ],
)
def test_what_a_van_did_not_rightly_sign_is_refused(
    message: Callable[[], bytes], error: type[EdgeError], words: str
) -> None:
    with pytest.raises(error, match=words):
        open_alert(message(), ROOM, KNOWN)


def test_a_revoked_van_is_refused() -> None:
    revoked = KnownSigners.of([VAN.public_jwk(owner="van-1", revoked="2026-01-01T00:00:00+00:00")])
    with pytest.raises(SignatureInvalid, match="revoked on 2026-01-01"):
        open_alert(seal(make_alert(), VAN, TO_ROOM), ROOM, revoked)


def test_a_signature_without_a_key_is_refused() -> None:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": VAN.key_id, "typ": "lfr-alert+json"}).encode())
    with pytest.raises(SignatureInvalid):
        KNOWN.verify(header.rstrip(b"=") + b".e30.", "lfr-alert+json")


def test_an_alert_that_the_other_side_would_refuse_is_not_sent() -> None:
    with pytest.raises(AlertRejected, match="262145 bytes"):
        seal(make_alert(probe_jpeg=b"x" * (MAX_PICTURE + 1)), VAN, TO_ROOM)
    with pytest.raises(AlertRejected, match="does not have the agreed form"):
        seal(make_alert(place="x" * 201), VAN, TO_ROOM)
    with pytest.raises(AlertRejected, match="does not have the agreed form"):
        seal(make_alert(similarity=float("nan")), VAN, TO_ROOM)


def test_the_largest_alert_that_may_be_sent_can_be_read() -> None:
    largest = make_alert(probe_jpeg=b"\xff" * MAX_PICTURE, reference_jpeg=b"\xff" * MAX_PICTURE)
    message = seal(largest, VAN, TO_ROOM)
    assert len(message) <= MAX_MESSAGE
    assert open_alert(message, ROOM, KNOWN).probe_jpeg == largest.probe_jpeg


def test_errors_carry_nothing_of_the_pictures() -> None:
    picture = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo!"
    with pytest.raises(AlertRejected) as caught:
        open_alert(_sealed(_body(probe_jpeg=picture)), ROOM, KNOWN)
    assert picture[:8] not in str(caught.value)


class TestKeys:
    def test_keys_survive_a_file_and_the_private_one_is_for_its_owner_only(self, tmp_path: Path) -> None:
        write_private(tmp_path / "van.jwk", VAN.private_jwk())
        write_private(tmp_path / "room.jwks", ROOM.private_jwks())
        write_public(tmp_path / "vans.jwks", {"keys": [VAN.public_jwk(owner="van-1")]})
        assert (tmp_path / "van.jwk").stat().st_mode & 0o777 == 0o600
        message = seal(make_alert(), SigningKey.load("van.jwk", tmp_path), TO_ROOM)
        known = KnownSigners.load(tmp_path / "vans.jwks")
        assert open_alert(message, DecryptionKeys.load("room.jwks", tmp_path), known).van == "van-1"

    def test_no_public_key_holds_the_private_part(self) -> None:
        assert "d" not in VAN.public_jwk()
        assert all("d" not in key for key in ROOM.public_jwks()["keys"])
        assert VAN.private_jwk()["d"] not in repr(VAN)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"hello", "not JSON"),
            (b"{}", "not a JSON Web Key"),
            (b'{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}', "damaged"),
            (json.dumps(VAN.public_jwk()).encode(), "public key where the private"),
            (json.dumps({**VAN.private_jwk(), "kid": OTHER_VAN.key_id}).encode(), "not its thumbprint"),
        ],
    )
    def test_a_key_that_is_none_is_refused_by_name(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "van.jwk").touch(mode=0o600)
        (tmp_path / "van.jwk").write_bytes(content)
        with pytest.raises(KeyUnusable, match=rf"van\.jwk.*{words}"):
            SigningKey.load("van.jwk", tmp_path)

    def test_a_key_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        write_public(tmp_path / "van.jwk", VAN.private_jwk())
        with pytest.raises(KeyUnusable, match="chmod 600"):
            SigningKey.load("van.jwk", tmp_path)

    def test_a_private_key_among_the_recipients_is_refused(self) -> None:
        with pytest.raises(KeyUnusable, match="must never leave"):
            Recipients.of(ROOM.private_jwks()["keys"])

    def test_a_signer_that_nobody_owns_is_refused(self) -> None:
        with pytest.raises(KeyUnusable, match="whose it is"):
            KnownSigners.of([VAN.public_jwk()])


class TestTopics:
    def test_a_topic_says_whose_and_what(self) -> None:
        assert topics.parse(topics.topic("van-7", topics.ALERT)) == ("van-7", "alert")

    @pytest.mark.parametrize("name", ["lfr/1/+/alert", "lfr/1/#", "lfr/1/a/b/alert", "lfr/2/v/alert", "lfr/1/v/other"])
    def test_what_could_reach_anothers_topic_is_none(self, name: str) -> None:
        with pytest.raises(AlertRejected):
            topics.parse(name)

    def test_a_vans_name_cannot_smuggle_a_level(self) -> None:
        with pytest.raises(AlertRejected):
            topics.topic("van/../other", topics.ALERT)


def test_times_in_another_zone_are_the_same_time() -> None:
    alert = make_alert()
    moved = make_alert(raised_at=alert.raised_at.astimezone(timezone(timedelta(hours=2))))
    assert open_alert(seal(moved, VAN, TO_ROOM), ROOM, KNOWN).raised_at == moved.raised_at
