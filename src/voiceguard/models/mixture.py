"""Mixtures of diagonal Gaussians: fitted by scikit-learn, kept and scored as plain arrays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float64]

# Frames that are scored at once: 2,048 times 512 components in float64 are 8 MiB.
_CHUNK = 2048


@dataclass(frozen=True)
class Mixture:
    """Diagonal Gaussian mixture as plain arrays.

    Parameters
    ----------
    weights : np.ndarray [shape=(k,)]
        Positive, summing to 1.
    means, variances : np.ndarray [shape=(k, d)]
        Of each component; variances positive.
    """

    weights: Frames
    means: Frames
    variances: Frames

    def log_likelihood(self, frames: Frames) -> Frames:
        """Natural-log density of each frame, [shape=(n, d)] to [shape=(n,)]."""
        starts = range(0, len(frames), _CHUNK)
        parts = [self._log_likelihood(frames[start : start + _CHUNK]) for start in starts]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _log_likelihood(self, frames: Frames) -> Frames:
        precision = 1.0 / self.variances
        constant = np.log(self.weights) - 0.5 * (
            np.log(2.0 * np.pi * self.variances).sum(axis=1)
            + (self.means**2 * precision).sum(axis=1)
        )
        # The square is multiplied out, so that the work is two matrix products.
        quadratic = frames @ (self.means * precision).T - 0.5 * (frames**2 @ precision.T)
        joint = constant + quadratic
        top = joint.max(axis=1)
        total: Frames = top + np.log(np.exp(joint - top[:, None]).sum(axis=1))
        return total


class FrameSample:
    """Uniform sample of a stream of frames: those whose random keys are smallest.

    How the stream is cut into pieces makes no difference.

    Parameters
    ----------
    limit : int
        Most frames that are kept.
    rng : np.random.Generator
    """

    def __init__(self, limit: int, rng: np.random.Generator) -> None:
        self._limit = limit
        self._rng = rng
        self._rows: list[Frames] = []
        self._keys: list[Frames] = []

    def add(self, rows: Frames) -> None:
        """Offer the next frames [shape=(n, d)]."""
        self._rows.append(rows)
        self._keys.append(self._rng.random(len(rows)))
        if sum(map(len, self._keys)) > 2 * self._limit:
            self._shrink()

    def frames(self) -> Frames:
        """Give the frames kept so far [shape=(at most limit, d)], in the order of the stream."""
        self._shrink()
        return self._rows[0] if self._rows else np.zeros((0, 1))

    def _shrink(self) -> None:
        if not self._rows:
            return
        rows, keys = np.concatenate(self._rows), np.concatenate(self._keys)
        if len(rows) > self._limit:
            kept = np.sort(np.argpartition(keys, self._limit)[: self._limit])
            rows, keys = rows[kept], keys[kept]
        self._rows, self._keys = [rows], [keys]


def fit_mixture(
    frames: Frames, *, components: int, iterations: int, variance_floor: float, seed: int
) -> Mixture:
    """Fit by expectation-maximisation, started from k-means.

    Parameters
    ----------
    frames : np.ndarray [shape=(n, d)]
        n >= components.
    components : int
        Gaussians.
    iterations : int
        Most steps.
    variance_floor : float
        Added to each variance, > 0.
    seed : int
        Of the start.

    Returns
    -------
    Mixture
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(
        components,
        covariance_type="diag",
        reg_covar=variance_floor,
        max_iter=iterations,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A few iterations are what the baselines take; whether they converge is not the question.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(frames)
    return Mixture(fitted.weights_, fitted.means_, fitted.covariances_)
