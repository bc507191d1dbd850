"""The channels of the calibration, and the way back from stored weights."""

import json

import numpy as np
import pytest
import torch

from voiceguard.models.graph import GraphConfig
from voiceguard.models.spectral_aasist import BlockConfig, SpectralAASIST, SpectralAASISTConfig

pytest.importorskip("av", reason="PyAV carries Opus")


@pytest.fixture
def export(scripts):
    return scripts["export"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = SpectralAASISTConfig(
        stem=4,
        blocks=(BlockConfig(4, (2, 2)), BlockConfig(6, (4, 4))),
        graph=GraphConfig(gat_dims=(6, 4)),
    )
    return SpectralAASIST(config).eval()


def test_each_channel_keeps_the_clip_and_changes_it_but_the_clean_one(export, make_voices):
    x = make_voices("bonafide", 1)
    heard = {
        channel: export.through(x, channel, np.random.default_rng(0)) for channel in export.CHANNELS
    }
    for channel, y in heard.items():
        assert y.shape == x.shape
        assert y.dtype == np.float32
        assert np.array_equal(y, x) is (channel == "clean")
        assert np.corrcoef(x, y)[0, 1] > 0.5
    noise = heard["noise 15 dB"] - x
    assert 10 * np.log10(np.mean(x**2) / np.mean(noise**2)) == pytest.approx(15.0, abs=0.1)
    for channel in ("g711", "gsm"):
        power = np.abs(np.fft.rfft(heard[channel])) ** 2
        assert power[4_250:].sum() < 1e-4 * power.sum()


def test_stored_weights_come_back_with_their_sizes(export, model, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "average.safetensors"
    save_file(model.state_dict(), path, metadata={"config": json.dumps(model.config.to_dict())})
    loaded = export.load_model(path)
    assert loaded.config == model.config
    assert not loaded.training
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


def test_a_network_with_an_encoder_comes_back_too(export, tmp_path):
    from voiceguard.features.ssl.distillmos import DistillMOSEncoder
    from voiceguard.models.ssl_network import SSLNetwork, frame_network, save_ssl_network

    encoder = DistillMOSEncoder(layers=[0])
    head = frame_network("mlp", dim=1024, n_layers=1, frames=201, hidden=4)
    network = SSLNetwork(encoder, head, back_end="mlp").eval()
    loaded = export.load_model(save_ssl_network(network, tmp_path / "best.safetensors"))
    assert loaded.config == network.config
    for name, weight in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_clips_are_scored_by_the_graph_in_order_whatever_the_batch(
    export, model, make_voices, weights
):
    clips = [make_voices("spoof", seed)[: 4_000 + 100 * seed] for seed in range(18)]
    probe = np.stack([export.window(x) for x in clips[:2]])
    _, engine = export.exported(model, probe, weights=weights)
    scores = export.score_clips(engine, clips)
    assert scores.shape == (18,)
    for i in (0, 15, 16, 17):
        np.testing.assert_allclose(export.score_clips(engine, [clips[i]]), scores[i], rtol=1e-4)
    assert len(np.unique(scores)) == 18
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack([export.window(x) for x in clips]))
        expected = model.score(model(batch)).double().numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-3 if weights == "float32" else 0.05)


def test_an_encoders_linear_layers_go_into_the_graph_in_int8(export, make_voices):
    from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder
    from voiceguard.models.ssl_ensemble import SSLEnsemble
    from voiceguard.models.ssl_network import SSLNetwork, frame_network

    torch.manual_seed(3)
    shape = WhisperConfig(dim=256, depth=1, heads=2, feedforward=1024, mels=20, positions=201)
    encoder = WhisperEncoder(shape, layers=(0, 1), context_s=4.02)
    head = frame_network("mlp", dim=256, n_layers=2, frames=201, hidden=4)
    model = SSLEnsemble([SSLNetwork(encoder, head, back_end="mlp")]).eval()
    probe = np.stack([export.window(make_voices("spoof", seed)) for seed in range(2)])
    sizes, scores = [], []
    for weights in ("float16", "int8"):
        graph, engine = export.exported(model, probe, weights=weights)
        sizes.append(len(graph))
        scores.append(export.score_clips(engine, list(probe)))
    assert sizes[1] < sizes[0]
    assert not np.array_equal(*scores)
    np.testing.assert_allclose(*scores, atol=0.1)
    for place in range(2):
        alone = export.score_clips(engine, [probe[place]])
        np.testing.assert_allclose(alone, scores[1][place], atol=1e-4)


def test_scales_come_from_clips_all_over_the_corpus_by_every_channel(export, make_voices):
    class Corpus:
        asked: list = []  # noqa: RUF012

        def __len__(self):
            return 250

        def clip(self, i):
            self.asked.append(int(i))
            return make_voices("bonafide", 1)

    corpus = Corpus()
    windows = export.spread_windows(corpus)
    assert windows.shape == (export.SPREAD, export.WINDOW) and np.isfinite(windows).all()
    assert corpus.asked[0] == 0 and corpus.asked[-1] == 249 and len(set(corpus.asked)) == 100
    # One voice: what differs are the channels, which come round again.
    by_channel = windows[: len(export.CHANNELS)]
    assert len({window.tobytes() for window in by_channel}) == len(export.CHANNELS)
    np.testing.assert_array_equal(windows[0], windows[len(export.CHANNELS)])
    np.testing.assert_array_equal(windows, export.spread_windows(corpus))


def test_a_manifest_names_what_is_summed(export):
    from voiceguard.features.ssl.cepstra import CepstralEncoder
    from voiceguard.features.ssl.dnsmos import DNSMOSEncoder
    from voiceguard.features.ssl.plcmos import PLCMOSEncoder
    from voiceguard.models.modulation import ModulationConfig, ModulationProbe
    from voiceguard.models.ssl_ensemble import SSLEnsemble
    from voiceguard.models.ssl_network import FrameNetwork, SSLNetwork, frame_network

    def probe(encoder):
        head = frame_network("mlp", dim=encoder.dim, n_layers=1, frames=9, hidden=0)
        return SSLNetwork(encoder, head, back_end="mlp")

    head = FrameNetwork(1, ModulationProbe(ModulationConfig(segment=16)))
    moved = SSLNetwork(CepstralEncoder(), head, back_end="modulation")
    plcmos, dnsmos = probe(PLCMOSEncoder(layers=(2,))), probe(DNSMOSEncoder())
    spectral = SpectralAASIST(SpectralAASISTConfig())
    told = {
        "Spectral AASIST": spectral,
        "A network behind the encoder of PLCMOS": plcmos,
        "Probes on the lower layers of PLCMOS, DNSMOS, frozen, and a probe on modulation spectra,"
        " summed": SSLEnsemble([plcmos, dnsmos, moved]),
        "Spectral AASIST, and a probe on modulation spectra, summed": SSLEnsemble(
            [spectral, moved]
        ),
    }
    for text, model in told.items():
        assert export.described(model) == text
