"""Encoder and back end as one network: what it computes, and its file."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from voiceguard.errors import BundleError, IntegrityError, ParameterError, UnknownModelError
from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder
from voiceguard.models.ssl_network import (
    HEADER,
    SSLNetwork,
    frame_network,
    load_ssl_network,
    save_ssl_network,
)

pytest.importorskip("transformers", reason="the small encoder is Whisper's")

WINDOW = 3_200
OPTIONS = {
    "mlp": {"hidden": 5},
    "covariance": {"axes": 4},
    "modulation": {"segment": 8},
    "ssl-aasist": {"projection": 18, "widths": (4, 6)},
    "sls": {"hidden": 6},
    "nes2net-x": {"scales": (2, 4)},
    "mhfa": {"heads": 2, "compression": 5, "embedding": 7},
    "conformer-tcm": {"width": 16, "heads": 2, "blocks": 1, "kernel": 5},
}


def network(name="mlp", layers=(1, 2)):
    torch.manual_seed(0)
    config = WhisperConfig(dim=24, depth=2, heads=2, feedforward=16, mels=20, positions=20)
    encoder = WhisperEncoder(config, layers=layers, context_s=0.2).eval()
    encoder.provenance = {"licence": "MIT"}
    head = frame_network(name, dim=24, n_layers=len(layers), frames=10, **OPTIONS[name])
    return SSLNetwork(encoder, head, back_end=name).eval()


@pytest.fixture
def waveform():
    return 0.1 * torch.randn(3, WINDOW, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_the_back_end_on_the_encoders_frames_and_comes_back_from_its_file(
    name, waveform, tmp_path
):
    made = network(name)
    file = save_ssl_network(made, tmp_path / "net.safetensors", notes={"eer": "0.25"})
    back = load_ssl_network(file)
    with torch.no_grad():
        output = made(waveform)
        frames = made.encoder(waveform).layers
        torch.testing.assert_close(made.head(frames).logits, output.logits)
        assert torch.equal(back(waveform).logits, output.logits)
    assert output.embedding.shape == (3, made.embedding_dim)
    assert back.config == made.config
    assert back.encoder.provenance == {"licence": "MIT"}
    with safe_open(file, framework="pt") as stored:
        assert stored.metadata()["eer"] == "0.25"


def test_the_mix_is_a_mean_of_normed_layers_at_the_start(waveform):
    made = network("mlp")
    with torch.no_grad():
        frames = made.encoder(waveform).layers
        normed = (frames - frames.mean(-1, keepdim=True)) / (
            frames.var(-1, unbiased=False, keepdim=True) + 1e-5
        ).sqrt()
        expected = made.head.back_end(normed.mean(1)).logits
        torch.testing.assert_close(made(waveform).logits, expected, rtol=1e-4, atol=1e-5)
    assert network("mlp", layers=(2,)).head.mix is None
    assert network("mhfa").head.mix is None


def test_a_head_for_other_frames_is_refused():
    made = network()
    for dim, n_layers, name in ((8, 2, "mlp"), (24, 3, "mhfa")):
        head = frame_network(name, dim=dim, n_layers=n_layers, frames=10, **OPTIONS[name])
        with pytest.raises(ParameterError, match="must take 2 layers of width 24"):
            SSLNetwork(made.encoder, head, back_end=name)
    with pytest.raises(UnknownModelError):
        frame_network("oracle", dim=24, n_layers=2, frames=10)


def test_files_that_hold_something_else_are_refused(tmp_path):
    file = save_ssl_network(network(), tmp_path / "net.safetensors")
    with pytest.raises(IntegrityError):
        load_ssl_network(file, sha256="0" * 64)
    weights = load_file(file)
    with safe_open(file, framework="pt") as stored:
        header = stored.metadata()
    bad = tmp_path / "bad.safetensors"
    for text in ("{", json.dumps({"back_end": "oracle", "options": {}}), json.dumps([])):
        save_file(weights, bad, metadata={**header, HEADER: text})
        with pytest.raises(BundleError, match="damaged"):
            load_ssl_network(bad)
    save_file(weights, bad, metadata={})
    with pytest.raises(BundleError, match="holds no network"):
        load_ssl_network(bad)
    del weights["head.back_end.out_layer.bias"]
    save_file(weights, bad, metadata=header)
    with pytest.raises(BundleError, match=r"out_layer\.bias"):
        load_ssl_network(bad)
