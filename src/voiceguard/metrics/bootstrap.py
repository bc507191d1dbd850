"""Percentile bootstrap intervals, over trials or over whole groups of them.

Trials of one speaker, or of one attack, stand or fall together; an interval over trials alone is
then too narrow. Resampling whole groups (Bolle, Ratha and Pankanti, "Error analysis of pattern
recognition systems: the subsets bootstrap", CVIU 93, 2004) keeps them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.errors import MetricError, ParameterError
from voiceguard.metrics._checks import Figure, FloatArray, pair, probability

Metric = Callable[[FloatArray, FloatArray], SupportsFloat]
_Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Interval(Figure):
    """A figure with the interval that resampling gives it.

    Parameters
    ----------
    value : float
        The metric on all trials.
    low, high : float
        The interval's ends.
    confidence : float
        Its nominal coverage.
    n_resamples : int
        Resamples drawn.
    """

    value: float
    low: float
    high: float
    confidence: float
    n_resamples: int


def bootstrap(
    metric: Metric,
    bonafide_scores: ArrayLike,
    spoof_scores: ArrayLike,
    *,
    bonafide_groups: ArrayLike | None = None,
    spoof_groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a metric.

    By utterance: give no groups. By speaker: give the speaker of every trial; a speaker who has
    trials of both classes is drawn with both. By attack: give the attack of every spoof trial and
    no groups for the bona fide trials, which are then drawn one by one. Draws that lack one of the
    classes are drawn again.

    Parameters
    ----------
    metric : callable
        Takes bona fide scores and spoof scores, gives a result with ``__float__``: any metric of
        this package, ``functools.partial`` where it needs options.
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.
    bonafide_groups, spoof_groups : array_like of str [shape=(n_bonafide,)], [shape=(n_spoof,)]
        Group of every trial, or None: every trial is its own group.
    n_resamples : int
        >= 1.
    confidence : float
        Nominal coverage, inside (0, 1).
    seed : int
        Of the random generator; the same seed gives the same interval.

    Returns
    -------
    Interval

    Raises
    ------
    MetricError
        If the scores are unusable or the groups do not fit them.
    ParameterError
        If `n_resamples` or `confidence` is outside its domain.
    """
    level = probability(confidence, "confidence", "bootstrap")
    if n_resamples < 1:
        raise ParameterError(
            f"The 'n_resamples' parameter of bootstrap must be an int >= 1. Got {n_resamples!r} "
            "instead."
        )
    bonafide, spoof = pair(bonafide_scores, spoof_scores)
    draw = _drawer(
        _groups(bonafide_groups, bonafide.size, "bonafide_groups"),
        _groups(spoof_groups, spoof.size, "spoof_groups"),
        (bonafide.size, spoof.size),
    )
    # Repeating sorted scores leaves them sorted, which makes the metric's own sort a mere merge.
    bonafide_order, spoof_order = np.argsort(bonafide), np.argsort(spoof)
    bonafide_ranked, spoof_ranked = bonafide[bonafide_order], spoof[spoof_order]
    generator = np.random.default_rng(seed)

    def resample() -> float:
        of_bonafide, of_spoof = draw(generator)
        return float(
            metric(
                np.repeat(bonafide_ranked, of_bonafide[bonafide_order]),
                np.repeat(spoof_ranked, of_spoof[spoof_order]),
            )
        )

    figures = [resample() for _ in range(n_resamples)]
    low, high = np.quantile(figures, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(metric(bonafide, spoof)), float(low), float(high), level, n_resamples)


def _groups(groups: ArrayLike | None, size: int, name: str) -> NDArray[np.str_] | None:
    if groups is None:
        return None
    named = np.asarray(groups, dtype=np.str_)
    if named.shape != (size,):
        raise MetricError(
            f"'{name}' must name a group for each of the {size} scores. Got shape {named.shape} "
            "instead."
        )
    return named


def _drawer(
    bonafide_groups: NDArray[np.str_] | None,
    spoof_groups: NDArray[np.str_] | None,
    sizes: tuple[int, int],
) -> Callable[[np.random.Generator], tuple[_Counts, _Counts]]:
    """Return what draws how often each trial of either class comes into a resample."""
    both = (bonafide_groups, spoof_groups)
    named = [groups for groups in both if groups is not None]
    names = np.unique(np.concatenate(named)) if named else np.empty(0, dtype=np.str_)
    places = [None if groups is None else np.searchsorted(names, groups) for groups in both]

    def once(generator: np.random.Generator) -> list[_Counts]:
        of_groups = _counts(generator, names.size)
        return [
            _counts(generator, size) if place is None else of_groups[place]
            for size, place in zip(sizes, places, strict=True)
        ]

    def draw(generator: np.random.Generator) -> tuple[_Counts, _Counts]:
        while True:  # half of all draws or more hold both classes
            of_bonafide, of_spoof = once(generator)
            if of_bonafide.any() and of_spoof.any():
                return of_bonafide, of_spoof

    return draw


def _counts(generator: np.random.Generator, size: int) -> _Counts:
    """How often each of `size` things comes up in as many draws with replacement."""
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    drawn = generator.integers(0, size, size=size)
    return np.bincount(drawn, minlength=size).astype(np.int64)
