"""Training objectives of the published systems, each a function of a network's output.

An objective is a frozen value that is called with a :class:`~voiceguard.models.graph.ModelOutput`
and the labels, and gives a scalar. Those that compare directions expect the logits to be cosines,
so they go with a network whose ``head`` (:mod:`voiceguard.models.heads`) is the one named in
:attr:`Objective.heads`; the class vectors are the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from voiceguard.errors import ParameterError
from voiceguard.models.graph import BONAFIDE_INDEX, SPOOF_INDEX, ModelOutput

_SOFTMAX_HEADS = ("linear", "sigmoid")


@dataclass(frozen=True)
class Objective:
    """Base: called with a network's output and labels, gives the loss.

    Attributes
    ----------
    heads : tuple of str
        Names of the heads whose logits it expects.
    """

    heads: ClassVar[tuple[str, ...]] = _SOFTMAX_HEADS

    def __call__(self, output: ModelOutput, bonafide: Tensor) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        output : ModelOutput
            Logits [shape=(batch, 2)], column 0 spoof, column 1 bona fide.
        bonafide : Tensor [shape=(batch,)]
            1 for bona fide, 0 for spoof.

        Returns
        -------
        Tensor [shape=()]
        """
        return self.of_logits(output.logits, bonafide.long())

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits [shape=(batch, 2)] for integer class indices [shape=(batch,)]."""
        raise NotImplementedError


@dataclass(frozen=True)
class WeightedCrossEntropy(Objective):
    """Softmax cross entropy with a weight a class, divided by the sum of the batch's weights.

    Parameters
    ----------
    spoof, bonafide : float
        Weights, >= 0; the published 0.1 and 0.9 undo the imbalance of ASVspoof 2019 LA.
    """

    spoof: float = 0.1
    bonafide: float = 0.9

    def __post_init__(self) -> None:
        _require(self, "spoof", self.spoof, at_least=0.0)
        _require(self, "bonafide", self.bonafide, at_least=0.0)

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum over trials of w_y times -log p_y, over the sum of w_y."""
        return functional.cross_entropy(
            logits, target, weight=_class_weights(self.spoof, self.bonafide, logits)
        )


@dataclass(frozen=True)
class Focal(Objective):
    """Focal loss, w_y (1 - p_y)^gamma (-log p_y), mean over the batch.

    Lin et al., "Focal loss for dense object detection", ICCV 2017.

    Parameters
    ----------
    gamma : float
        How much well-classified trials are played down, >= 0; 0 for cross entropy.
    spoof, bonafide : float
        Weights, >= 0.
    """

    gamma: float = 2.0
    spoof: float = 1.0
    bonafide: float = 1.0

    def __post_init__(self) -> None:
        for name in ("gamma", "spoof", "bonafide"):
            _require(self, name, getattr(self, name), at_least=0.0)

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean of w_y (1 - p_y)^gamma (-log p_y)."""
        log_p = functional.log_softmax(logits, dim=1)
        true = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        # 1 - p_y without cancellation: the probability of the other class.
        other = log_p.gather(1, (1 - target).unsqueeze(1)).squeeze(1)
        weights = _class_weights(self.spoof, self.bonafide, logits)[target]
        return -(weights * torch.exp(self.gamma * other) * true).mean()


@dataclass(frozen=True)
class AMSoftmax(Objective):
    """Additive-margin softmax: cross entropy of scale * (cos_k - margin [k = y]).

    Wang et al., "Additive margin softmax for face verification", IEEE Signal Processing Letters 25,
    2018; scale and margin as in Zhang, Jiang and Duan 2021.

    Parameters
    ----------
    margin : float
        Taken off the true class's cosine, >= 0.
    scale : float
        Factor before the softmax, > 0.
    """

    heads: ClassVar[tuple[str, ...]] = ("am_softmax", "p2sgrad")
    margin: float = 0.9
    scale: float = 20.0

    def __post_init__(self) -> None:
        _require(self, "margin", self.margin, at_least=0.0)
        _require(self, "scale", self.scale, above=0.0)

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of cosines with the margin."""
        margin = self.margin * functional.one_hot(target, 2).to(logits.dtype)
        return functional.cross_entropy(self.scale * (logits - margin), target)


