"""Metrics of a countermeasure in front of, or inside, a speaker verifier.

- t-DCF: Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment of spoofing
  countermeasures and automatic speaker verification", Odyssey 2018 (the *2019* version), and
  "Tandem assessment of spoofing countermeasures and automatic speaker verification:
  fundamentals", IEEE/ACM TASLP 28, 2020 (the *2021* version). The two are not comparable, so the
  result carries its version.
- t-EER: Kinnunen et al., "t-EER: parameter-free tandem evaluation of countermeasures and
  biometric comparators", IEEE TPAMI 2023.
- a-DCF: Shim et al., "a-DCF: an architecture agnostic metric with application to
  spoofing-robust speaker verification", Odyssey 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.errors import MetricError, ParameterError
from voiceguard.metrics._checks import Figure, FloatArray, positive, scores
from voiceguard.metrics.curves import ErrorCurve, eer, error_curve

TdcfVersion = Literal["2019", "2021"]
_SPOOF_SHARE = 0.5  # of the impostors that the t-EER balances targets against


@dataclass(frozen=True)
class AsvRates:
    """Error rates of the speaker verifier at its fixed threshold.

    Parameters
    ----------
    miss_rate : float
        Share of target trials rejected, in [0, 1].
    fa_nontarget : float
        Share of nontarget trials accepted, in [0, 1].
    fa_spoof : float
        Share of spoof trials accepted, in [0, 1]; not the share rejected, which one official
        package reads in its place when it is given ASV scores.
    threshold : float or None
        Where the rates were taken; None where only the rates are known.

    Raises
    ------
    ParameterError
        If a rate lies outside [0, 1].
    """

    miss_rate: float
    fa_nontarget: float
    fa_spoof: float
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("miss_rate", "fa_nontarget", "fa_spoof"):
            rate = getattr(self, name)
            if not 0.0 <= rate <= 1.0:
                raise ParameterError(
                    f"The '{name}' parameter of AsvRates must be a float in [0, 1]. "
                    f"Got {rate!r} instead."
                )


ASVSPOOF5_ASV_RATES = AsvRates(
    miss_rate=0.01880141010575793,
    fa_nontarget=0.01881016557566423,
    fa_spoof=0.4607082907604729,
)
"""The rates that the ASVspoof 5 evaluation assumes where no ASV scores are given."""


@dataclass(frozen=True)
class TandemCosts:
    """Priors and costs of the three kinds of trial; the defaults are those of the challenges.

    Parameters
    ----------
    p_target, p_nontarget, p_spoof : float
        Priors, each > 0, together 1.
    c_miss : float
        Cost of rejecting a target, by the verifier or by the countermeasure; > 0.
    c_fa, c_fa_spoof : float
        Cost of accepting a nontarget, of accepting a spoof; > 0.

    Raises
    ------
    ParameterError
        If a value is outside its domain or the priors do not sum to 1.
    """

    p_target: float = 0.9405
    p_nontarget: float = 0.0095
    p_spoof: float = 0.05
    c_miss: float = 1.0
    c_fa: float = 10.0
    c_fa_spoof: float = 10.0

    def __post_init__(self) -> None:
        for name in ("p_target", "p_nontarget", "p_spoof", "c_miss", "c_fa", "c_fa_spoof"):
            positive(getattr(self, name), name, "TandemCosts")
        total = self.p_target + self.p_nontarget + self.p_spoof
        if abs(total - 1.0) > 1e-10:
            raise ParameterError(
                "The priors 'p_target', 'p_nontarget' and 'p_spoof' of TandemCosts must sum to 1. "
                f"Got {total!r} instead."
            )


CHALLENGE_COSTS = TandemCosts()
"""The priors and costs of ASVspoof 2019, 2021 and 5."""


@dataclass(frozen=True)
class TandemCost(Figure):
    """A minimum tandem detection cost.

    Parameters
    ----------
    value : float
        Normalised by the better of the two countermeasures that ignore their input.
    threshold : float
        The countermeasure's; it rejects scores at or below it.
    miss_rate, false_alarm_rate : float
        The countermeasure's rates there.
    version : str
        ``2019`` (legacy) or ``2021`` (revised, ASV-constrained); never compare the two.
    asv : AsvRates
        The verifier's rates.
    """

    value: float
    threshold: float
    miss_rate: float
    false_alarm_rate: float
    version: TdcfVersion
    asv: AsvRates


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


def asv_rates(
    target_scores: ArrayLike,
    nontarget_scores: ArrayLike,
    spoof_scores: ArrayLike,
    *,
    threshold: float | None = None,
) -> AsvRates:
    """Error rates of a speaker verifier at one threshold.

    Parameters
    ----------
    target_scores, nontarget_scores, spoof_scores : array_like [shape=(n,)]
        The verifier's scores, higher = more the claimed speaker.
    threshold : float or None
        Scores at or above it are accepted. None: the equal-error threshold between target and
        nontarget, as the challenges set it.

    Returns
    -------
    AsvRates

    Raises
    ------
    MetricError
        If a class is empty, not one-dimensional or not finite.
    """
    target = scores(target_scores, "target_scores")
    nontarget = scores(nontarget_scores, "nontarget_scores")
    spoof = scores(spoof_scores, "spoof_scores")
    line = eer(target, nontarget).threshold if threshold is None else float(threshold)
    return AsvRates(
        miss_rate=float(np.mean(target < line)),
        fa_nontarget=float(np.mean(nontarget >= line)),
        fa_spoof=float(np.mean(spoof >= line)),
        threshold=line,
    )


def min_tdcf(
    bonafide_scores: ArrayLike,
    spoof_scores: ArrayLike,
    *,
    asv: AsvRates,
    version: TdcfVersion = "2021",
    costs: TandemCosts = CHALLENGE_COSTS,
) -> TandemCost:
    """Least normalised tandem detection cost over the countermeasure's thresholds.

    Parameters
    ----------
    bonafide_scores : array_like [shape=(n_bonafide,)]
        The countermeasure's scores of bona fide trials, higher = more bona fide.
    spoof_scores : array_like [shape=(n_spoof,)]
        Those of spoof trials.
    asv : AsvRates
        The verifier's rates; see :func:`asv_rates`. They must come from the same part of the
        corpus as the scores: the development part has ASV scores of its own.
    version : {"2021", "2019"}
        The revised cost or the legacy one.
    costs : TandemCosts
        Priors and costs.

    Returns
    -------
    TandemCost

    Raises
    ------
    MetricError
        If a class is empty, not one-dimensional or not finite, or if the verifier's rates are so
        bad that the cost has no meaning.
    ParameterError
        If `version` is neither.
    """
    constant, on_miss, on_false_alarm = _tdcf_weights(asv, version, costs)
    if on_miss <= 0.0 or on_false_alarm <= 0.0:
        raise MetricError(
            f"The {version} t-DCF needs a verifier that does better than no verifier: its weights "
            f"must be > 0. Got {on_miss!r} on misses and {on_false_alarm!r} on false alarms from "
            f"{asv}."
        )
    curve = error_curve(bonafide_scores, spoof_scores)
    cost = constant + on_miss * curve.miss_rate + on_false_alarm * curve.false_alarm_rate
    at = int(np.argmin(cost))
    return TandemCost(
        value=float(cost[at]) / (constant + min(on_miss, on_false_alarm)),
        threshold=float(curve.thresholds[at]),
        miss_rate=float(curve.miss_rate[at]),
        false_alarm_rate=float(curve.false_alarm_rate[at]),
        version=version,
        asv=asv,
    )


def _tdcf_weights(
    asv: AsvRates, version: TdcfVersion, costs: TandemCosts
) -> tuple[float, float, float]:
    """Constant, weight of a countermeasure miss and weight of a false alarm."""
    asv_miss = costs.p_target * costs.c_miss * asv.miss_rate
    asv_false_alarm = costs.p_nontarget * costs.c_fa * asv.fa_nontarget
    on_false_alarm = costs.p_spoof * costs.c_fa_spoof * asv.fa_spoof
    # Both versions weigh a countermeasure's miss alike; only the second keeps the verifier's own
    # errors in the cost.
    on_miss = costs.p_target * costs.c_miss - (asv_miss + asv_false_alarm)
    if version == "2019":
        return 0.0, on_miss, on_false_alarm
    if version == "2021":
        return asv_miss + asv_false_alarm, on_miss, on_false_alarm
    raise ParameterError(
        f"The 'version' parameter of min_tdcf must be '2019' or '2021'. Got {version!r} instead."
    )


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
    matter; with few it moves the last digits, and the equal mix is the official one.

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
