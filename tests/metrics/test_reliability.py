"""Expected calibration error: by hand, on calibrated scores, and free of the test set's make-up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard import metrics
from voiceguard.errors import ParameterError
from voiceguard.results import posterior_spoof

LLRS = st.lists(st.floats(-30, 30), min_size=1, max_size=40)


def test_by_hand():
    """Stated 0.2 where 0 is spoof, stated 0.8 where half the weight is: 0.5 x 0.2 + ..."""
    llr = math.log(4.0)
    found = metrics.ece([llr, -llr], [-llr, -llr], n_bins=2)
    low, high = found.bins
    assert (low.p_spoof, low.spoof_share, low.weight) == pytest.approx((0.2, 0.0, 0.25))
    assert (high.p_spoof, high.spoof_share, high.weight) == pytest.approx((0.8, 2 / 3, 0.75))
    assert found.value == pytest.approx(0.25 * 0.2 + 0.75 * (0.8 - 2 / 3))
    assert found.worst == pytest.approx(0.2)


@given(LLRS, LLRS, st.floats(0.01, 0.99), st.integers(1, 20))
def test_bins_hold_every_trial_once(bonafide, spoof, prior, n_bins):
    found = metrics.ece(bonafide, spoof, prior_spoof=prior, n_bins=n_bins)
    assert sum(one.n_bonafide for one in found.bins) == len(bonafide)
    assert sum(one.n_spoof for one in found.bins) == len(spoof)
    assert sum(one.weight for one in found.bins) == pytest.approx(1.0)
    share = sum(one.weight * one.spoof_share for one in found.bins)
    assert share == pytest.approx(prior)
    # With one bin both are the same, but for the rounding of its weight.
    assert 0.0 <= found.value <= found.worst * (1 + 1e-12) <= 1.0 + 1e-12
    for one in found.bins:
        assert one.low - 1e-12 <= one.p_spoof <= one.high + 1e-12


@given(LLRS, LLRS)
def test_repeating_one_class_changes_nothing(bonafide, spoof):
    once, thrice = metrics.ece(bonafide, spoof), metrics.ece(bonafide * 3, spoof)
    assert thrice.value == pytest.approx(once.value, abs=1e-9)


@pytest.mark.parametrize("prior", [0.05, 0.5, 0.9])
def test_true_llrs_are_calibrated_at_every_prior(prior):
    rng = np.random.default_rng(7)
    bonafide, spoof = 2 * rng.normal(1, 1, 100_000), 2 * rng.normal(-1, 1, 100_000)
    assert metrics.ece(bonafide, spoof, prior_spoof=prior).value < 5e-3
    assert metrics.ece(3 * bonafide, 3 * spoof, prior_spoof=prior).value > 0.02


def test_posterior_is_the_one_of_the_results():
    found = metrics.ece([1.3], [1.3], prior_spoof=0.2)
    assert found.bins[0].p_spoof == pytest.approx(posterior_spoof(1.3, 0.2))


def test_parameters_are_checked():
    with pytest.raises(ParameterError, match="'n_bins' parameter of ece"):
        metrics.ece([1.0], [0.0], n_bins=0)
    with pytest.raises(ParameterError, match="'prior_spoof' parameter of ece"):
        metrics.ece([1.0], [0.0], prior_spoof=1.0)
