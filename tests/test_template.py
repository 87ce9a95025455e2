"""A track's template averages one person, and begins anew when it is another."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pytest

from edge.custody.retention import Custodian
from edge.errors import BiometricErased
from edge.match.template import TrackTemplate
from tests.sim.clock import HandClock


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


@pytest.fixture
def template() -> TrackTemplate:
    return TrackTemplate(Custodian(HandClock()), uuid4())


def test_the_mean_is_weighted_by_quality_and_has_length_one(template: TrackTemplate) -> None:
    a, b = unit(1, 0.5, 0), unit(1, -0.5, 0)
    template.fold(a, 0.9)
    template.fold(b, 0.3)
    with template.probe() as probe:
        expected = 0.9 * a + 0.3 * b
        assert probe.array == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_an_embedding_that_contradicts_begins_anew_and_says_so(template: TrackTemplate) -> None:
    assert template.fold(unit(1, 0, 0), 1.0)
    assert not template.fold(unit(1, 0.2, 0), 1.0)
    assert template.fold(unit(0, 0, 1), 1.0)
    assert template.restarts == 1
    with template.probe() as probe:
        assert probe.array == pytest.approx(unit(0, 0, 1), abs=1e-6)


def test_someone_who_lingers_unseen_for_three_seconds_is_forgotten() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    template = TrackTemplate(custodian, uuid4())
    template.fold(unit(1, 0, 0), 1.0)
    clock.advance(2.95)
    custodian.sweep()
    with pytest.raises(BiometricErased):
        template.probe()
    assert template.fold(unit(1, 0, 0), 1.0), "a new template begins, and with it new votes"
    assert custodian.breach is None


def test_folding_keeps_a_template_alive() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    template = TrackTemplate(custodian, uuid4())
    for _ in range(5):
        template.fold(unit(1, 0, 0), 1.0)
        clock.advance(2)
        custodian.sweep()
    assert template.folded == 5


def test_erasing_leaves_nothing(template: TrackTemplate) -> None:
    template.fold(unit(1, 0, 0), 1.0)
    template.erase()
    assert template._custodian.totals().live == 0


def test_a_better_embedding_of_the_same_picture_takes_the_place_of_the_one_that_was_folded(
    template: TrackTemplate,
) -> None:
    first, plain, better = unit(1, 0.5, 0), unit(1, -0.5, 0), unit(1, -0.2, 0.3)
    template.fold(first, 0.9)
    template.fold(plain, 0.3)
    template.exchange(plain, better, 0.3)
    assert template.folded == 2
    with template.probe() as probe:
        assert probe.array == pytest.approx(unit(*(0.9 * first + 0.3 * better)), abs=1e-6)


def test_nothing_is_exchanged_in_a_template_that_has_been_erased(template: TrackTemplate) -> None:
    template.fold(unit(1, 0, 0), 1.0)
    template.erase()
    with pytest.raises(BiometricErased):
        template.exchange(unit(1, 0, 0), unit(0, 1, 0), 1.0)


def test_exchanging_keeps_a_template_alive() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    template = TrackTemplate(custodian, uuid4())
    template.fold(unit(1, 0, 0), 1.0)
    clock.advance(2)
    template.exchange(unit(1, 0, 0), unit(1, 0.1, 0), 1.0)
    clock.advance(2)
    custodian.sweep()
    with template.probe() as probe:
        assert probe.array == pytest.approx(unit(1, 0.1, 0), abs=1e-6)
