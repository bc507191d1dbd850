"""Short-time power spectrum, and its logarithm on a linear frequency scale.

The transform is one strided convolution with a windowed Fourier basis: equal to framing, windowing
and a discrete Fourier transform, and made of operations that any graph runtime has. Under a window
that is its own mirror each frame is folded in half first: cosines see the sum of both halves, sines
their difference, for half the products.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features._base import FrontEnd, check_int

Padding = Literal["none", "zeros", "reflect"]
Window = Literal["hann", "hamming"]

_WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}


class PowerSpectrum(nn.Module):
    """Squared magnitude of the short-time Fourier transform.

    Parameters
    ----------
    n_fft : int
        Transform length in samples.
    frame : int
        Samples under the window, at most `n_fft`; the rest is zeros.
    hop : int
        Samples from frame to frame.
    window : {"hann", "hamming"}
        Window shape.
    periodic : bool
        Whether the window is the periodic one (torch's default) or the symmetric one.
    padding : {"none", "zeros", "reflect"}
        What lies beyond the ends: nothing, so that frames lie inside the signal; or `frame` / 2
        zeros or mirrored samples, so that frame i is centred on sample i * hop.

    Shape
    -----
    (batch, n) to (batch, n_fft // 2 + 1, frames)

    Raises
    ------
    ParameterError
        If a parameter is outside its domain.
    """

    basis: Tensor
    cosines: Tensor
    sines: Tensor

    def __init__(
        self,
        *,
        n_fft: int,
        frame: int,
        hop: int,
        window: Window = "hann",
        periodic: bool = True,
        padding: Padding = "none",
    ) -> None:
        super().__init__()
        check_int(self, n_fft=n_fft, frame=frame, hop=hop)
        if frame > n_fft:
            raise ParameterError(
                "The 'n_fft' parameter of PowerSpectrum must be at least frame="
                f"{frame}. Got {n_fft} instead."
            )
        if window not in _WINDOWS or padding not in ("none", "zeros", "reflect"):
            raise ParameterError(
                "PowerSpectrum knows the windows 'hann', 'hamming' and the paddings 'none', "
                f"'zeros', 'reflect'. Got window={window!r}, padding={padding!r} instead."
            )
        self.frame = frame
        self.hop = hop
        self.bins = n_fft // 2 + 1
        self.padding = padding
        basis = _fourier_basis(n_fft, _window(window, frame, periodic=periodic))
        self.register_buffer("basis", basis, persistent=False)
        self.folds = periodic and frame == n_fft and frame % 2 == 0 and frame % hop == 0
        if self.folds:
            half = frame // 2
            cosines = basis[: self.bins, 0, : half + 1].T.contiguous()
            # The sines of frequency 0 and of half the rate are none.
            sines = basis[self.bins + 1 : -1, 0, 1:half].T.contiguous()
            self.register_buffer("cosines", cosines, persistent=False)
            self.register_buffer("sines", sines, persistent=False)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        least = self.frame // 2 if self.padding == "reflect" else 0
        if samples <= least:
            return 0
        if self.padding != "none":
            samples += 2 * (self.frame // 2)
        return max((samples - self.frame) // self.hop + 1, 0)

    def forward(self, waveform: Tensor) -> Tensor:
        """Power of (batch, n)."""
        signal = waveform.unsqueeze(1)
        if self.padding != "none":
            ends = (self.frame // 2, self.frame // 2)
            signal = F.pad(
                signal, ends, mode="reflect" if self.padding == "reflect" else "constant"
            )
        if self.folds and signal.shape[2] >= self.frame:
            return self._folded(signal[:, 0])
        parts = F.conv1d(signal, self.basis, stride=self.hop)
        return parts[:, : self.bins].square() + parts[:, self.bins :].square()

    def _folded(self, signal: Tensor) -> Tensor:
        """Power of (batch, n), by products half as long."""
        # Numbers, not traced sizes: a graph's window is fixed.
        frames, steps = (int(signal.shape[1]) - self.frame) // self.hop + 1, self.frame // self.hop
        whole = frames + steps - 1
        blocks = signal[:, : whole * self.hop].reshape(-1, whole, self.hop)
        framed = torch.cat([blocks[:, k : k + frames] for k in range(steps)], dim=2)
        half = self.frame // 2
        rising, falling = framed[:, :, 1:half], framed[:, :, half + 1 :].flip(2)
        edge, centre = framed[:, :, :1], framed[:, :, half : half + 1]
        even = torch.cat([edge, rising + falling, centre], dim=2) @ self.cosines
        odd = F.pad((rising - falling) @ self.sines, (1, 1))
        return (even.square() + odd.square()).transpose(1, 2)


def _window(name: Window, length: int, *, periodic: bool) -> NDArray[np.float64]:
    offset, swing = _WINDOWS[name]
    period = length if periodic else max(length - 1, 1)
    return offset - swing * np.cos(2.0 * np.pi * np.arange(length) / period)


def _fourier_basis(n_fft: int, window: NDArray[np.float64]) -> Tensor:
    """Kernels [shape=(2 * bins, 1, frame)]: cosines, then sines, under the window."""
    angle = 2.0 * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(len(window))) / n_fft
    basis = np.concatenate([np.cos(angle), -np.sin(angle)]) * window
    return torch.from_numpy(basis.astype(np.float32)).unsqueeze(1)


class LogSpectrogram(FrontEnd):
    """Natural log of the power spectrum, linear in frequency.

    Parameters
    ----------
    n_fft, frame, hop : int
        Transform length, window length and step, samples.
    floor : float
        Added to the power before the log.

    Shape
    -----
    (batch, n) to (batch, n_fft / 2 + 1, (n - frame) // hop + 1)
    """

    def __init__(
        self, *, n_fft: int = 512, frame: int = 400, hop: int = 160, floor: float = 1e-6
    ) -> None:
        super().__init__()
        self.spectrum = PowerSpectrum(n_fft=n_fft, frame=frame, hop=hop)
        self.coefficients = self.spectrum.bins
        self.floor = floor

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return self.spectrum.frames(samples)

    def transform(self, waveform: Tensor) -> Tensor:
        """Log power of (batch, n)."""
        return torch.log(self.spectrum(waveform) + self.floor)
