"""Detection costs: against the official figures and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard import metrics
from voiceguard.errors import ParameterError

SCORES = st.lists(st.floats(-5, 5), min_size=1, max_size=40)


@pytest.mark.parametrize("name", ["softmax", "amsoftmax", "ocsoftmax"])
def test_costs_match_the_official_code(name, system_scores, expected):
    bonafide, spoof, _ = system_scores(name)
    assert metrics.min_dcf(bonafide, spoof).value == pytest.approx(
        expected[name]["min_dcf"], abs=1e-9
    )
    assert metrics.act_dcf(bonafide, spoof).value == pytest.approx(
        expected[name]["act_dcf"], abs=1e-9
    )


def test_asvspoof5_costs_match_the_official_code(asvspoof5_dev, expected):
    cm, kind = asvspoof5_dev[:, 1], asvspoof5_dev[:, 2]
    official = expected["asvspoof5_dev_scores"]["cm"]
    bonafide, spoof = cm[kind != 0], cm[kind == 0]
    assert metrics.eer(bonafide, spoof).value == pytest.approx(official["eer"], abs=1e-9)
    assert metrics.min_dcf(bonafide, spoof).value == pytest.approx(official["min_dcf"], abs=1e-9)
    assert metrics.act_dcf(bonafide, spoof).value == pytest.approx(official["act_dcf"], abs=1e-9)


def test_threshold_of_the_challenge():
    assert metrics.bayes_threshold() == pytest.approx(-math.log(1.9))
    assert metrics.bayes_threshold(p_spoof=0.5, c_fa=1.0) == 0.0


def test_actual_cost_by_hand():
    """One of two bona fide trials rejected, one of four spoofs accepted; the line is at 0."""
    found = metrics.act_dcf([1.0, -1.0], [0.0, -1.0, -1.0, -2.0], p_spoof=0.5, c_miss=2, c_fa=2)
    assert (found.miss_rate, found.false_alarm_rate) == (0.5, 0.25)
    assert found.value == pytest.approx(0.75)


@given(SCORES, SCORES, st.floats(0.01, 0.99))
def test_minimum_bounds(bonafide, spoof, prior):
    """No more than what ignoring the score costs, and no more than at the grouped thresholds."""
    found = metrics.min_dcf(bonafide, spoof, p_spoof=prior, c_fa=3.0)
    assert 0.0 <= found.value <= 1.0 + 1e-12
    curve = metrics.roc(bonafide, spoof)
    costs = (1 - prior) * curve.miss_rate + 3 * prior * curve.false_alarm_rate
    assert found.value <= np.min(costs) / min(1 - prior, 3 * prior) + 1e-12


@given(st.lists(st.integers(-9, 9), min_size=1), st.lists(st.integers(-9, 9), min_size=1))
def test_actual_is_never_below_the_minimum(bonafide, spoof):
    bonafide, spoof = np.array(bonafide) + 0.25, np.array(spoof) + 0.75
    actual, least = metrics.act_dcf(bonafide, spoof), metrics.min_dcf(bonafide, spoof)
    assert actual.value >= least.value - 1e-12


@pytest.mark.parametrize("metric", [metrics.min_dcf, metrics.act_dcf])
@pytest.mark.parametrize(
    "options", [{"p_spoof": 0.0}, {"p_spoof": 1.0}, {"c_miss": 0.0}, {"c_fa": float("inf")}]
)
def test_values_outside_the_domain_are_refused(metric, options):
    (name,) = options
    with pytest.raises(ParameterError, match=f"The '{name}' parameter of {metric.__name__} must"):
        metric([1.0], [0.0], **options)
