"""The suite that every back end passes, and the loading of published checkpoints."""

import copy
import json
import sys

import pytest
import torch

from voiceguard import export
from voiceguard.errors import MissingExtraError, ModelError, ParameterError, UnknownModelError
from voiceguard.models import back_ends, build_back_end
from voiceguard.models.back_end import FrameBackEnd, frame_mean, load_published, split_checkpoint

FRAMES, DIM, LAYERS = 14, 24, 3
# The published sizes would be slow; everything but the widths is as published.
SMALL = {
    "ssl-aasist": {"dim": DIM, "projection": 18, "widths": (4, 6)},
    "sls": {"dim": DIM, "layers": LAYERS, "frames": FRAMES, "hidden": 10},
    "nes2net": {"dim": DIM, "scales": (3, 4)},
    "nes2net-x": {"dim": DIM, "scales": (3, 4)},
    "mhfa": {"dim": DIM, "layers": LAYERS, "heads": 2, "compression": 5, "embedding": 7},
    "conformer-tcm": {"dim": DIM, "width": 16, "heads": 2, "blocks": 2, "kernel": 5},
    "mlp": {"dim": DIM, "hidden": 9},
    "covariance": {"dim": DIM, "axes": 6},
    "modulation": {"dim": DIM, "segment": 8},
}
PUBLISHED = {
    "ssl-aasist": 447_242,
    "sls": 23_399_429,
    "nes2net": 511_794,
    "nes2net-x": 512_039,
    "mhfa": 1_250_364,
    "conformer-tcm": 2_382_628,
}


def make(name):
    torch.manual_seed(3)
    return build_back_end(name, **SMALL[name])


def features_for(model, batch=4, frames=FRAMES, seed=1):
    shape = (batch, LAYERS, frames, DIM) if model.takes_layers else (batch, frames, DIM)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=SMALL)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    network = make(name)
    # Batch statistics of a fresh network are trivial; one training step makes them real.
    with torch.no_grad():
        network.train()(features_for(network, 8, seed=2))
    return network.eval()


@pytest.fixture(scope="module")
def features(model):
    return features_for(model)


def test_shapes(model, features):
    output = model(features)
    assert output.logits.shape == (4, 2)
    assert output.embedding.shape == (4, model.embedding_dim)
    assert isinstance(model, FrameBackEnd)


def test_score_grows_with_the_bona_fide_logit(model, features):
    output = model(features)
    raised = output._replace(logits=output.logits + torch.tensor([0.0, 1.0]))
    assert (model.score(raised) > model.score(output)).all()


def test_rows_do_not_depend_on_their_batch(model, features):
    with torch.no_grad():
        together = model(features)
        alone = torch.cat([model(row.unsqueeze(0)).logits for row in features])
    torch.testing.assert_close(together.logits, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rubbish", [0.0, 1e3])
def test_padding_changes_nothing(model, features, rubbish):
    lengths = torch.tensor([FRAMES, 5, 9, 5])
    padded = features.clone()
    for row, length in zip(padded, lengths, strict=True):
        row[..., length:, :] = rubbish
    with torch.no_grad():
        together = model(padded, lengths)
        alone = [
            model(row[..., :length, :].unsqueeze(0))
            for row, length in zip(features, lengths, strict=True)
        ]
    for field in ("logits", "embedding"):
        separate = torch.cat([getattr(output, field) for output in alone])
        torch.testing.assert_close(getattr(together, field), separate, rtol=1e-4, atol=1e-5)


def test_full_lengths_are_no_lengths(model, features):
    with torch.no_grad():
        given = model(features, torch.full((4,), FRAMES))
        torch.testing.assert_close(given.logits, model(features).logits, rtol=1e-5, atol=1e-6)


def test_gradients_with_padding_are_finite(model, features):
    network = copy.deepcopy(model)
    taken = features.clone().requires_grad_(True)
    network(taken, torch.tensor([FRAMES, 5, 9, 7])).logits.square().sum().backward()
    assert torch.isfinite(taken.grad).all()
    if type(model).__name__ != "SLS":
        assert (taken.grad[1, ..., 5:, :] == 0).all()
    assert taken.grad[1, ..., :3, :].abs().max() > 0


def test_same_input_gives_same_output(model, features):
    with torch.no_grad():
        assert torch.equal(model(features).embedding, model(features).embedding)


def test_silent_features_are_finite(model, features):
    assert torch.isfinite(model(torch.zeros_like(features)).logits).all()


def test_gradient_reaches_every_live_parameter(model, features):
    network = copy.deepcopy(model)
    output = network(features)
    (output.logits.square().sum() + output.embedding.sum()).backward()
    named = dict(network.named_parameters())
    assert all(".bn1." in key for key, value in named.items() if not value.requires_grad)
    for key, parameter in named.items():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().max() > 0, key


def test_state_dict_and_config_round_trip(model, features):
    plain = json.loads(json.dumps(model.config.to_dict()))
    config = type(model.config).from_dict(plain)
    assert config == model.config
    other = type(model)(config)
    other.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(other.eval()(features).logits, model(features).logits)


def test_training_under_bfloat16_autocast(model, features):
    network = copy.deepcopy(model).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(
            network(features).logits, torch.tensor([0, 1, 0, 1])
        )
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_dropout_only_in_training(model, features):
    network = copy.deepcopy(model).train()
    rates = [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)]
    with torch.no_grad():
        assert torch.equal(network(features).logits, network(features).logits) != any(rates)


