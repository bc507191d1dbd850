"""Learned mix of an encoder's layers (Peters et al., ELMo, 2018; Yang et al., SUPERB, 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int


class LayerMix(nn.Module):
    """Weighted sum of layers; the weights are a softmax of learned numbers, equal at the start.

    Parameters
    ----------
    n_layers : int
        Layers that come in.
    normalise : bool
        Bring each frame of each layer to mean 0 and variance 1 first, so that loud upper layers
        do not drown the others.

    Raises
    ------
    ParameterError
        If `n_layers` is below 1.

    Examples
    --------
    >>> mix = LayerMix(13)
    >>> mix(torch.zeros(2, 13, 49, 768)).shape
    torch.Size([2, 49, 768])
    """

    def __init__(self, n_layers: int, *, normalise: bool = False) -> None:
        super().__init__()
        check_int(self, n_layers=n_layers)
        self.normalise = normalise
        self.logits = nn.Parameter(torch.zeros(n_layers))

    @property
    def weights(self) -> Tensor:
        """Share of each layer; they sum to 1 [shape=(n_layers,)]."""
        return self.logits.softmax(0)

    def forward(self, layers: Tensor) -> Tensor:
        """Mix.

        Parameters
        ----------
        layers : Tensor [shape=(batch, n_layers, frames, dim)]

        Returns
        -------
        Tensor [shape=(batch, frames, dim)]

        Raises
        ------
        ParameterError
            If there are more or fewer layers.
        """
        if layers.ndim != 4 or layers.shape[1] != len(self.logits):
            raise ParameterError(
                f"The 'layers' parameter of LayerMix must have shape (batch, {len(self.logits)}, "
                f"frames, dim). Got {tuple(layers.shape)} instead."
            )
        if self.normalise:
            layers = nn.functional.layer_norm(layers, layers.shape[-1:])
        return torch.einsum("l,blfd->bfd", self.weights.to(layers.dtype), layers)
