"""Keys and signatures at their edges: what is believed, what is refused, and what a file must look like."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.jwk import ECKey, OctKey

from edge.errors import AlertRejected, KeyUnusable, SignatureInvalid
from edge.trust.keys import (
    MAX_RECIPIENTS,
    MAX_SIGNED,
    DecryptionKeys,
    KnownSigners,
    Recipients,
    SigningKey,
    write_private,
    write_public,
)

KIND = "lfr-test+json"
ONE, OTHER = SigningKey.generate(), SigningKey.generate()
KNOWN = KnownSigners.of([ONE.public_jwk(owner="one"), OTHER.public_jwk(owner="other")])
ROOM = DecryptionKeys.generate()


def url64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


# -- signatures ------------------------------------------------------------------------------------------------------


def test_a_signature_vouches_for_the_bytes_and_says_whose_it_is() -> None:
    signed = KNOWN.verify(ONE.sign(b"what was said", KIND), KIND)
    assert (signed.payload, signed.signer, signed.key_id) == (b"what was said", "one", ONE.key_id)
    assert b"what was said".hex() not in repr(signed)
    assert "what was said" not in repr(signed)
    assert KNOWN.verify(OTHER.sign(b"", KIND), KIND).signer == "other"


def test_a_token_carries_its_type_its_key_and_the_one_algorithm() -> None:
    header = json.loads(base64.urlsafe_b64decode(ONE.sign(b"x", KIND).split(b".")[0] + b"=="))
    assert header == {"alg": "ES256", "kid": ONE.key_id, "typ": KIND}


def with_header(**changes: Any) -> bytes:
    """Signed by the right key, under another header."""
    header = {"alg": "ES256", "kid": ONE.key_id, "typ": KIND, **changes}
    header = {name: value for name, value in header.items() if value is not None}
    return jws.serialize_compact(header, b"x", ECKey.import_key(ONE.private_jwk())).encode()


def hmac_with_the_public_key() -> bytes:
    """The oldest trick: the public key as the secret of a symmetric algorithm."""
    public = json.dumps(ONE.public_jwk()).encode()
    header = {"alg": "HS256", "kid": ONE.key_id, "typ": KIND}
    return jws.serialize_compact(header, b"x", OctKey.import_key(public), algorithms=["HS256"]).encode()


def by_the_wrong_key() -> bytes:
    header = {"alg": "ES256", "kid": ONE.key_id, "typ": KIND}
    return jws.serialize_compact(header, b"x", ECKey.import_key(OTHER.private_jwk())).encode()


def unsigned(**members: Any) -> bytes:
    """A header that names the right key, and nothing that it signed."""
    header = {"alg": "ES256", "kid": ONE.key_id, "typ": KIND, **members}
    return f"{url64(json.dumps(header).encode())}.e30.AAAA".encode()


def altered(part: int) -> bytes:
    parts = ONE.sign(b"a payload", KIND).split(b".")
    parts[part] = parts[part][:-2] + (b"AA" if parts[part][-2:] != b"AA" else b"BB")
    return b".".join(parts)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "another type": lambda: with_header(typ="lfr-other+json"),
    "no type": lambda: with_header(typ=None),
    "no key": lambda: with_header(kid=None),
    "a key that nobody knows": lambda: SigningKey.generate().sign(b"x", KIND),
    "signed by another key than it names": by_the_wrong_key,
    "a symmetric algorithm": hmac_with_the_public_key,
    "an altered payload": lambda: altered(1),
    "an altered signature": lambda: altered(2),
    "no signature": lambda: ONE.sign(b"x", KIND).rsplit(b".", 1)[0] + b".",
    "nothing": lambda: b"",
    "no token": lambda: b"hello",
    "four parts": lambda: ONE.sign(b"x", KIND) + b".AAAA",
    "a header that is no object": lambda: f"{url64(b'[]')}.e30.AAAA".encode(),
    "a header that is a number": lambda: f"{url64(b'1')}.e30.AAAA".encode(),
    "a header that is no JSON": lambda: f"{url64(b'{')}.e30.AAAA".encode(),
    "a header deeper than anybody reads": lambda: f"{url64(b'[' * 100_000)}.e30.AAAA".encode(),
    "a header that is no text": lambda: url64(b'{"typ": "\\xff"}').encode() + b".e30.AAAA",
    "a key's name that is a list": lambda: (
        f"{url64(json.dumps({'alg': 'ES256', 'kid': [], 'typ': KIND}).encode())}.e30.AAAA".encode()
    ),
    "a number for a list of what is critical": lambda: unsigned(crit=-1),
    "a list of numbers of what is critical": lambda: unsigned(crit=[1]),
    "a member that means something to the library": lambda: unsigned(b64=False, crit=["b64"]),
    "bytes that are no ASCII": lambda: b"\xff\xfe.\x00.\xff",
    "a payload that is too long": lambda: f"{ONE.sign(b'', KIND).split(b'.')[0].decode()}.{'A' * 1_900_000}.A".encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_signed_as_demanded_is_refused_with_our_own_error(name: str) -> None:
    with pytest.raises(SignatureInvalid):
        KNOWN.verify(HOSTILE[name](), KIND)


def test_the_longest_message_that_may_be_sent_can_be_signed_and_verified() -> None:
    payload = b"x" * (MAX_SIGNED * 3 // 4 - 1000)
    assert KNOWN.verify(ONE.sign(payload, KIND), KIND).payload == payload


class AnyLength(jws.JWSRegistry):
    max_payload_length = 100_000_000


def test_a_message_longer_than_any_that_may_be_sent_is_refused_although_its_signature_is_right() -> None:
    header = {"alg": "ES256", "kid": ONE.key_id, "typ": KIND}
    key = ECKey.import_key(ONE.private_jwk())
    assert MAX_SIGNED == 1_400_000, "two pictures of 256 KiB, in base64 twice, and room for the words"
    token = jws.serialize_compact(header, b"x" * 1_400_000, key, registry=AnyLength()).encode()
    with pytest.raises(SignatureInvalid):
        KNOWN.verify(token, KIND)


def test_a_revoked_key_is_not_believed_from_the_day_that_its_set_says_so_whatever_the_time_is() -> None:
    for when in ("2020-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"):
        known = KnownSigners.of([ONE.public_jwk(owner="one", revoked=when), OTHER.public_jwk(owner="other")])
        with pytest.raises(SignatureInvalid, match=when[:4]):
            known.verify(ONE.sign(b"x", KIND), KIND)
        assert known.verify(OTHER.sign(b"x", KIND), KIND).signer == "other"


# -- key sets of signers ---------------------------------------------------------------------------------------------


def p384() -> dict[str, Any]:
    key = ECKey.generate_key("P-384", private=False, auto_kid=True)
    return {**key.as_dict(private=False), "owner": "one"}


DAMAGED: dict[str, dict[str, Any]] = {
    "no owner": ONE.public_jwk(),
    "an empty owner": ONE.public_jwk(owner=""),
    "an owner that is a number": {**ONE.public_jwk(), "owner": 7},
    "a revocation that is no time": ONE.public_jwk(owner="one", revoked="soon"),
    "a revocation that is a number": {**ONE.public_jwk(owner="one"), "revoked": 20200101},
    "another curve": p384(),
    "another kind of key": {"kty": "oct", "k": "AAAA", "owner": "one"},
    "another kind of key that names the curve": {**ONE.public_jwk(owner="one"), "kty": "OKP"},
    "a point that is not on the curve": {**ONE.public_jwk(owner="one"), "y": url64(b"\x01" * 32)},
    "a coordinate that is a number": {**ONE.public_jwk(owner="one"), "x": 5},
    "no coordinate": {k: v for k, v in ONE.public_jwk(owner="one").items() if k != "x"},
    "the name of another key": {**ONE.public_jwk(owner="one"), "kid": OTHER.key_id},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_signer_s_key_that_is_not_whole_is_refused_and_counted(name: str) -> None:
    with pytest.raises(KeyUnusable, match="key 2 of the vans"):
        KnownSigners.of([OTHER.public_jwk(owner="other"), DAMAGED[name]], "the vans")


def test_a_key_without_a_name_is_known_by_its_thumbprint() -> None:
    nameless = {k: v for k, v in ONE.public_jwk(owner="one").items() if k != "kid"}
    assert KnownSigners.of([nameless]).verify(ONE.sign(b"x", KIND), KIND).key_id == ONE.key_id


def test_a_private_part_among_the_signers_is_not_taken_up() -> None:
    """A site that hands out too much must not make every control room a van."""
    known = KnownSigners.of([{**ONE.private_jwk(), "owner": "one"}])
    assert known.verify(ONE.sign(b"x", KIND), KIND).signer == "one"
    assert not any(key.is_private for _, key, _ in known._keys.values())


def test_nothing_of_a_private_key_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "room.jwks"
    write_private(path, ROOM.private_jwks())
    secrets = [ONE.private_jwk()["d"], *(key["d"] for key in ROOM.private_jwks()["keys"])]
    shown = f"{ONE!r} {ROOM!r} {KNOWN!r} {Recipients.of(ROOM.public_jwks()['keys'])!r} {SigningKey.generate()!r}"
    assert not any(secret in shown for secret in secrets)
    assert "ECKey" not in shown


def test_two_keys_are_the_same_when_their_names_are() -> None:
    again = SigningKey(ONE.key_id, ECKey.import_key(ONE.private_jwk()))
    assert again == ONE
    assert again != OTHER


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"[]", b"{}", b'{"keys": {}}', b'{"keys": [1]}'])
def test_a_key_set_that_is_none_is_refused_by_its_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "set.jwks"
    path.write_bytes(content)
    path.chmod(0o600)
    for load in (KnownSigners.load, Recipients.load, lambda path: DecryptionKeys.load(str(path))):
        with pytest.raises(KeyUnusable, match=r"set\.jwks"):
            load(path)


def test_a_key_set_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    for load in (KnownSigners.load, Recipients.load):
        with pytest.raises(KeyUnusable, match=r"none\.jwks: cannot be read"):
            load(tmp_path / "none.jwks")


# -- recipients and decryption ---------------------------------------------------------------------------------------


def rooms(number: int) -> list[dict[str, Any]]:
    return [DecryptionKeys.generate().public_jwks()["keys"][0] for _ in range(number)]


@pytest.mark.parametrize(("number", "good"), [(0, False), (1, True), (16, True), (17, False)])
def test_an_alert_is_for_one_to_sixteen_control_rooms(number: int, good: bool) -> None:
    assert MAX_RECIPIENTS == 16
    if good:
        assert len(Recipients.of(rooms(number)).key_ids) == number
    else:
        with pytest.raises(KeyUnusable, match=f"holds {number} keys"):
            Recipients.of(rooms(number))


def test_a_recipient_s_key_is_named_by_its_place_in_the_set() -> None:
    for bad in (ROOM.private_jwks()["keys"][0], {"kty": "EC"}):
        with pytest.raises(KeyUnusable, match="key 2 of the rooms"):
            Recipients.of([ROOM.public_jwks()["keys"][0], bad], "the rooms")


def test_the_recipients_are_known_by_their_thumbprints() -> None:
    key = ROOM.public_jwks()["keys"][0]
    assert Recipients.of([key]).key_ids == (key["kid"],)
    assert key["kid"] == ECKey.import_key({k: v for k, v in key.items() if k != "kid"}).thumbprint()


def test_a_public_key_says_what_it_is_for() -> None:
    for key in (*ROOM.public_jwks()["keys"], *ROOM.private_jwks()["keys"]):
        assert (key["use"], key["alg"]) == ("enc", "ECDH-ES+A256KW")
    for key in (ONE.public_jwk(), ONE.private_jwk()):
        assert (key["use"], key["alg"], key["kid"]) == ("sig", "ES256", ONE.key_id)
    assert ONE.public_jwk(owner="one", revoked="x")["owner"] == "one"


def test_what_is_encrypted_is_opened_by_each_of_many_control_rooms() -> None:
    many = [DecryptionKeys.generate() for _ in range(16)]
    sealed = Recipients.of([room.public_jwks()["keys"][0] for room in many]).encrypt(b"what was seen", "JOSE")
    assert [room.decrypt(sealed, "JOSE") for room in many] == [b"what was seen"] * 16
    header = json.loads(base64.urlsafe_b64decode(sealed["protected"] + "=="))
    assert header == {"enc": "A256GCM", "cty": "JOSE"}
    assert {recipient["header"]["alg"] for recipient in sealed["recipients"]} == {"ECDH-ES+A256KW"}


def test_the_largest_message_can_be_encrypted_and_opened() -> None:
    sealed = Recipients.of(ROOM.public_jwks()["keys"]).encrypt(b"x" * MAX_SIGNED, "JOSE")
    assert len(ROOM.decrypt(sealed, "JOSE")) == MAX_SIGNED


def to_room() -> dict[str, Any]:
    return Recipients.of(ROOM.public_jwks()["keys"]).encrypt(b"x", "JOSE")


def with_first(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    sealed = to_room()
    return {**sealed, "recipients": [change(sealed["recipients"][0])]}


class AnyEncryption(jwe.JWERegistry):
    max_ciphertext_length = 100_000_000


def otherwise(wrap: str = "ECDH-ES+A256KW", encryption: str = "A256GCM", content: bytes = b"x") -> dict[str, Any]:
    """For the right control room, and in another way than was agreed on."""
    key = ROOM.public_jwks()["keys"][0]
    sealed = jwe.GeneralJSONEncryption({"enc": encryption, "cty": "JOSE"}, content)
    sealed.add_recipient({"alg": wrap, "kid": key["kid"]}, ECKey.import_key(key))
    return dict(jwe.encrypt_json(sealed, None, registry=AnyEncryption(algorithms=[wrap, encryption])))


UNREADABLE: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no recipients": (lambda: {k: v for k, v in to_room().items() if k != "recipients"}, "cannot be read"),
    "an empty list of them": (lambda: {**to_room(), "recipients": []}, "cannot be read"),
    "seventeen of them": (lambda: {**to_room(), "recipients": to_room()["recipients"] * 17}, "cannot be read"),
    "an object instead of a list": (lambda: {**to_room(), "recipients": {"0": 1}}, "cannot be read"),
    "a recipient that is text": (lambda: with_first(lambda _: "x"), "not for this control room"),
    "a recipient without a header": (lambda: with_first(lambda r: {**r, "header": None}), "not for this control room"),
    "a recipient without a key's name": (
        lambda: with_first(lambda r: {**r, "header": {"alg": "ECDH-ES+A256KW"}}),
        "not for this control room",
    ),
    "no encrypted key": (lambda: with_first(lambda r: {"header": r["header"]}), "cannot be decrypted"),
    "an encrypted key that is a number": (
        lambda: with_first(lambda r: {**r, "encrypted_key": 5}),
        "cannot be decrypted",
    ),
    "no ephemeral key": (
        lambda: with_first(lambda r: {**r, "header": {k: v for k, v in r["header"].items() if k != "epk"}}),
        "cannot be decrypted",
    ),
    "no protected header": (lambda: {k: v for k, v in to_room().items() if k != "protected"}, "cannot be decrypted"),
    "no content": (lambda: {k: v for k, v in to_room().items() if k != "ciphertext"}, "cannot be decrypted"),
    "a weaker encryption": (lambda: otherwise(encryption="A128GCM"), "cannot be decrypted"),
    "an older encryption": (lambda: otherwise(encryption="A256CBC-HS512"), "cannot be decrypted"),
    "a weaker wrapping of the key": (lambda: otherwise(wrap="ECDH-ES+A128KW"), "cannot be decrypted"),
    "more than any alert holds": (
        lambda: otherwise(content=b"x" * (MAX_SIGNED * 3 // 2 + 30_000)),
        "cannot be decrypted",
    ),
    "a protected header that is a number": (lambda: {**to_room(), "protected": url64(b"1.5")}, "cannot be decrypted"),
    "a protected header that is no text": (lambda: {**to_room(), "protected": url64(b"\xa7")}, "cannot be decrypted"),
    "a tag that is a list": (lambda: {**to_room(), "tag": []}, "cannot be decrypted"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_opened_is_refused_with_our_own_error(name: str) -> None:
    make, words = UNREADABLE[name]
    with pytest.raises(AlertRejected, match=words):
        ROOM.decrypt(make(), "JOSE")


def test_in_the_way_that_was_agreed_on_it_is_opened() -> None:
    assert ROOM.decrypt(otherwise(), "JOSE") == b"x"


def test_another_type_of_content_is_refused_although_it_decrypts() -> None:
    with pytest.raises(AlertRejected, match="is of another kind than JOSE"):
        ROOM.decrypt(Recipients.of(ROOM.public_jwks()["keys"]).encrypt(b"x", "text"), "JOSE")


def test_a_control_room_holds_at_least_one_key_and_only_private_ones(tmp_path: Path) -> None:
    write_private(tmp_path / "none.jwks", {"keys": []})
    with pytest.raises(KeyUnusable, match="holds no key"):
        DecryptionKeys.load("none.jwks", tmp_path)
    write_private(tmp_path / "public.jwks", ROOM.public_jwks())
    with pytest.raises(KeyUnusable, match="public key where the private"):
        DecryptionKeys.load("public.jwks", tmp_path)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "mode"), [(write_private, 0o600), (write_public, 0o644)])
def test_a_key_file_is_replaced_whole_with_its_own_mode(
    write: Callable[[Path, dict[str, Any]], None], mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "folder" / "key.jwk"
    write(path, {"a": 1})
    path.chmod(0o640)
    write(path, {"b": 2})
    assert json.loads(path.read_bytes()) == {"b": 2}
    assert path.stat().st_mode & 0o777 == mode
    assert [each.name for each in path.parent.iterdir()] == ["key.jwk"]


def test_what_a_power_cut_left_beside_a_key_file_does_not_keep_it_from_being_written(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    for left in (".key.jwk.new",):
        (tmp_path / left).write_text("half a key")
    write_private(path, {"a": 1})
    assert json.loads(path.read_bytes()) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_revocation_s_time_is_kept_with_its_key() -> None:
    known = KnownSigners.of([ONE.public_jwk(owner="one", revoked="2026-03-01T12:00:00+00:00")])
    ((owner, _, since),) = known._keys.values()
    assert (owner, since) == ("one", datetime.fromisoformat("2026-03-01T12:00:00+00:00"))
