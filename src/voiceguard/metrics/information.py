"""Cost of log-likelihood ratios in bits, and how much of it calibration could remove.

Follows Brümmer and du Preez, "Application-independent evaluation of speaker detection", Computer
Speech and Language 20 (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.metrics._checks import Figure, FloatArray, pair

_LN2 = math.log(2.0)


@dataclass(frozen=True)
class Cllr(Figure):
    """A cost in bits: 0 is perfect, 1 is what scores that say nothing cost.

    Parameters
    ----------
    value : float
        Mean of the two parts.
    bonafide_bits, spoof_bits : float
        Mean cost of bona fide trials, of spoof trials.
    """

    value: float
    bonafide_bits: float
    spoof_bits: float


def cllr(bonafide_llrs: ArrayLike, spoof_llrs: ArrayLike) -> Cllr:
    """Log-likelihood-ratio cost.

    Parameters
    ----------
    bonafide_llrs : array_like [shape=(n_bonafide,)]
        Log-likelihood ratios (natural log) of bona fide trials.
    spoof_llrs : array_like [shape=(n_spoof,)]
        Those of spoof trials.

    Returns
    -------
    Cllr
        (mean log2(1 + exp(-llr)) over bona fide + mean log2(1 + exp(llr)) over spoof) / 2.

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    """
    bonafide, spoof = pair(bonafide_llrs, spoof_llrs)
    bonafide_bits = float(np.mean(np.logaddexp(0.0, -bonafide))) / _LN2
    spoof_bits = float(np.mean(np.logaddexp(0.0, spoof))) / _LN2
    return Cllr((bonafide_bits + spoof_bits) / 2.0, bonafide_bits, spoof_bits)


def min_cllr(bonafide_scores: ArrayLike, spoof_scores: ArrayLike) -> Cllr:
    """Log-likelihood-ratio cost after the best monotone calibration on these very trials.

    Pool-adjacent-violators turns the scores into the likelihood ratios that no order-preserving
    map betters; equal scores stay together.

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials, higher = more bona fide; no calibration needed.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.

    Returns
    -------
    Cllr

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    """
    bonafide, spoof = pair(bonafide_scores, spoof_scores)
    n_bonafide, n_spoof = pool_adjacent_violators(*_counts_by_score(bonafide, spoof))
    p_bonafide, p_spoof = n_bonafide / bonafide.size, n_spoof / spoof.size
    total = p_bonafide + p_spoof
    return Cllr(
        value=(_bits(p_bonafide, total) + _bits(p_spoof, total)) / 2.0,
        bonafide_bits=_bits(p_bonafide, total),
        spoof_bits=_bits(p_spoof, total),
    )


def _bits(share: FloatArray, total: FloatArray) -> float:
    """Sum of share * log2(total / share), a share of 0 costing nothing."""
    some = share > 0
    return float(np.sum(share[some] * np.log2(total[some] / share[some])))


def _counts_by_score(
    bonafide: FloatArray, spoof: FloatArray
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many trials of each class carry each distinct score, in ascending order."""
    distinct, place = np.unique(np.concatenate((bonafide, spoof)), return_inverse=True)
    n_bonafide = np.bincount(place[: bonafide.size], minlength=distinct.size)
    n_spoof = np.bincount(place[bonafide.size :], minlength=distinct.size)
    return n_bonafide.astype(np.int64), n_spoof.astype(np.int64)


def pool_adjacent_violators(
    n_bonafide: NDArray[np.int64], n_spoof: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pool neighbouring bins until the share of bona fide rises from bin to bin.

    Parameters
    ----------
    n_bonafide, n_spoof : np.ndarray [shape=(n,), dtype=int64]
        Trials of each class a bin, by ascending score; no bin is empty.

    Returns
    -------
    n_bonafide, n_spoof : np.ndarray [shape=(m,), dtype=int64]
        The same trials in m <= n bins.
    """
    pooled: list[tuple[int, int]] = []
    for bonafide, spoof in zip(*_join_runs(n_bonafide, n_spoof), strict=True):
        # Cross products keep the comparison of shares exact.
        while pooled and pooled[-1][0] * spoof >= bonafide * pooled[-1][1]:
            before = pooled.pop()
            bonafide, spoof = bonafide + before[0], spoof + before[1]
        pooled.append((bonafide, spoof))
    table = np.array(pooled, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _join_runs(
    n_bonafide: NDArray[np.int64], n_spoof: NDArray[np.int64]
) -> tuple[list[int], list[int]]:
    """Join runs of bins that hold one class only: pooling would join them in any case."""
    kind = np.where(n_spoof == 0, 1, np.where(n_bonafide == 0, -1, 0))
    starts = np.flatnonzero(np.append(True, (kind[1:] != kind[:-1]) | (kind[1:] == 0)))
    joined = np.add.reduceat(n_bonafide, starts), np.add.reduceat(n_spoof, starts)
    return joined[0].tolist(), joined[1].tolist()
