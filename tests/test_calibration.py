"""The threshold for a false-alert budget: it keeps the budget, and is refused where the data ends."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from edge.config import DecisionSection, QualitySection
from edge.errors import ModelRejected, ThresholdUnsupported
from edge.evaluate import cli
from edge.evaluate import tail as tails
from edge.match.calibration import FILE_NAME, ImpostorTail, PassageRules, Passages, fit
from edge.match.relative import Relative

PEOPLE, DIMENSION = 1500, 24
COSINE = Relative(probe=0.0, entry=0.0)


def _crowd(random: np.random.Generator, people: int) -> NDArray[Any]:
    """Directions drawn evenly: strangers whose similarities are known to be comparable."""
    points = random.normal(size=(people, DIMENSION)).astype(np.float32)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def tail() -> ImpostorTail:
    random = np.random.default_rng(1)
    faces, people = _crowd(random, PEOPLE), np.arange(PEOPLE)
    measured = tails.measure(faces, people, faces, people, COSINE, seed=2)
    made = ImpostorTail(
        model_sha256="0" * 64,
        detector_sha256="1" * 64,
        data="a sphere",
        closely="none",
        people=PEOPLE,
        relative=COSINE,
        passages=Passages(searches=2.5, measured=((8, 40, 25, 100, 1000, 1.9, 1.2, 2.5),)),
        scene_similarity=0.7,
        rules=PassageRules.of(DecisionSection(), QualitySection()),
        tails=measured,
    )
    text = tails.to_toml(made)
    return msgspec.toml.decode(text, type=ImpostorTail)


@pytest.mark.parametrize(("fpir", "entries"), [(0.1, 100), (0.01, 100), (0.01, 1000), (0.003, 500)])
def test_people_never_seen_before_stay_within_the_budget(tail: ImpostorTail, fpir: float, entries: int) -> None:
    random = np.random.default_rng(99)
    searches = 20_000
    threshold = tail.of_one_picture(fpir, entries).threshold
    alerts = sum(
        int(((_crowd(random, searches // 10) @ _crowd(random, entries).T).max(1) >= threshold).sum()) for _ in range(10)
    )
    # Never more than the budget by more than chance (three standard errors), nor absurdly far below it.
    assert alerts / searches < fpir + 3 * np.sqrt(fpir / searches) + 0.15 * fpir
    assert alerts / searches > fpir / 4


def test_a_longer_list_or_a_smaller_budget_asks_for_a_higher_threshold(tail: ImpostorTail) -> None:
    base = tail.threshold(0.01, 1000).threshold
    assert tail.threshold(0.01, 3000).threshold > base
    assert tail.threshold(0.002, 1000).threshold > base


def test_the_threshold_lies_between_its_bounds(tail: ImpostorTail) -> None:
    found = tail.threshold(0.005, 700)
    assert found.lower < found.threshold < found.upper
    assert found.measured_entries <= 700


def test_a_budget_far_beyond_the_data_is_refused_with_the_smallest_that_is_not(tail: ImpostorTail) -> None:
    with pytest.raises(ThresholdUnsupported, match=r"times rarer than one in the .* searches") as refusal:
        tail.threshold(1e-7, 10_000)
    assert refusal.value.exit_code == 3
    smallest = float(refusal.value.next_step.split("budget of ")[1].split()[0])
    assert tail.threshold(smallest * 1.1, 10_000).extrapolation <= 10


@pytest.mark.parametrize("entries", [0, 1, 3, 9])
def test_a_list_shorter_than_any_measured_is_judged_as_the_shortest(tail: ImpostorTail, entries: int) -> None:
    found, ten = tail.threshold(0.01, entries), tail.threshold(0.01, 10)
    assert (found.threshold, found.judged_entries) == (ten.threshold, 10)
    assert found.entries == entries


def test_a_list_between_two_measured_sizes_needs_the_higher_threshold_of_the_two(tail: ImpostorTail) -> None:
    below, above = tail.threshold(0.01, 100), tail.threshold(0.01, 150)
    assert tail.threshold(0.01, 120).threshold == max(below.threshold, above.threshold)
    turned = msgspec.structs.replace(
        tail,
        tails=tuple(
            msgspec.structs.replace(
                one, start=-one.start, quantiles=tuple((s, v - 2 * one.start) for s, v in one.quantiles)
            )
            for one in tail.tails
        ),
    )
    assert turned.threshold(0.01, 120).threshold == turned.threshold(0.01, 100).threshold
    assert turned.threshold(0.01, 120).threshold > turned.threshold(0.01, 150).threshold


def test_a_passage_counts_as_so_many_searches_as_were_measured(tail: ImpostorTail) -> None:
    found = tail.threshold(0.01, 1000)
    assert found.searches == 2.5
    assert found.threshold == tail.of_one_picture(0.004, 1000).threshold > tail.of_one_picture(0.01, 1000).threshold


def test_with_several_pictures_of_somebody_a_search_counts_as_two(tail: ImpostorTail) -> None:
    one, several = tail.threshold(0.01, 1000), tail.threshold(0.01, 1000, several=True)
    assert several.searches == 2 * one.searches
    assert several.threshold == tail.threshold(0.005, 1000).threshold > one.threshold


def test_a_refusal_says_how_many_people_it_would_take(tail: ImpostorTail) -> None:
    with pytest.raises(ThresholdUnsupported, match=r"measure the pack on [\d,]+ people; these were 1,500") as refusal:
        tail.threshold(1e-6, 1500)
    people = int(re.findall(r"on ([\d,]+) people", refusal.value.next_step)[0].replace(",", ""))
    more = msgspec.structs.replace(
        tail,
        people=people,
        tails=tuple(msgspec.structs.replace(t, searches=t.searches * people // PEOPLE) for t in tail.tails),
    )
    assert more.threshold(1e-6, 1500).extrapolation <= 10


@pytest.mark.parametrize(("fpir", "entries"), [(0.0, 100), (1.0, 100), (0.1, -1)])
def test_a_budget_that_is_none_is_refused(tail: ImpostorTail, fpir: float, entries: int) -> None:
    with pytest.raises(ThresholdUnsupported):
        tail.threshold(fpir, entries)


def test_a_pack_without_a_tail_promises_nothing(tmp_path: Path) -> None:
    with pytest.raises(ThresholdUnsupported, match="never measured"):
        ImpostorTail.load(tmp_path)


def test_a_damaged_tail_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("entries = 'many'\n")
    with pytest.raises(ModelRejected, match=FILE_NAME):
        ImpostorTail.load(tmp_path)


def test_a_tail_of_another_variant_is_refused() -> None:
    from edge.sight import card

    pack = card.default_directory() / "mobilefacenet"
    variants = card.read(pack).variants
    assert ImpostorTail.load(pack, variants["dynamic-int8"].sha256).tails
    with pytest.raises(ThresholdUnsupported, match="measured with the embedder"):
        ImpostorTail.load(pack, variants["float"].sha256)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2])
def test_the_fit_finds_the_distribution_that_it_was_drawn_from(shape: float) -> None:
    uniform = np.random.default_rng(7).uniform(size=50_000)
    excess = -0.05 * np.log(uniform) if shape == 0 else 0.05 / shape * (uniform**-shape - 1)
    scale, found = fit(excess)
    assert scale == pytest.approx(0.05, rel=0.03)
    assert found == pytest.approx(shape, abs=0.03)


def test_the_shipped_embedder_has_a_tail_of_the_very_file_that_ships() -> None:
    from edge.sight import card

    pack = card.default_directory() / "mobilefacenet"
    tail = ImpostorTail.load(pack)
    assert tail.model_sha256 == card.read(pack).variants["dynamic-int8"].sha256
    assert tail.relative == Relative(), "what evaluate measures by default is what a van does"
    assert tail.passages.measured
    assert tail.scene_similarity > 0.64, "what a stranger on video reached, in the same room as whoever was enrolled"
    for shorter, longer in pairwise((10, 30, 100, 300, 1000, 3000)):
        assert tail.threshold(1 / 6000, shorter).threshold > tail.threshold(1 / 6000, longer).threshold


def _threshold(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(cli.threshold)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_the_threshold_with_its_bounds_and_what_it_rests_on() -> None:
    told = _threshold("--fpir", "1/6000", "--entries", "10000")
    assert told.exit_code == 0
    assert "95 % of resamplings" in told.output
    assert "extrapolated" in told.output
    found = json.loads(_threshold("--fpir", "1/6000", "--entries", "10000", "--json").stdout)
    assert found["lower"] < found["threshold"] < found["upper"]
    assert found["model_sha256"]


def test_the_command_says_as_what_a_short_list_and_a_passage_are_judged() -> None:
    told = _threshold("--fpir", "1/6000", "--entries", "3")
    assert told.exit_code == 0
    assert "A list of 3 is judged as one of 10, the shortest that was measured." in told.output
    assert "A passage counts as" in told.output
    short, ten = (json.loads(_threshold("--fpir", "1/6000", "--entries", n, "--json").stdout) for n in ("3", "10"))
    assert short["threshold"] == ten["threshold"]
    assert (short["entries"], short["judged_entries"]) == (3, 10)
    assert "judged as" not in _threshold("--fpir", "1/6000", "--entries", "10").output


def test_the_command_refuses_what_the_data_cannot_support() -> None:
    refusal = _threshold("--fpir", "1/1000000", "--entries", "100000").exception
    assert isinstance(refusal, ThresholdUnsupported)
    assert refusal.exit_code == 3
