"""LFCC against an independent computation with scipy and numpy, and against torchaudio."""

import numpy as np
import pytest
import torch
import torchaudio
from scipy.fft import dct, rfft
from scipy.signal import lfilter

from voiceguard.errors import ParameterError
from voiceguard.features.lfcc import LFCC, LFCCConfig

SMALL = {
    "frame": 400, "hop": 160, "n_fft": 400, "filters": 40, "cepstra": 20, "pre_emphasis": 0.0,
    "floor": 1e-6, "log_energy": False, "deltas": "regression", "padding": "none", "periodic": True,
}  # fmt: skip


def triangles(filters, f_max, n_fft):
    corners = np.linspace(0, f_max, filters + 2)
    hz = np.fft.rfftfreq(n_fft, 1 / 16000)
    return np.stack([np.interp(hz, corners[i : i + 3], [0, 1, 0]) for i in range(filters)])


def power_frames(signal, *, frame, hop, n_fft, window):
    starts = range(0, len(signal) - frame + 1, hop)
    return np.stack([np.abs(rfft(signal[s : s + frame] * window, n_fft)) ** 2 for s in starts])


def cepstra(power, *, filters, f_max, n_fft, keep, floor):
    bands = power @ triangles(filters, f_max, n_fft).T
    return dct(np.log10(bands + floor), axis=1, norm="ortho")[:, :keep].T


def test_asvspoof2019(speechlike):
    signal = lfilter([1, -0.97], [1], speechlike[0].double().numpy())
    power = power_frames(signal, frame=320, hop=160, n_fft=512, window=np.hamming(320))
    expected = cepstra(power, filters=20, f_max=8000, n_fft=512, keep=20, floor=2.2e-16)
    given = LFCC.asvspoof2019()(speechlike[:1])[0].numpy()
    assert given.shape[0] == 60
    assert np.allclose(given[:20], expected, atol=2e-3)


def test_lcnn2021(speechlike):
    eps = np.finfo(np.float32).eps
    signal = lfilter([1, -0.97], [1], speechlike[0].double().numpy())
    padded = np.pad(signal, 160)
    window = np.hamming(321)[:320]
    power = power_frames(padded, frame=320, hop=160, n_fft=1024, window=window)
    expected = cepstra(power, filters=20, f_max=4000, n_fft=1024, keep=20, floor=eps)
    expected[0] = np.log10(power.sum(axis=1) / 1024 + eps)
    given = LFCC.lcnn2021()(speechlike[:1])[0].numpy()
    assert np.allclose(given[:20], expected, atol=2e-3)
    assert np.allclose(given[20:40, 1:-1], expected[:, 2:] - expected[:, :-2], atol=4e-3)
    assert given.shape == (60, 32000 // 160 + 1)


def test_gmm2021(speechlike):
    signal = speechlike[0].double().numpy()
    power = power_frames(signal, frame=480, hop=240, n_fft=1024, window=np.hamming(480))
    expected = cepstra(power, filters=70, f_max=4000, n_fft=1024, keep=19, floor=2.2e-16)
    given = LFCC.gmm2021()(speechlike[:1])[0].numpy()
    assert given.shape[0] == 57
    assert np.allclose(given[:19], expected, atol=2e-3)


def test_matches_torchaudio(speechlike):
    reference = torchaudio.transforms.LFCC(
        n_filter=40, n_lfcc=20, log_lf=True,
        speckwargs={"n_fft": 400, "hop_length": 160, "center": False,
                    "window_fn": torch.hamming_window},
    )(speechlike)  # fmt: skip
    given = LFCC(LFCCConfig(**SMALL))(speechlike)[:, :20]
    # torchaudio takes the natural logarithm.
    torch.testing.assert_close(given * np.log(10), reference, rtol=1e-3, atol=2e-3)


def test_variants_differ(speechlike):
    first = LFCC.asvspoof2019()(speechlike[:1])[0, :19, 10:50]
    second = LFCC.lcnn2021()(speechlike[:1])[0, :19, 11:51]
    assert (first - second).abs().mean() > 0.1


@pytest.mark.parametrize(
    "options", [{"cepstra": 41}, {"filters": 0}, {"f_max": 8001.0}, {"f_min": 9000.0}]
)
def test_parameters_are_checked(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        LFCCConfig(**{**SMALL, **options})
