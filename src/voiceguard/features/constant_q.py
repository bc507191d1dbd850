"""Constant-Q transform and constant-Q cepstral coefficients.

Todisco, Delgado and Evans, "Constant Q cepstral coefficients: a spoofing countermeasure for
automatic speaker verification", Computer Speech and Language 45, 2017. The transform is librosa's:
it runs on NumPy arrays outside torch, passes no gradient and cannot go into a graph.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voiceguard.errors import ParameterError
from voiceguard.features._base import FrontEnd, check_int
from voiceguard.features.deltas import regression

_FLOOR = 1e-12


class CQT(FrontEnd):
    """Natural log of the power of the constant-Q transform.

    Bin k lies at f_max / 2**octaves * 2**(k / bins_per_octave).

    Parameters
    ----------
    bins_per_octave : int
        Resolution.
    octaves : int
        Octaves below `f_max`.
    f_max : float
        Upper end, itself not a bin, Hz; at most half the sample rate.
    hop : int
        Samples from frame to frame.
    sample_rate : int
        Hz.

    Shape
    -----
    (batch, n) to (batch, bins_per_octave * octaves, n // hop + 1)

    Raises
    ------
    ParameterError
        If a parameter is outside its domain.
    """

    exportable = False

    def __init__(
        self,
        *,
        bins_per_octave: int = 12,
        octaves: int = 7,
        f_max: float = 8000.0,
        hop: int = 128,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        check_int(
            self, bins_per_octave=bins_per_octave, octaves=octaves, hop=hop, sample_rate=sample_rate
        )
        if not 0 < f_max <= sample_rate / 2:
            raise ParameterError(
                f"The 'f_max' parameter of {type(self).__name__} must lie in "
                f"(0, {sample_rate / 2:g}]. Got {f_max!r} instead."
            )
        self.bins_per_octave = bins_per_octave
        self.bins = bins_per_octave * octaves
        self.f_min = f_max / 2**octaves
        self.hop = hop
        self.sample_rate = sample_rate
        self.coefficients = self.bins

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return samples // self.hop + 1 if samples > 0 else 0

    def transform(self, waveform: Tensor) -> Tensor:
        """Log power of (batch, n)."""
        rows = [self._log_power(row) for row in waveform.detach().cpu().numpy()]
        return torch.from_numpy(np.stack(rows)).to(waveform.device)

    def _log_power(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        import librosa

        with warnings.catch_warnings():
            # A low bin's filter may be longer than the signal; librosa pads, which is intended.
            warnings.filterwarnings("ignore", message="n_fft=.* is too large")
            spectrum = librosa.cqt(
                signal,
                sr=self.sample_rate,
                hop_length=self.hop,
                fmin=self.f_min,
                n_bins=self.bins,
                bins_per_octave=self.bins_per_octave,
            )
        power = np.abs(spectrum) ** 2
        log_power: NDArray[np.float32] = np.log(power + np.float32(_FLOOR))
        return log_power


class CQCC(CQT):
    """Cepstra of the constant-Q spectrum on a linear scale, with deltas and double deltas.

    The log-power spectrum is resampled by a cubic spline from the geometric to a uniform grid of
    step f_min / 16 and goes through an orthonormal cosine transform. Both steps are linear, so one
    matrix does them.

    Parameters
    ----------
    cepstra : int
        Static coefficients, from the 0th.
    bins_per_octave, octaves, f_max, hop, sample_rate
        As for :class:`CQT`.

    Shape
    -----
    (batch, n) to (batch, 3 * cepstra, n // hop + 1)

    Raises
    ------
    ParameterError
        If a parameter is outside its domain.
    """

    to_cepstra: Tensor

    def __init__(
        self,
        *,
        cepstra: int,
        bins_per_octave: int,
        octaves: int,
        f_max: float,
        hop: int = 128,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__(
            bins_per_octave=bins_per_octave,
            octaves=octaves,
            f_max=f_max,
            hop=hop,
            sample_rate=sample_rate,
        )
        check_int(self, cepstra=cepstra)
        self.coefficients = 3 * cepstra
        centres = self.f_min * 2.0 ** (np.arange(self.bins) / bins_per_octave)
        matrix = cepstral_matrix(centres, step=self.f_min / 16.0, cepstra=cepstra)
        self.register_buffer("to_cepstra", torch.from_numpy(matrix), persistent=False)

    @classmethod
    def asvspoof2019(cls) -> CQCC:
        """Build that of the 2019 challenge: 96 bins an octave to 8 kHz, 90 coefficients."""
        return cls(cepstra=30, bins_per_octave=96, octaves=9, f_max=8000.0)

    @classmethod
    def asvspoof2021(cls) -> CQCC:
        """Build that of 2021: 12 bins an octave, 62.5 Hz to 4 kHz, 60 coefficients."""
        return cls(cepstra=20, bins_per_octave=12, octaves=6, f_max=4000.0)

    def transform(self, waveform: Tensor) -> Tensor:
        """Coefficients of (batch, n)."""
        static = torch.matmul(self.to_cepstra, super().transform(waveform))
        delta = regression(static)
        return torch.cat([static, delta, regression(delta)], dim=1)


def cepstral_matrix(
    centres: NDArray[np.float64], *, step: float, cepstra: int
) -> NDArray[np.float32]:
    """Spline resampling to a uniform grid, then cosine transform, as one matrix.

    Parameters
    ----------
    centres : np.ndarray [shape=(bins,)]
        Frequencies that the spectrum is known at, Hz, increasing.
    step : float
        Step of the uniform grid, Hz.
    cepstra : int
        Rows of the cosine transform that are kept.

    Returns
    -------
    np.ndarray [shape=(cepstra, bins)]
    """
    from scipy.interpolate import CubicSpline

    grid = np.arange(centres[0], centres[-1], step)
    resample = CubicSpline(centres, np.eye(len(centres)))(grid)
    points = len(grid)
    angle = np.pi / points * np.outer(np.arange(cepstra), np.arange(points) + 0.5)
    cosines = np.cos(angle) * np.sqrt(2.0 / points)
    cosines[0] /= np.sqrt(2.0)
    matrix: NDArray[np.float32] = (cosines @ resample).astype(np.float32)
    return matrix
