"""Last layers: from an utterance's embedding to logits and a score, one for each objective.

An objective that compares directions (AM-Softmax, OC-Softmax, P2SGrad) needs class vectors; they
lie here, inside the network, so that a trained network scores by itself and exports whole. The
losses are in :mod:`voiceguard.training.objectives`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.models.graph import BONAFIDE_INDEX, SPOOF_INDEX, ModelOutput


class Head(nn.Module):
    """Embedding to logits; a subclass writes :meth:`logits` and may change :meth:`score`.

    Parameters
    ----------
    dim : int
        Width of the embedding.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def logits(self, embedding: Tensor) -> Tensor:
        """(batch, dim) to (batch, 2)."""
        raise NotImplementedError

    def forward(self, embedding: Tensor) -> ModelOutput:
        """Embedding [shape=(batch, dim)] with its logits."""
        return ModelOutput(self.logits(embedding), embedding)

    def score(self, output: ModelOutput) -> Tensor:
        """Logit of bona fide minus logit of spoof [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX] - output.logits[:, SPOOF_INDEX]


class LinearHead(Head):
    """Linear layer for softmax cross entropy or focal loss; its score is the log-odds."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.linear = nn.Linear(dim, 2)

    def logits(self, embedding: Tensor) -> Tensor:
        """(batch, dim) to (batch, 2)."""
        out: Tensor = self.linear(embedding)
        return out


class SigmoidHead(Head):
    """One linear unit z as the logits (0, z): softmax over them is sigmoid(z), the score is z."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.linear = nn.Linear(dim, 1)

    def logits(self, embedding: Tensor) -> Tensor:
        """(batch, dim) to (batch, 2), the first column zero."""
        activation = self.linear(embedding)
        return torch.cat([torch.zeros_like(activation), activation], dim=1)


class CosineHead(Head):
    """Cosines to one learned direction a class, for AM-Softmax.

    Wang et al., "Additive margin softmax for face verification", 2018. The score is the difference
    of the cosines, which orders trials as the softmax over them does.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.centres = nn.Parameter(torch.randn(2, dim))

    def logits(self, embedding: Tensor) -> Tensor:
        """(batch, dim) to cosines (batch, 2), each in [-1, 1]."""
        return _cosines(embedding, self.centres)


class P2SGradHead(CosineHead):
    """Cosines as in :class:`CosineHead`; the score is the cosine to the bona fide direction.

    Wang and Yamagishi, "A comparative study on recent neural spoofing countermeasures for synthetic
    speech detection", Interspeech 2021.
    """

    def score(self, output: ModelOutput) -> Tensor:
        """Cosine to the bona fide direction [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX]


class OneClassHead(Head):
    """Cosine to a single learned bona fide direction, for OC-Softmax.

    Zhang, Jiang and Duan, "One-class learning towards synthetic voice spoofing detection", IEEE
    Signal Processing Letters 28, 2021. The logits are minus and plus the cosine; the score is the
    cosine.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.centres = nn.Parameter(torch.randn(1, dim))

    def logits(self, embedding: Tensor) -> Tensor:
        """(batch, dim) to (batch, 2), the two columns opposite."""
        cosine = _cosines(embedding, self.centres)
        return torch.cat([-cosine, cosine], dim=1)

    def score(self, output: ModelOutput) -> Tensor:
        """Cosine to the centre [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX]


_HEADS: dict[str, type[Head]] = {
    "linear": LinearHead,
    "sigmoid": SigmoidHead,
    "am_softmax": CosineHead,
    "oc_softmax": OneClassHead,
    "p2sgrad": P2SGradHead,
}


def heads() -> tuple[str, ...]:
    """Names that :func:`build_head` knows."""
    return tuple(_HEADS)


def build_head(name: str, dim: int) -> Head:
    """Make a head by name.

    Parameters
    ----------
    name : str
        One of :func:`heads`.
    dim : int
        Width of the embedding.

    Returns
    -------
    Head

    Raises
    ------
    ParameterError
        If the name is unknown.
    """
    check_head("build_head", name)
    return _HEADS[name](dim)


def check_head(owner: str, name: str) -> None:
    """Refuse an unknown name.

    Raises
    ------
    ParameterError
        Naming the parameter ``head`` of `owner`.
    """
    if name not in _HEADS:
        raise ParameterError(
            f"The 'head' parameter of {owner} must be one of {sorted(_HEADS)}. "
            f"Got {name!r} instead."
        )


def _cosines(embedding: Tensor, centres: Tensor) -> Tensor:
    """Cosines of every row with every centre (batch, classes), in float32 under autocast too."""
    with torch.autocast(device_type=embedding.device.type, enabled=False):
        return F.normalize(embedding.float(), dim=1) @ F.normalize(centres.float(), dim=1).T
