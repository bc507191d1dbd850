"""Cllr and min Cllr: against the official figures, scikit-learn's isotonic fit, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard import metrics

SCORES = st.lists(st.integers(-12, 12), min_size=1, max_size=60)


def isotonic_cllr(bonafide, spoof):
    """The same figure by scikit-learn: isotonic posteriors, the prior taken off again."""
    from sklearn.isotonic import IsotonicRegression

    values = np.concatenate((bonafide, spoof)).astype(float)
    is_bonafide = np.repeat((1.0, 0.0), (len(bonafide), len(spoof)))
    posterior = IsotonicRegression(y_min=0, y_max=1).fit(values, is_bonafide).predict(values)
    with np.errstate(divide="ignore"):
        llr = np.log(posterior) - np.log1p(-posterior) - math.log(len(bonafide) / len(spoof))
    bonafide_cost = np.mean(np.logaddexp(0, -llr[: len(bonafide)]))
    spoof_cost = np.mean(np.logaddexp(0, llr[len(bonafide) :]))
    return (bonafide_cost + spoof_cost) / 2 / math.log(2)


@pytest.mark.parametrize("name", ["softmax", "amsoftmax", "ocsoftmax"])
def test_cllr_matches_the_official_code(name, system_scores, expected):
    bonafide, spoof, _ = system_scores(name)
    found = metrics.cllr(bonafide, spoof).value
    assert found == pytest.approx(expected[name]["cllr_bits"], abs=1e-9)


def test_min_cllr_of_a_published_system_agrees_with_scikit_learn(system_scores):
    bonafide, spoof, _ = system_scores("ocsoftmax")
    assert metrics.min_cllr(bonafide, spoof).value == pytest.approx(
        isotonic_cllr(bonafide, spoof), abs=1e-9
    )


@settings(max_examples=60)
@given(SCORES, SCORES)
def test_min_cllr_agrees_with_scikit_learn(bonafide, spoof):
    assert metrics.min_cllr(bonafide, spoof).value == pytest.approx(
        isotonic_cllr(bonafide, spoof), abs=1e-9
    )


@given(SCORES, SCORES)
def test_no_affine_calibration_beats_the_minimum(bonafide, spoof):
    least = metrics.min_cllr(bonafide, spoof).value
    assert 0.0 <= least <= 1.0 + 1e-12
    for slope, offset in ((1.0, 0.0), (0.2, 0.3), (3.0, -1.0)):
        llrs = [slope * np.array(scores) + offset for scores in (bonafide, spoof)]
        assert metrics.cllr(*llrs).value >= least - 1e-12


def test_scores_that_say_nothing_cost_one_bit():
    assert metrics.cllr([0.0] * 3, [0.0] * 5).value == pytest.approx(1.0)
    assert metrics.min_cllr([7.0] * 3, [7.0] * 5).value == pytest.approx(1.0)


def test_huge_ratios_do_not_overflow():
    found = metrics.cllr([-2000.0], [2000.0])
    assert found.value == pytest.approx(2000.0 / math.log(2))
    assert metrics.cllr([2000.0], [-2000.0]).value == 0.0


def test_separated_classes_cost_nothing_at_best():
    assert metrics.min_cllr([2.0, 3.0], [0.0, 1.0]).value == 0.0


def test_true_llrs_of_gaussians_need_no_calibration():
    """For N(+1, 1) against N(-1, 1) the llr of a score s is 2 s."""
    rng = np.random.default_rng(3)
    bonafide, spoof = 2 * rng.normal(1, 1, 50_000), 2 * rng.normal(-1, 1, 50_000)
    gap = metrics.cllr(bonafide, spoof).value - metrics.min_cllr(bonafide, spoof).value
    assert 0.0 <= gap < 2e-3
