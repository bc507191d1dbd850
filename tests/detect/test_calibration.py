"""Calibration: the true likelihood ratio is recovered where it is known, and Cllr only falls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.detect.calibration import Calibration, fit, operating_points
from voiceguard.errors import CalibrationError
from voiceguard.results import Label


def labels(n_human: int, n_spoof: int) -> list[str]:
    return ["bonafide"] * n_human + ["spoof"] * n_spoof


def cllr(human: np.ndarray, spoof: np.ndarray) -> float:
    """Straight from the definition, in bits."""
    return float(
        (np.mean(np.logaddexp(0, -human)) + np.mean(np.logaddexp(0, spoof))) / (2 * math.log(2))
    )


def gaussians(seed, n, *, gap=2.0, scale=1.0, shift=0.0):
    """Scores of two unit Gaussians; their true llr is gap * x, x before scale and shift."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(gap / 2, 1, n), rng.normal(-gap / 2, 1, n)])
    return scale * x + shift, gap * x


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.01, 7.0), (250.0, -3000.0)])
def test_the_true_ratio_of_two_gaussians_is_recovered(scale, shift):
    """Two unit Gaussians a distance d apart have llr d * x exactly (x from their midpoint)."""
    scores, truth = gaussians(1, 40_000, scale=scale, shift=shift)
    fitted = fit(scores, labels(40_000, 40_000))
    assert fitted.slope == pytest.approx(2.0 / scale, rel=0.03)
    np.testing.assert_allclose(fitted.apply(scores), truth, atol=0.25)


def test_unequal_classes_do_not_move_the_ratio():
    """Ten times as many spoofs: a fit at the data's own prior would be off by ln 10."""
    rng = np.random.default_rng(2)
    scores = np.concatenate([rng.normal(1, 1, 5_000), rng.normal(-1, 1, 50_000)])
    fitted = fit(scores, labels(5_000, 50_000))
    assert fitted.offset == pytest.approx(0.0, abs=0.1)
    assert fitted.prior == 0.5


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(20, 200),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-1e3, 1e3),
)
def test_cllr_on_the_data_of_the_fit_never_rises(seed, n, scale, shift):
    scores, _ = gaussians(seed, n, scale=scale, shift=shift)
    fitted = fit(scores, labels(n, n))
    after = cllr(*np.split(fitted.apply(scores), 2))
    assert after <= cllr(*np.split(scores, 2)) + 1e-6
    assert after <= 1.0 + 1e-6, "no worse than knowing nothing"
    for slope, offset in ((1.02, 0.0), (0.98, 0.0), (1.0, 0.05), (1.0, -0.05)):
        moved = slope * fitted.apply(scores) + offset
        assert after <= cllr(*np.split(moved, 2)) + 1e-9, "the minimum of all affine maps"


@given(
    slope=st.floats(1e-3, 1e3),
    offset=st.floats(-1e3, 1e3),
    scores=st.lists(st.integers(-1000, 1000), min_size=2, max_size=50, unique=True),
)
def test_the_map_is_monotone(slope, offset, scores):
    values = Calibration(slope, offset).apply(sorted(scores))
    assert (np.diff(values) > 0).all()


def test_upside_down_scores_are_told():
    scores, _ = gaussians(3, 500)
    with pytest.raises(CalibrationError, match="upside down"):
        fit(-scores, labels(500, 500))


def test_constant_scores_tell_nothing():
    with pytest.raises(CalibrationError, match="tell nothing"):
        fit([1.0] * 8, labels(4, 4))


def test_separated_classes_give_a_finite_map():
    fitted = fit([1.0, 2.0, 3.0, -1.0, -2.0, -3.0], labels(3, 3), data="six clips")
    assert fitted.method == "logistic, Platt targets"
    assert fitted.data == "six clips"
    np.testing.assert_allclose(fitted.apply([0.0]), 0.0, atol=1e-6)
    # Platt's target for three of a kind is 4/5: odds of four.
    assert 0.0 < fitted.apply([2.0])[0] < 3.0


