"""An evaluation says what happened: who was enrolled, who alerted, and how sure each rate is."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from edge.errors import BadInput
from edge.evaluate import cli, manifest
from edge.evaluate.detection import match, recall
from edge.evaluate.extract import Acquired, Recipe, extract
from edge.evaluate.manifest import Role
from edge.evaluate.measure import Searches, clopper_pearson, points, search, threshold_for
from edge.evaluate.plot import draw
from edge.evaluate.report import Report
from edge.records import Detections

FACES = Path(os.environ.get("LFR_EVAL_DIR", Path(__file__).resolve().parents[2] / "shared/eval"))
needs_faces = pytest.mark.skipif(
    not (FACES / "london/manifest.csv").exists(), reason="needs the evaluation faces (LFR_EVAL_DIR)"
)
RECIPE = Recipe("centerface:640x384-int8", ("mobilefacenet:dynamic-int8",))


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def _searches(best: list[float], right: list[bool] | None = None) -> Searches:
    n = len(best)
    return Searches(np.array(best, np.float32), np.array(right or [False] * n, bool), np.arange(n))


# -- who is enrolled -----------------------------------------------------------------------------


def test_people_with_two_pictures_are_enrolled_with_one_and_the_rest_is_searched(tmp_path: Path) -> None:
    rows = [{"identity": i, "path": f"{i}{n}.jpg"} for i, count in (("a", 3), ("b", 2), ("c", 1)) for n in range(count)]
    roles = manifest.assign(manifest.read(_write(tmp_path / "m.csv", rows)), seed=0)
    assert [p.identity for p in roles.gallery] == ["a", "b"]
    assert sorted(p.identity for p in roles.mated) == ["a", "a", "b"]
    assert [p.identity for p in roles.nonmated] == ["c"]
    assert not {p.path for p in roles.gallery} & {p.path for p in roles.mated}


def test_the_split_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    rows = [{"identity": f"p{i}", "path": f"{i}-{n}.jpg"} for i in range(40) for n in range(3)]
    pictures = manifest.read(_write(tmp_path / "m.csv", rows))
    assert manifest.assign(pictures, seed=4) == manifest.assign(pictures[::-1], seed=4)
    assert manifest.assign(pictures, seed=4) != manifest.assign(pictures, seed=5)


def test_roles_in_the_manifest_hold(tmp_path: Path) -> None:
    rows = [
        {"identity": "a", "path": "/faces/a.jpg", "role": "gallery"},
        {"identity": "a", "path": "b.jpg", "role": "Mated"},
        {"identity": "c", "path": "c.jpg", "role": "non-mated"},
    ]
    roles = manifest.assign(manifest.read(_write(tmp_path / "m.csv", rows)), seed=0)
    assert roles.gallery[0].path == Path("/faces/a.jpg")
    assert roles.mated[0].path == tmp_path / "b.jpg"
    assert roles.nonmated[0].role is Role.NONMATED


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"identity": "a", "file": "a.jpg"}], "no column 'path'"),
        ([{"identity": "a", "path": "a.jpg", "role": "suspect"}], "'suspect' is not a role"),
        ([{"identity": "a", "path": "a.jpg"}], "nobody would be enrolled"),
        ([{"identity": "", "path": "a.jpg"}], "line 2: it lacks"),
        (
            [{"identity": "a", "path": "a.jpg", "role": "gallery"}, {"identity": "b", "path": "b", "role": "mated"}],
            "mated, but b has no gallery picture",
        ),
        (
            [{"identity": "a", "path": "a.jpg", "role": "gallery"}, {"identity": "a", "path": "b", "role": "nonmated"}],
            "nonmated, but a is in the gallery",
        ),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, rows: list[dict[str, str]], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        manifest.assign(manifest.read(_write(tmp_path / "m.csv", rows)), seed=0)


def test_ages_are_reported_by_decade_and_names_as_they_are() -> None:
    ages = manifest.band_ages([str(a) for a in range(18, 60)] + ["NA"])
    assert ages["18"] == "10-19"
    assert ages["59"] == "50-59"
    assert ages["NA"] == "NA"
    assert manifest.band_ages(["1", "2"]) == {"1": "1", "2": "2"}


# -- rates ---------------------------------------------------------------------------------------


def test_the_threshold_lets_as_many_pass_as_the_budget_allows_and_no_more() -> None:
    best = np.linspace(0, 1, 1000, dtype=np.float32)
    for budget in (0.1, 0.01, 0.001):
        assert (best >= threshold_for(best, budget)).mean() == pytest.approx(budget)
    assert (best >= threshold_for(best, 0.0005)).sum() == 0
    tied = np.full(10, 0.5, np.float32)
    assert (tied >= threshold_for(tied, 0.3)).sum() == 0, "ties that cannot be parted must not exceed the budget"


def test_a_hit_counts_only_if_the_right_person_comes_first() -> None:
    gallery = np.eye(3, dtype=np.float32)
    probes = np.array([[0.9, 0.1, 0], [0.2, 0.9, 0], [0, 0, 1]], np.float32)
    found = search(probes, np.ones(3, bool), np.array([0, 0, 2]), gallery, np.arange(3))
    assert found.right.tolist() == [True, False, True]
    point = points(found, _searches([0.1, 0.2]), (), threshold=0.5)[0]
    assert point.tpir == pytest.approx(2 / 3)


def test_whoever_is_to_be_left_out_is_and_the_reason_must_be_said(tmp_path: Path) -> None:
    people = _write(tmp_path / "m.csv", [{"identity": who, "path": f"{who}.jpg"} for who in ("a", "b", "c")])
    out = [{"identity": "b", "why": "one person with a"}, {"identity": "z", "why": "of another manifest"}]
    without = _write(tmp_path / "out.csv", out)
    assert [picture.identity for picture in manifest.read(people, without=without)] == ["a", "c"]
    for rows, says in (
        ([{"identity": "b", "why": ""}], "line 2"),
        ([{"identity": "b", "because": "x"}], "no column 'why'"),
        ([{"identity": who, "why": "x"} for who in "abc"], "no row of the manifest is left"),
    ):
        with pytest.raises(BadInput, match=says):
            manifest.read(people, without=_write(tmp_path / "out.csv", rows))


def test_the_shipped_list_of_people_left_out_gives_a_reason_for_each() -> None:
    text = (Path(__file__).parents[1] / "models/builder/lfw-left-out.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == len({row["identity"] for row in rows}) == 22
    assert all(row["why"] for row in rows)


def test_a_probe_without_a_face_is_a_miss_and_never_an_alert() -> None:
    gallery = np.eye(2, dtype=np.float32)
    found = search(gallery, np.array([True, False]), np.arange(2), gallery, np.arange(2))
    assert points(found, found, (), threshold=-1.0)[0].tpir == 0.5
    assert points(found, found, (), threshold=-1.0)[0].fpir == 0.5


def test_leaving_a_person_out_makes_a_search_non_mated() -> None:
    gallery = np.eye(3, dtype=np.float32)
    found = search(gallery, np.ones(3, bool), np.arange(3), gallery, np.arange(3), leave_out=True)
    assert found.best.tolist() == [0, 0, 0]
    assert not found.right.any()


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Published values: Clopper and Pearson's own chart and R's binom.test.
    [
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (5, 10, 0.1871, 0.8129),
        (1, 100, 0.00025, 0.0545),
        (0, 3000, 0, 0.00123),
    ],
)
def test_exact_intervals_are_those_of_the_literature(k: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-4)


def test_the_exact_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    intervals = {k: clopper_pearson(k, 200) for k in range(201)}
    drawn = random.binomial(200, 0.03, 4000)
    covered = np.mean([intervals[k][0] <= 0.03 <= intervals[k][1] for k in drawn])
    assert covered >= 0.95


def test_the_interval_by_person_is_wider_when_a_few_people_give_most_probes() -> None:
    random = np.random.default_rng(0)
    able = random.random(40) < 0.8  # each person always succeeds or always fails
    person = np.repeat(np.arange(40), 25)
    mated = Searches(np.where(able[person], 0.9, 0.1).astype(np.float32), able[person], person)
    point = points(mated, _searches(np.linspace(0, 0.5, 500).tolist()), (0.01,), replicates=300)[0]
    assert point.tpir_ci95_person is not None
    exact = point.tpir_ci95[1] - point.tpir_ci95[0]
    assert point.tpir_ci95_person[1] - point.tpir_ci95_person[0] > 2 * exact


def test_rates_of_nobody_are_not_numbers() -> None:
    nobody = Searches(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, np.int64))
    point = points(nobody, nobody, (), threshold=0.5, replicates=10)[0]
    assert math.isnan(point.tpir)
    assert point.fpir_ci95 == (0.0, 1.0)


# -- detector recall -----------------------------------------------------------------------------


def test_each_face_is_found_once_and_the_rest_is_false() -> None:
    labelled = np.array([[0, 0, 20, 20], [100, 0, 140, 40], [200, 0, 300, 100]], np.float32)
    boxes = np.array([[0, 0, 20, 20], [1, 1, 21, 21], [100, 0, 140, 38], [400, 0, 420, 20]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    found = match(Detections(boxes, scores, np.zeros((4, 5, 2), np.float32)), labelled)
    assert found.false.tolist() == pytest.approx([0.8, 0.6])
    assert found.hits.tolist() == pytest.approx([0.9, 0.7, -1])
    assert recall([found], budget=0).by_height == (1.0, 0.0, 0.0), "above the best false one only the first is left"
    assert recall([found], budget=1).by_height == (1.0, 1.0, 0.0)


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("1/6000", 1 / 6000), ("0.1%", 0.001), ("0.01", 0.01)])
def test_rates_are_read_as_people_write_them(text: str, value: float) -> None:
    assert cli.rate(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["0", "1", "many", "1/0", "-3%", "1/2/3"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        cli.rate(text)


def _run(*arguments: str) -> dict[str, Any]:
    app = typer.Typer()
    app.command()(cli.evaluate)
    result = CliRunner().invoke(app, [*arguments, "--json", "--workers", "1", "--bootstrap", "50"])
    assert result.exception is None, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people of the London set, as pictures come: small, huge, grey, turned by EXIF, with alpha, broken."""
    folder = tmp_path_factory.mktemp("album")
    with (FACES / "london/manifest.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    people = sorted({row["identity"] for row in rows})[:12]
    rows = sorted((row for row in rows if row["identity"] in people), key=lambda row: row["identity"])
    kept = []
    for number, row in enumerate(rows):
        picture: NDArray[Any] = np.asarray(cv2.imread(str(FACES / "london" / row["path"])))
        name = f"{number}.jpg"
        if number == 1:
            picture = cv2.resize(picture, (118, 118), interpolation=cv2.INTER_AREA)
        elif number == 3:
            picture = cv2.resize(picture, (4900, 4900))
        elif number == 5:
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        elif number == 7:
            name = f"{number}.png"
            picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
        cv2.imwrite(str(folder / name), picture)
        if number == 9:  # stands on its head, and says so: a face on its side would be found all the same
            cv2.imwrite(str(folder / name), cv2.rotate(picture, cv2.ROTATE_180))
            data = (folder / name).read_bytes()
            exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
            (folder / name).write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
        kept.append({**row, "path": name if number % 2 else str(folder / name)})
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    cv2.imwrite(str(folder / "wall.jpg"), np.full((200, 200, 3), 128, np.uint8))
    kept.append({**rows[0], "path": "broken.jpg"})
    kept.append({**rows[2], "path": "wall.jpg"})
    _write(folder / "manifest.csv", kept)
    return folder


@needs_faces
@pytest.mark.faces
def test_a_second_embedder_takes_its_share_of_the_score_and_is_named(album: Path) -> None:
    manifest, second = ("--manifest", str(album / "manifest.csv")), ("--second", "dlib-resnet:dynamic-int8")
    alone, none, half = (
        _run(*manifest, *more) for more in ((), (*second, "--second-share", "0"), (*second, "--second-share", "0.5"))
    )
    at = [[point["threshold"] for point in report["points"]] for report in (alone, none, half)]
    assert at[1] == pytest.approx(at[0], abs=1e-5)
    assert at[2] != pytest.approx(at[0], abs=1e-3)
    assert half["model"]["second"] == "dlib-resnet:dynamic-int8"
    assert half["model"]["second_share"] == 0.5
    assert "second" not in alone["model"]


def test_a_second_embedder_and_another_one_for_the_gallery_are_not_taken_together(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(cli.evaluate)
    names = ("--second", "dlib-resnet:dynamic-int8", "--gallery-embedder", "mobilefacenet:float")
    done = CliRunner().invoke(app, ["--manifest", str(tmp_path / "nowhere.csv"), *names])
    assert done.exit_code == 2
    assert "cannot be combined" in done.output


@needs_faces
@pytest.mark.faces
def test_pictures_of_every_kind_are_measured_and_broken_ones_are_listed(album: Path) -> None:
    files = ("--plot", str(album / "det.png"), "--csv", str(album / "rates.csv"))
    report = _run("--manifest", str(album / "manifest.csv"), *files)
    assert report["n_gallery"] == 12
    assert report["n_mated"] == 14
    assert report["failures"]["unreadable"] == [str(album / "broken.jpg")]
    assert report["failures"]["no face"] == [str(album / "wall.jpg")]
    assert report["failure_to_enrol"] + report["failure_to_acquire"] > 0
    assert {"fpir_target", "threshold", "fpir", "fpir_ci95", "tpir", "tpir_ci95"} <= set(report["points"][0])
    assert set(report["groups"]) == {"expression", "sex", "age", "ethnicity"}
    # One of the two is a gallery picture, whose person's two probes cannot be found; the other is a probe. All the rest
    # is found, whatever its size, colours and turn.
    assert report["failure_to_enrol"] == pytest.approx(1 / 12)
    assert report["failure_to_acquire"] == pytest.approx(1 / 14)
    assert report["points"][0]["tpir"] == pytest.approx(11 / 14)
    apart = report["differentials"]["sex"]
    assert apart["failure_to_enrol"]["events"] == 1
    assert sum(group["failure_to_enrol"]["trials"] for group in apart["groups"].values()) == 12
    assert sum(group["failure_to_acquire"]["trials"] for group in apart["groups"].values()) == 14
    assert [rate["ratio"] for rate in apart["fpir"]][-1] is None, "14 searches show no ratio at 1 in 1,000"
    assert any(group["milliseconds"]["value"] for group in apart["groups"].values())
    drawn = cv2.imread(str(album / "det.png"))
    assert drawn is not None
    assert drawn.shape[0] > 400
    with (album / "rates.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    everybody = [line for line in lines if line["group"] == "everybody"]
    asked = [p["threshold"] for p in report["points"]]
    assert [float(line["threshold"]) for line in everybody] == pytest.approx(asked, abs=1e-6)
    assert {line["group"] for line in lines} == {"everybody", *report["groups"]}
    assert all(float(line["tpir_low"]) <= float(line["tpir"]) <= float(line["tpir_high"]) for line in everybody)
    assert {line["can_be_shown"] for line in everybody if float(line["fpir_target"]) < 1 / 14} == {"no"}


@pytest.mark.parametrize(("searches", "target", "shown"), [(102, 0.01, True), (102, 0.003, False), (1000, 0.001, True)])
def test_a_target_that_so_few_searches_cannot_show_is_called_that(searches: int, target: float, shown: bool) -> None:
    chance = np.random.default_rng(1)
    (point,) = points(_searches([0.9], [True]), _searches(list(chance.random(searches) * 0.5)), (target,))
    assert point.shown is shown
    assert point.needed == round(1 / target + 0.4999)
    assert (point.fpir > 0) is shown


def _report(mated: Searches, other: Searches) -> Report:
    at = points(mated, other, (0.1, 0.001))
    empty = _searches([])
    groups = {"sex": {"=SUM(1)": (mated, other, at), "x": (empty, empty, points(empty, empty, (), threshold=0.5) * 2)}}
    return Report(manifest.Roles((), (), (), left_out=False), 0, {}, mated, other, at, 1.0, groups, {})


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_perfect_result_and_an_empty_group_are_drawn(tmp_path: Path, ending: str) -> None:
    chance = np.random.default_rng(2)
    perfect = _report(_searches([0.9] * 50, [True] * 50), _searches(list(chance.random(102) * 0.5)))
    draw(perfect, tmp_path / f"plot{ending}", "a title")
    assert (tmp_path / f"plot{ending}").stat().st_size > 5000
    if ending == ".svg":
        text = (tmp_path / "plot.svg").read_text()
        assert "none of 50 missed: at most 7.1% are, 95 % sure" in text
        assert "one in 102" in text


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(cli.evaluate)
    done = CliRunner().invoke(app, ["--manifest", str(tmp_path / "nowhere.csv"), "--plot", str(tmp_path / "x.gif")])
    assert isinstance(done.exception, BadInput)
    assert "does not end in" in str(done.exception)


def test_a_groups_name_never_leaves_as_a_formula() -> None:
    text = _report(_searches([0.9], [True]), _searches([0.1] * 10)).to_csv()
    assert "'=SUM(1)" in text
    assert not any(cell.startswith("=") for line in text.splitlines() for cell in line.split(","))


@needs_faces
@pytest.mark.faces
def test_an_interrupted_run_is_resumed_from_its_cache_with_the_same_result(album: Path, tmp_path: Path) -> None:
    paths = sorted(p for p in album.iterdir() if p.suffix in {".jpg", ".png"} and p.name != "det.png")[:6]
    whole = extract(paths, RECIPE, workers=1)
    extract(paths[:3], RECIPE, workers=1, cache=tmp_path)
    log = next(tmp_path.glob("templates-*.bin"))
    # The power went while the last record was written, and the disk put something else behind it.
    log.write_bytes(log.read_bytes()[:-7] + b"\xff" * 100_000)
    resumed = extract(paths, RECIPE, workers=1, cache=tmp_path)
    extract(paths, RECIPE, workers=1, cache=tmp_path / "whole")
    assert log.stat().st_size == next((tmp_path / "whole").glob("templates-*.bin")).stat().st_size
    assert [found.seconds is None for found in resumed] == [True] * 2 + [False] * 4, "a cache knows no time"
    for a, b in zip(whole, resumed, strict=True):
        assert a.status is b.status
        assert all(np.array_equal(x, y) for x, y in zip(a.templates, b.templates, strict=True))


@needs_faces
@pytest.mark.faces
def test_without_a_cache_nothing_is_written(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = extract([album / "0.jpg"], RECIPE, workers=1)
    assert found[0].status is Acquired.TEMPLATE
    assert not list(tmp_path.iterdir())


@needs_faces
@pytest.mark.faces
def test_a_gallery_fill_makes_the_list_longer_but_never_doubles_a_person(album: Path) -> None:
    rows = [
        {"identity": f"LON{n:03}", "path": str(FACES / f"london/images/LON{n:03}_neutral.jpg")} for n in range(1, 16)
    ]
    fill = _write(album / "fill.csv", [row for row in rows if Path(row["path"]).exists()])
    people = {picture.identity for path in ("manifest.csv", "fill.csv") for picture in manifest.read(album / path)}
    filled = _run("--manifest", str(album / "manifest.csv"), "--gallery-fill", str(fill), "--threshold", "0.5")
    assert filled["n_gallery"] == len(people) == 12 + filled["n_gallery_fill"] > 12
    assert filled["points"][0]["threshold"] == 0.5
