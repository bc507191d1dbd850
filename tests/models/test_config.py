"""Configurations refuse what no network can be built from."""

import pytest

from voiceguard.errors import ParameterError
from voiceguard.models.gmm import GMMConfig
from voiceguard.models.lcnn import LCNN, LCNNConfig
from voiceguard.models.rawgat_st import RawGATSTConfig
from voiceguard.models.rawnet2 import RawNet2Config
from voiceguard.models.resnet import ResNet18, ResNet18Config

CONFIGS = [RawNet2Config, RawGATSTConfig, LCNNConfig, ResNet18Config, GMMConfig]


@pytest.mark.parametrize("config", CONFIGS)
def test_plain_form_is_lists_and_comes_back(config):
    plain = config().to_dict()
    assert not any(isinstance(value, tuple) for value in plain.values())
    assert config.from_dict(plain) == config()
    assert config.from_dict({}) == config()


@pytest.mark.parametrize("config", CONFIGS)
def test_unknown_field_is_refused(config):
    with pytest.raises(ParameterError, match=rf"{config.__name__}.*banana"):
        config.from_dict({"banana": 1})


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (RawNet2Config, {"widths": (20,)}),
        (RawNet2Config, {"widths": (20, 0)}),
        (RawNet2Config, {"taps": 0}),
        (RawNet2Config, {"gru_layers": 1.5}),
        (RawGATSTConfig, {"window_samples": 2314}),
        (RawGATSTConfig, {"pool_ratios": (0.5, 0.0, 0.5)}),
        (RawGATSTConfig, {"max_mask": -1}),
        (RawGATSTConfig, {"gat_dims": 32}),
        (LCNNConfig, {"width": 3}),
        (LCNNConfig, {"dropout": 1.0}),
        (LCNNConfig, {"head": "banana"}),
        (LCNNConfig, {"embedding": -1}),
        (ResNet18Config, {"widths": (64, 128, 256)}),
        (ResNet18Config, {"head": "banana"}),
        (GMMConfig, {"components": 0}),
        (GMMConfig, {"variance_floor": 0.0}),
        (GMMConfig, {"variance_floor": float("nan")}),
    ],
)
def test_out_of_range_is_refused_by_name(config, options):
    with pytest.raises(ParameterError, match=f"'{next(iter(options))}'"):
        config(**options)


@pytest.mark.parametrize(("network", "config"), [(LCNN, LCNNConfig), (ResNet18, ResNet18Config)])
@pytest.mark.parametrize("front_end", ["compressed", "log_mel"])
def test_front_end_of_another_kind_is_refused(network, config, front_end):
    options = {"mels": 5} if front_end == "log_mel" else {}
    with pytest.raises(ParameterError, match=f"front_end.*{front_end}"):
        network(config(front_end=front_end, front_end_options=options))
