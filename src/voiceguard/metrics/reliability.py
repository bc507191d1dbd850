"""How far the stated probabilities of spoof are from the shares observed.

Binning and the expected calibration error follow Naeini et al., "Obtaining well calibrated
probabilities using Bayesian binning", AAAI 2015; here the classes are weighted to the stated
prior, so that the make-up of the test set does not enter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voiceguard.errors import ParameterError
from voiceguard.metrics._checks import Figure, FloatArray, pair, probability


@dataclass(frozen=True)
class ReliabilityBin:
    """The trials whose probability of spoof falls into one bin.

    Parameters
    ----------
    low, high : float
        The bin, [low, high), the last one closed.
    weight : float
        Share of all trials, at the stated prior.
    p_spoof : float
        Mean stated probability of spoof.
    spoof_share : float
        Share of spoof observed, at the stated prior.
    n_bonafide, n_spoof : int
        Trials of each class.
    """

    low: float
    high: float
    weight: float
    p_spoof: float
    spoof_share: float
    n_bonafide: int
    n_spoof: int


@dataclass(frozen=True)
class CalibrationError(Figure):
    """The expected calibration error and the bins of the reliability diagram.

    Parameters
    ----------
    value : float
        Mean distance of stated from observed, weighted by the bins, in [0, 1].
    worst : float
        The greatest distance in a bin.
    prior_spoof : float
        The prior that the probabilities were stated at.
    bins : tuple of ReliabilityBin
        Those that hold trials, in ascending order.
    """

    value: float
    worst: float
    prior_spoof: float
    bins: tuple[ReliabilityBin, ...]


def ece(
    bonafide_llrs: ArrayLike,
    spoof_llrs: ArrayLike,
    *,
    prior_spoof: float = 0.5,
    n_bins: int = 15,
) -> CalibrationError:
    """Measure the expected calibration error of the posteriors that the ratios imply.

    Parameters
    ----------
    bonafide_llrs : array_like [shape=(n_bonafide,)]
        Log-likelihood ratios (natural log) of bona fide trials.
    spoof_llrs : array_like [shape=(n_spoof,)]
        Those of spoof trials.
    prior_spoof : float
        Prior probability of spoof, inside (0, 1).
    n_bins : int
        Bins of equal width over [0, 1], >= 1.

    Returns
    -------
    CalibrationError

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    ParameterError
        If the prior or the number of bins is outside its domain.
    """
    prior = probability(prior_spoof, "prior_spoof", "ece")
    if n_bins < 1:
        raise ParameterError(
            f"The 'n_bins' parameter of ece must be an int >= 1. Got {n_bins!r} instead."
        )
    bonafide, spoof = pair(bonafide_llrs, spoof_llrs)
    bins = _bins(_posterior(bonafide, prior), _posterior(spoof, prior), prior, n_bins)
    gaps = [abs(one.p_spoof - one.spoof_share) for one in bins]
    return CalibrationError(
        value=sum(one.weight * gap for one, gap in zip(bins, gaps, strict=True)),
        worst=max(gaps),
        prior_spoof=prior,
        bins=bins,
    )


def _posterior(llrs: FloatArray, prior_spoof: float) -> FloatArray:
    """Probability of spoof, the same formula as the results'."""
    log_odds = llrs + math.log((1.0 - prior_spoof) / prior_spoof)
    return np.exp(-np.logaddexp(0.0, log_odds))


def _bins(
    bonafide: FloatArray, spoof: FloatArray, prior_spoof: float, n_bins: int
) -> tuple[ReliabilityBin, ...]:
    def sums(p: FloatArray) -> tuple[FloatArray, FloatArray]:
        place = np.minimum((p * n_bins).astype(np.intp), n_bins - 1)
        count = np.bincount(place, minlength=n_bins).astype(np.float64)
        return count, np.bincount(place, weights=p, minlength=n_bins).astype(np.float64)

    n_bonafide, sum_bonafide = sums(bonafide)
    n_spoof, sum_spoof = sums(spoof)
    per_bonafide, per_spoof = (1.0 - prior_spoof) / bonafide.size, prior_spoof / spoof.size
    weight = per_bonafide * n_bonafide + per_spoof * n_spoof
    stated = per_bonafide * sum_bonafide + per_spoof * sum_spoof
    return tuple(
        ReliabilityBin(
            low=i / n_bins,
            high=(i + 1) / n_bins,
            weight=float(weight[i]),
            p_spoof=float(stated[i] / weight[i]),
            spoof_share=float(per_spoof * n_spoof[i] / weight[i]),
            n_bonafide=int(n_bonafide[i]),
            n_spoof=int(n_spoof[i]),
        )
        for i in np.flatnonzero(weight)
    )
