import pytest
import torch
from torch.nn import functional

from voiceguard.errors import ParameterError
from voiceguard.models.lcnn import BLSTM, LCNN, LCNNConfig, MaxFeatureMap


def convolution(before, after, kernel):
    return before * after * kernel**2 + after


# Input and output channels before the max-feature-map, and kernel, as the baseline lists them.
LISTED = [(1, 64, 5), (32, 64, 1), (32, 96, 3), (48, 96, 1), (48, 128, 3)]
LISTED += [(64, 128, 1), (64, 64, 3), (32, 64, 1), (32, 64, 3)]


@pytest.mark.parametrize("head", ["sigmoid", "p2sgrad"])
def test_parameter_count_is_that_of_the_listed_layers(head):
    embedding = 64 if head == "p2sgrad" else 0
    model = LCNN(LCNNConfig(embedding=embedding, head=head))
    recurrent = 2 * 2 * 4 * 48 * (96 + 48 + 2)
    last = 96 + 1 if head == "sigmoid" else (96 * 64 + 64) + 2 * 64
    expected = sum(convolution(*layer) for layer in LISTED) + recurrent + last
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.embedding_dim == (64 if head == "p2sgrad" else 96)


def test_max_feature_map_takes_the_larger_half():
    image = torch.tensor([1.0, -2.0, 0.5, 3.0]).view(1, 4, 1, 1)
    assert MaxFeatureMap(2)(image).flatten().tolist() == [1.0, 3.0]


def test_recurrent_layer_reads_both_ways():
    torch.manual_seed(0)
    layer = BLSTM(4)
    steps = torch.randn(1, 5, 4)
    changed = steps.clone()
    changed[0, 2] += 1.0
    difference = (layer(changed) - layer(steps)).abs()[0]
    forward, backward = difference[:, :2].amax(dim=1), difference[:, 2:].amax(dim=1)
    assert (forward > 0).tolist() == [False, False, True, True, True]
    assert (backward > 0).tolist() == [True, True, True, False, False]


def test_score_is_the_activation_before_the_sigmoid():
    model = LCNN(LCNNConfig(width=4)).eval()
    output = model(0.1 * torch.randn(3, 8000))
    activation = model.head.linear(output.embedding).squeeze(1)
    torch.testing.assert_close(model.score(output), activation)
    target = torch.tensor([0, 1, 1])
    torch.testing.assert_close(
        functional.cross_entropy(output.logits, target),
        functional.binary_cross_entropy_with_logits(activation, target.float()),
    )


def test_shortest_input_is_sixteen_frames():
    model = LCNN(LCNNConfig(width=4)).eval()
    samples = 15 * 160
    assert model.front_end.frames(samples) == 16
    assert torch.isfinite(model(torch.randn(1, samples)).logits).all()
    with pytest.raises(ParameterError, match="16 frames"):
        model(torch.randn(1, samples - 1))
