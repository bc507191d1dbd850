"""A metric group by group: per attack, codec or speaker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.errors import MetricError
from voiceguard.metrics._checks import FloatArray, pair

R = TypeVar("R")


@dataclass(frozen=True)
class GroupFigure(Generic[R]):
    """A metric on one group.

    Parameters
    ----------
    group : str
        The attack, codec or speaker.
    n_bonafide, n_spoof : int
        Trials that entered.
    result : object or None
        What the metric gives; None where the group lacks one of the classes.
    """

    group: str
    n_bonafide: int
    n_spoof: int
    result: R | None


def breakdown(
    metric: Callable[[FloatArray, FloatArray], R],
    bonafide_scores: ArrayLike,
    spoof_scores: ArrayLike,
    *,
    spoof_groups: ArrayLike,
    bonafide_groups: ArrayLike | None = None,
) -> tuple[GroupFigure[R], ...]:
    """Compute a metric on each group of trials.

    Parameters
    ----------
    metric : callable
        Takes bona fide scores and spoof scores.
    bonafide_scores : array_like [shape=(n_bonafide,)]
        Scores of bona fide trials.
    spoof_scores : array_like [shape=(n_spoof,)]
        Scores of spoof trials.
    spoof_groups : array_like of str [shape=(n_spoof,)]
        Group of every spoof trial.
    bonafide_groups : array_like of str [shape=(n_bonafide,)] or None
        Group of every bona fide trial (codec, speaker), or None: all bona fide trials stand
        against each group of spoofs, as per attack.

    Returns
    -------
    tuple of GroupFigure
        By name of group, ascending.

    Raises
    ------
    MetricError
        If the scores are unusable or the groups do not fit them.
    """
    bonafide, spoof = pair(bonafide_scores, spoof_scores)
    of_spoof = _by_group(spoof, spoof_groups, "spoof_groups")
    names = set(of_spoof)
    of_bonafide = dict.fromkeys(names, bonafide)
    if bonafide_groups is not None:
        of_bonafide = _by_group(bonafide, bonafide_groups, "bonafide_groups")
        names |= set(of_bonafide)
    none = np.empty(0)
    return tuple(
        _figure(metric, name, of_bonafide.get(name, none), of_spoof.get(name, none))
        for name in sorted(names)
    )


def _figure(
    metric: Callable[[FloatArray, FloatArray], R],
    group: str,
    bonafide: FloatArray,
    spoof: FloatArray,
) -> GroupFigure[R]:
    usable = bool(bonafide.size and spoof.size)
    result = metric(bonafide, spoof) if usable else None
    return GroupFigure(group, bonafide.size, spoof.size, result)


def _by_group(values: FloatArray, groups: ArrayLike, name: str) -> dict[str, FloatArray]:
    """Scores of each group, in their own order, by one sort."""
    named: NDArray[np.str_] = np.asarray(groups, dtype=np.str_)
    if named.shape != values.shape:
        raise MetricError(
            f"'{name}' must name a group for each of the {values.size} scores. "
            f"Got shape {named.shape} instead."
        )
    order = np.argsort(named, kind="stable")
    names, starts = np.unique(named[order], return_index=True)
    parts = np.split(values[order], starts[1:])
    return dict(zip(names.tolist(), parts, strict=True))
