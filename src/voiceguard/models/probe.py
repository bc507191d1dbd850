"""Probes: how much of the answer a linear map, or a small network, finds in pooled features.

Mean and standard deviation over time are the statistics of x-vectors (Snyder et al., ICASSP 2018);
the linear probe is that of Alain and Bengio, "Understanding intermediate layers using linear
classifier probes", 2016, fitted by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig
from voiceguard.models.back_end import FrameBackEnd, frame_mean, real_frames
from voiceguard.models.graph import ModelOutput
from voiceguard.results import Label

# Keeps the gradient of the square root finite where a feature does not move.
_EPSILON = 1e-6


def pool_statistics(features: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean and standard deviation over the real frames.

    Parameters
    ----------
    features : Tensor [shape=(batch, frames, dim)]
    lengths : Tensor [shape=(batch,)], optional
        Real frames of each row.

    Returns
    -------
    Tensor [shape=(batch, 2 * dim)]
        The means, then the deviations (divided by the number of frames, not one less). float32
        where the features have 16 bits.
    """
    if features.dtype in (torch.bfloat16, torch.float16):
        # A sum over hundreds of frames needs more digits.
        features = features.float()
    real = real_frames(features, lengths)
    mean = frame_mean(features, real)
    variance = frame_mean((features - mean.unsqueeze(1)).square(), real)
    return torch.cat([mean, torch.sqrt(variance + _EPSILON)], dim=1)


@dataclass(frozen=True)
class MLPConfig(PlainConfig):
    """Sizes of an MLP.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames.
    hidden : int
        Width of the hidden layer; 0 for none, which is the linear probe.
    dropout : float
        Dropout on the pooled features and on the hidden layer, in [0, 1).
    layers : int
        Layers whose pooled features stand side by side; with 1 the frames are those of one layer.
    """

    dim: int = 1024
    hidden: int = 128
    dropout: float = 0.2
    layers: int = 1

    def __post_init__(self) -> None:
        check_int(self, dim=self.dim, layers=self.layers)
        check_int(self, minimum=0, hidden=self.hidden)
        if not 0 <= self.dropout < 1:
            raise ParameterError(
                "The 'dropout' parameter of MLPConfig must lie in [0, 1). "
                f"Got {self.dropout!r} instead."
            )


