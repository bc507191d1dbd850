"""Bootstrap intervals: coverage, groups drawn whole, seeds."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from voiceguard import metrics
from voiceguard.errors import MetricError, ParameterError


def draw(seed, n=400, gap=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(gap, 1, n), rng.normal(-gap, 1, n)


def test_the_true_rate_is_covered_about_as_often_as_stated():
    truth = NormalDist().cdf(-1.0)
    covered = 0
    for seed in range(100):
        found = metrics.bootstrap(
            metrics.eer, *draw(seed, n=200), n_resamples=100, confidence=0.9, seed=seed
        )
        covered += found.low <= truth <= found.high
    assert 80 <= covered <= 98


def test_the_same_seed_gives_the_same_interval():
    once, again, other = (
        metrics.bootstrap(metrics.eer, *draw(0), n_resamples=50, seed=seed) for seed in (1, 1, 2)
    )
    assert once == again
    assert once != other
    assert once.value == metrics.eer(*draw(0)).value


def test_more_trials_narrow_the_interval():
    narrow = metrics.bootstrap(metrics.eer, *draw(0, n=4000), n_resamples=100)
    wide = metrics.bootstrap(metrics.eer, *draw(0, n=100), n_resamples=100)
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2


def test_groups_are_drawn_whole_and_jointly():
    """Ten trials a speaker: every count is the same within a speaker, across both classes."""
    speakers = np.repeat([f"s{i}" for i in range(8)], 10)
    seen = []

    def record(bonafide, spoof):
        seen.append((bonafide, spoof))
        return 0.0

    scores = np.repeat(np.arange(8.0), 10)
    metrics.bootstrap(
        record, scores, scores, bonafide_groups=speakers, spoof_groups=speakers, n_resamples=20
    )
    for bonafide, spoof in seen[:20]:
        counts = np.bincount(bonafide.astype(int), minlength=8)
        assert np.all(counts % 10 == 0)
        assert counts.sum() == 80
        assert np.array_equal(bonafide, spoof)


def test_attacks_alone_may_be_grouped():
    bonafide, spoof = draw(3, n=90)
    attacks = np.repeat(["A01", "A02", "A03"], 30)
    spoof = spoof + np.repeat([0.0, 2.0, -2.0], 30)
    by_attack = metrics.bootstrap(
        metrics.eer, bonafide, spoof, spoof_groups=attacks, n_resamples=200
    )
    by_trial = metrics.bootstrap(metrics.eer, bonafide, spoof, n_resamples=200)
    assert by_attack.high - by_attack.low > 1.5 * (by_trial.high - by_trial.low)


def test_metrics_see_every_score_that_they_are_given():
    """Resamples have the size of the data, and the spread of a mean is that of theory."""
    rng = np.random.default_rng(8)
    values = rng.normal(0, 1, 1000)
    found = metrics.bootstrap(
        lambda bonafide, spoof: float(np.mean(bonafide)), values, [0.0], n_resamples=500
    )
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(1000), rel=0.15)


def test_draws_without_both_classes_are_drawn_again():
    """Of two speakers one has the bona fide trials and one the spoofs: half of all draws fail."""
    found = metrics.bootstrap(
        metrics.eer,
        [1.0, 2.0],
        [0.0],
        bonafide_groups=["a", "a"],
        spoof_groups=["b"],
        n_resamples=50,
    )
    assert (found.low, found.high) == (0.0, 0.0)


def test_groups_must_fit():
    with pytest.raises(MetricError, match="'bonafide_groups' must name a group for each of the 1"):
        metrics.bootstrap(metrics.eer, [1.0], [0.0], bonafide_groups=["a", "b"])


def test_parameters_are_checked():
    with pytest.raises(ParameterError, match="'n_resamples' parameter of bootstrap"):
        metrics.bootstrap(metrics.eer, [1.0], [0.0], n_resamples=0)
    with pytest.raises(ParameterError, match="'confidence' parameter of bootstrap"):
        metrics.bootstrap(metrics.eer, [1.0], [0.0], confidence=95)
