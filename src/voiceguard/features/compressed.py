"""Complex spectrogram with a compressed magnitude, built for a fast graph.

The magnitude is raised to a small power and the phase kept, as in speech enhancement (Braun and
Tashev, "A consolidated view of loss functions for supervised deep learning-based speech
enhancement", TSP 2021). Frames are overlapping hops, so one reshape, one concatenation and one
matrix product with a windowed Fourier basis do the whole transform.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from voiceguard.errors import ParameterError
from voiceguard.features._base import FrontEnd, check_int

_RMS_FLOOR = 1e-12
_POWER_FLOOR = 1e-8


def windowed_basis(n_fft: int) -> Tensor:
    """Fourier basis of the bins 1 to n_fft/2 under a periodic Hann window.

    Scaled so that white noise of unit RMS has unit mean power in every bin but the last.

    Returns
    -------
    Tensor [shape=(n_fft, n_fft)]
        Real parts of the n_fft/2 bins, then imaginary parts.
    """
    n = np.arange(n_fft)
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * n / n_fft)
    window /= np.sqrt(np.sum(window**2))
    angle = 2.0 * np.pi * np.outer(n, np.arange(1, n_fft // 2 + 1)) / n_fft
    basis = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1) * window[:, None]
    return torch.from_numpy(basis.astype(np.float32))


class CompressedSpectrogram(FrontEnd):
    """Real and imaginary part of the spectrum, magnitude raised to a power.

    The waveform is first brought to unit RMS (with a floor, so that silence stays finite): gain
    does not matter. The bin at 0 Hz is dropped. No padding at the ends.

    Parameters
    ----------
    n_fft : int
        Frame and transform length in samples, even and a multiple of `hop`.
    hop : int
        Samples from frame to frame.
    power : float
        Exponent of the magnitude, in (0, 1].

    Shape
    -----
    (batch, n) to (batch, 2, n_fft / 2, (n - n_fft) // hop + 1)
    """

    channels = 2
    basis: Tensor

    def __init__(self, *, n_fft: int = 320, hop: int = 160, power: float = 0.3) -> None:
        super().__init__()
        check_int(self, n_fft=n_fft, hop=hop)
        if n_fft % hop or n_fft % 2:
            raise ParameterError(
                "The 'n_fft' parameter of CompressedSpectrogram must be even and a multiple of "
                f"hop={hop}. Got {n_fft} instead."
            )
        if not 0 < power <= 1:
            raise ParameterError(
                "The 'power' parameter of CompressedSpectrogram must lie in (0, 1]. "
                f"Got {power!r} instead."
            )
        self.n_fft = n_fft
        self.hop = hop
        self.power = power
        self.coefficients = n_fft // 2
        self.register_buffer("basis", windowed_basis(n_fft), persistent=False)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return max((samples - self.n_fft) // self.hop + 1, 0)

    def transform(self, waveform: Tensor) -> Tensor:
        """Compressed spectrum of (batch, n)."""
        level = waveform.square().mean(dim=1, keepdim=True) + _RMS_FLOOR
        spectrum = torch.matmul(self._frame(waveform * torch.rsqrt(level)), self.basis)
        return self._compress(spectrum)

    def _frame(self, waveform: Tensor) -> Tensor:
        """(batch, n) to (batch, frames, n_fft), as shifted views of the hops."""
        count = self.frames(waveform.shape[1])
        overlap = self.n_fft // self.hop
        used = (count + overlap - 1) * self.hop
        hops = waveform[:, :used].reshape(-1, count + overlap - 1, self.hop)
        return torch.cat([hops[:, k : k + count] for k in range(overlap)], dim=2)

    def _compress(self, spectrum: Tensor) -> Tensor:
        """(batch, frames, 2 bins) to (batch, 2, bins, frames), magnitude to the power."""
        parts = spectrum.reshape(*spectrum.shape[:2], 2, self.coefficients)
        energy = parts.square().sum(dim=2, keepdim=True) + _POWER_FLOOR
        # exp and log vectorise in ONNX Runtime where pow does not.
        gain = torch.exp(torch.log(energy) * ((self.power - 1.0) / 2.0))
        compressed: Tensor = parts * gain
        return compressed.permute(0, 2, 3, 1)