def test_labels_may_be_the_enum():
    assert fit([1.0, 0.0, 0.5, -1.0], [Label.BONAFIDE] * 2 + [Label.SPOOF] * 2).slope > 0


@pytest.mark.parametrize(
    ("scores", "names", "message"),
    [
        ([1.0, 2.0], ["bonafide"], "one label a score"),
        ([[1.0], [2.0]], labels(1, 1), "one label a score"),
        ([1.0, math.nan], labels(1, 1), "finite"),
        ([1.0, -math.inf], labels(1, 1), "finite"),
        ([1.0, 2.0], ["bonafide", "fake"], "'fake'"),
        ([1.0, 2.0], labels(2, 0), "'spoof'"),
        ([1.0, 2.0], labels(0, 2), "'bonafide'"),
    ],
)
def test_bad_data_is_refused(scores, names, message):
    for call in (fit, lambda s, n: operating_points(s, n, data="")):
        with pytest.raises(CalibrationError, match=message):
            call(scores, names)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"slope": 0.0, "offset": 0.0}, "slope"),
        ({"slope": -1.0, "offset": 0.0}, "slope"),
        ({"slope": math.nan, "offset": 0.0}, "slope"),
        ({"slope": 1.0, "offset": math.inf}, "offset"),
        ({"slope": 1.0, "offset": 0.0, "prior": 1.0}, "prior"),
    ],
)
def test_bad_maps_are_refused(fields, name):
    with pytest.raises(CalibrationError, match=f"'{name}' parameter of Calibration"):
        Calibration(**fields)


scores_of_a_class = st.lists(st.floats(-20, 20), min_size=1, max_size=60)


@given(scores_of_a_class, scores_of_a_class)
def test_operating_points_keep_their_promise(human, spoof):
    """The rates are recounted one by one, by the rule that the detector uses."""
    points = operating_points(human + spoof, labels(len(human), len(spoof)), data="d")
    by_name = {point.name: point for point in points}
    for point in points:
        judged = [abs(x - point.threshold) >= point.margin for x in human + spoof]
        flagged = sum(x < point.threshold for x, j in zip(human, judged, strict=False) if j)
        passed = sum(
            x >= point.threshold for x, j in zip(spoof, judged[len(human) :], strict=True) if j
        )
        flagged, passed = flagged / len(human), passed / len(spoof)
        assert point.false_alarm_rate == pytest.approx(flagged)
        assert point.miss_rate == pytest.approx(passed)
        assert point.data == "d"
    assert by_name["low_false_alarm"].false_alarm_rate <= 0.01
    assert by_name["screening"].miss_rate <= 0.05


def test_operating_points_of_two_gaussians():
    """Phi(-1) = 15.87 % at the middle; the others at the quantiles of the normal distribution."""
    _, llr = gaussians(4, 200_000)
    points = {p.name: p for p in operating_points(llr, labels(200_000, 200_000), data="d")}
    assert points["balanced"].miss_rate == pytest.approx(0.1587, abs=0.003)
    assert points["balanced"].false_alarm_rate == pytest.approx(0.1587, abs=0.003)
    assert points["balanced"].threshold == pytest.approx(0.0, abs=0.03)
    assert points["low_false_alarm"].threshold == pytest.approx(2 * (1 - 2.3263), abs=0.05)
    assert points["screening"].threshold == pytest.approx(2 * (-1 + 1.6449), abs=0.05)
    # |llr| lies under 0.828 in a fifth of the cases: Phi(-0.586) - Phi(-1.414).
    assert points["cautious"].margin == pytest.approx(0.828, abs=0.03)
    assert points["cautious"].threshold == points["balanced"].threshold
    assert points["cautious"].miss_rate == pytest.approx(0.0787, abs=0.003)


def test_being_cautious_withholds_a_fifth_and_no_other_point_does():
    _, llr = gaussians(4, 20_000)
    points = operating_points(llr, labels(20_000, 20_000), data="d")
    for point in points:
        withheld = np.mean(np.abs(llr - point.threshold) < point.margin)
        assert withheld == pytest.approx(0.2 if point.name == "cautious" else 0.0, abs=1e-3)
