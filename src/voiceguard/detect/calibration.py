"""From a model's score to a log-likelihood ratio: logistic calibration.

The map is affine, llr = slope * score + offset, and logistic regression with both classes weighted
alike fits it (Brümmer and du Preez, "Application-independent evaluation of speaker detection",
2006): at a prior of one half the posterior log odds *are* the log-likelihood ratio. The objective
is Cllr, so that on the data of the fit no other affine map has a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.errors import CalibrationError
from voiceguard.results import Label, OperatingPoint

LOW_FALSE_ALARM = 0.01
"""Share of human speech that the ``low_false_alarm`` point may flag."""

SCREENING_MISS = 0.05
"""Share of synthetic speech that the ``screening`` point may let through."""

CAUTIOUS_COVERAGE = 0.8
"""Share of the speech on which the ``cautious`` point speaks; on the rest it is inconclusive."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """An affine map from scores to natural-log likelihood ratios.

    Parameters
    ----------
    slope, offset : float
        llr = slope * score + offset; the slope is positive.
    method : str
        How the map was fitted.
    prior : float
        Weight of spoof against bona fide in the fit, inside (0, 1).
    data : str
        What it was fitted on.

    Raises
    ------
    CalibrationError
        If a number is out of its domain.

    Examples
    --------
    >>> Calibration(slope=2.0, offset=-1.0).apply([0.5, 1.0]).tolist()
    [0.0, 1.0]
    """

    slope: float
    offset: float
    method: str = "logistic"
    prior: float = 0.5
    data: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope > 0):
            raise CalibrationError(
                "The 'slope' parameter of Calibration must be a finite float > 0, as scores grow "
                f"towards bona fide. Got {self.slope!r} instead."
            )
        if not math.isfinite(self.offset):
            raise CalibrationError(
                "The 'offset' parameter of Calibration must be a finite float. "
                f"Got {self.offset!r} instead."
            )
        if not 0.0 < self.prior < 1.0:
            raise CalibrationError(
                "The 'prior' parameter of Calibration must lie inside (0, 1). "
                f"Got {self.prior!r} instead."
            )

    def apply(self, scores: ArrayLike) -> Floats:
        """Log-likelihood ratios of scores, the same shape, natural log."""
        return self.slope * np.asarray(scores, np.float64) + self.offset


def fit(scores: ArrayLike, labels: Iterable[str], *, data: str = "") -> Calibration:
    """Fit a calibration to labelled scores.

    Parameters
    ----------
    scores : array_like [shape=(n,)]
        Raw scores, higher = more bona fide.
    labels : iterable of str
        ``bonafide`` or ``spoof`` for each score.
    data : str
        What the scores were measured on; kept in the calibration.

    Returns
    -------
    Calibration
        With ``prior`` 0.5. Where the classes do not overlap, the maximum-likelihood slope is
        infinite; then the targets are softened as Platt does (1999: (n + 1) / (n + 2) and
        1 / (m + 2)) and ``method`` says so.

    Raises
    ------
    CalibrationError
        If a score is not finite, a class is absent, or the scores are upside down.
    """
    values, human = checked_scores(scores, labels)
    separated = values[human].min() > values[~human].max()
    centre = float(values.mean())
    spread = float(values.std()) or 1.0
    slope, offset = _logistic((values - centre) / spread, human, soft=separated)
    slope /= spread
    if not slope > 0:
        raise CalibrationError(
            "The scores are upside down or tell nothing: they do not grow towards bona fide "
            f"(fitted slope {slope:.3g}). Expected higher = more bona fide; negate the scores or "
            "check the labels."
        )
    method = "logistic, Platt targets" if separated else "logistic"
    return Calibration(slope, offset - slope * centre, method=method, data=data)


def operating_points(
    llrs: ArrayLike, labels: Iterable[str], *, data: str
) -> tuple[OperatingPoint, ...]:
    """Set the four standard points on labelled log-likelihood ratios.

    Parameters
    ----------
    llrs : array_like [shape=(n,)]
        Log-likelihood ratios (scores do too), higher = more bona fide.
    labels : iterable of str
        ``bonafide`` or ``spoof`` for each.
    data : str
        What they were measured on; kept in the points.

    Returns
    -------
    tuple of OperatingPoint
        ``balanced``: both error rates as close as they come; ``low_false_alarm``: the highest
        threshold that flags at most 1 % of human speech; ``screening``: the lowest that lets at
        most 5 % of synthetic speech pass; ``cautious``: the threshold of ``balanced`` with the
        margin that leaves the surest four fifths. The rates are those measured on this data, of
        all human and of all synthetic speech.

    Raises
    ------
    CalibrationError
        If a number is not finite or a class is absent.
    """
    values, human = checked_scores(llrs, labels)
    thresholds = _candidates(values)
    alarms = np.searchsorted(np.sort(values[human]), thresholds) / human.sum()
    misses = 1.0 - np.searchsorted(np.sort(values[~human]), thresholds) / (~human).sum()
    chosen = {
        "balanced": int(np.argmin(np.abs(alarms - misses))),
        "low_false_alarm": int(np.flatnonzero(alarms <= LOW_FALSE_ALARM)[-1]),
        "screening": int(np.flatnonzero(misses <= SCREENING_MISS)[0]),
    }
    points = [
        OperatingPoint(name, float(thresholds[i]), float(misses[i]), float(alarms[i]), data)
        for name, i in chosen.items()
    ]
    return (*points, _cautious(points[0], values, human))


def _cautious(point: OperatingPoint, values: Floats, human: NDArray[np.bool_]) -> OperatingPoint:
    """A point that is inconclusive on the values next to its threshold."""
    distance = np.abs(values - point.threshold)
    margin = float(np.quantile(distance, 1.0 - CAUTIOUS_COVERAGE))
    kept, low = distance >= margin, values < point.threshold
    return replace(
        point,
        name="cautious",
        miss_rate=float(np.mean((kept & ~low)[~human])),
        false_alarm_rate=float(np.mean((kept & low)[human])),
        margin=margin,
    )


def checked_scores(scores: ArrayLike, labels: Iterable[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores as float64 and a mask of the bona fide ones; :class:`CalibrationError` otherwise."""
    values = np.asarray(scores, np.float64)
    names = [label.value if isinstance(label, Label) else label for label in labels]
    if values.ndim != 1 or len(values) != len(names):
        raise CalibrationError(
            f"Expected one label a score. Got scores of shape {values.shape} and {len(names)} "
            "labels."
        )
    if not np.isfinite(values).all():
        raise CalibrationError(
            f"Scores must be finite. Got {int((~np.isfinite(values)).sum())} NaN or infinite ones."
        )
    unknown = sorted({str(name) for name in names} - {"bonafide", "spoof"})
    if unknown:
        raise CalibrationError(
            f"Labels must be 'bonafide' or 'spoof'. Got {', '.join(map(repr, unknown[:5]))} too."
        )
    human = np.array([name == "bonafide" for name in names], bool)
    for name, count in (("bonafide", human.sum()), ("spoof", (~human).sum())):
        if not count:
            raise CalibrationError(f"Both classes are needed, but no score is labelled {name!r}.")
    return values, human


