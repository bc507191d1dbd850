"""How an encoder's outputs move together: covariances along leading axes, beside the statistics.

Second-order pooling of self-supervised frames follows Stafylakis et al., "Extracting speaker and
emotion information from self-supervised speech models via channel-wise correlations", SLT 2022.
Here covariances are taken, along axes that whiten the frames, and a linear map judges them together
with the means and deviations of :func:`~voiceguard.models.probe.pool_statistics`.
"""

from __future__ import annotations

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
from voiceguard.models.probe import LinearProbe, pool_statistics

LEAST_SCALE = 0.003
"""Frames and pooled features that deviate less carry the noise of 16 bits."""


@dataclass(frozen=True)
class CovarianceConfig(PlainConfig):
    """Sizes of a CovarianceProbe.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames.
    axes : int
        Axes along which covariances are taken, 1 to `dim`.
    """

    dim: int = 1024
    axes: int = 96

    def __post_init__(self) -> None:
        check_int(self, dim=self.dim, axes=self.axes)
        if self.axes > self.dim:
            raise ParameterError(
                "The 'axes' parameter of CovarianceConfig must not exceed 'dim'. "
                f"Got {self.axes} axes of {self.dim} dimensions instead."
            )

    @property
    def pooled_dim(self) -> int:
        """Means, deviations and covariances."""
        return 2 * self.dim + self.axes * (self.axes + 1) // 2


def whitening_axes(frames: NDArray[np.floating], axes: int) -> NDArray[np.float32]:
    """Leading principal axes of standardised frames, scaled so that frames have unit variance.

    Parameters
    ----------
    frames : np.ndarray [shape=(n, dim)]
        More than `axes` of them.
    axes : int
        1 to `dim`.

    Returns
    -------
    np.ndarray [shape=(axes, dim), dtype=float32]
        What frames are multiplied with.

    Raises
    ------
    ParameterError
        If there are not so many axes.
    """
    if frames.ndim != 2 or not 1 <= axes <= min(frames.shape[1], len(frames) - 1):
        raise ParameterError(
            "The 'axes' parameter of whitening_axes must lie from 1 to the width of the frames and "
            f"below their number. Got {axes} axes of frames of shape {frames.shape} instead."
        )
    scale = np.maximum(frames.std(axis=0, dtype=np.float64), LEAST_SCALE)
    standard = (frames - frames.mean(axis=0, dtype=np.float64)) / scale
    spread, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    leading = np.argsort(spread)[::-1][:axes]
    found: NDArray[np.float32] = (
        vectors[:, leading].T / np.sqrt(np.maximum(spread[leading, None], 1e-12)) / scale
    ).astype(np.float32)
    return found


def pool_covariances(features: Tensor, projection: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Covariances over the real frames along some axes.

    Parameters
    ----------
    features : Tensor [shape=(batch, frames, dim)]
    projection : Tensor [shape=(axes, dim)]
        For example of :func:`whitening_axes`.
    lengths : Tensor [shape=(batch,)], optional
        Real frames of each row.

    Returns
    -------
    Tensor [shape=(batch, axes * (axes + 1) / 2)]
        The upper triangle, row by row. float32 where the features have 16 bits.
    """
    if features.dtype in (torch.bfloat16, torch.float16):
        features = features.float()
    real = real_frames(features, lengths)
    along = F.linear(features, projection)
    along = along - frame_mean(along, real).unsqueeze(1)
    if real is None:
        products = along.transpose(1, 2) @ along / along.shape[1]
    else:
        along = torch.where(real.unsqueeze(2), along, 0.0)
        products = along.transpose(1, 2) @ along / real.sum(dim=1)[:, None, None]
    rows, columns = np.triu_indices(len(projection))
    upper = torch.from_numpy(rows * len(projection) + columns).to(products.device)
    return products.flatten(1).index_select(1, upper)


class CovarianceProbe(FrameBackEnd):
    """Frames to logits: means, deviations and covariances over time, and a linear map.

    Parameters
    ----------
    config : CovarianceConfig
        Sizes.

    Shape
    -----
    (batch, frames, dim) to logits (batch, 2) and embedding (batch, 2 * dim), the standardised means
    and deviations.
    """

    config: CovarianceConfig

    def __init__(self, config: CovarianceConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CovarianceConfig()
        self.axes = nn.Linear(config.dim, config.axes, bias=False)
        self.bn = nn.BatchNorm1d(config.pooled_dim, affine=False)
        self.out_layer = nn.Linear(config.pooled_dim, 2)

    @classmethod
    def from_probe(cls, probe: LinearProbe, projection: NDArray[np.floating]) -> CovarianceProbe:
        """The map of a probe that was fitted on :meth:`pool`'s features along the same axes.

        Parameters
        ----------
        probe : LinearProbe
        projection : np.ndarray [shape=(axes, dim)]

        Returns
        -------
        CovarianceProbe

        Raises
        ------
        ParameterError
            If the probe was fitted on another number of features.
        """
        axes, dim = projection.shape
        back_end = cls(CovarianceConfig(dim=dim, axes=axes)).eval()
        with torch.no_grad():
            back_end.axes.weight.copy_(torch.from_numpy(np.asarray(projection, np.float32)))
        probe.move_into(back_end.bn, back_end.out_layer)
        return back_end

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return 2 * self.config.dim

    def pool(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the linear map takes, (batch, frames, dim) to (batch, pooled_dim)."""
        parts = (
            pool_statistics(features, lengths),
            pool_covariances(features, self.axes.weight, lengths),
        )
        return torch.cat(parts, dim=1)

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        standard = self.bn(self.pool(features, lengths))
        return ModelOutput(self.out_layer(standard), standard[:, : self.embedding_dim])
