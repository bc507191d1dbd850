"""Detection cost of a spoofing countermeasure: the best reachable, and the one at a fixed line.

The costs and the prior are those of ASVspoof 5, track 1 (Wang et al., "ASVspoof 5: crowdsourced
speech data, deepfakes, and adversarial attacks at scale", 2024), unless given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voiceguard.metrics._checks import Figure, pair, positive, probability
from voiceguard.metrics.curves import error_curve


@dataclass(frozen=True)
class DetectionCost(Figure):
    """A detection cost, normalised by the better of the two decisions that ignore the score.

    Parameters
    ----------
    value : float
        1 is the cost of accepting all or rejecting all, whichever is cheaper.
    threshold : float
        Where the cost was taken.
    miss_rate, false_alarm_rate : float
        The rates there.
    p_spoof, c_miss, c_fa : float
        Prior of spoof and the two costs.
    """

    value: float
    threshold: float
    miss_rate: float
    false_alarm_rate: float
    p_spoof: float
    c_miss: float
    c_fa: float


def _weights(p_spoof: float, c_miss: float, c_fa: float, of: str) -> tuple[float, float]:
    """Cost of missing every bona fide trial, and of accepting every spoof."""
    prior = probability(p_spoof, "p_spoof", of)
    on_miss = positive(c_miss, "c_miss", of) * (1.0 - prior)
    return on_miss, positive(c_fa, "c_fa", of) * prior


def bayes_threshold(*, p_spoof: float = 0.05, c_miss: float = 1.0, c_fa: float = 10.0) -> float:
    """Give the log-likelihood ratio at and above which accepting costs least.

    Parameters
    ----------
    p_spoof : float
        Prior probability of spoof, inside (0, 1).
    c_miss, c_fa : float
        Cost of rejecting bona fide, of accepting spoof; > 0.

    Returns
    -------
    float
        ln(c_fa * p_spoof / (c_miss * (1 - p_spoof))), natural log.

    Raises
    ------
    ParameterError
        If the prior or a cost is outside its domain.
    """
    on_miss, on_false_alarm = _weights(p_spoof, c_miss, c_fa, "bayes_threshold")
    return -math.log(on_miss / on_false_alarm)


def min_dcf(
    bonafide_scores: ArrayLike,
    spoof_scores: ArrayLike,
    *,
    p_spoof: float = 0.05,
    c_miss: float = 1.0,
    c_fa: float = 10.0,
) -> DetectionCost:
    """Least normalised detection cost over all thresholds.

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials, higher = more bona fide.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.
    p_spoof : float
        Prior probability of spoof, inside (0, 1).
    c_miss, c_fa : float
        Cost of rejecting bona fide, of accepting spoof; > 0.

    Returns
    -------
    DetectionCost
        Its threshold rejects scores at or below it.

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    ParameterError
        If the prior or a cost is outside its domain.
    """
    on_miss, on_false_alarm = _weights(p_spoof, c_miss, c_fa, "min_dcf")
    curve = error_curve(bonafide_scores, spoof_scores)
    costs = on_miss * curve.miss_rate + on_false_alarm * curve.false_alarm_rate
    at = int(np.argmin(costs))
    return DetectionCost(
        value=float(costs[at]) / min(on_miss, on_false_alarm),
        threshold=float(curve.thresholds[at]),
        miss_rate=float(curve.miss_rate[at]),
        false_alarm_rate=float(curve.false_alarm_rate[at]),
        p_spoof=p_spoof,
        c_miss=c_miss,
        c_fa=c_fa,
    )


def act_dcf(
    bonafide_llrs: ArrayLike,
    spoof_llrs: ArrayLike,
    *,
    p_spoof: float = 0.05,
    c_miss: float = 1.0,
    c_fa: float = 10.0,
) -> DetectionCost:
    """Normalised detection cost at the Bayes threshold: what the calibration really earns.

    Parameters
    ----------
    bonafide_llrs : array_like [shape=(n_bonafide,)]
        Log-likelihood ratios (natural log) of bona fide trials.
    spoof_llrs : array_like [shape=(n_spoof,)]
        Those of spoof trials.
    p_spoof : float
        Prior probability of spoof, inside (0, 1).
    c_miss, c_fa : float
        Cost of rejecting bona fide, of accepting spoof; > 0.

    Returns
    -------
    DetectionCost
        Its threshold is :func:`bayes_threshold`; scores at or above it are accepted.

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    ParameterError
        If the prior or a cost is outside its domain.
    """
    on_miss, on_false_alarm = _weights(p_spoof, c_miss, c_fa, "act_dcf")
    bonafide, spoof = pair(bonafide_llrs, spoof_llrs)
    threshold = -math.log(on_miss / on_false_alarm)
    miss = float(np.mean(bonafide < threshold))
    false_alarm = float(np.mean(spoof >= threshold))
    cost = on_miss * miss + on_false_alarm * false_alarm
    return DetectionCost(
        value=cost / min(on_miss, on_false_alarm),
        threshold=threshold,
        miss_rate=miss,
        false_alarm_rate=false_alarm,
        p_spoof=p_spoof,
        c_miss=c_miss,
        c_fa=c_fa,
    )
