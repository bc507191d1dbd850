"""Covariances against numpy's, axes that whiten, and a probe that moves into a back end."""

import numpy as np
import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.models.covariance import (
    CovarianceConfig,
    CovarianceProbe,
    pool_covariances,
    whitening_axes,
)
from voiceguard.models.probe import LinearProbe, pool_statistics

DIM, AXES = 12, 4
UPPER = np.triu_indices(AXES)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def frames(rng):
    """Frames whose columns lean on each other and differ in scale."""
    return (rng.normal(size=(900, DIM)) @ rng.normal(size=(DIM, DIM)) * np.logspace(-1, 1, DIM)) + 5


def test_whitened_frames_have_unit_covariance(frames):
    axes = whitening_axes(frames, AXES)
    assert axes.shape == (AXES, DIM)
    found = np.cov(axes.astype(np.float64) @ frames.T, bias=True)
    np.testing.assert_allclose(found, np.eye(AXES), atol=1e-4)


def test_leading_axes_come_first_and_the_scale_of_a_column_says_nothing(frames):
    axes = whitening_axes(frames, DIM)
    standard = (frames - frames.mean(0)) / frames.std(0)
    # Undo the whitening: what is left is how much of the standardised frames an axis carries.
    spread = 1 / np.linalg.norm(axes * frames.std(0), axis=1)
    assert np.all(np.diff(spread) < 1e-6)
    assert np.sum(spread**2) == pytest.approx(np.trace(np.cov(standard.T, bias=True)), rel=1e-3)
    scaled = whitening_axes(frames * np.linspace(1, 3, DIM), AXES) * np.linspace(1, 3, DIM)
    np.testing.assert_allclose(np.abs(scaled), np.abs(axes[:AXES]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("axes", [0, DIM + 1, 900])
def test_axes_that_are_not_there_are_refused(frames, axes):
    with pytest.raises(ParameterError, match="'axes'"):
        whitening_axes(frames, axes)


def test_covariances_are_those_of_numpy(rng):
    x = rng.normal(size=(3, 40, DIM)).astype(np.float32)
    projection = rng.normal(size=(AXES, DIM)).astype(np.float32)
    found = pool_covariances(torch.from_numpy(x), torch.from_numpy(projection)).numpy()
    for row, clip in zip(found, x, strict=True):
        expected = np.cov(projection @ clip.T, bias=True)[UPPER]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)


def test_an_offset_of_a_clip_changes_nothing_and_padding_neither(rng):
    x = torch.from_numpy(rng.normal(size=(2, 30, DIM)).astype(np.float32))
    projection = torch.from_numpy(rng.normal(size=(AXES, DIM)).astype(np.float32))
    plain = pool_covariances(x, projection)
    torch.testing.assert_close(pool_covariances(x + 7.0, projection), plain, rtol=1e-3, atol=1e-3)
    padded = torch.cat([x, 100 * torch.ones(2, 9, DIM)], dim=1)
    real = pool_covariances(padded, projection, torch.tensor([30, 30]))
    torch.testing.assert_close(real, plain, rtol=1e-4, atol=1e-4)
    half = pool_covariances(x.bfloat16(), projection)
    assert half.dtype == torch.float32


def test_a_probe_moves_into_the_back_end(rng):
    x = rng.normal(size=(60, 25, DIM)).astype(np.float32)
    # The classes differ in nothing but how two columns move together.
    x[::2, :, 1] = 0.8 * x[::2, :, 0] + 0.6 * x[::2, :, 1]
    projection = np.eye(AXES, DIM, dtype=np.float32)
    waves = torch.from_numpy(x)
    pooled = torch.cat(
        [pool_statistics(waves), pool_covariances(waves, torch.from_numpy(projection))], dim=1
    ).numpy()
    labels = ["bonafide", "spoof"] * 30
    probe = LinearProbe(C=0.01).fit(pooled, labels)
    assert np.mean((probe.decision_function(pooled) > 0) == (np.arange(60) % 2 == 0)) > 0.9
    back_end = CovarianceProbe.from_probe(probe, projection)
    with torch.inference_mode():
        output = back_end(waves)
    np.testing.assert_allclose(
        back_end.score(output).numpy(), probe.decision_function(pooled), atol=1e-4
    )
    assert output.embedding.shape == (60, back_end.embedding_dim) == (60, 2 * DIM)


def test_a_probe_on_other_features_is_refused(rng):
    probe = LinearProbe().fit(rng.normal(size=(8, 2 * DIM)), ["bonafide", "spoof"] * 4)
    with pytest.raises(ParameterError, match="must take 24"):
        CovarianceProbe.from_probe(probe, np.eye(AXES, DIM))


@pytest.mark.parametrize("options", [{"dim": 0}, {"axes": 0}, {"dim": 8, "axes": 9}])
def test_bad_config_is_refused(options):
    with pytest.raises(ParameterError):
        CovarianceConfig(**options)
