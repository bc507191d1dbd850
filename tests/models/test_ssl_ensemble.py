"""Several networks as one: what it computes, its file, and what it refuses."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from voiceguard.errors import BundleError, IntegrityError, ParameterError
from voiceguard.features.ssl.distillmos import DistillMOSEncoder
from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder
from voiceguard.models.graph import GraphConfig, ModelOutput
from voiceguard.models.spectral_aasist import BlockConfig, SpectralAASIST, SpectralAASISTConfig
from voiceguard.models.ssl_ensemble import (
    HEADER,
    PEAK,
    SSLEnsemble,
    load_ssl_ensemble,
    save_ssl_ensemble,
)
from voiceguard.models.ssl_network import SSLNetwork, frame_network, save_ssl_network

pytest.importorskip("transformers", reason="one of the small encoders is Whisper's")

WINDOW = 3_200


def whisper():
    config = WhisperConfig(dim=24, depth=2, heads=2, feedforward=16, mels=20, positions=20)
    encoder = WhisperEncoder(config, layers=(0, 1), context_s=0.2).eval()
    head = frame_network("mlp", dim=24, n_layers=2, frames=10, hidden=0, layers=2)
    return SSLNetwork(encoder, head, back_end="mlp").eval()


def distillmos():
    head = frame_network("mlp", dim=1024, n_layers=1, frames=10, hidden=5)
    return SSLNetwork(DistillMOSEncoder(layers=(0,)), head, back_end="mlp").eval()


def spectral():
    config = SpectralAASISTConfig(
        stem=4,
        blocks=(BlockConfig(4, (2, 2)), BlockConfig(6, (4, 4))),
        graph=GraphConfig(gat_dims=(6, 4)),
        statistics=3,
    )
    return SpectralAASIST(config).eval()


@pytest.fixture(scope="module")
def mixed():
    """A spectral AASIST and a network behind an encoder, summed."""
    torch.manual_seed(1)
    return SSLEnsemble((spectral(), whisper()), (0.5, 2.0)).eval()


@pytest.fixture(scope="module")
def members():
    torch.manual_seed(0)
    return distillmos(), whisper()


@pytest.fixture
def waveform():
    return 0.1 * torch.randn(3, WINDOW, generator=torch.Generator().manual_seed(1))


def test_it_is_the_weighted_sum_of_its_members_and_comes_back_from_its_file(
    members, waveform, tmp_path
):
    made = SSLEnsemble(members, (0.5, 2.0)).eval()
    file = save_ssl_ensemble(made, tmp_path / "sum.safetensors", notes={"eer": "0.2"})
    back = load_ssl_ensemble(file)
    with torch.no_grad():
        output = made(waveform)
        level = PEAK / waveform.abs().amax(dim=1, keepdim=True)
        first, second = (member(level * waveform) for member in members)
        torch.testing.assert_close(output.logits, 0.5 * first.logits + 2.0 * second.logits)
        torch.testing.assert_close(
            made.score(output), 0.5 * members[0].score(first) + 2.0 * members[1].score(second)
        )
        assert torch.equal(back(waveform).logits, output.logits)
        torch.testing.assert_close(made(0.03 * waveform).logits, output.logits)
        assert torch.isfinite(made(torch.zeros(1, WINDOW)).logits).all()
    both = torch.cat([first.embedding, second.embedding], dim=1)
    torch.testing.assert_close(output.embedding, both)
    assert output.embedding.shape == (3, made.embedding_dim) == (3, 5 + 2 * 2 * 24)
    assert back.config == made.config
    with safe_open(file, framework="pt") as stored:
        assert stored.metadata()["eer"] == "0.2"


def test_a_spectral_aasist_counts_as_the_others_do_and_comes_back(mixed, waveform, tmp_path):
    first, second = mixed.networks
    assert isinstance(first, SpectralAASIST) and isinstance(second, SSLNetwork)
    assert mixed.front_end is first.front_end
    back = load_ssl_ensemble(save_ssl_ensemble(mixed, tmp_path / "sum.safetensors"))
    with torch.no_grad():
        output = mixed(waveform)
        heard = PEAK / waveform.abs().amax(dim=1, keepdim=True) * waveform
        one, other = first(heard), second(heard)
        torch.testing.assert_close(output.logits, 0.5 * one.logits + 2.0 * other.logits)
        torch.testing.assert_close(
            mixed.score(output), 0.5 * first.score(one) + 2.0 * second.score(other)
        )
        assert torch.equal(back(waveform).logits, output.logits)
    assert output.embedding.shape == (3, mixed.embedding_dim) == (3, 5 * 4 + 3 + 2 * 2 * 24)
    assert back.config == mixed.config and not back.training
    plain, behind = mixed.config.members
    assert plain == {"network": "SpectralAASIST", **first.config.to_dict()}
    assert behind == second.config.to_dict()


def test_the_score_is_the_log_odds_whatever_the_first_member_scores_by(members):
    head = frame_network("sls", dim=24, n_layers=2, frames=10)
    published = SSLNetwork(whisper().encoder, head, back_end="sls")
    output = ModelOutput(torch.tensor([[2.0, 1.0]]), torch.zeros(1, 1))
    assert published.score(output).item() < -1.3, "its log-softmax"
    for first in (published, members[0]):
        assert SSLEnsemble((first, members[1])).score(output).item() == -1.0


def test_layers_side_by_side_are_pooled_each_by_itself(members, waveform):
    network = members[1]
    with torch.no_grad():
        frames = network.encoder(waveform).layers
        pooled = torch.cat(
            [s for i in (0, 1) for s in (frames[:, i].mean(1), frames[:, i].std(1, correction=0))],
            dim=1,
        )
        embedding = network(waveform).embedding
    torch.testing.assert_close(embedding, pooled, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, float("nan")), (1.0, -2.0)])
def test_weights_that_do_not_fit_are_refused(members, weights):
    with pytest.raises(ParameterError, match="SSLEnsemble"):
        SSLEnsemble(members, weights)
    with pytest.raises(ParameterError, match="at least one member"):
        SSLEnsemble(())


def test_files_that_hold_something_else_are_refused(members, tmp_path):
    file = save_ssl_ensemble(SSLEnsemble(members), tmp_path / "sum.safetensors")
    with pytest.raises(IntegrityError):
        load_ssl_ensemble(file, sha256="0" * 64)
    weights = load_file(file)
    with safe_open(file, framework="pt") as stored:
        described = json.loads(stored.metadata()[HEADER])
    bad = tmp_path / "bad.safetensors"
    damaged = (
        "{",
        "[]",
        json.dumps({**described, "weights": [1.0]}),
        json.dumps({**described, "weights": ["much", 1.0]}),
        json.dumps({**described, "members": []}),
        json.dumps({**described, "members": [3, 4]}),
    )
    for text in damaged:
        save_file(weights, bad, metadata={HEADER: text})
        with pytest.raises(BundleError, match="damaged"):
            load_ssl_ensemble(bad)
    save_file(weights, bad, metadata={HEADER: json.dumps({**described, "members": [{}, {}]})})
    with pytest.raises(BundleError, match="holds no network"):
        load_ssl_ensemble(bad)
    del weights["members.1.head.back_end.out_layer.bias"]
    save_file(weights, bad, metadata={HEADER: json.dumps(described)})
    with pytest.raises(BundleError, match=r"out_layer\.bias"):
        load_ssl_ensemble(bad)
    with pytest.raises(BundleError, match="holds no ensemble"):
        load_ssl_ensemble(save_ssl_network(members[1], bad))


def test_a_damaged_spectral_aasist_is_refused(mixed, tmp_path):
    file, bad = save_ssl_ensemble(mixed, tmp_path / "a.safetensors"), tmp_path / "bad.safetensors"
    weights = load_file(file)
    with safe_open(file, framework="pt") as stored:
        described = json.loads(stored.metadata()[HEADER])
    first, second = described["members"]
    plain = json.loads(first["config"])
    damaged = (
        "{",
        "[3]",
        plain,
        json.dumps({**plain, "stem": 0}),
        json.dumps({**plain, "stem": 4.5}),
        json.dumps({**plain, "stem": 10**14}),
        json.dumps({**plain, "blocks": [{"channels": 4, "stride": [2]}]}),
        json.dumps({**plain, "blocks": [4]}),
        json.dumps({**plain, "front_end": "none"}),
        json.dumps({**plain, "graph": [3]}),
        json.dumps({**plain, "further": 1}),
    )
    for text in damaged:
        header = {**described, "members": [{**first, "config": text}, second]}
        save_file(weights, bad, metadata={HEADER: json.dumps(header)})
        with pytest.raises(BundleError, match="damaged"):
            load_ssl_ensemble(bad)
    header = {**described, "members": [{"network": "x"}, second]}
    save_file(weights, bad, metadata={HEADER: json.dumps(header)})
    with pytest.raises(BundleError, match="holds no network"):
        load_ssl_ensemble(bad)
    place, nan = "members.0.out_layer.bias", float("nan")
    for tensor, message in ((torch.zeros(3), "does not fit"), (torch.tensor([nan, 0.0]), "NaN")):
        save_file({**weights, place: tensor}, bad, metadata={HEADER: json.dumps(described)})
        with pytest.raises(BundleError, match=message):
            load_ssl_ensemble(bad)
    del weights[place]
    save_file(weights, bad, metadata={HEADER: json.dumps(described)})
    with pytest.raises(BundleError, match=r"Missing: out_layer\.bias"):
        load_ssl_ensemble(bad)
