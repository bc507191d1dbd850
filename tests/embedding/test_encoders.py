"""Encoders: layers, and how little of a seam shows."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchaudio")

from voiceguard.embedding.embedder import Embedder  # noqa: E402
from voiceguard.embedding.encoders import EncoderModel  # noqa: E402
from voiceguard.errors import ParameterError, UnknownModelError  # noqa: E402
from voiceguard.features.ssl import load_encoder  # noqa: E402
from voiceguard.features.ssl.distillmos import DistillMOSEncoder  # noqa: E402
from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder  # noqa: E402
from voiceguard.features.ssl.wave_config import WaveConfig  # noqa: E402

RATE = 16_000
SHAPE = {
    "conv_dims": (8,) * 7,
    "dim": 16,
    "depth": 3,
    "heads": 2,
    "feedforward": 32,
    "position_kernel": 16,
    "position_groups": 2,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def encoder(*, layers=None, group_norm=False) -> WaveEncoder:
    """A small network of the "large" kind, random weights."""
    torch.manual_seed(4)
    stable = {"norm_first": not group_norm, "normalize": not group_norm, "conv_bias": True}
    return WaveEncoder(WaveConfig(**SHAPE, **stable, group_norm=group_norm), layers=layers).eval()


def noise(seconds: float) -> np.ndarray:
    """Level that changes, so that a chunk is not like the whole; and an offset."""
    n = int(seconds * RATE) + 123
    level = 0.02 + 0.2 * (np.sin(np.arange(n) / 30_000) > 0)
    return (0.05 + level * np.random.default_rng(2).normal(size=n)).astype(np.float32)


def whole(network, x: np.ndarray) -> np.ndarray:
    """Layers of the recording in one piece [shape=(layers, frames, dim)]."""
    with torch.inference_mode():
        return network(torch.tensor(x[None])).layers[0].numpy()


def test_convolutions_show_no_seam():
    """Layer 0 hears the convolutions and the positions, 0.2 s; the level is the recording's."""
    network, x = encoder(layers=[0]), noise(60)
    embedding = Embedder(network, chunk_s=7, context_s=0.5).embed((x, RATE))
    np.testing.assert_allclose(embedding.values, whole(network, x)[0], atol=1e-4)


def test_bands_and_cepstra_have_a_name_and_no_seam():
    x = noise(20)
    embedding = Embedder("cepstra", chunk_s=3).embed((x, RATE))
    np.testing.assert_allclose(embedding.values, whole(load_encoder("cepstra"), x)[0], atol=1e-4)
    assert embedding.values.shape[1] == 60


def test_transformers_hardly_show_one():
    """They hear the chunk where they would hear all: 5 % of the layer's size at most here."""
    network, x = encoder(), noise(60)
    embedding = Embedder(network, layer="all", chunk_s=16, context_s=4).embed((x, RATE))
    expected = whole(network, x).transpose(1, 0, 2)
    assert embedding.values.shape == expected.shape == (len(embedding.times_s), 4, 16)
    for layer in range(1, 4):
        apart = np.abs(embedding.values[:, layer] - expected[:, layer]).max()
        assert 0 < apart < 0.05 * np.abs(expected[:, layer]).max()


@pytest.mark.parametrize("group_norm", [False, True])
def test_what_fits_goes_through_whole(group_norm):
    network, x = encoder(group_norm=group_norm), noise(3.9)
    embedding = Embedder(network, chunk_s=2, context_s=1).embed((x, RATE))
    np.testing.assert_allclose(embedding.values, whole(network, x)[-1], atol=1e-4)
    assert len(embedding.times_s) == network.frames(len(x))
    np.testing.assert_array_equal(embedding.times_s, network.frame_times(len(embedding.times_s)))


def test_layers_by_number():
    network, x = encoder(), noise(1)
    expected = whole(network, x)
    for layer, number in ((None, 3), (0, 0), (2, 2), (-1, 3), (-4, 0)):
        embedding = Embedder(network, layer=layer).embed((x, RATE))
        assert embedding.layer == number
        np.testing.assert_allclose(embedding.values, expected[number], atol=1e-4)


def test_layers_of_an_encoder_that_gives_some():
    network, x = encoder(layers=[2, 1]), noise(1)
    assert Embedder(network).embed((x, RATE)).layer == 2
    one = Embedder(network, layer=1).embed((x, RATE))
    np.testing.assert_allclose(one.values, whole(network, x)[1], atol=1e-4)
    with pytest.raises(ParameterError, match=r"'layer'.*one of \[2, 1\].*Got 3"):
        Embedder(network, layer=3)


@pytest.mark.parametrize("layer", [4, -5, 1.0, True, "last"])
def test_no_such_layer(layer):
    with pytest.raises(ParameterError, match="'layer' parameter of Embedder"):
        Embedder(encoder(), layer=layer)


def test_layers_are_pooled_each():
    embedding = Embedder(encoder(), layer="all", pool="mean+std").embed((noise(1), RATE))
    assert embedding.values.shape == (4, 32)


def test_the_callers_encoder_stays_as_it_is():
    network = encoder()
    Embedder(network).embed((noise(1), RATE))
    assert network.normalize is True


def test_hashes_tell_weights_and_chunks_apart():
    hashes = [EncoderModel(encoder(), chunk_s=chunk_s).sha256 for chunk_s in (None, None, 5)]
    assert hashes[0] == hashes[1] != hashes[2]
    other = encoder()
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    assert EncoderModel(other).sha256 != hashes[0]


def test_the_convolutions_of_distillmos_show_no_seam():
    """Each waveform is divided by its peak: here every chunk has the same."""
    torch.manual_seed(0)
    network, x = DistillMOSEncoder(layers=[0]).eval(), noise(3)
    x[::4_000] = 1.0
    found = Embedder(network, chunk_s=0.9, context_s=0.3).embed((x, RATE)).values
    np.testing.assert_allclose(found, whole(network, x)[0], atol=1e-4)


def test_an_encoder_of_limited_length():
    network = DistillMOSEncoder(layers=[0, 1]).eval()
    with pytest.raises(ParameterError, match=r"'chunk_s'.*within the 7.68 s that distillmos"):
        EncoderModel(network, chunk_s=8)
    values = Embedder(network).embed((noise(1), RATE)).values
    assert values.shape == (network.frames(RATE + 123), 200), "the layer's width, not the widest"


def test_a_file_of_weights_is_a_model(tmp_path):
    pytest.importorskip("safetensors")
    from voiceguard.features.ssl import save_encoder

    network, x = encoder(), noise(1)
    save_encoder(network, tmp_path / "small.safetensors")
    embedder = Embedder(tmp_path / "small.safetensors", layer=-2)
    assert len(embedder.model.encoder.blocks) == 2, "no block above the layer that is asked for"
    embedding = embedder.embed((x, RATE))
    assert (embedding.layer, embedding.model) == (2, "small.safetensors")
    np.testing.assert_allclose(embedding.values, whole(network, x)[2], atol=1e-4)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(UnknownModelError, match=r"no model 'lfc'.*'lfcc'"):
        Embedder("lfc")
