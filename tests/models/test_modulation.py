"""Modulation spectra against scipy's, what they hear of a voice, and a probe behind them."""

import numpy as np
import pytest
import torch
from scipy.signal import welch

from voiceguard.errors import ParameterError
from voiceguard.features.ssl import load_encoder
from voiceguard.models.modulation import (
    FLOOR,
    ModulationConfig,
    ModulationProbe,
    ModulationSpectrum,
)
from voiceguard.models.probe import LinearProbe

DIM, SEGMENT = 5, 32


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def frames(rng):
    return torch.from_numpy(rng.normal(size=(3, 100, DIM)).astype(np.float32)) + 4.0


def test_it_is_the_averaged_periodogram(frames):
    found = ModulationSpectrum(SEGMENT)(frames).reshape(3, DIM, -1)
    moved = (frames - frames.mean(dim=1, keepdim=True)).double().numpy()
    _, density = welch(
        moved, window="hann", nperseg=SEGMENT, noverlap=3 * SEGMENT // 4, axis=1,
        detrend=False, scaling="spectrum", return_onesided=False,
    )  # fmt: skip
    # scipy divides by the window's sum; of two sides the first is taken.
    power = density[:, : SEGMENT // 2 + 1] * (SEGMENT / 2) ** 2
    np.testing.assert_allclose(found, np.log(power + FLOOR).transpose(0, 2, 1), atol=1e-3)


def test_a_modulated_tone_stands_where_its_rate_is():
    time = torch.arange(64_000) / 16_000
    tone = 0.3 * (1.0 + 0.8 * torch.cos(2 * np.pi * 31.25 * time)) * torch.sin(6_000 * time)
    frames = load_encoder("cepstra")(tone[None]).layers[:, 0]
    found = ModulationSpectrum(128)(frames).reshape(60, 65)
    # Frames come at 250 Hz: bin 16 of 128 is 31.25 Hz. The loudest band holds the tone.
    band = found[:20][frames[0, :, :20].mean(0).argmax()]
    assert band[4:].argmax() == 16 - 4


def test_level_and_padding_say_nothing(frames):
    spectrum = ModulationSpectrum(SEGMENT)
    plain = spectrum(frames)
    # An encoder gives logarithms: another level is an offset.
    torch.testing.assert_close(spectrum(frames + 3.0), plain, rtol=1e-3, atol=1e-3)
    padded = torch.cat([frames, torch.full((3, 37, DIM), 50.0)], dim=1)
    torch.testing.assert_close(
        spectrum(padded, torch.tensor([100, 100, 100])), plain, rtol=1e-4, atol=1e-4
    )
    mixed = spectrum(padded, torch.tensor([100, 20, 100]))
    torch.testing.assert_close(mixed[1], spectrum(frames[1:2, :20])[0], rtol=1e-4, atol=1e-4)
    assert spectrum(frames.half()).dtype == torch.float32


def test_a_probe_moves_into_the_back_end(rng):
    x = rng.normal(size=(60, 100, DIM)).astype(np.float32)
    # The classes differ in nothing but how fast one column moves.
    x[::2, :, 1] = np.repeat(rng.normal(size=(30, 25)), 4, axis=1)
    frames = torch.from_numpy(x)
    pooled = ModulationSpectrum(SEGMENT)(frames).numpy()
    probe = LinearProbe(C=0.01).fit(pooled, ["bonafide", "spoof"] * 30)
    assert np.mean((probe.decision_function(pooled) > 0) == (np.arange(60) % 2 == 0)) > 0.9
    back_end = ModulationProbe.from_probe(probe, ModulationConfig(DIM, SEGMENT))
    with torch.inference_mode():
        output = back_end(frames)
    np.testing.assert_allclose(
        back_end.score(output).numpy(), probe.decision_function(pooled), atol=1e-4
    )
    assert output.embedding.shape == (60, DIM)
    with pytest.raises(ParameterError, match="must take"):
        ModulationProbe.from_probe(probe, ModulationConfig(DIM, 2 * SEGMENT))


@pytest.mark.parametrize("options", [{"dim": 0}, {"segment": 0}, {"segment": 30}])
def test_bad_config_is_refused(options):
    with pytest.raises(ParameterError):
        ModulationConfig(**options)
