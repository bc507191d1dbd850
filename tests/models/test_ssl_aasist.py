"""SSL-AASIST at its published size: names, shapes, and the two quirks of its weights."""

import pytest
import torch
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.models.back_end import load_published
from voiceguard.models.ssl_aasist import SSLAASIST, SSLAASISTConfig

LINEAR = ("weight", "bias")
NORM = ("weight", "bias", "running_mean", "running_var")


def linear(name, before, after, *kernel):
    return {f"{name}.weight": (after, before, *kernel), f"{name}.bias": (after,)}


def norm(name, width):
    return {f"{name}.{part}": (width,) for part in NORM} | {f"{name}.num_batches_tracked": ()}


def encoder_shapes():
    shapes = {**linear("LL", 1024, 128), **norm("first_bn", 1), **norm("first_bn1", 64)}
    for i, (a, b) in enumerate([(1, 32), (32, 32), (32, 64), (64, 64), (64, 64), (64, 64)]):
        block = f"encoder.{i}.0"
        shapes |= linear(f"{block}.conv1", a, b, 2, 3) | linear(f"{block}.conv2", b, b, 2, 3)
        shapes |= norm(f"{block}.bn2", b) | (norm(f"{block}.bn1", a) if i else {})
        shapes |= linear(f"{block}.conv_downsample", a, b, 1, 3) if a != b else {}
    attention = linear("attention.0", 64, 128, 1, 1) | linear("attention.3", 128, 64, 1, 1)
    return {**shapes, **attention, **norm("attention.2", 128)}


def layer_shapes(layer, before, after, *, types=()):
    """Graph attention; with more than one type of node the master's part comes on top."""
    shapes = norm(f"{layer}.bn", after)
    for part in ("att_proj", "proj_with_att", "proj_without_att"):
        for kind in ("", "M") if types else ("",):
            shapes |= linear(f"{layer}.{part}{kind}", before, after)
    for kind in types or ("",):
        shapes[f"{layer}.att_weight{kind}"] = (after, 1)
    for part in ("proj_type1", "proj_type2") if types else ():
        shapes |= linear(f"{layer}.{part}", before, before)
    return shapes


def published_shapes():
    """Every tensor of the back end in the published checkpoints, from its description."""
    shapes = encoder_shapes() | linear("out_layer", 160, 2)
    shapes |= {"pos_S": (1, 42, 64), "master1": (1, 1, 64), "master2": (1, 1, 64)}
    for name in ("S", "T"):
        shapes |= layer_shapes(f"GAT_layer_{name}", 64, 64) | linear(f"pool_{name}.proj", 64, 1)
    for name, before in (("11", 64), ("12", 32), ("21", 64), ("22", 32)):
        layer = f"HtrgGAT_layer_ST{name}"
        shapes |= layer_shapes(layer, before, 32, types=("11", "22", "12", "M"))
    for name in ("hS1", "hT1", "hS2", "hT2"):
        shapes |= linear(f"pool_{name}.proj", 32, 1)
    return shapes


def random_weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in published_shapes().items():
        whole = key.endswith("num_batches_tracked")
        drawn = 0.1 * torch.randn(shape, generator=generator)
        weights[key] = torch.tensor(7) if whole else drawn.abs() + 0.1 if "var" in key else drawn
    return weights


@pytest.fixture(scope="module")
def model():
    network = SSLAASIST().eval()
    checkpoint = {f"module.{key}": value for key, value in random_weights().items()}
    checkpoint["module.ssl_model.model.encoder.layer_norm.weight"] = torch.ones(1024)
    assert list(load_published(network, checkpoint)) == ["encoder.layer_norm.weight"]
    return network


@pytest.fixture(scope="module")
def features():
    return torch.randn(2, 201, 1024, generator=torch.Generator().manual_seed(1))


def test_published_names_and_shapes(model):
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == (
        published_shapes()
    )


def test_published_window_gives_a_map_of_42_by_67(model, features):
    with torch.no_grad():
        assert model.feature_map(features[:1]).shape == (1, 64, 42, 67)
        output = model(features[:1])
    assert output.embedding.shape == (1, 160)
    assert torch.equal(model.score(output), output.logits[:, 1])


def naive_map(weights, features):
    """The encoder from its description, one functional call a step."""

    def normalised(image, name):
        parts = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", *LINEAR))
        return F.batch_norm(image, *parts)

    def convolution(image, name, padding):
        return F.conv2d(image, *(weights[f"{name}.{p}"] for p in LINEAR), padding=padding)

    image = F.linear(features, weights["LL.weight"], weights["LL.bias"]).mT[:, None]
    image = F.selu(normalised(F.max_pool2d(image, 3), "first_bn"))
    for i in range(6):
        block = f"encoder.{i}.0"
        out = F.selu(normalised(convolution(image, f"{block}.conv1", (1, 1)), f"{block}.bn2"))
        out = convolution(out, f"{block}.conv2", (0, 1))
        if f"{block}.conv_downsample.weight" in weights:
            image = convolution(image, f"{block}.conv_downsample", (0, 1))
        image = out + image
    return F.selu(normalised(image, "first_bn1"))


def test_encoder_is_the_one_described(model, features):
    with torch.no_grad():
        found = model.feature_map(features[:1, :30])
        expected = naive_map(random_weights(), features[:1, :30])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_spectral_nodes_attend_over_time_and_temporal_ones_over_frequency(model, features):
    seen = {}
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
        for name, layer in (("S", model.GAT_layer_S), ("T", model.GAT_layer_T))
    ]
    with torch.no_grad():
        image = model.feature_map(features[:1, :30])
        model.read_out(image)
        weights = model.attention(image)[0]
    for handle in handles:
        handle.remove()
    f, t = 5, 3
    spectral = (image[0, :, f] * weights[:, f].softmax(dim=1)).sum(dim=1) + model.pos_S[0, f]
    temporal = (image[0, :, :, t] * weights[:, :, t].softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(seen["S"][0, f], spectral, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen["T"][0, t], temporal, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pre_activation", [False, True])
def test_first_norm_counts_only_where_it_is_asked_to(pre_activation):
    config = SSLAASISTConfig(dim=8, projection=9, widths=(2, 3), pre_activation=pre_activation)
    torch.manual_seed(0)
    network = SSLAASIST(config).eval()
    features = torch.randn(1, 9, 8)
    norm = network.encoder[1][0].bn1
    assert norm.weight.requires_grad is pre_activation
    with torch.no_grad():
        before = network.feature_map(features)
        norm.bias += 1.0
        assert torch.equal(network.feature_map(features), before) is not pre_activation


def test_too_few_frames_are_refused(model):
    with pytest.raises(ParameterError, match="frames >= 3"):
        model(torch.zeros(1, 2, 1024))


@pytest.mark.parametrize(
    "plain",
    [{"banana": 1}, {"projection": 2}, {"widths": [32]}, {"dim": 0}, {"pre_activation": 1}],
)
def test_bad_config_is_refused(plain):
    with pytest.raises(ParameterError, match=next(iter(plain))):
        SSLAASISTConfig.from_dict(plain)
