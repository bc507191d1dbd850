"""Checks that every metric makes on its scores before it computes anything."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.errors import MetricError, ParameterError

FloatArray = NDArray[np.float64]


class HasValue(Protocol):
    """A result whose figure is called ``value``."""

    @property
    def value(self) -> float:
        """The figure itself."""
        ...  # pragma: no cover


class Figure:
    """Lets a result stand where a number is wanted: ``float(eer(...))``."""

    def __float__(self: HasValue) -> float:
        return self.value


def scores(values: ArrayLike, name: str) -> FloatArray:
    """Take scores in as a finite, one-dimensional float64 array.

    Parameters
    ----------
    values : array_like [shape=(n,)]
        The scores, n >= 1.
    name : str
        The parameter's name, for the message.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float64]

    Raises
    ------
    MetricError
        If the array is empty, not one-dimensional, not numeric, or not finite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"'{name}' must be an array of numbers: {error}.") from error
    if array.ndim != 1:
        raise MetricError(f"'{name}' must be one-dimensional. Got shape {array.shape} instead.")
    if array.size == 0:
        raise MetricError(f"'{name}' must hold at least one score. Got none.")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise MetricError(
            f"'{name}' must be finite. Got {array[bad[0]]} at index {bad[0]} "
            f"({bad.size} such of {array.size})."
        )
    return array


def pair(bonafide_scores: ArrayLike, spoof_scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check both classes under the names that every metric gives them."""
    return scores(bonafide_scores, "bonafide_scores"), scores(spoof_scores, "spoof_scores")


def positive(value: float, name: str, of: str) -> float:
    """Return `value` if it is a finite number > 0, else raise ParameterError."""
    if not (math.isfinite(value) and value > 0.0):
        raise ParameterError(
            f"The '{name}' parameter of {of} must be a float > 0. Got {value!r} instead."
        )
    return float(value)


def probability(value: float, name: str, of: str) -> float:
    """Return `value` if it lies inside (0, 1), else raise ParameterError."""
    if not 0.0 < value < 1.0:
        raise ParameterError(
            f"The '{name}' parameter of {of} must be a float inside (0, 1). Got {value!r} instead."
        )
    return float(value)
