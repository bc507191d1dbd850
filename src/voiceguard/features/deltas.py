"""Time derivatives of a feature sequence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def difference(features: Tensor) -> Tensor:
    """Next frame minus previous frame, the end frames repeated.

    Parameters
    ----------
    features : Tensor [shape=(batch, coefficients, frames)]

    Returns
    -------
    Tensor
        Same shape.
    """
    padded = F.pad(features, (1, 1), mode="replicate")
    return padded[..., 2:] - padded[..., :-2]


def regression(features: Tensor, *, reach: int = 3) -> Tensor:
    """Slope of the least-squares line through 2 * reach + 1 frames, the end frames repeated.

    Parameters
    ----------
    features : Tensor [shape=(batch, coefficients, frames)]
    reach : int
        Frames to each side.

    Returns
    -------
    Tensor
        Same shape, per frame.
    """
    frames = features.shape[-1]
    padded = F.pad(features, (reach, reach), mode="replicate")
    slope = torch.zeros_like(features)
    for k in range(1, reach + 1):
        ahead = padded[..., reach + k : reach + k + frames]
        behind = padded[..., reach - k : reach - k + frames]
        slope = slope + k * (ahead - behind)
    return slope / (2 * sum(k * k for k in range(1, reach + 1)))
