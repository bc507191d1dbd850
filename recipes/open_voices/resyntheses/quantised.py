"""Mel spectra in few codewords, learnt from other clips: what engines with discrete tokens keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .magnitude import from_magnitude, from_mel
from .spectra import Samples, Transform, mel_filters, smooth, turned

_FLOOR = 1e-5


@dataclass(frozen=True)
class Codebook:
    """Residual stages of codewords for log-mel frames without their mean.

    Parameters
    ----------
    transform : Transform
        What the frames are taken with.
    n_mels : int
        Bands.
    stages : tuple of np.ndarray [shape=(codewords, n_mels)]
        Each quantises what the ones before leave.
    """

    transform: Transform
    n_mels: int
    stages: tuple[Samples, ...]

    @property
    def filters(self) -> Samples:
        """Mel filters [shape=(n_mels, bins)]."""
        return mel_filters(self.n_mels, self.transform.n_fft)

    def log_mel(self, magnitude: Samples) -> tuple[Samples, Samples]:
        """Log-mel frames without their mean [shape=(frames, n_mels)], and the means."""
        frames = np.log(magnitude @ self.filters.T + _FLOOR)
        mean = frames.mean(axis=1, keepdims=True)
        return frames - mean, mean

    def quantise(self, frames: Samples, *, stages: int) -> Samples:
        """Each frame as the sum of the nearest codewords of the first `stages`."""
        left, total = frames.copy(), np.zeros_like(frames)
        for words in self.stages[:stages]:
            chosen = words[nearest(left, words)]
            total, left = total + chosen, left - chosen
        return total


def fit_codebook(
    clips: Sequence[Samples],
    rng: np.random.Generator,
    *,
    n_fft: int,
    n_mels: int,
    codewords: int,
    stages: int = 3,
) -> Codebook:
    """A codebook of k-means on the frames of `clips`, stage by stage."""
    book = Codebook(Transform(n_fft, n_fft // 4), n_mels, ())
    left = np.concatenate([book.log_mel(np.abs(book.transform.forward(x)))[0] for x in clips])
    words: list[Samples] = []
    for _ in range(stages):
        words.append(k_means(left, codewords, rng))
        left = left - words[-1][nearest(left, words[-1])]
    return Codebook(book.transform, n_mels, tuple(words))


def k_means(points: Samples, count: int, rng: np.random.Generator, *, rounds: int = 12) -> Samples:
    """`count` centres of `points` [shape=(n, dimensions)] by Lloyd's algorithm (1982)."""
    centres = points[rng.choice(len(points), count, replace=len(points) < count)]
    for _ in range(rounds):
        member = nearest(points, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, member, points)
        sizes = np.bincount(member, minlength=count)[:, None]
        # A centre without points stays where it was.
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres).astype(np.float32)
    return centres


def nearest(points: Samples, centres: Samples) -> np.ndarray:
    """Index of the centre closest to each point."""
    return np.argmin((centres**2).sum(axis=1) - 2 * points @ centres.T, axis=1)


class QuantisedVocoder:
    """Re-synthesis from codewords of one of several codebooks.

    Parameters
    ----------
    books : sequence of Codebook
        Learnt from clips that this is not used on.
    """

    def __init__(self, books: Sequence[Codebook]) -> None:
        self.books = tuple(books)

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Codewords made sound by mel inversion, or as a filter on the human's own spectrum."""
        book = self.books[int(rng.integers(len(self.books)))]
        spectrum = book.transform.forward(x)
        magnitude = np.abs(spectrum)
        frames, mean = book.log_mel(magnitude)
        words = book.quantise(frames, stages=int(rng.integers(1, len(book.stages) + 1)))
        words = smooth(words, int(rng.choice([1, 1, 3])), 0)
        if rng.random() < 0.5:
            mel = np.maximum(np.exp(words + mean) - _FLOOR, 0.0)
            made = from_mel(mel, book.filters, method="nonnegative")
            return from_magnitude(made, spectrum, book.transform, len(x), rng)
        weight = book.filters / np.maximum(book.filters.sum(axis=0), 1e-3)
        gain = np.exp(np.clip(words - frames, -5.0, 5.0) @ weight)
        return book.transform.inverse(turned(magnitude * gain, np.angle(spectrum)), len(x))
