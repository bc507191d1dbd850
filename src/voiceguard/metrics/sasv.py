"""Metrics of spoofing-robust speaker verification, where three kinds of trial meet.

- t-EER: Kinnunen et al., "t-EER: parameter-free tandem evaluation of countermeasures and
  biometric comparators", IEEE TPAMI 2023.
- a-DCF: Shim et al., "a-DCF: an architecture agnostic metric with application to
  spoofing-robust speaker verification", Odyssey 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.errors import MetricError
from voiceguard.metrics._checks import Figure, FloatArray, scores
from voiceguard.metrics.curves import ErrorCurve, error_curve
from voiceguard.metrics.tandem import CHALLENGE_COSTS, TandemCosts

_SPOOF_SHARE = 0.5  # of the impostors that the t-EER balances targets against


@dataclass(frozen=True)
class TandemEer(Figure):
    """The concurrent tandem equal error rate.

    Parameters
    ----------
    value : float
        The rate, in [0, 1], at which targets missed, nontargets accepted and spoofs accepted
        come closest to being equally frequent.
    cm_threshold, asv_threshold : float
        Both systems' thresholds there; each rejects scores at or below its own.
    """

    value: float
    cm_threshold: float
    asv_threshold: float


@dataclass(frozen=True)
class ArchitectureAgnosticCost(Figure):
    """A minimum a-DCF.

    Parameters
    ----------
    value : float
        Normalised by the better of accepting all and rejecting all.
    threshold : float
        Rejects scores at or below it.
    miss_rate, fa_nontarget, fa_spoof : float
        The three rates there.
    """

    value: float
    threshold: float
    miss_rate: float
    fa_nontarget: float
    fa_spoof: float


def a_dcf(
    target_scores: ArrayLike,
    nontarget_scores: ArrayLike,
    spoof_scores: ArrayLike,
    *,
    costs: TandemCosts = CHALLENGE_COSTS,
) -> ArchitectureAgnosticCost:
    """Least architecture-agnostic detection cost of a spoofing-robust speaker verifier.

    Parameters
    ----------
    target_scores, nontarget_scores, spoof_scores : array_like [shape=(n,)]
        Scores of the whole system, higher = more surely the claimed speaker in person.
    costs : TandemCosts
        Priors and costs.

    Returns
    -------
    ArchitectureAgnosticCost

    Raises
    ------
    MetricError
        If a class is empty, not one-dimensional or not finite.
    """
    thresholds, miss, fa_nontarget, fa_spoof = _three_rates(
        scores(target_scores, "target_scores"),
        scores(nontarget_scores, "nontarget_scores"),
        scores(spoof_scores, "spoof_scores"),
    )
    on_miss = costs.c_miss * costs.p_target
    on_nontarget, on_spoof = costs.c_fa * costs.p_nontarget, costs.c_fa_spoof * costs.p_spoof
    cost = on_miss * miss + on_nontarget * fa_nontarget + on_spoof * fa_spoof
    at = int(np.argmin(cost))
    return ArchitectureAgnosticCost(
        value=float(cost[at]) / min(on_nontarget + on_spoof, on_miss),
        threshold=float(thresholds[at]),
        miss_rate=float(miss[at]),
        fa_nontarget=float(fa_nontarget[at]),
        fa_spoof=float(fa_spoof[at]),
    )


def _three_rates(
    target: FloatArray, nontarget: FloatArray, spoof: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Thresholds, miss rate and both false-alarm rates; ties in the order of the arguments."""
    joined = np.concatenate((target, nontarget, spoof))
    kinds = np.repeat((0, 1, 2), (target.size, nontarget.size, spoof.size))
    order = np.argsort(joined, kind="stable")
    ranked, kinds = joined[order], kinds[order]
    below = [np.concatenate(([0], np.cumsum(kinds == kind))) for kind in range(3)]
    return (
        np.concatenate(([ranked[0] - 0.001], ranked)),
        below[0] / target.size,
        (nontarget.size - below[1]) / nontarget.size,
        (spoof.size - below[2]) / spoof.size,
    )


