import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from voiceguard.models.mixture import FrameSample, Mixture


def test_density_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    frames = np.concatenate([rng.normal(m, 0.1 + m, (500, 6)) for m in (0.0, 1.0, 3.0)])
    fitted = GaussianMixture(5, covariance_type="diag", random_state=0).fit(frames)
    mixture = Mixture(fitted.weights_, fitted.means_, fitted.covariances_)
    probes = rng.normal(1.0, 3.0, (5000, 6))
    expected = fitted.score_samples(probes)
    np.testing.assert_allclose(mixture.log_likelihood(probes), expected, rtol=1e-9, atol=1e-9)


def test_density_integrates_to_one():
    mixture = Mixture(np.array([0.3, 0.7]), np.array([[-2.0], [1.0]]), np.array([[0.5], [2.0]]))
    grid = np.linspace(-30.0, 30.0, 20001)
    density = np.exp(mixture.log_likelihood(grid[:, None]))
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=1e-9)


def test_far_frames_do_not_underflow():
    mixture = Mixture(np.array([1.0]), np.zeros((1, 2)), np.full((1, 2), 1e-6))
    assert mixture.log_likelihood(np.full((1, 2), 1e3))[0] == pytest.approx(-1e12, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(0, 40), max_size=8))
def test_sample_does_not_depend_on_how_the_stream_is_cut(limit, lengths):
    stream = np.arange(sum(lengths), dtype=float)[:, None]
    whole = FrameSample(limit, np.random.default_rng(3))
    whole.add(stream)
    parts = FrameSample(limit, np.random.default_rng(3))
    for part in np.split(stream, np.cumsum(lengths)[:-1] if lengths else []):
        parts.add(part)
    assert np.array_equal(whole.frames(), parts.frames())
    kept = whole.frames()[:, 0]
    assert len(kept) == min(limit, len(stream))
    assert (np.diff(kept) > 0).all() and set(kept) <= set(stream[:, 0])


def test_sample_is_uniform():
    counts = np.zeros(10)
    for seed in range(2000):
        sample = FrameSample(3, np.random.default_rng(seed))
        for row in np.arange(10.0).reshape(10, 1, 1):
            sample.add(row)
        counts[sample.frames()[:, 0].astype(int)] += 1
    # 600 expected of each, standard deviation 20.
    assert np.abs(counts - 600).max() < 100
