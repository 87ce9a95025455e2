"""Groups are compared as ISO/IEC 19795-10 asks, with bounds, and never with a number that so few cannot carry."""

from __future__ import annotations

import csv
import json
import math
from io import StringIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge.evaluate import manifest
from edge.evaluate.differentials import Draws, Events, Groups, Values, compare, differential, shift
from edge.evaluate.forest import forest
from edge.evaluate.measure import NOBODY, Searches, chosen, points
from edge.evaluate.plot import draw
from edge.evaluate.report import Report
from edge.evaluate.tables import print_differentials, ratio_in_words, telling


def _events(*groups: tuple[str, int, int], each: int = 1) -> Events:
    """Groups of (name, events, trials); every person has ``each`` trials, which go wrong together."""
    happened, person, names, number = [], [], [], 0
    for name, events, trials in groups:
        for trial in range(trials):
            happened.append(trial < events)
            person.append(number + trial // each)
            names.append(name)
        number += trials
    return Events(np.array(happened, bool), np.array(person, np.int64), np.array(names, np.str_))


def _draws(events: Events, replicates: int = 400) -> Draws:
    return Draws.make(events.person, replicates, seed=3)


def test_the_ratio_is_highest_to_lowest_and_highest_to_the_geometric_mean() -> None:
    events = _events(("a", 40, 1000), ("b", 20, 1000), ("c", 10, 1000))
    found = differential(events, _draws(events))
    assert (found.highest, found.lowest) == ("a", "c")
    assert found.ratio == pytest.approx(4.0)
    assert found.over_mean == pytest.approx(2.0)  # (4 % · 2 % · 1 %) ^ ⅓ = 2 %
    low, high = found.ratio_ci95
    assert low is not None
    assert high is not None
    assert 1 < low < 4 < high
    assert found.shown


def test_with_few_events_the_bounds_are_those_of_the_exact_test() -> None:
    # Five to five of as many: the share of the first is 0.1871 to 0.8129 (R: binom.test(5, 10)); the odds follow.
    events = _events(("a", 5, 500), ("b", 5, 500))
    assert differential(events, _draws(events)).ratio_ci95 == pytest.approx((0.2302, 4.345), rel=1e-3)
    # Twice the searches of the second: its rate is half, and so everything doubles.
    events = _events(("a", 5, 500), ("b", 5, 1000))
    found = differential(events, _draws(events))
    assert found.ratio == pytest.approx(2)
    assert found.ratio_ci95 == pytest.approx((0.4604, 8.690), rel=1e-3)


def test_where_it_happened_to_nobody_of_a_group_there_is_a_lower_bound_and_no_ratio() -> None:
    events = _events(("a", 14, 461), ("b", 0, 527))
    found = differential(events, _draws(events))
    share = 0.025 ** (1 / 14)  # of all 14 events: the lowest at which all of them falling on a is not a surprise
    assert found.ratio is None
    assert found.over_mean is None
    assert found.ratio_ci95[0] == pytest.approx(share / (1 - share) * 527 / 461, rel=1e-6)
    assert found.ratio_ci95[1] is None
    assert found.shown
    assert ratio_in_words(found).startswith("at least 3.8: a to b")


def test_one_alert_against_none_shows_nothing_and_says_how_many_searches_would() -> None:
    events = _events(("a", 1, 100), ("b", 0, 100))
    found = differential(events, _draws(events))
    assert not found.shown
    # At 0.5 % of everybody: 12 events at two thirds of it.
    assert found.needed == math.ceil(1.5 * (1.959964 / math.log(2)) ** 2 / (0.005 * 2 / 3))
    assert "cannot be shown with so few" in ratio_in_words(found)
    assert f"{found.needed:,} searches" in ratio_in_words(found)


def test_when_nobody_at_all_was_missed_nothing_is_infinite_or_not_a_number() -> None:
    events = _events(("a", 0, 49), ("b", 0, 53))
    found = differential(events, _draws(events))
    assert (found.ratio, found.ratio_ci95, found.highest, found.shown) == (None, (None, None), None, False)
    assert "it happened to nobody; it takes" in ratio_in_words(found)
    text = json.dumps(msgspec.to_builtins(found), allow_nan=False)
    assert json.loads(text)["needed"] > 102


def test_a_group_too_small_to_be_compared_is_named_and_never_the_lowest() -> None:
    events = _events(("a", 40, 1000), ("b", 20, 1000), ("few", 0, 13), ("unknown", 0, 900))
    found = differential(events, _draws(events))
    assert found.too_few == ("few",)
    assert (found.highest, found.lowest) == ("a", "b")


def test_a_small_group_that_fares_badly_is_not_left_out_for_being_small() -> None:
    events = _events(("a", 5, 1000), ("b", 5, 1000), ("few", 4, 13))
    found = differential(events, _draws(events))
    assert found.highest == "few"
    assert found.shown


def test_somebody_with_many_searches_counts_as_one_person() -> None:
    together = _events(("a", 60, 600), ("b", 30, 600), each=30)  # two people and one
    alone = _events(("a", 60, 600), ("b", 30, 600))
    assert differential(alone, _draws(alone)).shown
    found = differential(together, _draws(together))
    assert found.ratio == pytest.approx(2)
    low, high = found.ratio_ci95
    assert low is not None
    assert high is not None
    assert low < 0.5
    assert high > 10


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_groups_that_are_alike_are_seldom_said_to_differ(rate: float) -> None:
    random, differ = np.random.default_rng(5), 0
    for _ in range(100):
        events = _events(*((name, int(random.binomial(600, rate)), 600) for name in "abc"))
        found = differential(events, _draws(events, 200))
        differ += (found.ratio_ci95[0] or 0) > 1
    assert differ <= 11, "5 of 100, and what chance adds"


def test_without_resampling_the_exact_bounds_stand() -> None:
    events = _events(("a", 40, 1000), ("b", 20, 1000))
    low, high = differential(events, _draws(events, 0)).ratio_ci95
    assert low is not None
    assert high is not None
    assert low == pytest.approx(1.14, abs=0.02)
    assert high == pytest.approx(3.61, abs=0.02)


# -- shifts --------------------------------------------------------------------------------------


def _values(**groups: list[float]) -> Values:
    value = np.array([v for mine in groups.values() for v in mine], np.float64)
    names = np.array([name for name, mine in groups.items() for _ in mine], np.str_)
    return Values(value, np.arange(len(value)), names)


def _shift(values: Values, above: float, **options: int) -> dict[str, tuple[float | None, float | None]]:
    draws = Draws.make(values.person, 200, seed=1)
    found = shift(values, sorted(set(values.group.tolist())), above, draws, **options)
    assert all(s.ci95 is None or s.ci95[0] <= s.ci95[1] for s in found.values())
    return {name: (s.value, s.difference) for name, s in found.items()}


def test_a_median_shifts_by_what_a_group_lies_above_everybody() -> None:
    low, high = [0.1, 0.2, 0.3, 0.4, 0.5], [1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    found = _shift(_values(a=low, b=high), 0.5)
    # Everybody: eleven values, the sixth is 1.1. Of a the third; of b, where two are in the middle, the lower.
    assert found["a"] == pytest.approx((0.3, 0.3 - 1.1))
    assert found["b"] == pytest.approx((1.3, 1.3 - 1.1))


def test_a_groups_own_threshold_is_shown_only_with_enough_searches() -> None:
    same = list(np.linspace(0, 1, 100, endpoint=False))
    values = _values(a=same, b=[score + 0.1 for score in same], c=[2.0] * 40)
    found = _shift(values, 0.1, enough=5)
    assert found["a"][0] == pytest.approx(0.89), "ten of a hundred lie above it"
    assert found["b"][0] == pytest.approx(0.99)
    assert found["c"] == (None, None), "40 searches hold only four above 10 %"
    values = _values(a=same, b=[score + 0.1 for score in same])
    assert _shift(values, 0.1)["b"][1] == pytest.approx(0.99 - sorted(values.value)[-21])


def test_the_interval_of_a_shift_covers_the_truth() -> None:
    random, covered = np.random.default_rng(2), 0
    for _ in range(100):
        values = _values(a=list(random.normal(0, 1, 200)), b=list(random.normal(1, 1, 200)))
        found = shift(values, ["b"], 0.5, Draws.make(values.person, 200, seed=1))["b"]
        assert found.ci95 is not None
        covered += found.ci95[0] <= 0.5 <= found.ci95[1]
    assert covered >= 88


def test_a_group_of_whom_most_are_not_found_has_no_median() -> None:
    found = _shift(_values(a=[NOBODY] * 30 + [0.5] * 10, b=[0.5] * 60), 0.5)
    assert found["a"] == (None, None)
    assert found["b"] == (0.5, 0.0)


# -- a whole report ------------------------------------------------------------------------------


def _column(perfect: bool) -> tuple[Searches, Searches, NDArray[np.str_], NDArray[np.str_], Groups, Report]:
    random = np.random.default_rng(7)
    of_yes = np.array(["F"] * 49 + ["M"] * 53, np.str_)
    of_no = np.array(["F"] * 400 + ["M"] * 600, np.str_)
    right = np.ones(102, bool) if perfect else random.random(102) < np.where(of_yes == "F", 0.7, 0.95)
    mated = Searches(np.where(right, 0.9, 0.4).astype(np.float32), right, np.arange(102))
    best = np.clip(random.normal(np.where(of_no == "F", 0.35, 0.3), 0.05), 0, 0.8).astype(np.float32)
    other = Searches(best, np.zeros(1000, bool), np.arange(1000) + 200)
    at = points(mated, other, (0.1, 0.01, 0.0001))
    failed = Events(np.zeros(102, bool), mated.person, of_yes)
    took = Values(np.full(102, 20.0) + (of_yes == "F"), mated.person, of_yes)
    draws = Draws.make(np.concatenate([mated.person, other.person]), 200, seed=0)
    wanted = [(p.threshold, p.fpir_target or 0.0) for p in at]
    found = compare(
        mated=(mated, of_yes),
        nonmated=(other, of_no),
        enrolled=failed,
        acquired=failed,
        milliseconds=took,
        wanted=wanted,
        draws=draws,
    )
    groups = {}
    for value in ("F", "M"):
        a, b = mated.take(of_yes == value), other.take(of_no == value)
        groups[value] = (a, b, [points(a, b, (), threshold=p.threshold)[0] for p in at])
    roles = manifest.Roles((), (), (), left_out=False)
    report = Report(roles, 0, {}, mated, other, at, 1.0, {"sex": groups}, {}, {"sex": found})
    return mated, other, of_yes, of_no, found, report


def test_every_figure_of_the_standard_is_given_by_group() -> None:
    mated, other, of_yes, of_no, found, report = _column(perfect=False)
    at = report.overall[0].threshold
    women = found.groups["F"]
    assert women.fpir[0].rate == pytest.approx((other.best[of_no == "F"] >= np.float32(at)).mean())
    assert women.fnir[0].rate == pytest.approx(1 - mated.right[of_yes == "F"].mean())
    assert found.fpir[0].highest == "F"
    assert found.fnir[0].highest == "F"
    assert women.nonmated_shift.difference == pytest.approx(0.03, abs=0.015)
    assert (women.threshold_shift[0].difference or 0) > 0 > (found.groups["M"].threshold_shift[0].difference or 0)
    assert women.threshold_shift[1].value is None, "400 searches are too few for 1 %"
    assert women.threshold_shift[1].needed == 500
    assert women.milliseconds.value == 21
    assert women.failure_to_enrol.ci95 == pytest.approx((0, 0.0725), abs=1e-4)


def test_the_csv_gives_rates_and_shifts_on_each_groups_line_and_no_infinity() -> None:
    report = _column(perfect=True)[-1]
    lines = list(csv.DictReader(StringIO(report.to_csv())))
    women = next(line for line in lines if line["value"] == "F")
    assert float(women["fnir"]) == 0
    assert float(women["fnir_high"]) == pytest.approx(0.0725, abs=1e-4)
    assert women["fnir_ratio"] == ""
    assert women["fnir_ratio_shown"] == "no"
    assert float(women["fpir_ratio"]) > 1
    assert float(women["threshold_shift"]) > 0
    everybody = next(line for line in lines if line["group"] == "everybody")
    assert everybody["fpir_ratio"] == ""
    assert not {"nan", "inf", "None"} & {cell for line in lines for cell in line.values()}


def test_the_table_says_what_cannot_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report = _column(perfect=True)[-1]
    print_differentials("sex", report.differentials["sex"], report.overall)
    text = capsys.readouterr().out
    assert "cannot be shown with so few: it happened to nobody" in text
    assert "F to M" in text
    assert "Failure to enrol" in text
    assert "nan" not in text
    assert "inf" not in text


def test_groups_are_looked_at_where_each_can_show_its_own_threshold() -> None:
    report = _column(perfect=True)[-1]
    assert report.overall[telling(report.differentials, report.overall)].fpir_target == 0.1
    assert chosen(report.overall).fpir_target == 0.01


def test_a_plot_of_groups_that_are_all_at_100_per_cent_shows_how_far_down_each_may_lie(tmp_path: Path) -> None:
    draw(_column(perfect=True)[-1], tmp_path / "plot.svg", "a title")
    text = (tmp_path / "plot.svg").read_text()
    assert "100%, at least 92.7%" in text
    assert "100%, at least 93.3%" in text
    assert "FNIR, sex: cannot be shown with so few" in text


def test_the_axis_of_rates_begins_at_the_lowest_bound_and_not_at_nought() -> None:
    axes = Figure().subplots(1, 3)
    forest(axes[0], axes[1], axes[2], _column(perfect=True)[-1])
    assert axes[0].get_xlim()[0] == pytest.approx(1 - 0.0725 * 1.06, abs=1e-3)
    assert axes[0].get_xlim()[1] > 1
    marks = [line for line in axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in marks] == [1, 1]
    assert {line.get_fillstyle() for line in marks} == {"none"}, "a bound, not a measured rate"