class Encoded(torch.nn.Module):
    """A network whose "encoder" only cuts the waveform into the back end's features."""

    class FrontEnd(torch.nn.Identity):
        exportable = True

    def __init__(self, back_end):
        super().__init__()
        self.front_end, self.back_end = self.FrontEnd(), back_end
        self.embedding_dim, self.score = back_end.embedding_dim, back_end.score
        self.shape = features_for(back_end).shape[1:]

    def forward(self, waveform):
        return self.back_end(self.front_end(waveform).unflatten(1, self.shape))


def test_exported_graph_computes_the_same(model, features):
    network = Encoded(model).eval()
    samples = network.shape.numel()
    probe = features.flatten(1).numpy()
    assert export.graph_bytes(network, window_samples=samples, probe=probe)


@pytest.mark.parametrize("change", ["rank", "width", "short"])
def test_other_shapes_are_refused(model, features, change):
    wrong = {"rank": features[0], "width": features[..., :-1], "short": features[..., :0, :]}
    with pytest.raises(ParameterError, match=rf"'features' parameter of {type(model).__name__}"):
        model(wrong[change])


@pytest.mark.parametrize(
    "lengths",
    [
        torch.tensor([5, 5]),
        torch.tensor([5.0] * 4),
        torch.tensor([5, 5, 5, 0]),
        torch.tensor([5, 5, 5, FRAMES + 1]),
    ],
)
def test_other_lengths_are_refused(model, features, lengths):
    with pytest.raises(ParameterError, match="'lengths' parameter"):
        model(features, lengths)


@pytest.mark.parametrize("layered", ["sls", "mhfa"])
def test_another_number_of_layers_is_refused(layered):
    network = make(layered)
    with pytest.raises(ParameterError, match=f"{LAYERS}, frames"):
        network(features_for(network)[:, 1:])


@pytest.mark.parametrize("published", PUBLISHED)
def test_parameter_count(published):
    with torch.device("meta"):
        network = build_back_end(published)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[published]


def test_every_back_end_is_in_this_suite():
    assert set(back_ends()) == set(SMALL)


def test_unknown_name_and_option_are_refused():
    with pytest.raises(UnknownModelError, match="conformer-tcm"):
        build_back_end("conformer")
    with pytest.raises(ParameterError, match="banana"):
        build_back_end("mhfa", banana=1)
    with pytest.raises(ParameterError, match="weighted"):
        build_back_end("nes2net", weighted=True)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "voiceguard.models.mhfa", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        build_back_end("mhfa")


def test_mean_counts_real_frames_only():
    frames = torch.tensor([[[1.0], [3.0], [torch.nan]]])
    assert frame_mean(frames, torch.tensor([[True, True, False]])) == 2.0


PREFIXED = {"ssl-aasist": "", "sls": "", "nes2net": "Nested_Res2Net_TDNN."}


@pytest.mark.parametrize("parallel", ["", "module."])
@pytest.mark.parametrize("back_end", PREFIXED)
def test_published_layout_loads_strictly(back_end, parallel):
    source, target = make(back_end), make(back_end)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter.detach())
    weights = {parallel + PREFIXED[back_end] + k: v for k, v in source.state_dict().items()}
    encoder = {"mask_emb": torch.ones(3), "encoder.layer_norm.weight": torch.ones(4)}
    weights |= {f"{parallel}ssl_model.model.{k}": v for k, v in encoder.items()}
    found = load_published(target, weights)
    assert found.keys() == encoder.keys()
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_checkpoint_without_encoder_has_an_empty_one():
    encoder, rest = split_checkpoint({"module.LL.bias": torch.zeros(2)})
    assert encoder == {}
    assert list(rest) == ["LL.bias"]


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_misfit_is_refused_and_changes_nothing(damage):
    model = make("sls")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weights = {key: value + 1 for key, value in before.items()}
    if damage == "missing":
        del weights["fc1.bias"]
    elif damage == "unexpected":
        weights["fc2.bias"] = torch.zeros(3)
    else:
        weights["fc1.bias"] = torch.zeros(3)
    with pytest.raises(ModelError, match=r"SLS.*fc"):
        load_published(model, weights)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