def _candidates(values: Floats) -> Floats:
    """Thresholds between neighbouring values, one below all and one above all, ascending."""
    unique = np.unique(values)
    # Halved first, so that the sum of two huge values stays finite.
    between = unique[:-1] / 2 + unique[1:] / 2
    above = max(unique[-1] + 1.0, np.nextafter(unique[-1], np.inf))
    return np.concatenate(([unique[0] - 1.0], between, [above]))


def _logistic(values: Floats, human: NDArray[np.bool_], *, soft: bool) -> tuple[float, float]:
    """Slope and offset of a class-balanced logistic regression on standardised scores."""
    from sklearn.linear_model import LogisticRegression

    n_human, n_spoof = int(human.sum()), int((~human).sum())
    weights = np.where(human, 0.5 / n_human, 0.5 / n_spoof)
    if soft:
        # A softened target is both labels at once, each with its share of the weight.
        share = np.where(human, (n_human + 1) / (n_human + 2), (n_spoof + 1) / (n_spoof + 2))
        values, human = np.tile(values, 2), np.concatenate((human, ~human))
        weights = np.concatenate((weights * share, weights * (1.0 - share)))
    # Weights of about one a sample keep the solver's tolerance meaningful.
    model: Any = LogisticRegression(C=1e12, solver="newton-cholesky", tol=1e-10, max_iter=200)
    model.fit(values[:, None], human, sample_weight=weights * len(weights))
    return float(model.coef_[0, 0]), float(model.intercept_[0])
