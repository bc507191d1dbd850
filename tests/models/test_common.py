"""The suite that every network passes."""

import copy
import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from voiceguard import export
from voiceguard.errors import MissingExtraError, ParameterError, UnknownModelError
from voiceguard.models import build, names

SECOND = 16000
SPECTRAL = ["compressed", "sinc", "log_spectrogram", "log_mel", "lfcc_asvspoof2019", "mfcc"]
GRAPHS = [
    ("aasist", {}),
    ("aasist-l", {}),
    ("spectral-aasist", {"statistics": 48}),
    *[("spectral-aasist", {"front_end": name}) for name in SPECTRAL],
]
# The published sizes would take minutes; everything but the widths is as published.
RAWNET = {"taps": 129, "widths": (4, 8), "gru": 16, "gru_layers": 2, "embedding": 12}
RAWGAT = {"window_samples": SECOND, "widths": (6, 10), "gat_dims": (8, 6)}
RESNET = {"stem": 4, "widths": (6, 8, 10, 12), "pooled": 8, "embedding": 6}
OTHERS = [
    ("rawnet2", RAWNET),
    ("rawgat-st", RAWGAT),
    ("lfcc-lcnn", {"width": 4}),
    ("lfcc-lcnn", {"width": 4, "embedding": 6, "head": "p2sgrad"}),
    ("lfcc-resnet18", RESNET),
    ("lfcc-resnet18", {**RESNET, "head": "am_softmax"}),
    ("lfcc-resnet18", {**RESNET, "head": "linear"}),
]


def case_id(case):
    return "-".join([case[0], *(str(v) for v in case[1].values() if isinstance(v, str | int))])


@pytest.fixture(scope="module", params=GRAPHS + OTHERS, ids=case_id)
def model(request):
    return warmed(*request.param)


def warmed(name, options):
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
    embedding = model(torch.stack([noise[0], noise[1].cumsum(0) / 10])).embedding
    assert (embedding[0] - embedding[1]).abs().max() > 1e-4


def test_silence_is_finite(model):
    assert torch.isfinite(model(torch.zeros(1, SECOND)).logits).all()


def test_gradient_reaches_every_live_parameter(model, noise):
    network = copy.deepcopy(model)
    output = network(noise)
    (output.logits.square().sum() + output.embedding.sum()).backward()
    live = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert all(".bn1." in n for n, p in network.named_parameters() if not p.requires_grad)
    assert live
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
    plain = json.loads(json.dumps(model.config.to_dict()))
    assert type(model.config).from_dict(plain) == model.config


def test_training_under_bfloat16_autocast(model, noise):
    network = copy.deepcopy(model).train()
    samples = getattr(model.config, "window_samples", 6000)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(noise[:2, :samples]).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_dropout_only_in_training(model, noise):
    network = copy.deepcopy(model).train()
    has_dropout = any(isinstance(module, torch.nn.Dropout) for module in network.modules())
    with torch.no_grad():
        assert torch.equal(network(noise).logits, network(noise).logits) != has_dropout


def test_too_short_is_refused(model):
    with pytest.raises(ParameterError):
        model(torch.zeros(1, 100))


@pytest.mark.parametrize("case", OTHERS, ids=case_id)
def test_exported_graph_computes_the_same(case, noise):
    network = warmed(*case)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = export.graph_bytes(network, window_samples=SECOND)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    score, embedding = session.run(["score", "embedding"], {"waveform": noise[:3].numpy()})
    with torch.no_grad():
        output = network(noise[:3])
    assert np.abs(score - network.score(output).numpy()).max() < 1e-4
    assert np.abs(embedding - output.embedding.numpy()).max() < 1e-4


def test_every_network_is_in_this_suite():
    assert set(names()) == {name for name, _ in GRAPHS + OTHERS}


def test_unknown_name_is_refused():
    with pytest.raises(UnknownModelError, match="rawnet2"):
        build("rawnet")


@pytest.mark.parametrize("name", ["aasist", "spectral-aasist", "rawnet2", "rawgat-st", "lfcc-lcnn"])
def test_unknown_option_is_refused(name):
    with pytest.raises(ParameterError, match="banana"):
        build(name, banana=1)


@pytest.mark.parametrize(
    ("name", "module"), [("aasist", "aasist"), ("lfcc-resnet18", "resnet"), ("rawnet2", "rawnet2")]
)
def test_missing_extra_is_named(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, f"voiceguard.models.{module}", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        build(name)
