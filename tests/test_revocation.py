"""Somebody must leave the list now."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.errors import EntryNotFound, SignatureInvalid, WatchlistGone
from edge.match.index import Index
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.revocation import EVERYBODY, REVOCATION, Revocation, apply_all, lines_of, parse_revocation
from edge.trust.secret import read_secret
from tests.lists import Site, entry, events, import_into
from tests.sealedpages import decrypted_pages

UNIT = SigningKey.generate()
KNOWN = KnownSigners.of([UNIT.public_jwk(owner="intelligence-unit")])


def token(key: SigningKey = UNIT, kind: str = REVOCATION, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "deployment": "D-1",
        "reference": "R-2",
        "cause": "deletion of the custody image was granted",
        "issued_at": datetime(2026, 3, 1, 11, tzinfo=UTC),
    }
    return key.sign(msgspec.json.encode(Revocation(**{**values, **changes})), kind)


def test_a_revocation_takes_somebody_out_of_store_index_and_pages_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.enrol_van()
    with site.audit() as audit:
        people = [entry(f"R-{number}") for number in range(200)]
        index: list[Index] = []

        def again(_: str = "") -> None:
            for old in index:
                old.erase()
            matrix = keeper.open().matrix()
            index[:] = [Index(matrix.references, matrix.vectors, method="exact")]

        keeper = site.keeper(audit)
        keeper.on_removed(again)
        import_into(keeper, site, site.build(people))
        again()
        probe = np.array(entry("R-2").templates[0])
        before = index[0].search(probe).best
        assert before is not None
        assert before.reference == "R-2"

        began = time.monotonic()
        gone = apply_all([token(), b"", token()], KNOWN, deployment="D-1", remove=keeper.remove, withdraw=never)
        took = time.monotonic() - began

        assert [each.reference for each in gone] == ["R-2"]
        after = index[0].search(probe).best
        assert after is not None
        assert after.reference != "R-2"
        assert "R-2" not in keeper.open().references()
        store = keeper.open().path
        key = read_secret(str(store.with_name("watchlist.key")))
        assert entry("R-2").templates.tobytes()[:64] not in decrypted_pages(store, key)
        assert entry("R-3").templates.tobytes()[:64] in decrypted_pages(store, key)
        assert took < 5.0
        keeper.close()
    (removed,) = events(site, Event.ENTRY_REMOVED)
    assert removed["cause"] == "revoked: deletion of the custody image was granted"


def never(*said: object) -> None:
    raise AssertionError(said)


def test_a_revocation_of_another_deployment_changes_nothing() -> None:
    assert parse_revocation(token(deployment="D-2"), KNOWN, deployment="D-1") is None
    found = parse_revocation(token(deployment="*"), KNOWN, deployment="D-1")
    assert found is not None
    assert found.reference == "R-2"


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        (token(SigningKey.generate()), "was made with a key that is not known here"),
        (token(kind="lfr-alert"), "was made for another kind of message than lfr-revocation"),
        (token()[:-4] + b"AAAA", "is wrong: the message is damaged or was altered"),
        (b"nonsense", "cannot be read"),
        (UNIT.sign(b'{"reference":"R-2"}', REVOCATION), "cannot be read"),
        (b"x" * 9000, "is too long"),
    ],
    ids=["a stranger's key", "another type", "tampered", "nonsense", "malformed", "too long"],
)
def test_a_revocation_that_must_not_be_believed_removes_nobody(forged: bytes, message: str) -> None:
    with pytest.raises(SignatureInvalid, match=message):
        apply_all([forged], KNOWN, deployment="D-1", remove=never, withdraw=never)


def body(**changes: Any) -> bytes:
    """Signed by the right key, whatever it says."""
    said: dict[str, Any] = {
        "schema": 1, "deployment": "D-1", "reference": "R-2", "cause": "granted", "issued_at": "2026-03-01T11:00:00Z",
        **changes,
    }  # fmt: skip
    return UNIT.sign(msgspec.json.encode({k: v for k, v in said.items() if v is not None}), REVOCATION)


BOUNDS: dict[str, tuple[dict[str, Any], bool]] = {
    "no version": ({"schema": None}, True),
    "version 0": ({"schema": 0}, False),
    "version 2": ({"schema": 2}, False),
    "no deployment": ({"deployment": None}, False),
    "an empty deployment": ({"deployment": ""}, False),
    "no reference": ({"reference": None}, False),
    "an empty reference": ({"reference": ""}, False),
    "a reference of one letter": ({"reference": "R"}, True),
    "a reference of 64 letters": ({"reference": "R" * 64}, True),
    "a reference of 65": ({"reference": "R" * 65}, False),
    "a cause of three letters": ({"cause": "why"}, True),
    "a cause of two": ({"cause": "no"}, False),
    "a cause of 300 letters": ({"cause": "x" * 300}, True),
    "a cause of 301": ({"cause": "x" * 301}, False),
    "a time without a zone": ({"issued_at": "2026-03-01T11:00:00"}, False),
    "a field more": ({"note": "x"}, False),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_revocation_says_what_it_must_and_no_more(name: str) -> None:
    changes, good = BOUNDS[name]
    if good:
        found = parse_revocation(body(**changes), KNOWN, deployment="D-1")
        assert found is not None
        assert found.schema == 1
    else:
        with pytest.raises(SignatureInvalid):
            parse_revocation(body(**changes), KNOWN, deployment="D-1")


@pytest.mark.parametrize(("length", "good"), [(64, True), (65, False)])
def test_a_deployment_s_name_has_64_letters_at_most(length: int, good: bool) -> None:
    name = "D" * length
    if good:
        assert parse_revocation(body(deployment=name), KNOWN, deployment=name) is not None
    else:
        with pytest.raises(SignatureInvalid):
            parse_revocation(body(deployment=name), KNOWN, deployment=name)


def test_a_token_of_just_the_longest_length_is_read_and_a_longer_one_is_not() -> None:
    whole = body()
    padded = whole + b"\n" * (8192 - len(whole))
    assert parse_revocation(padded, KNOWN, deployment="D-1") is not None
    with pytest.raises(SignatureInvalid, match="too long"):
        parse_revocation(padded + b"\n", KNOWN, deployment="D-1")


def test_those_that_concern_nobody_here_do_not_keep_the_others_from_being_applied() -> None:
    removed: list[tuple[str, str]] = []

    def remove(reference: str, cause: str) -> None:
        if reference == "R-gone":
            raise EntryNotFound(reference, "is not on this list", "Nothing")
        removed.append((reference, cause))

    tokens = [
        b"  \n", body(reference="R-gone"), body(deployment="D-2"), body(reference="R-1"), b"",
        body(reference="R-2", deployment="*", cause="deleted"),
    ]  # fmt: skip
    done = apply_all(tokens, KNOWN, deployment="D-1", remove=remove, withdraw=never)
    assert [each.reference for each in done] == ["R-1", "R-2"]
    assert removed == [("R-1", "revoked: granted"), ("R-2", "revoked: deleted")]


def test_one_that_must_not_be_believed_is_reported_and_all_the_others_are_applied() -> None:
    removed: list[str] = []
    with pytest.raises(SignatureInvalid):
        apply_all(
            [body(), b"forged", body(reference="R-3")],
            KNOWN,
            deployment="D-1",
            remove=lambda reference, _: removed.append(reference),
            withdraw=never,
        )
    assert removed == ["R-2", "R-3"]


def test_one_message_brings_64_kib_of_lines_and_no_more() -> None:
    line = b"x" * 1023
    assert lines_of(b"\n".join([line] * 64) + b"\n") == [line] * 64
    with pytest.raises(SignatureInvalid, match="are too long: 65537 bytes"):
        lines_of(b"x" * 65537)


def test_those_for_a_list_that_is_gone_already_change_nothing() -> None:
    def remove(reference: str, cause: str) -> None:
        raise WatchlistGone("the watchlist", "was destroyed", "Nothing")

    assert apply_all([body(), body(reference="R-3")], KNOWN, deployment="D-1", remove=remove, withdraw=never) == ()


def test_one_for_everybody_withdraws_the_authority_and_takes_nobody_off_by_name() -> None:
    withdrawn: list[tuple[bytes, str]] = []
    for_all, for_another = body(reference=EVERYBODY, cause="stand down"), body(reference=EVERYBODY, deployment="D-2")
    done = apply_all(
        [for_all + b" ", for_another],
        KNOWN,
        deployment="D-1",
        remove=never,
        withdraw=lambda token, found: withdrawn.append((token, found.cause)),
    )
    assert withdrawn == [(for_all, "stand down")]
    assert len(done) == 1
