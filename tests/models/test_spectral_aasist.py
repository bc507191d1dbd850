import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from voiceguard.errors import ParameterError
from voiceguard.models.spectral_aasist import (
    BlockConfig,
    SpectralAASIST,
    SpectralAASISTConfig,
    StatisticsBranch,
    StridedBlock,
)

WINDOW = 64160


def test_default_map_is_128_by_10_by_50():
    model = SpectralAASIST().eval()
    assert model.feature_map(torch.randn(1, WINDOW)).shape == (1, 128, 10, 50)


def test_default_costs_at_most_400_million_multiplications():
    model = SpectralAASIST().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.randn(1, WINDOW))
    multiplications = counter.get_total_flops() / 2
    assert 0.3e9 < multiplications <= 0.40e9


def test_weights_do_not_depend_on_the_length():
    model = SpectralAASIST().eval()
    shapes = {model(torch.randn(2, n)).embedding.shape for n in (4000, 32000, WINDOW)}
    assert shapes == {(2, 160)}


def test_gain_does_not_matter_with_the_compressed_front_end():
    model = SpectralAASIST().eval()
    waveform = 0.05 * torch.randn(1, 16000)
    torch.testing.assert_close(
        model(8 * waveform).embedding, model(waveform).embedding, rtol=1e-3, atol=1e-4
    )


def test_identity_shortcut_only_where_shapes_agree():
    assert isinstance(StridedBlock(8, 8, stride=(1, 1)).shortcut, torch.nn.Identity)
    assert not isinstance(StridedBlock(8, 8, stride=(2, 1)).shortcut, torch.nn.Identity)
    assert not isinstance(StridedBlock(8, 9, stride=(1, 1)).shortcut, torch.nn.Identity)


def test_statistics_are_mean_and_deviation_over_time():
    branch = StatisticsBranch(6, 12).eval()
    with torch.no_grad():
        branch.proj.weight.copy_(torch.eye(12))
        branch.proj.bias.zero_()
    image = torch.randn(2, 3, 2, 50, generator=torch.Generator().manual_seed(0))
    mean, deviation = branch(image).split(6, dim=1)
    torch.testing.assert_close(mean, image.mean(dim=3).flatten(1), rtol=1e-3, atol=1e-3)
    expected = image.std(dim=3, correction=0).flatten(1)
    torch.testing.assert_close(deviation, expected, rtol=1e-3, atol=1e-3)


def test_front_end_options_arrive():
    config = SpectralAASISTConfig(front_end="log_mel", front_end_options={"mels": 40})
    model = SpectralAASIST(config)
    assert model.front_end.coefficients == 40
    # 40 bins through strides of 2, 2, 2, 2, 1.
    assert model.pos_S.shape[1] == 3


def test_absent_fields_take_defaults():
    assert SpectralAASISTConfig.from_dict({}) == SpectralAASISTConfig()


@pytest.mark.parametrize(
    "plain",
    [
        {"banana": 1},
        {"stem": 0},
        {"statistics": -1},
        {"blocks": []},
        {"graph": {"pool_ratios": [2, 2, 2]}},
    ],
)
def test_bad_config_is_refused(plain):
    with pytest.raises(ParameterError):
        SpectralAASISTConfig.from_dict(plain)


def test_bad_block_is_refused():
    with pytest.raises(ParameterError, match="stride"):
        BlockConfig(8, (0, 1))
