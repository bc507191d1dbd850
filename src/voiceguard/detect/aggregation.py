"""From the windows of a channel to the channel: likelihoods are averaged, not votes.

Take the hypothesis "one window of this channel, any one alike, is synthetic": the likelihood of
the whole against "all is human" is the mean of the windows' own ratios p(x | spoof) / p(x |
bonafide) = exp(-llr_i). So llr = -ln(mean(exp(-llr_i))). A short synthetic passage shows, because
its large ratio carries the mean; a channel whose windows agree gets what they all say.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voiceguard.errors import ParameterError


def aggregate_llr(llrs: ArrayLike, weights: ArrayLike) -> float:
    """Log-likelihood ratio of a channel.

    Parameters
    ----------
    llrs : array_like [shape=(n,)]
        Log-likelihood ratios of the windows, natural log, n >= 1.
    weights : array_like [shape=(n,)]
        Their weights, >= 0: seconds of speech. All zero counts as all equal.

    Returns
    -------
    float
        -ln(sum(w_i exp(-llr_i)) / sum(w_i)); between the least and the mean of the windows'.

    Raises
    ------
    ParameterError
        If the shapes differ, there is no window, or a weight is negative or not finite.

    Examples
    --------
    >>> round(aggregate_llr([3.0, 3.0, 3.0], [1, 1, 1]), 6)
    3.0
    >>> aggregate_llr([6.0] * 19 + [-9.0], [1] * 20) < -5
    True
    """
    values, shares = _checked(llrs, weights)
    worst = float(values.min())
    return worst - float(np.log(np.dot(shares, np.exp(worst - values))))


def aggregate_score(scores: ArrayLike, weights: ArrayLike) -> float:
    """Raw score of a channel: the weighted mean of its windows'.

    Parameters
    ----------
    scores : array_like [shape=(n,)]
        Raw scores of the windows, n >= 1.
    weights : array_like [shape=(n,)]
        Their weights, >= 0: seconds of speech. All zero counts as all equal.

    Returns
    -------
    float
        sum(w_i score_i) / sum(w_i).

    Raises
    ------
    ParameterError
        As :func:`aggregate_llr`.
    """
    values, shares = _checked(scores, weights)
    return float(np.dot(shares, values))


def _checked(
    values: ArrayLike, weights: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values, and weights that sum to one, as float64 in an order of their own."""
    numbers = np.asarray(values, np.float64)
    shares = np.asarray(weights, np.float64)
    if numbers.ndim != 1 or numbers.shape != shares.shape or not len(numbers):
        raise ParameterError(
            "The 'weights' parameter of aggregation must hold one weight a window, for at least "
            f"one window. Got shapes {numbers.shape} and {shares.shape} instead."
        )
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise ParameterError("The 'weights' parameter of aggregation must be finite and >= 0.")
    # Sums of floats depend on their order; sorting makes the result free of it.
    order = np.lexsort((shares, numbers))
    numbers, shares = numbers[order], shares[order]
    total = shares.sum()
    return numbers, shares / total if total > 0 else np.full(len(shares), 1.0 / len(shares))
