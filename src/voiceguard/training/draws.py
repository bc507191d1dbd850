"""Random draws that several parts of a channel make."""

from __future__ import annotations

import numpy as np


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between `low` and `high`, evenly on a logarithmic scale.

    Parameters
    ----------
    rng : np.random.Generator
    low, high : float
        Above 0.

    Returns
    -------
    float
    """
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