def t_eer(
    bonafide_cm_scores: ArrayLike,
    spoof_cm_scores: ArrayLike,
    *,
    target_asv_scores: ArrayLike,
    nontarget_asv_scores: ArrayLike,
    spoof_asv_scores: ArrayLike,
) -> TandemEer:
    """Concurrent tandem equal error rate of a countermeasure and a verifier, in O(n log n).

    For each threshold of the verifier, the countermeasure's threshold is set where targets lost
    balance impostors let in, nontargets and spoofs in equal parts; of these pairs the one counts
    that lets in spoofs as often as nontargets, most nearly. With endless trials the mix would not
    matter; with few it moves the last digits, and the equal mix gives
    the official package's figure.

    Parameters
    ----------
    bonafide_cm_scores : array_like [shape=(n_bonafide,)]
        The countermeasure's scores of bona fide trials, target and nontarget together.
    spoof_cm_scores : array_like [shape=(n_spoof,)]
        Those of spoof trials.
    target_asv_scores, nontarget_asv_scores, spoof_asv_scores : array_like [shape=(n,)]
        The verifier's scores.

    Returns
    -------
    TandemEer

    Raises
    ------
    MetricError
        If a class is empty, not one-dimensional or not finite, or if no pair of thresholds
        balances the rates.
    """
    cm = error_curve(bonafide_cm_scores, spoof_cm_scores)
    asv_thresholds, asv_miss, asv_fa, asv_fa_spoof = _three_rates(
        scores(target_asv_scores, "target_asv_scores"),
        scores(nontarget_asv_scores, "nontarget_asv_scores"),
        scores(spoof_asv_scores, "spoof_asv_scores"),
    )
    mixed_fa = _SPOOF_SHARE * asv_fa_spoof + (1.0 - _SPOOF_SHARE) * asv_fa
    usable = np.flatnonzero((asv_miss < mixed_fa) & (asv_fa_spoof > 0.0))
    at_cm = _balancing_index(cm, asv_miss[usable], asv_fa[usable], asv_fa_spoof[usable])
    passing = cm.miss_rate[at_cm] < 1.0
    usable, at_cm = usable[passing], at_cm[passing]
    if usable.size == 0:
        raise MetricError(
            "The t-EER needs a verifier threshold that misses fewer targets than it accepts "
            "impostors, while spoofs still pass it. Got scores that have none."
        )
    verifier_ratio = asv_fa[usable] / asv_fa_spoof[usable]
    cm_ratio = cm.false_alarm_rate[at_cm] / (1.0 - cm.miss_rate[at_cm])
    best = int(np.argmin(np.abs(verifier_ratio - cm_ratio)))
    return TandemEer(
        value=float(asv_fa_spoof[usable[best]] * cm.false_alarm_rate[at_cm[best]]),
        cm_threshold=float(cm.thresholds[at_cm[best]]),
        asv_threshold=float(asv_thresholds[usable[best]]),
    )


def _balancing_index(
    cm: ErrorCurve, asv_miss: FloatArray, asv_fa: FloatArray, asv_fa_spoof: FloatArray
) -> NDArray[np.intp]:
    """First point of the countermeasure's curve that best balances each verifier threshold.

    The imbalance grows along the curve, so that a bisection finds where its sign changes; the
    verifier's thresholds are bisected together.
    """

    def imbalance(at: NDArray[np.intp]) -> FloatArray:
        passed = 1.0 - cm.miss_rate[at]
        lost = cm.miss_rate[at] + passed * asv_miss
        let_in = (1.0 - _SPOOF_SHARE) * passed * asv_fa
        let_in += _SPOOF_SHARE * cm.false_alarm_rate[at] * asv_fa_spoof
        difference: FloatArray = lost - let_in
        return difference

    low = np.zeros(asv_miss.size, dtype=np.intp)
    high = np.full(asv_miss.size, cm.miss_rate.size - 1, dtype=np.intp)
    while np.any(low < high):
        middle = (low + high) // 2
        below = imbalance(middle) < 0.0
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
    before = np.maximum(low - 1, 0)
    nearer = np.abs(imbalance(before)) <= np.abs(imbalance(low))
    return np.where(nearer, before, low)