@dataclass(frozen=True)
class OCSoftmax(Objective):
    """One-class softmax: softplus(alpha (m_real - cos)) or softplus(alpha (cos - m_fake)), mean.

    Zhang, Jiang and Duan, "One-class learning towards synthetic voice spoofing detection", IEEE
    Signal Processing Letters 28, 2021. Bona fide speech is drawn within `real_margin` of one
    direction, spoofs are pushed below `fake_margin`.

    Parameters
    ----------
    real_margin, fake_margin : float
        Cosines in [-1, 1], the second at most the first.
    alpha : float
        Steepness, > 0.
    """

    heads: ClassVar[tuple[str, ...]] = ("oc_softmax",)
    real_margin: float = 0.9
    fake_margin: float = 0.2
    alpha: float = 20.0

    def __post_init__(self) -> None:
        _require(self, "alpha", self.alpha, above=0.0)
        if not -1.0 <= self.fake_margin <= self.real_margin <= 1.0:
            raise ParameterError(
                "The margins of OCSoftmax must satisfy -1 <= fake_margin <= real_margin <= 1. "
                f"Got fake_margin={self.fake_margin!r}, real_margin={self.real_margin!r} instead."
            )

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over the batch; the cosine is the bona fide column."""
        cosine = logits[:, BONAFIDE_INDEX]
        gap = torch.where(
            target == BONAFIDE_INDEX, self.real_margin - cosine, cosine - self.fake_margin
        )
        return functional.softplus(self.alpha * gap).mean()


@dataclass(frozen=True)
class P2SGradMSE(Objective):
    """Mean squared error between the cosines and the one-hot label, over trials and classes.

    Wang and Yamagishi, "A comparative study on recent neural spoofing countermeasures for synthetic
    speech detection", Interspeech 2021, after Zhang et al., "P2SGrad: refined gradients for
    optimizing deep face models", CVPR 2019. It has no hyperparameter.
    """

    heads: ClassVar[tuple[str, ...]] = ("p2sgrad", "am_softmax")

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean of (cos_k - [k = y])^2."""
        return functional.mse_loss(logits, functional.one_hot(target, 2).to(logits.dtype))


_OBJECTIVES: dict[str, type[Objective]] = {
    "weighted_cross_entropy": WeightedCrossEntropy,
    "focal": Focal,
    "am_softmax": AMSoftmax,
    "oc_softmax": OCSoftmax,
    "p2sgrad_mse": P2SGradMSE,
}


def objectives() -> tuple[str, ...]:
    """Names that :func:`build_objective` knows."""
    return tuple(_OBJECTIVES)


def build_objective(name: str, **options: Any) -> Objective:
    """Make an objective by name.

    Parameters
    ----------
    name : str
        One of :func:`objectives`.
    **options
        Fields of the class.

    Returns
    -------
    Objective

    Raises
    ------
    ParameterError
        If the name or an option is unknown, or an option is out of range.
    """
    if name not in _OBJECTIVES:
        raise ParameterError(
            f"The 'name' parameter of build_objective must be one of {sorted(_OBJECTIVES)}. "
            f"Got {name!r} instead."
        )
    try:
        return _OBJECTIVES[name](**options)
    except TypeError as error:
        raise ParameterError(f"Objective {name!r} does not take these options: {error}.") from error


def _class_weights(spoof: float, bonafide: float, like: Tensor) -> Tensor:
    weights = like.new_empty(2)
    weights[SPOOF_INDEX], weights[BONAFIDE_INDEX] = spoof, bonafide
    return weights


def _require(
    owner: Objective, name: str, value: float, *, at_least: float | None = None, above: float = 0.0
) -> None:
    good = value > above if at_least is None else value >= at_least
    if not good:
        domain = f"> {above:g}" if at_least is None else f">= {at_least:g}"
        raise ParameterError(
            f"The {name!r} parameter of {type(owner).__name__} must be a number {domain}. "
            f"Got {value!r} instead."
        )
