"""The learned mix of layers."""

import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.features.ssl import LayerMix


def test_it_starts_as_the_mean():
    layers = torch.randn(2, 5, 7, 3)
    torch.testing.assert_close(LayerMix(5)(layers), layers.mean(1))


def test_it_learns_the_layer_that_matters():
    torch.manual_seed(0)
    layers, mix = torch.randn(4, 3, 20, 8), LayerMix(3)
    optimiser = torch.optim.Adam(mix.parameters(), lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        (mix(layers) - layers[:, 1]).square().mean().backward()
        optimiser.step()
    assert mix.weights.sum().item() == pytest.approx(1.0)
    assert mix.weights[1].item() > 0.95


def test_normalised_layers_count_alike_however_loud():
    layers = torch.randn(1, 2, 6, 64)
    loud = layers * torch.tensor([1.0, 100.0])[:, None, None]
    mix = LayerMix(2, normalise=True)
    torch.testing.assert_close(mix(loud), mix(layers), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(2, 4, 7, 3), (2, 5, 7)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ParameterError, match="layers"):
        LayerMix(5)(torch.zeros(shape))


def test_no_layers_are_refused():
    with pytest.raises(ParameterError, match="n_layers"):
        LayerMix(0)
