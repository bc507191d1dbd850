import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import get_window, stft

from voiceguard.errors import ParameterError
from voiceguard.features.compressed import CompressedSpectrogram


def test_matches_scipy(speechlike):
    waveform = speechlike[0].double().numpy()
    unit = waveform / np.sqrt(np.mean(waveform**2))
    window = get_window("hann", 320)
    *_, spectrum = stft(unit, window=window, nperseg=320, noverlap=160, boundary=None, padded=False)
    # scipy divides by the window's sum; white noise of unit RMS is to have unit power a bin.
    spectrum = spectrum[1:] * window.sum() / np.sqrt(np.sum(window**2))
    expected = np.abs(spectrum) ** 0.3 * np.exp(1j * np.angle(spectrum))
    real, imaginary = CompressedSpectrogram()(speechlike[:1])[0].numpy()
    # Where the magnitude lies at its floor the phase is not defined to float32.
    loud = np.abs(spectrum) > 1e-2
    assert loud.mean() > 0.9
    assert np.abs(real - expected.real)[loud].max() < 1e-3
    assert np.abs(imaginary - expected.imag)[loud].max() < 1e-3


@settings(max_examples=25, deadline=None)
@given(st.floats(min_value=-50, max_value=20))
def test_gain_does_not_matter(decibels):
    waveform = torch.randn(1, 3200, generator=torch.Generator().manual_seed(1)) * 0.1
    front_end = CompressedSpectrogram()
    louder = front_end(waveform * 10 ** (decibels / 20))
    torch.testing.assert_close(louder, front_end(waveform), rtol=1e-3, atol=1e-3)


def test_white_noise_has_unit_power():
    noise = torch.randn(1, 160000, generator=torch.Generator().manual_seed(2))
    parts = CompressedSpectrogram(power=1.0)(noise)
    power = parts.square().sum(dim=1).mean(dim=-1)[0, :-1]
    assert power.mean().item() == pytest.approx(1.0, abs=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(min_value=320, max_value=5000), st.sampled_from([(320, 160), (320, 80)]))
def test_frame_count(samples, sizes):
    n_fft, hop = sizes
    front_end = CompressedSpectrogram(n_fft=n_fft, hop=hop)
    assert front_end(torch.ones(1, samples)).shape[-1] == (samples - n_fft) // hop + 1


def test_a_tone_lies_in_its_bin():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000).unsqueeze(0)
    energy = CompressedSpectrogram()(tone).square().sum(dim=1)[0].mean(dim=-1)
    # Bins are 50 Hz wide and the one at 0 Hz is dropped.
    assert int(energy.argmax()) == 1000 // 50 - 1


@pytest.mark.parametrize(
    "options", [{"n_fft": 0}, {"n_fft": 300}, {"hop": -1}, {"power": 0.0}, {"power": 1.5}]
)
def test_parameters_are_checked(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        CompressedSpectrogram(**options)
