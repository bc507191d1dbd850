"""DistillMOS's encoder against the package that publishes it."""

import importlib.util

import pytest
import torch

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features.ssl import load_encoder
from voiceguard.features.ssl.converting import import_encoder
from voiceguard.features.ssl.distillmos import DistillMOSEncoder
from voiceguard.features.ssl.native import save_encoder


@pytest.fixture(scope="session")
def published():
    """The package's network and its weights file."""
    for name in ("distillmos", "xls_r_sqa"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: no real DistillMOS weights")
    from distillmos.sqa import DEFAULT_WEIGHTS_CHKPT, ConvTransformerSQAModel

    network = ConvTransformerSQAModel(load_weights=False).eval()
    state = torch.load(DEFAULT_WEIGHTS_CHKPT, map_location="cpu", weights_only=True)["model"]
    network.load_state_dict(state)
    return network, DEFAULT_WEIGHTS_CHKPT


def test_every_layer_is_that_of_the_package(published, waveform):
    network, path = published
    seen = []
    wrapped = network.transformer_pool_attn.transformer
    hooks = [network.cnn.register_forward_hook(lambda m, a, out: seen.append(out.transpose(1, 2)))]
    hooks += [
        block.register_forward_hook(lambda m, a, out: seen.append(out))
        for block in wrapped.transformer_encoder.layers
    ]
    with torch.no_grad():
        network(waveform)
        encoder = load_encoder(path)
        ours = encoder(waveform).layers
    for hook in hooks:
        hook.remove()
    assert ours.shape == (2, 8, 29, 1024)
    for layer, (width, theirs) in enumerate(zip(encoder.layer_dims, seen, strict=True)):
        assert theirs.shape[-1] == width
        torch.testing.assert_close(ours[:, layer, :, :width], theirs[:, :29], atol=1e-4, rtol=0)
        assert not ours[:, layer, :, width:].any()


def test_it_is_converted_with_its_origin(published, waveform, tmp_path):
    path = import_encoder("distillmos", published[1], out=tmp_path / "sub" / "d.safetensors")
    converted, direct = load_encoder(path), load_encoder(published[1])
    assert converted.fingerprint() == direct.fingerprint()
    assert converted.provenance["licence"] == "MIT"
    assert converted.provenance["source_file"] == "distill_mos_v7.pt"


@pytest.mark.parametrize("layers", [[0], [0, 7], [3]])
def test_padding_is_not_heard(waveform, layers):
    torch.manual_seed(0)
    encoder = DistillMOSEncoder(layers=layers).eval()
    padded = waveform.clone()
    padded[1, 5000:] = 3.0
    with torch.no_grad():
        batch = encoder(padded, torch.tensor([9000, 5000]))
        alone = encoder(waveform[1:, :5000])
    assert batch.lengths.tolist() == [29, 16]
    torch.testing.assert_close(batch.layers[1, :, :16], alone.layers[0], atol=1e-5, rtol=0)
    assert encoder.dim == (1024 if 0 in layers else 200)


def test_level_is_not_heard(waveform):
    encoder = DistillMOSEncoder(layers=[0]).eval()
    with torch.no_grad():
        quiet, loud = encoder(0.01 * waveform).layers, encoder(waveform).layers
    torch.testing.assert_close(quiet, loud, atol=1e-4, rtol=0)


def test_a_batch_in_training_gives_the_single_results(waveform):
    """The norms keep their statistics, whatever the mode."""
    torch.manual_seed(0)
    encoder = DistillMOSEncoder(layers=[7]).train()
    both, one = encoder(waveform).layers[:1], encoder(waveform[:1]).layers
    torch.testing.assert_close(both, one, atol=1e-5, rtol=0)


def test_silence_has_a_finite_gradient():
    encoder = DistillMOSEncoder(layers=[0])
    x = torch.zeros(1, 3200, requires_grad=True)
    encoder(x).layers.sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_the_convolutions_take_any_length_the_transformer_does_not():
    long = torch.zeros(1, 122_881)
    assert DistillMOSEncoder(layers=[0]).eval()(long).layers.shape[2] == 385
    with pytest.raises(ParameterError, match="122880"):
        DistillMOSEncoder(layers=[1])(long)


def test_another_encoder_is_no_distillmos(tmp_path, published):
    from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
    from voiceguard.features.ssl.wave_config import WaveConfig

    small = WaveEncoder(WaveConfig(dim=16, depth=1, heads=2, feedforward=8, conv_dims=(4,) * 7))
    path = save_encoder(small, tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match="DistillMOS"):
        import_encoder("distillmos", path, out=tmp_path / "out.safetensors")


def test_a_file_of_it_needs_no_config(tmp_path, waveform):
    torch.manual_seed(2)
    encoder = DistillMOSEncoder(layers=[0]).eval()
    again = load_encoder(save_encoder(encoder, tmp_path / "d.safetensors"))
    assert again.config == {}
    assert again.receptive_field == 2240
    with torch.no_grad():
        assert torch.equal(again(waveform).layers, encoder(waveform).layers)
