"""Bands and cepstra against librosa's and scipy's, and an encoder without learned weights."""

import numpy as np
import pytest
import torch
from scipy.fft import dct

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features.ssl import load_encoder
from voiceguard.features.ssl.cepstra import CepstralEncoder
from voiceguard.features.ssl.native import save_encoder


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("cepstra")


@pytest.fixture
def noise():
    return 0.1 * torch.randn(2, 8_000, generator=torch.Generator().manual_seed(5))


def test_it_gives_log_bands_and_both_kinds_of_cepstra(encoder, noise):
    import librosa

    found = encoder(noise).layers[:, 0].numpy()
    assert found.shape == (2, (8_000 - 256) // 64 + 1, 60)
    mel = librosa.filters.mel(sr=16_000, n_fft=256, n_mels=20, fmin=100, htk=True, norm=None)
    for ours, x in zip(found, noise.numpy(), strict=True):
        spectrum = librosa.stft(x, n_fft=256, hop_length=64, center=False)
        power = np.abs(spectrum).T ** 2
        bands = np.log(power @ mel.T + 1e-7)
        np.testing.assert_allclose(ours[:, :20], bands, atol=2e-3)
        cepstra = dct(bands, norm="ortho")[:, :16]
        np.testing.assert_allclose(ours[:, 20:36], cepstra, atol=5e-3)
        lines = dct(np.log(power[:, 2:128] + 1e-7), norm="ortho")[:, :24]
        np.testing.assert_allclose(ours[:, 36:], lines, atol=5e-3)


def test_a_padded_item_gives_what_it_gives_alone(encoder, noise):
    padded = noise.clone()
    padded[1, 5_000:] = float("nan")
    output = encoder(padded, torch.tensor([8_000, 5_000]))
    alone = encoder(noise[1:, :5_000])
    count = int(alone.lengths[0])
    assert output.lengths.tolist() == [encoder.frames(8_000), count]
    torch.testing.assert_close(output.layers[1, :, :count], alone.layers[0])
    assert not output.layers[1, :, count:].any()


def test_frames_lie_where_their_windows_have_their_centre(encoder):
    x = torch.zeros(1, 4_000)
    x[0, 2_000] = 0.5
    loud = encoder(x).layers[0, 0, :, :20].mean(1)
    heard = np.flatnonzero(loud.numpy() > loud.min().item() + 1.0)
    centre = np.average(encoder.frame_times(encoder.frames(4_000))[heard])
    assert centre == pytest.approx(2_000 / 16_000, abs=0.002)


def test_its_file_gives_the_same(encoder, noise, tmp_path):
    back = load_encoder(save_encoder(encoder, tmp_path / "cepstra.safetensors"))
    assert isinstance(back, CepstralEncoder)
    assert back.fingerprint() == encoder.fingerprint()
    assert torch.equal(back(noise).layers, encoder(noise).layers)


def test_it_freezes_and_takes_no_other_options(encoder, noise):
    assert not [*encoder.freeze().train().parameters()]
    with pytest.raises(ParameterError, match="no option 'normalize'"):
        load_encoder("cepstra", normalize=True)
    with pytest.raises(ParameterError, match="layers"):
        load_encoder("cepstra", layers=[1])
    with pytest.raises(BundleError, match="another network than 'wavlm-base'"):
        load_encoder("cepstra", architecture="wavlm-base")
    with pytest.raises(ParameterError, match="256"):
        encoder(noise[:, :200])
