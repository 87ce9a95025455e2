"""Who must not be on a list, and what the authorising officer is told of those who are."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import provisioning.demo
from edge.trust.keys import KnownSigners
from edge.trust.revocation import REVOCATION, parse_revocation
from edge.watchlist.bundle import parse_manifest
from edge.watchlist.store import TemplateMatrix
from provisioning.bundle import new_identity
from provisioning.policy import apply_policy, refusal_of
from provisioning.review import alike
from provisioning.sources import Record, Source, Subject
from provisioning.watchlist import app

DAY = date(2026, 3, 1)
GOOD = Record(
    category="wanted on warrant",
    lawful_basis="warrant",
    image_source="custody",
    image_taken="2024-01-01",
    custody_image=True,
    review_by="2026-03-01",
    age_band="25-34",
    conviction="convicted",
)
PORTRAITS = Path(provisioning.demo.__file__).parent / "portraits"

FORBIDDEN: dict[str, tuple[dict[str, Any], str]] = {
    "no category": ({"category": ""}, "states no category"),
    "a category that says nothing": ({"category": "not stated"}, "states no category"),
    "a category nobody approved": ({"category": "protest"}, "has the category 'protest', which was not approved"),
    "no lawful basis": ({"lawful_basis": ""}, "states no lawful basis"),
    "no image source": ({"image_source": ""}, "does not say where the picture comes from"),
    "a picture from the future": ({"image_taken": "2026-03-02"}, "was taken on 2026-03-02, in the future"),
    "deletion asked for, not convicted": (
        {"conviction": "not convicted", "deletion_requested": "2025-05-05"},
        "has not been convicted and asked on 2025-05-05 for the custody image to be deleted",
    ),
    "deletion asked for, conviction unknown": (
        {"conviction": "unknown", "deletion_requested": "2025-05-05"},
        "is not known to be convicted and asked on 2025-05-05",
    ),
    "past its deletion": ({"delete_by": "2026-02-28"}, "had to be deleted by 2026-02-28"),
    "past its review": ({"review_by": "2026-02-28"}, "had to be reviewed by 2026-02-28"),
    "a custody image without a date": ({"review_by": None}, "is a custody image without a date"),
    "under 18 without a rationale": (
        {"age_band": "under 18", "age_rationale": " "},
        "is under 18, and no rationale is recorded",
    ),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_whoever_must_not_be_on_a_list_is_left_out_with_the_reason(name: str) -> None:
    changes, reason = FORBIDDEN[name]
    kept, left = Subject("R-1", (), GOOD), Subject("R-2", (), replace(GOOD, **changes))
    source = apply_policy(Source([kept, left]), DAY, ("wanted on warrant",))
    assert source.subjects == [kept]
    (refusal,) = source.refused
    assert refusal.reference == "R-2"
    assert reason in refusal.reason
    assert refusal.next_step


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"delete_by": "2026-03-01", "review_by": None},
        {"age_band": "under 18", "age_rationale": "missing, at risk of exploitation"},
        {"deletion_requested": "2025-05-05"},
        {"custody_image": False, "review_by": None, "conviction": "not convicted"},
    ],
    ids=["as it should be", "on its last day", "under 18 with a rationale", "convicted", "no custody image"],
)
def test_whoever_may_be_on_a_list_stays(changes: dict[str, Any]) -> None:
    assert refusal_of(replace(GOOD, **changes), DAY) is None


def test_lookalikes_and_duplicates_are_found_across_references_only() -> None:
    rng = np.random.default_rng(5)
    base = np.linalg.qr(rng.standard_normal((192, 5)))[0].T
    near = 0.8 * base[0] + 0.6 * base[1]
    far = 0.5 * base[2] + np.sqrt(0.75) * base[3]
    vectors = np.vstack([base[0], base[0], near, base[2], far]).astype(np.float32)
    found = alike(TemplateMatrix(("R-1", "R-1", "R-2", "R-3", "R-4"), vectors))
    assert [(one, other) for one, other, _ in found] == [("R-1", "R-2"), ("R-3", "R-4")]
    assert [score for *_, score in found] == pytest.approx([0.8, 0.5], abs=1e-3)


def test_the_command_builds_refuses_warns_and_packs(tmp_path: Path) -> None:
    rows = [
        ("R-1", "obama2", "wanted", "2030-01-01", "25-34"),
        ("R-2", "obama3", "wanted", "2030-01-01", "25-34"),
        ("R-3", "biden", "wanted", "2020-01-01", "25-34"),
        ("R-4", "collins", "wanted", "2030-01-01", "under 18"),
    ]
    table = "reference,path,category,lawful_basis,image_source,custody_image,review_by,age_band\n" + "".join(
        f"{reference},{PORTRAITS / picture}.jpg,{category},warrant,court,no,{review},{age}\n"
        for reference, picture, category, review, age in rows
    )
    (tmp_path / "list.csv").write_text(table)
    public = new_identity(tmp_path / "van.key")
    out = tmp_path / "out"
    arguments = ["build", "--csv", str(tmp_path / "list.csv"), "--out", str(out), "--deployment", "D-9", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--van", f"van-1={public}"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["entries"] == 2
    assert {refusal["reference"] for refusal in report["refused"]} == {"R-3", "R-4"}
    assert [pair[:2] for pair in report["probably_one_person"]] == [["R-1", "R-2"]]
    assert report["false_alerts_per_10000_passages"] == pytest.approx(1.67)
    manifest = parse_manifest((out / "manifest.json").read_bytes())
    assert (manifest.vans, manifest.entries, manifest.watchlist) == (("van-1",), 2, report["digest"])
    assert (out / "D-9.age").read_bytes().startswith(b"age-encryption.org/v1")


def test_a_key_that_is_none_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    arguments = ["build", "--images", str(PORTRAITS), "--out", str(tmp_path / "out"), "--van", "van-1=age1nonsense"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 4
    assert "the key of van-1: is not a public key for lists" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_signed_revocation_is_what_a_van_believes(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["revoker-key", str(tmp_path / "unit.jwk")])
    assert made.exit_code == 0, made.output
    assert CliRunner().invoke(app, ["revoker-key", str(tmp_path / "unit.jwk")]).exit_code == 4
    arguments = ["revoke", "--key", str(tmp_path / "unit.jwk"), "--reference", "R-1", "--cause", "deleted on request"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    known = KnownSigners.load(tmp_path / "unit.jwks")
    assert known.verify(done.stdout.strip().encode(), REVOCATION).signer == "intelligence-unit"
    found = parse_revocation(done.stdout.encode(), known, deployment="D-1")
    assert found is not None
    assert (found.reference, found.cause) == ("R-1", "deleted on request")
