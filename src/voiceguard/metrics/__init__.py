"""Metrics of a spoofing countermeasure: numpy only, O(n log n), with the official definitions.

Conventions, those of the research field: a score grows towards bona fide; a **miss** is a bona
fide trial rejected, a **false alarm** a spoof trial accepted. Mind that
:class:`voiceguard.results.OperatingPoint` speaks from the detector's side, where the thing to be
found is the spoof: its ``miss_rate`` is the false-alarm rate here, and the other way round.

Each metric takes the bona fide scores, then the spoof scores, and gives a small frozen result
whose figure is ``.value``; ``float(result)`` gives it too.

>>> from voiceguard import metrics
>>> metrics.eer([0.9, 0.8, 0.3], [0.1, 0.2, 0.4]).value
0.3333333333333333
"""

from __future__ import annotations

from voiceguard.metrics.bootstrap import Interval, bootstrap
from voiceguard.metrics.breakdown import GroupFigure, breakdown
from voiceguard.metrics.cost import DetectionCost, act_dcf, bayes_threshold, min_dcf
from voiceguard.metrics.curves import EqualErrorRate, ErrorCurve, det, eer, error_curve, roc
from voiceguard.metrics.information import Cllr, cllr, min_cllr
from voiceguard.metrics.plots import plot_det, plot_scores
from voiceguard.metrics.reliability import CalibrationError, ReliabilityBin, ece
from voiceguard.metrics.sasv import ArchitectureAgnosticCost, TandemEer, a_dcf, t_eer
from voiceguard.metrics.tandem import (
    ASVSPOOF5_ASV_RATES,
    AsvRates,
    TandemCost,
    TandemCosts,
    asv_rates,
    min_tdcf,
)

__all__ = [
    "ASVSPOOF5_ASV_RATES",
    "ArchitectureAgnosticCost",
    "AsvRates",
    "CalibrationError",
    "Cllr",
    "DetectionCost",
    "EqualErrorRate",
    "ErrorCurve",
    "GroupFigure",
    "Interval",
    "ReliabilityBin",
    "TandemCost",
    "TandemCosts",
    "TandemEer",
    "a_dcf",
    "act_dcf",
    "asv_rates",
    "bayes_threshold",
    "bootstrap",
    "breakdown",
    "cllr",
    "det",
    "ece",
    "eer",
    "error_curve",
    "min_cllr",
    "min_dcf",
    "min_tdcf",
    "plot_det",
    "plot_scores",
    "roc",
    "t_eer",
]
