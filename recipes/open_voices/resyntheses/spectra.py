"""Short-time spectra, mel filters and phases that the methods share.

Frames are centred: frame t is about sample ``t * hop``, so that what is made from them is in time
with what they were taken from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

SAMPLE_RATE = 16_000

Samples = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Transform:
    """Short-time Fourier transform and the inverse of least squares (Griffin and Lim, 1984).

    Parameters
    ----------
    n_fft : int
        Frame in samples, even.
    hop : int
        Step in samples; divides `n_fft`.
    shape : float
        Middle term of the window: 0.5 is Hann, 0.54 Hamming.
    """

    n_fft: int
    hop: int
    shape: float = 0.5

    @property
    def window(self) -> Samples:
        """Periodic raised cosine [shape=(n_fft,)]."""
        turn = 2 * np.pi * np.arange(self.n_fft) / self.n_fft
        return (self.shape - (1 - self.shape) * np.cos(turn)).astype(np.float32)

    def frames(self, x: Samples) -> Samples:
        """Frames without a window [shape=(1 + ceil(n / hop), n_fft)]."""
        half = self.n_fft // 2
        tail = half + -len(x) % self.hop
        padded = np.pad(np.asarray(x, dtype=np.float32), (half, tail), mode="reflect")
        return np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop]

    def forward(self, x: Samples) -> Spectrum:
        """Spectra [shape=(frames, 1 + n_fft // 2)] of `x` [shape=(n,)]."""
        return fft.rfft(self.frames(x) * self.window, axis=1)

    def overlap_add(self, frames: Samples) -> Samples:
        """Sum of frames at their places, the first half frame cut off."""
        steps = self.n_fft // self.hop
        parts = frames.reshape(len(frames), steps, self.hop)
        total = np.zeros((len(frames) + steps - 1, self.hop), dtype=np.float32)
        for step in range(steps):
            total[step : step + len(frames)] += parts[:, step]
        return total.ravel()[self.n_fft // 2 :]

    def inverse(self, spectrum: Spectrum, length: int) -> Samples:
        """The `length` samples whose spectra are closest to `spectrum` in least squares."""
        window = self.window
        frames = fft.irfft(spectrum, n=self.n_fft, axis=1) * window
        weight = self.overlap_add(np.broadcast_to(window**2, frames.shape))
        return (self.overlap_add(frames) / np.maximum(weight, 1e-3))[:length].astype(np.float32)


def draw_transform(
    rng: np.random.Generator,
    *,
    sizes: tuple[int, ...] = (512, 1024),
    overlaps: tuple[int, ...] = (4,),
) -> Transform:
    """A transform with a frame of one of `sizes`, `overlaps` steps to a frame, Hann or Hamming."""
    n_fft = int(rng.choice(sizes))
    return Transform(n_fft, n_fft // int(rng.choice(overlaps)), float(rng.choice([0.5, 0.54])))


def griffin_lim(
    magnitude: Samples,
    transform: Transform,
    length: int,
    phase: Samples,
    *,
    iterations: int,
    momentum: float = 0.0,
) -> Samples:
    """Samples of a magnitude, by alternating projections.

    Griffin and Lim (1984); with `momentum` the fast form of Perraudin, Balazs and Søndergaard
    (2013).

    Parameters
    ----------
    magnitude, phase : np.ndarray [shape=(frames, bins)]
        What to reach, and the phase in radians to start from.
    length : int
        Samples wanted.
    iterations : int
        Pairs of an inverse and a forward transform.
    momentum : float
        0 for the original, about 0.99 for the fast form.
    """
    target = turned(magnitude, phase)
    before = target
    for _ in range(iterations):
        consistent = transform.forward(transform.inverse(target, length))
        ahead = consistent + np.float32(momentum) * (consistent - before)
        before = consistent
        target = magnitude * ahead / np.maximum(np.abs(ahead), np.float32(1e-9))
    return transform.inverse(target, length)


def turned(magnitude: Samples, phase: Samples) -> Spectrum:
    """Complex spectrum of magnitude and phase (radians), in single precision."""
    return (magnitude * np.exp(1j * np.asarray(phase, dtype=np.float32))).astype(np.complex64)


def random_phase(shape: tuple[int, ...], rng: np.random.Generator) -> Samples:
    """Uniform phases in radians."""
    return rng.uniform(-np.pi, np.pi, shape).astype(np.float32)


def centred_phase(bins: int) -> Samples:
    """The phase that puts a frame's energy into its middle [shape=(bins,)]."""
    return (-np.pi * np.arange(bins)).astype(np.float32)


def minimum_phase(magnitude: Samples) -> Samples:
    """Minimum phase of each frame by the folded cepstrum, from the frame's middle on (radians)."""
    size = 2 * (magnitude.shape[1] - 1)
    cepstrum = fft.irfft(np.log(magnitude + np.float32(1e-7)), n=size, axis=1)
    cepstrum[:, 1 : size // 2] *= 2
    cepstrum[:, size // 2 + 1 :] = 0
    return fft.rfft(cepstrum, axis=1).imag + centred_phase(magnitude.shape[1])


def mel_filters(n_mels: int, n_fft: int, *, low: float = 0.0, high: float = 8000.0) -> Samples:
    """Triangles of unit height, evenly spaced in mel (O'Shaughnessy) between `low` and `high` Hz.

    Returns
    -------
    np.ndarray [shape=(n_mels, 1 + n_fft // 2)]
    """
    ends = 2595 * np.log10(1 + np.array([low, high]) / 700)
    points = 700 * (10 ** (np.linspace(*ends, n_mels + 2) / 2595) - 1) * n_fft / SAMPLE_RATE
    left, middle, right = (part[:, None] for part in (points[:-2], points[1:-1], points[2:]))
    offset = np.arange(1 + n_fft // 2) - middle
    # A side narrower than a bin could leave a triangle empty; none is narrower.
    rise = 1 + offset / np.maximum(middle - left, 1.0)
    fall = 1 - offset / np.maximum(right - middle, 1.0)
    return np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)


def smooth(x: Samples, width: int, axis: int) -> Samples:
    """Running mean over `width` (odd) points of an axis, ends repeated."""
    from scipy.ndimage import uniform_filter1d

    return uniform_filter1d(x, width, axis=axis, mode="nearest")
