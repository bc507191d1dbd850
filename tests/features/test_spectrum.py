import librosa
import numpy as np
import pytest
import torch
import torchaudio
from scipy.signal import get_window, stft

from voiceguard.errors import ParameterError
from voiceguard.features.spectrum import LogSpectrogram, PowerSpectrum


@pytest.mark.parametrize("window", ["hann", "hamming"])
@pytest.mark.parametrize("periodic", [True, False])
def test_unpadded_matches_scipy(window, periodic, speechlike):
    values = get_window(window, 400, fftbins=periodic)
    *_, spectrum = stft(
        speechlike[0].double().numpy(),
        window=values,
        nperseg=400,
        noverlap=240,
        nfft=512,
        boundary=None,
        padded=False,
    )
    expected = np.abs(spectrum * values.sum()) ** 2
    given = PowerSpectrum(n_fft=512, frame=400, hop=160, window=window, periodic=periodic)
    assert np.allclose(given(speechlike[:1])[0].numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("n_fft", [320, 1024])
def test_centred_matches_torchaudio(padding, mode, n_fft, speechlike):
    reference = torchaudio.transforms.Spectrogram(
        n_fft=n_fft, win_length=320, hop_length=160, power=2.0, center=True, pad_mode=mode
    )(speechlike)
    given = PowerSpectrum(n_fft=n_fft, frame=320, hop=160, padding=padding)(speechlike)
    if n_fft > 320 and padding == "reflect":
        # torch mirrors more samples, which the window then hides but for the very ends.
        given, reference = given[..., 2:-2], reference[..., 2:-2]
    torch.testing.assert_close(given, reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("frame", "hop", "window", "padding"),
    [
        (256, 64, "hann", "none"),
        (128, 32, "hann", "reflect"),
        (320, 160, "hamming", "zeros"),
        (8, 8, "hann", "none"),
        (2, 1, "hamming", "none"),
    ],
)
def test_folding_frames_changes_nothing(frame, hop, window, padding, speechlike):
    spectrum = PowerSpectrum(n_fft=frame, frame=frame, hop=hop, window=window, padding=padding)
    assert spectrum.folds
    for samples in (frame, frame + hop - 1, 4_003):
        signal = speechlike[:, :samples]
        folded = spectrum(signal)
        spectrum.folds = False
        plain = spectrum(signal)
        spectrum.folds = True
        assert folded.shape == plain.shape == (3, frame // 2 + 1, spectrum.frames(samples))
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-6 * float(plain.max()))


@pytest.mark.parametrize(
    "options", [{"periodic": False}, {"n_fft": 512}, {"frame": 255, "n_fft": 255}, {"hop": 100}]
)
def test_a_window_that_is_no_mirror_of_itself_is_not_folded(options):
    assert not PowerSpectrum(**{"n_fft": 256, "frame": 256, "hop": 64, **options}).folds


def test_an_odd_transform_matches_librosa(speechlike):
    spectrum = librosa.stft(speechlike[0].numpy(), n_fft=321, hop_length=160, pad_mode="constant")
    given = PowerSpectrum(n_fft=321, frame=321, hop=160, padding="zeros")(speechlike[:1])[0]
    assert np.allclose(given.numpy(), np.abs(spectrum) ** 2, rtol=1e-3, atol=1e-3)


def test_log_spectrogram_matches_librosa(speechlike):
    spectrum = librosa.stft(
        speechlike[0].numpy(), n_fft=512, win_length=400, hop_length=160, center=False
    )
    # librosa puts the window into the middle of the transform, 56 samples further on.
    given = LogSpectrogram()(speechlike[:1, 56:-56])[0].numpy()
    assert np.allclose(given, np.log(np.abs(spectrum) ** 2 + 1e-6), atol=1e-2)


@pytest.mark.parametrize(
    "options",
    [{"n_fft": 320}, {"hop": 0}, {"window": "kaiser"}, {"padding": "wrap"}],
)
def test_parameters_are_checked(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        PowerSpectrum(**{"n_fft": 512, "frame": 400, "hop": 160, **options})


def test_reflect_needs_more_than_half_a_frame():
    spectrum = PowerSpectrum(n_fft=400, frame=400, hop=160, padding="reflect")
    assert spectrum.frames(200) == 0
    assert spectrum(torch.ones(1, 201)).shape[-1] == spectrum.frames(201) == 2
