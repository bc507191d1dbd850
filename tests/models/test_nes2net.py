"""Nes2Net and Nes2Net-X against their wiring, written out step by step."""

import pytest
import torch
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.models.nes2net import ChannelGate, Nes2Net, Nes2NetConfig, Res2Block


def block(weighted):
    torch.manual_seed(2)
    made = Res2Block(6, scale=3, dilation=2, squeeze=2, weighted=weighted)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter.detach(), std=0.5)
    return made.eval()


@pytest.fixture
def frames():
    return torch.randn(2, 6, 11, generator=torch.Generator().manual_seed(0))


def finish(made, joined, frames):
    out = made.bn3(F.relu(made.conv3(joined)))
    hidden = F.relu(made.se.se[1](out.mean(dim=2, keepdim=True)))
    return out * torch.sigmoid(made.se.se[3](hidden)) + frames


def test_plain_block_adds_each_outcome_to_the_next_group(frames):
    made = block(weighted=False)
    with torch.no_grad():
        a, b, c = made.bn1(F.relu(made.conv1(frames))).chunk(3, dim=1)
        first = made.bns[0](F.relu(made.convs[0](a)))
        second = made.bns[1](F.relu(made.convs[1](b + first)))
        expected = finish(made, torch.cat([first, second, c], dim=1), frames)
        torch.testing.assert_close(made(frames), expected, rtol=1e-4, atol=1e-5)


def test_weighted_block_keeps_every_group_and_sums_with_weights(frames):
    made = block(weighted=True)

    def step(i, column):
        image = F.conv1d(column, made.convs[i].weight[..., 0], made.convs[i].bias, 1, 2, 2)
        return made.bns[i](F.relu(image).unsqueeze(3)).squeeze(3)

    with torch.no_grad():
        a, b, c = made.bn1(F.relu(made.conv1(frames))).chunk(3, dim=1)
        columns = [step(0, c), step(0, a)]
        first = sum(w * x for w, x in zip(made.weighted_sum[0].flatten(), columns, strict=True))
        columns = [step(1, x) for x in (*columns, b)]
        second = sum(w * x for w, x in zip(made.weighted_sum[1].flatten(), columns, strict=True))
        expected = finish(made, torch.cat([first, second, c], dim=1), frames)
        torch.testing.assert_close(made(frames), expected, rtol=1e-4, atol=1e-5)


def test_weights_of_a_fresh_block_average():
    made = Res2Block(6, scale=3, dilation=1, squeeze=1, weighted=True)
    assert [w.shape[-1] for w in made.weighted_sum] == [2, 3]
    assert all(w.sum().item() == pytest.approx(1.0) for w in made.weighted_sum)


def test_nested_blocks_chain_and_the_last_group_passes():
    torch.manual_seed(1)
    model = Nes2Net(Nes2NetConfig(dim=12, scales=(3, 2))).eval()
    features = torch.randn(1, 9, 12)
    with torch.no_grad():
        a, b, c = features.transpose(1, 2).chunk(3, dim=1)
        first = model.bns[0](F.relu(model.Build_in_Res2Nets[0](a)))
        second = model.bns[1](F.relu(model.Build_in_Res2Nets[1](b + first)))
        joined = F.relu(model.bn(torch.cat([first, second, c], dim=1)))
        expected = model.fc(joined.mean(dim=2))
        torch.testing.assert_close(model(features).logits, expected, rtol=1e-4, atol=1e-5)


def test_published_names_and_shapes():
    state = Nes2Net().state_dict()
    first = "Build_in_Res2Nets.6."
    assert state[f"{first}convs.6.weight"].shape == (16, 16, 3, 1)
    assert state[f"{first}weighted_sum.6"].shape == (1, 1, 1, 8)
    assert state[f"{first}se.se.1.weight"].shape == state[f"{first}se.se.3.weight"].shape
    assert state["fc.weight"].shape == (2, 1024)
    assert "Build_in_Res2Nets.7.conv1.weight" not in state


def test_gate_hears_real_frames_only(frames):
    gate = ChannelGate(6, 2)
    real = torch.arange(11) < torch.tensor([[11], [4]])
    alone = gate(frames[1:, :, :4])
    torch.testing.assert_close(gate(frames, real)[1:, :, :4], alone)


@pytest.mark.parametrize(
    "options",
    [{"scales": (8, 1)}, {"scales": (3, 3)}, {"squeeze": 129}, {"dilation": 0}, {"dim": 1000}],
)
def test_bad_config_is_refused(options):
    with pytest.raises(ParameterError, match=r"scales|squeeze|dilation"):
        Nes2NetConfig(**options)