class MLP(FrameBackEnd):
    """Frames to logits: mean and deviation over time of each layer, at most one hidden layer.

    Parameters
    ----------
    config : MLPConfig
        Sizes.

    Shape
    -----
    (batch, frames, dim), with several layers (batch, layers, frames, dim), to logits (batch, 2) and
    embedding (batch, hidden), without a hidden layer (batch, layers * 2 * dim).
    """

    config: MLPConfig

    def __init__(self, config: MLPConfig | None = None) -> None:
        super().__init__()
        config = config or MLPConfig()
        self.config = config
        self.takes_layers = config.layers > 1
        pooled = config.layers * 2 * config.dim
        self.bn = nn.BatchNorm1d(pooled, affine=False)
        self.drop = nn.Dropout(p=config.dropout)
        self.hidden = nn.Linear(pooled, config.hidden) if config.hidden else None
        self.out_layer = nn.Linear(self.embedding_dim, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.hidden or self.config.layers * 2 * self.config.dim

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        layers = features.unbind(1) if self.takes_layers else (features,)
        pooled = torch.cat([pool_statistics(layer, lengths) for layer in layers], dim=1)
        return self.classify(pooled)

    def classify(self, pooled: Tensor) -> ModelOutput:
        """The part behind the pooling.

        Parameters
        ----------
        pooled : Tensor [shape=(batch, layers * 2 * dim)]
            Of :func:`pool_statistics`, layer by layer.

        Returns
        -------
        ModelOutput
        """
        embedding = self.drop(self.bn(pooled))
        if self.hidden is not None:
            embedding = F.relu(self.hidden(embedding))
        return ModelOutput(self.out_layer(self.drop(embedding)), embedding)


class LinearProbe:
    """Logistic regression on pooled features, in the manner of a scikit-learn estimator.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty on the weights, > 0.
    max_iter : int
        Most iterations of the solver, >= 1.
    least_scale : float
        What moves less than this, as a deviation over the trials, is not blown up to one; >= 0.
        Above the noise of features that were computed or kept in 16 bits.

    Attributes
    ----------
    mean_, scale_ : np.ndarray [shape=(d,)]
        What the features are standardised with.
    coef_ : np.ndarray [shape=(d,)]
        Weight of each standardised feature, towards bona fide.
    intercept_ : float
    """

    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    coef_: NDArray[np.float64]
    intercept_: float

    def __init__(self, *, C: float = 1.0, max_iter: int = 1000, least_scale: float = 0.0) -> None:
        self.C = C
        self.max_iter = max_iter
        self.least_scale = least_scale

    def fit(
        self,
        pooled: NDArray[np.floating],
        labels: Sequence[str],
        *,
        weights: NDArray[np.floating] | None = None,
    ) -> LinearProbe:
        """Fit; both classes weigh the same however many trials they have.

        Parameters
        ----------
        pooled : np.ndarray [shape=(n, d)]
            One row a trial, for example of :func:`pool_statistics`.
        labels : sequence of {"bonafide", "spoof"}
            One a row.
        weights : np.ndarray [shape=(n,)], optional
            What each trial counts within its class, above 0; alike by default.

        Returns
        -------
        LinearProbe
            Itself.

        Raises
        ------
        ParameterError
            If the shapes do not match, a label is neither or one class is missing.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        rows, bonafide = _checked(pooled, labels)
        scaler = StandardScaler().fit(rows)
        self.mean_, self.scale_ = scaler.mean_, np.maximum(scaler.scale_, self.least_scale)
        solver = LogisticRegression(C=self.C, max_iter=self.max_iter)
        solver.fit(
            (rows - self.mean_) / self.scale_, bonafide, sample_weight=_balanced(bonafide, weights)
        )
        self.coef_, self.intercept_ = solver.coef_[0], float(solver.intercept_[0])
        return self

    def decision_function(self, pooled: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log-odds of bona fide as fitted, (n, d) to (n,)."""
        standard = (np.asarray(pooled, np.float64) - self.mean_) / self.scale_
        odds: NDArray[np.float64] = standard @ self.coef_ + self.intercept_
        return odds

    def to_back_end(self, layers: int = 1) -> MLP:
        """The same map as a back end on frames, for export.

        Parameters
        ----------
        layers : int
            Layers whose means and deviations stand side by side in the features.

        Returns
        -------
        MLP

        Raises
        ------
        ParameterError
            If the features are not means and deviations of so many layers of one width.
        """
        size = len(self.coef_)
        if layers < 1 or size % (2 * layers):
            raise ParameterError(
                f"A back end of {layers} layers needs a probe on means and deviations, a multiple "
                f"of {2 * layers} features. Got {size} instead."
            )
        config = MLPConfig(dim=size // (2 * layers), hidden=0, dropout=0.0, layers=layers)
        back_end = MLP(config).eval()
        self.move_into(back_end.bn, back_end.out_layer)
        return back_end

    def move_into(self, bn: nn.BatchNorm1d, out_layer: nn.Linear) -> None:
        """Give the map to a norm and the linear layer behind it, which are changed in place.

        Parameters
        ----------
        bn : BatchNorm1d
            Without weights of its own.
        out_layer : Linear
            From as many features as the probe was fitted on to two logits.

        Raises
        ------
        ParameterError
            If the layer takes another number of features.
        """
        if out_layer.in_features != len(self.coef_):
            raise ParameterError(
                f"The 'out_layer' parameter of LinearProbe.move_into must take {len(self.coef_)} "
                f"features. Got one that takes {out_layer.in_features} instead."
            )
        spread = standardise(bn, self.mean_, self.scale_)
        with torch.no_grad():
            out_layer.weight.copy_(_in_halves(self.coef_ * spread / self.scale_))
            out_layer.bias.copy_(_in_halves(np.array([self.intercept_]))[:, 0])


def _checked(
    pooled: NDArray[np.floating], labels: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rows = np.asarray(pooled, np.float64)
    known = {Label.BONAFIDE.value, Label.SPOOF.value}
    if rows.ndim != 2 or len(rows) != len(labels) or set(labels) != known:
        raise ParameterError(
            "LinearProbe must be fitted on rows (n, d) with n labels, of which some are "
            f"'bonafide' and some 'spoof'. Got shape {rows.shape} and {len(labels)} labels "
            f"{sorted(set(labels))[:4]} instead."
        )
    return rows, np.array([label == Label.BONAFIDE.value for label in labels])


def _balanced(
    bonafide: NDArray[np.bool_], weights: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """Weights whose sum is half the number of trials in either class."""
    shares = np.ones(len(bonafide)) if weights is None else np.array(weights, np.float64)
    if shares.shape != bonafide.shape or not np.all(np.isfinite(shares) & (shares > 0)):
        raise ParameterError(
            "The 'weights' parameter of LinearProbe.fit must hold a finite number above 0 for each "
            f"of the {len(bonafide)} trials. Got shape {shares.shape} instead."
        )
    for side in (bonafide, ~bonafide):
        shares[side] *= len(shares) / (2 * shares[side].sum())
    return shares


def _in_halves(towards_bonafide: NDArray[np.float64]) -> Tensor:
    """Weights of the two logits (2, d) whose difference is the map given."""
    half = torch.from_numpy(towards_bonafide / 2)
    return torch.stack([-half, half])


def standardise(
    bn: nn.BatchNorm1d, mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Set a batch norm to a standardisation.

    Parameters
    ----------
    bn : BatchNorm1d
    mean, scale : np.ndarray [shape=(d,)]
        What to subtract, and what to divide by.

    Returns
    -------
    np.ndarray [shape=(d,)]
        What it does divide by: more than asked for where that is next to nothing.
    """
    # The norm adds a little to each variance, more than what hardly moves has.
    variance = np.maximum(scale**2 - bn.eps, 0.0)
    if bn.running_mean is not None and bn.running_var is not None:
        bn.running_mean.copy_(torch.from_numpy(mean))
        bn.running_var.copy_(torch.from_numpy(variance))
    return np.sqrt(variance + bn.eps)
