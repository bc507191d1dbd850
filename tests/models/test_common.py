"""The suite that every network passes."""

import copy
import sys

import pytest
import torch

from voiceguard.errors import MissingExtraError, ParameterError, UnknownModelError
from voiceguard.models import build, names

SECOND = 16000
SPECTRAL = ["compressed", "sinc", "log_spectrogram", "log_mel", "lfcc_asvspoof2019", "mfcc"]
CASES = [
    ("aasist", {}),
    ("aasist-l", {}),
    ("spectral-aasist", {"statistics": 48}),
    *[("spectral-aasist", {"front_end": name}) for name in SPECTRAL],
]


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())])
)
def model(request):
    name, options = request.param
    torch.manual_seed(11)
    network = build(name, **options)
    # Batch statistics of a fresh network are trivial; one training step makes them real.
    with torch.no_grad():
        network.train()(0.1 * torch.randn(4, SECOND))
    return network.eval()


@pytest.fixture(scope="module")
def noise():
    return 0.1 * torch.randn(4, SECOND, generator=torch.Generator().manual_seed(5))


def test_shapes(model, noise):
    output = model(noise)
    assert output.logits.shape == (4, 2)
    assert output.embedding.shape == (4, model.embedding_dim)
    assert model.embedding_dim == 160 + getattr(model.config, "statistics", 0)
    assert model.score(output).shape == (4,)


def test_score_grows_with_the_bona_fide_logit(model, noise):
    output = model(noise)
    raised = output._replace(logits=output.logits + torch.tensor([0.0, 1.0]))
    assert (model.score(raised) > model.score(output)).all()


def test_rows_do_not_depend_on_their_batch(model, noise):
    with torch.no_grad():
        together = model(noise)
        alone = [model(row.unsqueeze(0)) for row in noise]
    for field in ("logits", "embedding"):
        separate = torch.cat([getattr(output, field) for output in alone])
        torch.testing.assert_close(getattr(together, field), separate, rtol=1e-4, atol=1e-5)


def test_same_input_gives_same_output(model, noise):
    with torch.no_grad():
        assert torch.equal(model(noise).embedding, model(noise).embedding)


def test_output_depends_on_input(model, noise):
    embedding = model(noise).embedding
    assert (embedding[0] - embedding[1]).abs().max() > 1e-4


def test_silence_is_finite(model):
    assert torch.isfinite(model(torch.zeros(1, SECOND)).logits).all()


def test_gradient_reaches_every_live_parameter(model, noise):
    network = copy.deepcopy(model)
    output = network(noise)
    (output.logits.square().sum() + output.embedding.sum()).backward()
    live = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert all(".bn1." in n for n, p in network.named_parameters() if not p.requires_grad)
    for name, parameter in live.items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_state_dict_round_trip(model, noise):
    other = type(model)(model.config)
    other.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(other.eval()(noise).logits, model(noise).logits)


def test_config_round_trip(model):
    assert type(model.config).from_dict(model.config.to_dict()) == model.config


def test_training_under_bfloat16_autocast(model, noise):
    network = copy.deepcopy(model).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(noise[:2, :6000]).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_dropout_only_in_training(model, noise):
    network = copy.deepcopy(model).train()
    with torch.no_grad():
        assert not torch.equal(network(noise).logits, network(noise).logits)


def test_too_short_is_refused(model):
    with pytest.raises(ParameterError):
        model(torch.zeros(1, 100))


def test_names_build_and_others_are_refused():
    assert set(names()) == {"aasist", "aasist-l", "spectral-aasist"}
    with pytest.raises(UnknownModelError, match="rawnet"):
        build("rawnet")


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "voiceguard.models.aasist", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        build("aasist")
