"""Somebody must leave the list now."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.errors import SignatureInvalid
from edge.match.index import Index
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.revocation import REVOCATION, Revocation, apply_all, parse_revocation
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
        gone = apply_all([token(), b"", token()], KNOWN, deployment="D-1", remove=keeper.remove)
        took = time.monotonic() - began

        assert gone == ("R-2",)
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
    def never(reference: str, cause: str) -> None:
        raise AssertionError((reference, cause))

    with pytest.raises(SignatureInvalid, match=message):
        apply_all([forged], KNOWN, deployment="D-1", remove=never)
