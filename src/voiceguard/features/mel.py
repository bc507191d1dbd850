"""Log-mel spectrogram and mel-frequency cepstral coefficients.

Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
recognition", IEEE TASSP 28(4), 1980; with the mel formula, the triangles of height one and the
orthonormal cosine transform of torchaudio's defaults.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from voiceguard.errors import ParameterError
from voiceguard.features._base import FrontEnd, check_int
from voiceguard.features.spectrum import PowerSpectrum


class LogMel(FrontEnd):
    """Natural log of the power in triangular mel bands.

    Parameters
    ----------
    mels : int
        Number of bands.
    n_fft, frame, hop : int
        Transform length, window length (periodic Hann) and step, samples.
    f_min, f_max : float
        Edges of the lowest and highest band, Hz.
    floor : float
        Added to the power before the log.
    sample_rate : int
        Hz.

    Shape
    -----
    (batch, n) to (batch, mels, (n - frame) // hop + 1)

    Raises
    ------
    ParameterError
        If a parameter is outside its domain.
    """

    bank: Tensor

    def __init__(
        self,
        *,
        mels: int = 64,
        n_fft: int = 512,
        frame: int = 400,
        hop: int = 160,
        f_min: float = 20.0,
        f_max: float = 7600.0,
        floor: float = 1e-6,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        check_int(self, mels=mels, sample_rate=sample_rate)
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise ParameterError(
                f"The 'f_min' and 'f_max' parameters of {type(self).__name__} must satisfy "
                f"0 <= f_min < f_max <= {sample_rate / 2:g}. Got {f_min!r}, {f_max!r} instead."
            )
        self.spectrum = PowerSpectrum(n_fft=n_fft, frame=frame, hop=hop)
        self.coefficients = mels
        self.floor = floor
        bank = melscale_fbanks(self.spectrum.bins, f_min, f_max, mels, sample_rate)
        self.register_buffer("bank", bank.T, persistent=False)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return self.spectrum.frames(samples)

    def transform(self, waveform: Tensor) -> Tensor:
        """Log-mel of (batch, n)."""
        return torch.log(torch.matmul(self.bank, self.spectrum(waveform)) + self.floor)


class MFCC(LogMel):
    """Orthonormal cosine transform (type II) of the log-mel spectrum.

    Parameters
    ----------
    cepstra : int
        Coefficients kept, from the 0th; at most `mels`.
    mels, n_fft, frame, hop, f_min, f_max, floor, sample_rate
        As for :class:`LogMel`.

    Shape
    -----
    (batch, n) to (batch, cepstra, (n - frame) // hop + 1)

    Raises
    ------
    ParameterError
        If a parameter is outside its domain.
    """

    dct: Tensor

    def __init__(
        self,
        *,
        cepstra: int = 20,
        mels: int = 64,
        n_fft: int = 512,
        frame: int = 400,
        hop: int = 160,
        f_min: float = 20.0,
        f_max: float = 7600.0,
        floor: float = 1e-6,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__(
            mels=mels,
            n_fft=n_fft,
            frame=frame,
            hop=hop,
            f_min=f_min,
            f_max=f_max,
            floor=floor,
            sample_rate=sample_rate,
        )
        check_int(self, cepstra=cepstra)
        if cepstra > mels:
            raise ParameterError(
                f"The 'cepstra' parameter of MFCC must be at most mels={mels}. "
                f"Got {cepstra} instead."
            )
        self.coefficients = cepstra
        self.register_buffer("dct", create_dct(cepstra, mels, "ortho").T, persistent=False)

    def transform(self, waveform: Tensor) -> Tensor:
        """Cepstra of (batch, n)."""
        return torch.matmul(self.dct, super().transform(waveform))
