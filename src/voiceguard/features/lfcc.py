"""Linear-frequency cepstral coefficients, in the variants that the challenges published.

Sahidullah, Kinnunen and Hanilci, "A comparison of features for synthetic speech detection",
Interspeech 2015. The variants give different numbers and are not interchangeable: a back end
trained on one does not work on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchaudio.functional import create_dct, linear_fbanks

from voiceguard.errors import ParameterError
from voiceguard.features._base import FrontEnd, check_int
from voiceguard.features.deltas import difference, regression
from voiceguard.features.spectrum import Padding, PowerSpectrum

Deltas = Literal["regression", "difference"]


@dataclass(frozen=True)
class LFCCConfig:
    """One variant of LFCC.

    Parameters
    ----------
    frame, hop, n_fft : int
        Hamming window, step and transform length, samples.
    filters : int
        Triangular bands, equally spaced from `f_min` to `f_max` Hz.
    cepstra : int
        Static coefficients, from the 0th.
    pre_emphasis : float
        Weight of the previous sample that is subtracted; 0 for none.
    floor : float
        Added to a band's power before log10.
    log_energy : bool
        Whether the log10 mean power of the frame stands in for the 0th coefficient.
    deltas : {"regression", "difference"}
        Least-squares slope over seven frames, or next minus previous frame.
    padding : {"none", "zeros", "reflect"}
        See :class:`~voiceguard.features.spectrum.PowerSpectrum`.
    periodic : bool
        Whether the window is periodic or symmetric.
    f_min, f_max : float
        Hz.
    sample_rate : int
        Hz.
    """

    frame: int
    hop: int
    n_fft: int
    filters: int
    cepstra: int
    pre_emphasis: float
    floor: float
    log_energy: bool
    deltas: Deltas
    padding: Padding
    periodic: bool
    f_min: float = 0.0
    f_max: float = 8000.0
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        check_int(self, filters=self.filters, cepstra=self.cepstra, sample_rate=self.sample_rate)
        if self.cepstra > self.filters:
            raise ParameterError(
                f"The 'cepstra' parameter of LFCCConfig must be at most filters={self.filters}. "
                f"Got {self.cepstra} instead."
            )
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ParameterError(
                "The 'f_min' and 'f_max' parameters of LFCCConfig must satisfy 0 <= f_min < f_max "
                f"<= {self.sample_rate / 2:g}. Got {self.f_min!r}, {self.f_max!r} instead."
            )


class LFCC(FrontEnd):
    """Static cepstra, their deltas and double deltas, stacked.

    Use one of the named variants, or a :class:`LFCCConfig` of your own.

    Parameters
    ----------
    config : LFCCConfig
        The variant.

    Shape
    -----
    (batch, n) to (batch, 3 * cepstra, frames)
    """

    bank: Tensor
    dct: Tensor

    def __init__(self, config: LFCCConfig) -> None:
        super().__init__()
        self.config = config
        self.coefficients = 3 * config.cepstra
        self.spectrum = PowerSpectrum(
            n_fft=config.n_fft,
            frame=config.frame,
            hop=config.hop,
            window="hamming",
            periodic=config.periodic,
            padding=config.padding,
        )
        bank = linear_fbanks(
            self.spectrum.bins, config.f_min, config.f_max, config.filters, config.sample_rate
        )
        dct = create_dct(config.cepstra, config.filters, "ortho")
        self.register_buffer("bank", bank.T, persistent=False)
        self.register_buffer("dct", dct.T, persistent=False)

    @classmethod
    def asvspoof2019(cls) -> LFCC:
        """Build that of the 2019 challenge: 20 ms frames, 20 filters to 8 kHz, 60 coefficients."""
        return cls(
            LFCCConfig(
                frame=320,
                hop=160,
                n_fft=512,
                filters=20,
                cepstra=20,
                pre_emphasis=0.97,
                floor=torch.finfo(torch.float64).eps,
                log_energy=False,
                deltas="regression",
                padding="none",
                periodic=False,
            )
        )

    @classmethod
    def lcnn2021(cls) -> LFCC:
        """Build that of the 2021 LCNN: 20 filters to 4 kHz, log energy, 60 coefficients.

        Wang and Yamagishi, "A comparative study on recent neural spoofing countermeasures for
        synthetic speech detection", Interspeech 2021.
        """
        return cls(
            LFCCConfig(
                frame=320,
                hop=160,
                n_fft=1024,
                filters=20,
                cepstra=20,
                pre_emphasis=0.97,
                floor=torch.finfo(torch.float32).eps,
                log_energy=True,
                deltas="difference",
                padding="zeros",
                periodic=True,
                f_max=4000.0,
            )
        )

    @classmethod
    def gmm2021(cls) -> LFCC:
        """Build that of the 2021 GMM: 30 ms frames, 70 filters to 4 kHz, 57 coefficients."""
        return cls(
            LFCCConfig(
                frame=480,
                hop=240,
                n_fft=1024,
                filters=70,
                cepstra=19,
                pre_emphasis=0.0,
                floor=torch.finfo(torch.float64).eps,
                log_energy=False,
                deltas="regression",
                padding="none",
                periodic=False,
                f_max=4000.0,
            )
        )

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return self.spectrum.frames(samples)

    def transform(self, waveform: Tensor) -> Tensor:
        """Coefficients of (batch, n)."""
        static = self._static(self.spectrum(self._pre_emphasised(waveform)))
        delta_of = difference if self.config.deltas == "difference" else regression
        delta = delta_of(static)
        return torch.cat([static, delta, delta_of(delta)], dim=1)

    def _pre_emphasised(self, waveform: Tensor) -> Tensor:
        """First-order high-pass; the first sample has no predecessor and is kept."""
        if not self.config.pre_emphasis:
            return waveform
        rest = waveform[:, 1:] - self.config.pre_emphasis * waveform[:, :-1]
        return torch.cat([waveform[:, :1], rest], dim=1)

    def _static(self, power: Tensor) -> Tensor:
        floor = self.config.floor
        cepstra = torch.matmul(self.dct, torch.log10(torch.matmul(self.bank, power) + floor))
        if not self.config.log_energy:
            return cepstra
        energy = torch.log10(power.sum(dim=1, keepdim=True) / self.config.n_fft + floor)
        return torch.cat([energy, cepstra[:, 1:]], dim=1)
