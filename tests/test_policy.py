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
from provisioning.cli import watchlist as app
from provisioning.policy import apply_policy, refusal_of
from provisioning.review import alike
from provisioning.sources import Record, Source, Subject

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
    "a custody image that says it is none": ({"custody_image": False}, "is recorded as not a custody image"),
    "a family picture that says it is a custody image": ({"image_source": "family"}, "is recorded as a custody image"),
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
        {"custody_image": False, "image_source": "court", "review_by": None, "conviction": "not convicted"},
    ],
    ids=["as it should be", "on its last day", "under 18 with a rationale", "convicted", "no custody image"],
)
def test_whoever_may_be_on_a_list_stays(changes: dict[str, Any]) -> None:
    assert refusal_of(replace(GOOD, **changes), DAY, ("Wanted  on warrant",)) is None


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
    arguments = ["build", "--csv", str(tmp_path / "list.csv"), "--out", str(out), "--deployment", "D-9", "--json",
                 "--approved", "wanted"]  # fmt: skip
    done = CliRunner().invoke(app, [*arguments, "--van", f"van-1={public}"])
    assert done.exit_code == 6, done.output
    report = json.loads(done.stdout)
    assert (report["people"], report["entries"], report["people_left_out"]) == (4, 2, 2)
    assert (report["pictures"], report["templates"], report["pictures_left_out"]) == (4, 2, 2)
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


def test_nothing_is_built_before_the_categories_are_approved(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("reference,path,category\nR-1,a.jpg,Protest march\n")
    arguments = ["build", "--csv", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "the categories in this list are: protest march" in done.stderr
    assert not (tmp_path / "out").exists()


def one_of_two(tmp_path: Path, *more: str) -> Any:
    """Build a list of two rows, one of which cannot be used."""
    (tmp_path / "list.csv").write_text(
        "reference,path,category,lawful_basis,image_source\n"
        f"R-1,{PORTRAITS / 'biden.jpg'},wanted,warrant,court\n[/red]R 2,none.jpg,wanted,warrant,court\n"
        f"R-3,{tmp_path}/[/x]none.jpg,wanted,warrant,court\n"
    )
    arguments = ["build", "--csv", str(tmp_path / "list.csv"), "--approved", "wanted"]
    return CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), *more])


def test_a_list_of_which_something_was_left_out_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    done = one_of_two(tmp_path)
    assert done.exit_code == 6, done.output
    assert "say --allow-partial" in done.stderr
    assert "1 of 2 people are on the list, with 1 of 3 pictures." in done.stdout
    assert "Left out: 1 person and 2 pictures, listed above." in done.stdout


def test_whoever_says_that_a_part_is_enough_gets_zero(tmp_path: Path) -> None:
    assert one_of_two(tmp_path, "--allow-partial").exit_code == 0


def test_what_people_wrote_is_printed_as_it_is_and_nothing_is_cut_in_a_pipe(tmp_path: Path) -> None:
    done = one_of_two(tmp_path)
    line = next(line for line in done.stdout.splitlines() if line.startswith("R-3"))
    assert f"{tmp_path}/[/x]none.jpg" in line
    assert line.endswith("Check the path")


def test_a_revocation_of_somebody_who_is_on_no_list_is_not_signed_in_silence(tmp_path: Path) -> None:
    one_of_two(tmp_path)
    assert CliRunner().invoke(app, ["revoker-key", str(tmp_path / "unit.jwk")]).exit_code == 0
    arguments = ["revoke", "--key", str(tmp_path / "unit.jwk"), "--cause", "deleted on request", "--reference"]
    listed = ("--list", str(tmp_path / "out"))
    wrong = CliRunner().invoke(app, [*arguments, "R-11", *listed])
    assert (wrong.exit_code, wrong.stdout) == (4, "")
    assert "R-11: is on none of these lists, so nothing was signed. Did you mean R-1." in wrong.stderr
    assert CliRunner().invoke(app, [*arguments, "R-1", *listed]).stderr == ""
    unchecked = CliRunner().invoke(app, [*arguments, "R-11"])
    assert unchecked.exit_code == 0
    assert "R-11: was not looked up on any list." in unchecked.stderr
