"""Detection cost of a countermeasure in front of a speaker verifier.

Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment of spoofing
countermeasures and automatic speaker verification", Odyssey 2018 (the *2019* version), and "Tandem
assessment of spoofing countermeasures and automatic speaker verification: fundamentals", IEEE/ACM
TASLP 28, 2020 (the *2021* version). The two are not comparable, so the result carries its version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from voiceguard.errors import MetricError, ParameterError
from voiceguard.metrics._checks import Figure, positive, scores
from voiceguard.metrics.curves import eer, error_curve

TdcfVersion = Literal["2019", "2021"]


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
