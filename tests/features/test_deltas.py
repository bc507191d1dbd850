import librosa
import numpy as np
import torch

from voiceguard.features.deltas import difference, regression


def test_regression_of_a_line_is_its_slope():
    line = 0.25 * torch.arange(20.0).reshape(1, 1, -1)
    torch.testing.assert_close(regression(line)[..., 3:-3], torch.full((1, 1, 14), 0.25))


def test_regression_matches_librosa():
    features = torch.randn(1, 5, 40, generator=torch.Generator().manual_seed(0))
    expected = librosa.feature.delta(features[0].numpy(), width=7, mode="nearest")
    assert np.allclose(regression(features)[0].numpy(), expected, atol=1e-5)


def test_difference_is_next_minus_previous():
    features = torch.tensor([[[1.0, 4.0, 9.0, 16.0]]])
    assert difference(features).tolist() == [[[3.0, 8.0, 12.0, 7.0]]]
