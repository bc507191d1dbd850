import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.interpolate import interp1d

from voiceguard.errors import ParameterError
from voiceguard.features.constant_q import CQCC, CQT, cepstral_matrix


def tone(hz, samples=16000):
    return 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(samples) / 16000).unsqueeze(0)


@pytest.mark.parametrize("octave", [2, 4, 6])
def test_a_tone_lies_in_its_bin(octave):
    cqt = CQT()
    hz = cqt.f_min * 2**octave
    profile = cqt(tone(hz))[0, :, 20:-20].mean(dim=-1)
    assert int(profile.argmax()) == octave * cqt.bins_per_octave


def test_magnitude_matches_a_direct_correlation():
    # Against the definition: inner product with a windowed complex exponential of constant Q.
    cqt = CQT()
    signal = tone(1000.0)[0].numpy()
    bin_index = 4 * 12
    hz = cqt.f_min * 2 ** (bin_index / 12)
    ratio = 2 ** (2 / 12)
    length = 16000 / hz * (ratio + 1) / (ratio - 1)
    n = np.arange(int(-length / 2), int(length / 2))
    window = 0.5 + 0.5 * np.cos(2 * np.pi * n / length)
    kernel = window / window.sum() * np.exp(2j * np.pi * hz * n / 16000)
    direct = abs(np.sum(signal[8000 + n] * np.conj(kernel))) * np.sqrt(length)
    given = np.exp(0.5 * cqt(tone(1000.0))[0, bin_index, 8000 // cqt.hop].item())
    assert given == pytest.approx(direct, rel=0.02)


def test_cepstral_matrix_is_spline_then_cosine_transform():
    centres = 62.5 * 2.0 ** (np.arange(72) / 12)
    spectrum = np.sin(np.arange(72) / 5.0)
    grid = np.arange(centres[0], centres[-1], 62.5 / 16)
    resampled = interp1d(centres, spectrum, kind="cubic")(grid)
    expected = dct(resampled, norm="ortho")[:20]
    given = cepstral_matrix(centres, step=62.5 / 16, cepstra=20) @ spectrum
    assert np.allclose(given, expected, atol=2e-2)


def test_flat_spectrum_has_only_the_zeroth_cepstrum():
    matrix = cepstral_matrix(62.5 * 2.0 ** (np.arange(72) / 12), step=62.5 / 16, cepstra=20)
    flat = matrix @ np.ones(72)
    assert flat[0] > 10
    assert np.abs(flat[1:]).max() < 1e-3


def test_variants_have_the_published_widths():
    assert CQCC.asvspoof2019().coefficients == 90
    assert CQCC.asvspoof2021().coefficients == 60
    assert CQCC.asvspoof2019().f_min == pytest.approx(15.625)
    assert CQCC.asvspoof2021().f_min == pytest.approx(62.5)


def test_level_moves_only_the_zeroth_cepstrum():
    noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    front_end = CQCC.asvspoof2021()
    moved = (front_end(noise * 2) - front_end(noise))[0, :20].mean(dim=-1)
    assert moved[0] > 1
    assert moved[1:].abs().max() < 1e-2


@pytest.mark.parametrize("options", [{"octaves": 0}, {"hop": 0}, {"f_max": 9000.0}])
def test_parameters_are_checked(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        CQT(**options)


def test_cannot_go_into_a_graph():
    assert not CQT.exportable and not CQCC.exportable
