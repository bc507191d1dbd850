import librosa
import numpy as np
import pytest
import torch
import torchaudio
from scipy.fft import dct

from voiceguard.errors import ParameterError
from voiceguard.features.mel import MFCC, LogMel

SIZES = {"n_fft": 400, "hop_length": 160, "n_mels": 64, "f_min": 20.0, "f_max": 7600.0}


def test_log_mel_matches_torchaudio(speechlike):
    reference = torchaudio.transforms.MelSpectrogram(center=False, **SIZES)(speechlike)
    given = LogMel(n_fft=400)(speechlike)
    torch.testing.assert_close(given, torch.log(reference + 1e-6), rtol=1e-3, atol=1e-3)


def test_log_mel_matches_librosa(speechlike):
    reference = librosa.feature.melspectrogram(
        y=speechlike[0].numpy(), sr=16000, n_fft=400, hop_length=160, center=False,
        n_mels=64, fmin=20.0, fmax=7600.0, htk=True, norm=None,
    )  # fmt: skip
    given = LogMel(n_fft=400)(speechlike[:1])[0].numpy()
    assert np.allclose(given, np.log(reference + 1e-6), atol=1e-2)


def test_mfcc_matches_torchaudio(speechlike):
    reference = torchaudio.transforms.MFCC(
        n_mfcc=20, log_mels=True, melkwargs={"center": False, **SIZES}
    )(speechlike)
    torch.testing.assert_close(MFCC(n_fft=400)(speechlike), reference, rtol=1e-3, atol=1e-3)


def test_mfcc_is_the_cosine_transform_of_log_mel(speechlike):
    expected = dct(LogMel()(speechlike).numpy(), axis=1, norm="ortho")[:, :13]
    assert np.allclose(MFCC(cepstra=13)(speechlike).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"mels": 0}, "mels"), ({"f_max": 9000.0}, "f_max"), ({"f_min": -1.0}, "f_min"),
     ({"cepstra": 65}, "cepstra"), ({"cepstra": 0}, "cepstra")],
)  # fmt: skip
def test_parameters_are_checked(options, named):
    with pytest.raises(ParameterError, match=named):
        MFCC(**options)


def test_louder_by_ten_decibels_is_log_ten_everywhere_above_the_floor():
    noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    difference = LogMel()(noise * 10**0.5) - LogMel()(noise)
    torch.testing.assert_close(
        difference, torch.full_like(difference, np.log(10)), atol=1e-3, rtol=0
    )
