"""Band-pass filters cut out of sinc functions, the raw-waveform front end of AASIST.

Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet", SLT 2018; with fixed
filters in Jung et al., ICASSP 2022.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.features._base import FrontEnd, check_int, hz_to_mel, mel_to_hz


def sinc_filters(*, filters: int, taps: int, sample_rate: int) -> Tensor:
    """Windowed band-pass filters between mel-spaced edges.

    Filter i is 2 f2/fs sinc(2 f2 n/fs) - 2 f1/fs sinc(2 f1 n/fs) times a symmetric Hamming window,
    with the `filters` + 1 edges equally spaced in mel from 0 Hz to half the sample rate.

    Parameters
    ----------
    filters : int
        Number of filters.
    taps : int
        Length of a filter, odd.
    sample_rate : int
        Hz.

    Returns
    -------
    Tensor [shape=(filters, taps)]
    """
    edges = mel_to_hz(np.linspace(0.0, hz_to_mel(sample_rate / 2), filters + 1))
    cutoffs = 2.0 * edges[:, None] / sample_rate
    n = np.arange(taps) - (taps - 1) // 2
    low_pass = cutoffs * np.sinc(cutoffs * n[None, :])
    band_pass = np.diff(low_pass, axis=0) * np.hamming(taps)
    return torch.from_numpy(band_pass.astype(np.float32))


class SincFilterbank(FrontEnd):
    """Fixed sinc filters, one output sample an input sample.

    Parameters
    ----------
    filters : int
        Number of filters.
    taps : int
        Length of a filter, odd.
    max_mask : int
        In training, zero a random run of 0 to `max_mask` - 1 neighbouring filters; 0 for never.
    sample_rate : int
        Hz.

    Shape
    -----
    (batch, n) to (batch, filters, n - taps + 1)
    """

    filters: Tensor

    def __init__(
        self, *, filters: int = 70, taps: int = 129, max_mask: int = 0, sample_rate: int = 16000
    ) -> None:
        super().__init__()
        check_int(self, filters=filters, taps=taps, sample_rate=sample_rate)
        self.coefficients = filters
        self.taps = taps
        self.max_mask = max_mask
        bank = sinc_filters(filters=filters, taps=taps, sample_rate=sample_rate)
        self.register_buffer("filters", bank.unsqueeze(1), persistent=False)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return max(samples - self.taps + 1, 0)

    def transform(self, waveform: Tensor) -> Tensor:
        """Filter (batch, n)."""
        return F.conv1d(waveform.unsqueeze(1), self._masked())

    def _masked(self) -> Tensor:
        if not (self.training and self.max_mask):
            return self.filters
        width = int(torch.randint(0, self.max_mask, ()))
        start = int(torch.randint(0, self.coefficients - width, ()))
        mask = torch.ones_like(self.filters)
        mask[start : start + width] = 0.0
        return self.filters * mask


class SincEnvelope(FrontEnd):
    """Log of the mean rectified sinc output in each hop: a sinc bank at frame rate.

    Parameters
    ----------
    filters : int
        Number of filters.
    taps : int
        Length of a filter, odd.
    hop : int
        Samples a frame.
    sample_rate : int
        Hz.

    Shape
    -----
    (batch, n) to (batch, filters, (n - taps + 1) // hop)
    """

    def __init__(
        self, *, filters: int = 70, taps: int = 129, hop: int = 160, sample_rate: int = 16000
    ) -> None:
        super().__init__()
        check_int(self, hop=hop)
        self.bank = SincFilterbank(filters=filters, taps=taps, sample_rate=sample_rate)
        self.coefficients = filters
        self.hop = hop
        self.pool = nn.AvgPool1d(hop)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return self.bank.frames(samples) // self.hop

    def transform(self, waveform: Tensor) -> Tensor:
        """Envelope of (batch, n)."""
        return torch.log(self.pool(self.bank(waveform).abs()) + 1e-6)
