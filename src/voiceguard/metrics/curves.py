"""Error curves over the threshold, and the equal error rate read off them.

The curve follows the ASVspoof challenges' evaluation to the last digit: scores are joined, bona
fide first, and sorted stably; point ``i`` rejects the ``i`` lowest scores. Equal scores are not
grouped, so that a tie may be split; see :func:`roc` for the curve with ties grouped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voiceguard.metrics._checks import Figure, FloatArray, pair

_LEADING_GAP = 0.001  # the official curve's first threshold lies this far below the lowest score


@dataclass(frozen=True, eq=False)
class ErrorCurve:
    """Error rates at every threshold, from accept-all to reject-all.

    Parameters
    ----------
    thresholds : np.ndarray [shape=(n + 1,)]
        Ascending. Point ``i`` rejects scores at or below ``thresholds[i]``.
    miss_rate : np.ndarray [shape=(n + 1,)]
        Share of bona fide trials rejected; rises from 0 to 1.
    false_alarm_rate : np.ndarray [shape=(n + 1,)]
        Share of spoof trials accepted; falls from 1 to 0.
    """

    thresholds: FloatArray
    miss_rate: FloatArray
    false_alarm_rate: FloatArray


@dataclass(frozen=True)
class EqualErrorRate(Figure):
    """The equal error rate and where it lies.

    Parameters
    ----------
    value : float
        Mean of the two rates at the point where they differ least, in [0, 1].
    threshold : float
        The score there; that point rejects scores at or below it.
    miss_rate, false_alarm_rate : float
        The two rates at that point.
    n_bonafide, n_spoof : int
        Trials of each class.
    """

    value: float
    threshold: float
    miss_rate: float
    false_alarm_rate: float
    n_bonafide: int
    n_spoof: int


def error_curve(bonafide_scores: ArrayLike, spoof_scores: ArrayLike) -> ErrorCurve:
    """Miss and false-alarm rates at every threshold, as the challenges compute them.

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials, higher = more bona fide.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.

    Returns
    -------
    ErrorCurve
        With ``n_bonafide + n_spoof + 1`` points.

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    """
    bonafide, spoof = pair(bonafide_scores, spoof_scores)
    joined = np.concatenate((bonafide, spoof))
    order = np.argsort(joined, kind="stable")
    rejected_bonafide = np.cumsum(order < bonafide.size)
    rejected = np.arange(1, joined.size + 1)
    accepted_spoof = spoof.size - (rejected - rejected_bonafide)
    ranked = joined[order]
    return ErrorCurve(
        thresholds=np.concatenate(([ranked[0] - _LEADING_GAP], ranked)),
        miss_rate=np.concatenate(([0.0], rejected_bonafide / bonafide.size)),
        false_alarm_rate=np.concatenate(([1.0], accepted_spoof / spoof.size)),
    )


def eer(bonafide_scores: ArrayLike, spoof_scores: ArrayLike) -> EqualErrorRate:
    """Equal error rate by the ASVspoof challenges' definition, in O(n log n).

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials, higher = more bona fide.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.

    Returns
    -------
    EqualErrorRate

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.

    Examples
    --------
    >>> eer([0.9, 0.8, 0.3], [0.1, 0.2, 0.4]).value
    0.3333333333333333
    """
    bonafide, spoof = pair(bonafide_scores, spoof_scores)
    curve = error_curve(bonafide, spoof)
    at = int(np.argmin(np.abs(curve.miss_rate - curve.false_alarm_rate)))
    miss, false_alarm = float(curve.miss_rate[at]), float(curve.false_alarm_rate[at])
    return EqualErrorRate(
        value=(miss + false_alarm) / 2.0,
        threshold=float(curve.thresholds[at]),
        miss_rate=miss,
        false_alarm_rate=false_alarm,
        n_bonafide=bonafide.size,
        n_spoof=spoof.size,
    )


def roc(bonafide_scores: ArrayLike, spoof_scores: ArrayLike) -> ErrorCurve:
    """Error rates at the thresholds that a decision can reach: equal scores stay together.

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials, higher = more bona fide.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.

    Returns
    -------
    ErrorCurve
        One point for each distinct score and a leading one; ``1 - miss_rate`` over
        ``false_alarm_rate`` is the ROC.

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    """
    curve = error_curve(bonafide_scores, spoof_scores)
    # The leading gap may vanish in floating point, so the first point is kept by name.
    last_of_tie = np.append(curve.thresholds[1:-1] != curve.thresholds[2:], True)
    keep = np.concatenate(([True], last_of_tie))
    return ErrorCurve(curve.thresholds[keep], curve.miss_rate[keep], curve.false_alarm_rate[keep])


def det(bonafide_scores: ArrayLike, spoof_scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Corners of the detection error trade-off, on the normal-deviate scale.

    Follows Martin et al., "The DET curve in assessment of detection task performance",
    Eurospeech 1997: Gaussian scores give a straight line.

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials, higher = more bona fide.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.

    Returns
    -------
    false_alarm, miss : np.ndarray [shape=(m,)]
        Standard-normal quantiles of the rates at the points where both lie inside (0, 1);
        empty where the classes are separated.

    Raises
    ------
    MetricError
        If either class is empty, not one-dimensional or not finite.
    """
    curve = roc(bonafide_scores, spoof_scores)
    inside = (curve.miss_rate > 0) & (curve.miss_rate < 1)
    inside &= (curve.false_alarm_rate > 0) & (curve.false_alarm_rate < 1)
    return (
        normal_quantile(curve.false_alarm_rate[inside]),
        normal_quantile(curve.miss_rate[inside]),
    )


def normal_quantile(probabilities: ArrayLike) -> FloatArray:
    """Standard-normal quantile of each probability.

    Parameters
    ----------
    probabilities : array_like
        Each inside (0, 1).

    Returns
    -------
    np.ndarray
        Same shape.
    """
    from statistics import NormalDist

    asked = np.asarray(probabilities, dtype=np.float64)
    distinct, back = np.unique(asked, return_inverse=True)
    inverse = NormalDist().inv_cdf
    quantiles = np.array([inverse(float(p)) for p in distinct], dtype=np.float64)
    return quantiles[back].reshape(asked.shape)
