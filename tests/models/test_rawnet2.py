import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.models.rawnet2 import (
    RawNet2,
    RawNet2Config,
    ScaledResidualBlock,
    scale_feature_maps,
)

SMALL = RawNet2Config(taps=65, widths=(4, 6), gru=8, gru_layers=2, embedding=5)


def layer_counts():
    """Parameters by hand, from the sizes in the paper and the baseline."""
    sinc_norm = 2 * 20
    first = 2 * (20 * 20 * 3 + 20) + 2 * 20
    second = first + 2 * 20
    third = (20 * 128 * 3 + 128) + (128 * 128 * 3 + 128) + 2 * 20 + 2 * 128 + (20 * 128 + 128)
    later = 3 * (2 * (128 * 128 * 3 + 128) + 4 * 128)
    gates = 2 * (20 * 20 + 20) + 4 * (128 * 128 + 128)
    gru = 3 * 1024 * (128 + 1024 + 2) + 2 * 3 * 1024 * (1024 + 1024 + 2)
    linear = (1024 * 1024 + 1024) + (1024 * 2 + 2)
    return sinc_norm + first + second + third + later + gates + 2 * 128 + gru + linear


@pytest.fixture(scope="module")
def published():
    return RawNet2()


def test_parameter_count_is_the_published_17_6_million(published):
    count = sum(p.numel() for p in published.parameters())
    assert count == layer_counts()
    assert round(count / 1e6, 1) == 17.6


def test_names_of_the_published_state_dict(published):
    names = set(published.state_dict())
    blocks = {f"block{i}.0.{part}.weight" for i in range(6) for part in ("conv1", "bn2", "conv2")}
    dead = {f"block{i}.0.bn1.running_mean" for i in range(1, 6)}
    gates = {f"fc_attention{i}.0.bias" for i in range(6)}
    rest = {"first_bn.weight", "block2.0.conv_downsample.weight", "bn_before_gru.bias"}
    rest |= {"gru.weight_hh_l2", "fc1_gru.weight", "fc2_gru.bias"}
    assert blocks | dead | gates | rest <= names
    assert "block0.0.bn1.weight" not in names


def test_scaling_is_the_formula():
    gate = torch.nn.Linear(3, 3)
    frames = torch.randn(2, 3, 7)
    scaled = scale_feature_maps(frames, gate)
    for b in range(2):
        weights = torch.sigmoid(gate(torch.stack([frames[b, c].mean() for c in range(3)])))
        for c in range(3):
            expected = frames[b, c] * weights[c] + weights[c]
            torch.testing.assert_close(scaled[b, c], expected)


def test_block_without_its_convolutions_is_a_max_pool():
    block = ScaledResidualBlock(2, 2, first=True).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    frames = torch.tensor([[[1.0, 5.0, 2.0, -3.0, -1.0, -2.0, 9.0], [0.0] * 7]])
    assert block(frames).tolist() == [[[5.0, -1.0], [0.0, 0.0]]]


def test_dead_batch_norm_changes_nothing():
    block = ScaledResidualBlock(4, 4, first=False).eval()
    frames = torch.randn(1, 4, 9)
    before = block(frames)
    with torch.no_grad():
        block.bn1.weight.fill_(7.0)
    assert torch.equal(block(frames), before)


def test_score_orders_as_the_baseline_does():
    torch.manual_seed(0)
    model = RawNet2(SMALL).eval()
    output = model(0.1 * torch.randn(8, 6000))
    once = torch.log_softmax(output.logits, dim=1)
    torch.testing.assert_close(torch.log_softmax(once, dim=1), once)
    score = model.score(output)
    torch.testing.assert_close(-torch.nn.functional.softplus(-score), once[:, 1])
    assert torch.equal(score.argsort(), once[:, 1].argsort())


def test_shortest_input():
    model = RawNet2(SMALL).eval()
    assert model.min_samples == 3**7 + 64
    assert torch.isfinite(model(torch.randn(1, model.min_samples)).logits).all()
    with pytest.raises(ParameterError, match=str(model.min_samples)):
        model(torch.randn(1, model.min_samples - 1))
