"""Several pictures of a person on the list: what is measured of each way to keep them."""

from __future__ import annotations

import numpy as np
import pytest

from edge.evaluate.pictures import WAYS, Clip, compare
from edge.match.relative import Relative

RNG = np.random.default_rng(5)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def people(count: int, noise: float) -> list[Clip]:
    clips = []
    for number in range(count):
        person = RNG.standard_normal(64)
        for _ in range(3):
            frames = unit(person + noise * RNG.standard_normal((5, 64)))
            clips.append(Clip(f"p{number:03}", frames, frames))
    return clips


def test_every_way_is_measured_on_the_same_people() -> None:
    found = compare(people(40, 1.5), unit(RNG.standard_normal((300, 64))), 200, draws=3, relative=Relative())
    assert [each.way for each in found if each.score == "cosine"] == list(WAYS)
    assert [each.way for each in found if each.score == "list-relative"] == list(WAYS)
    for each in found:
        assert each.entries == 200
        assert all(low <= rate <= high for rate, low, high in each.tpir.values())
        assert each.tpir[0.1][0] >= each.tpir[0.01][0]


def test_people_whose_frames_vary_are_found_more_often_with_the_mean_of_several_than_with_one() -> None:
    found = compare(people(60, 2.5), unit(RNG.standard_normal((300, 64))), 300, draws=5)
    at = {each.way: each.tpir[0.01][0] for each in found}
    assert at["mean"] > at["one"] + 0.05


def test_whoever_can_be_told_apart_surely_is_always_found() -> None:
    found = compare(people(30, 0.1), unit(RNG.standard_normal((100, 64))), 60, draws=2)
    assert all(each.tpir[0.01] == pytest.approx((1.0, 1.0, 1.0)) for each in found)
