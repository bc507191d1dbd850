"""Curves and EER: against the official figures, a counting implementation, and Gauss."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard import metrics
from voiceguard.errors import MetricError

SCORES = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=40)
SYSTEMS = ["softmax", "amsoftmax", "ocsoftmax"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_eer_matches_the_official_code(name, system_scores, expected):
    bonafide, spoof, _ = system_scores(name)
    found = metrics.eer(bonafide, spoof)
    assert (found.n_bonafide, found.n_spoof) == (7355, 63882)
    assert found.value == pytest.approx(expected[name]["eer"], abs=1e-9)
    assert found.threshold == pytest.approx(expected[name]["eer_threshold"], abs=1e-9)


@given(SCORES, SCORES)
def test_curve_counts_trials(bonafide, spoof):
    """Without ties between the classes, each point is a count of scores at or below it."""
    spoof = [score + 0.125 for score in spoof]
    curve = metrics.roc(bonafide, spoof)
    for threshold, miss, false_alarm in zip(
        curve.thresholds, curve.miss_rate, curve.false_alarm_rate, strict=True
    ):
        assert miss == pytest.approx(np.mean(np.array(bonafide) <= threshold))
        assert false_alarm == pytest.approx(np.mean(np.array(spoof) > threshold))


@given(SCORES, SCORES)
def test_curve_runs_from_accept_all_to_reject_all(bonafide, spoof):
    curve = metrics.error_curve(bonafide, spoof)
    assert curve.thresholds.size == len(bonafide) + len(spoof) + 1
    assert (curve.miss_rate[0], curve.false_alarm_rate[0]) == (0.0, 1.0)
    assert (curve.miss_rate[-1], curve.false_alarm_rate[-1]) == (1.0, 0.0)
    for rising in (curve.thresholds, curve.miss_rate, -curve.false_alarm_rate):
        assert np.all(np.diff(rising) >= 0)


@given(SCORES, SCORES)
def test_roc_keeps_ties_together(bonafide, spoof):
    curve = metrics.roc(bonafide, spoof)
    assert np.unique(curve.thresholds[1:]).size == curve.thresholds.size - 1
    assert curve.thresholds.size == len(set(bonafide) | set(spoof)) + 1


@given(SCORES, SCORES)
def test_eer_is_unmoved_by_order_and_by_monotone_maps(bonafide, spoof):
    value = metrics.eer(bonafide, spoof).value
    assert metrics.eer(bonafide[::-1], spoof[::-1]).value == value
    assert metrics.eer(np.exp(bonafide), np.exp(spoof)).value == value


def test_ties_are_split_bona_fide_first_as_in_the_official_code():
    """Two equal scores, one a class: the bona fide one is rejected first, and EER is 1."""
    assert metrics.eer([0.0], [0.0]).value == 1.0
    assert metrics.roc([0.0], [0.0]).miss_rate.tolist() == [0.0, 1.0]


def test_eer_of_gaussians_is_the_tail_probability():
    rng = np.random.default_rng(1)
    found = metrics.eer(rng.normal(1.0, 1, 200_000), rng.normal(-1.0, 1, 200_000))
    assert found.value == pytest.approx(NormalDist().cdf(-1.0), abs=2e-3)
    assert found.threshold == pytest.approx(0.0, abs=0.02)


def test_det_of_gaussians_is_a_line_of_slope_minus_one():
    rng = np.random.default_rng(2)
    false_alarm, miss = metrics.det(rng.normal(2.0, 1, 50_000), rng.normal(0.0, 1, 50_000))
    inside = (np.abs(false_alarm) < 2) & (np.abs(miss) < 2)
    slope, offset = np.polyfit(false_alarm[inside], miss[inside], 1)
    assert slope == pytest.approx(-1.0, abs=0.03)
    assert offset == pytest.approx(-2.0, abs=0.05)


def test_det_of_separated_classes_has_no_corner_inside():
    false_alarm, miss = metrics.det([2.0, 3.0], [0.0, 1.0])
    assert false_alarm.size == miss.size == 0


def test_extremes():
    assert metrics.eer([1.0, 2.0], [-1.0, 0.0]).value == 0.0
    assert metrics.eer([-1.0, 0.0], [1.0, 2.0]).value == 1.0


def test_result_stands_for_its_number_and_is_frozen():
    found = metrics.eer([1.0, 0.0], [0.5, -1.0])
    assert float(found) == found.value
    with pytest.raises(AttributeError):
        found.value = 0.0


@pytest.mark.parametrize(
    ("bonafide", "spoof", "words"),
    [
        ([], [1.0], "'bonafide_scores' must hold at least one score"),
        ([1.0], [], "'spoof_scores' must hold at least one score"),
        ([1.0, float("nan")], [1.0], "'bonafide_scores' must be finite. Got nan at index 1"),
        ([1.0], [float("-inf")], "'spoof_scores' must be finite. Got -inf at index 0"),
        ([[1.0]], [1.0], r"must be one-dimensional. Got shape \(1, 1\)"),
        (["high"], [1.0], "must be an array of numbers"),
        (1.0, [1.0], r"Got shape \(\)"),
    ],
)
@pytest.mark.parametrize(
    "metric",
    [metrics.eer, metrics.min_dcf, metrics.act_dcf, metrics.cllr, metrics.min_cllr, metrics.ece],
)
def test_unusable_scores_are_refused_by_name(metric, bonafide, spoof, words):
    with pytest.raises(MetricError, match=words):
        metric(bonafide, spoof)
