"""A small network learns to hear what a large encoder hears; labels take no part.

Regression on a teacher's representation follows Romero et al., "FitNets: hints for thin deep nets",
ICLR 2015. A network that learns from labels end to end learns the corpus: what marks its engines
and its rooms. One that learns to hear as an encoder does, which heard far more, leaves the labels
to a linear map on top, and errs less on voices from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import speechbrain as sb
import torch
from torch import Tensor, nn

from voiceguard.models.spectral_aasist import SpectralAASIST
from voiceguard.training.data import Batch
from voiceguard.training.loop import AveragedBrain


@dataclass(frozen=True)
class ImitationTargets:
    """What the teacher hears in each window, by :attr:`voiceguard.training.data.Batch.row`.

    Parameters
    ----------
    views : np.ndarray [shape=(n_rows, views)]
        Of the window as a whole; may lie on disk.
    frames : sequence of np.ndarray [shape=(n_clips, frames, axes)]
        Over time, one array a pass, axes of unit variance about their mean; may lie on disk.
    frame_weights : Tensor [shape=(axes,)]
        What an error along each axis counts, as a factor of its deviation.
    """

    views: npt.NDArray[np.floating]
    frames: Sequence[npt.NDArray[np.floating]]
    frame_weights: Tensor

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Views [shape=(batch, views)] and frames [shape=(batch, frames, axes)], float32."""
        places = [divmod(int(row), len(self.frames[0])) for row in rows]
        frames = np.stack([self.frames[number][clip] for number, clip in places])
        views = self.views[rows.numpy()]
        return (
            torch.from_numpy(views.astype(np.float32)),
            torch.from_numpy(frames.astype(np.float32)),
        )


class ImitationHeads(nn.Module):
    """Linear maps from what a spectral AASIST hears to what its teacher hears.

    Its map at each step gives the teacher's frames that lie in that step; the graphs' read-out, the
    statistics' and both together each give the views. What they hear is standardised, and they
    start from nothing, so that the first steps do not tear at the student.

    Parameters
    ----------
    model : SpectralAASIST
        The student; it must have a statistics branch.
    axes : int
        Of a frame.
    per_step : int
        Teacher's frames in a step of the student's map.
    views : int
        Of a window.
    """

    def __init__(self, model: SpectralAASIST, *, axes: int, per_step: int, views: int) -> None:
        super().__init__()
        self.axes, self.statistics = axes, model.config.statistics
        size = model.config.blocks[-1].channels * model.pos_S.shape[1]
        graphs = model.out_layer.in_features - self.statistics
        self.standard_map = nn.BatchNorm1d(size, affine=False)
        self.standard = nn.BatchNorm1d(graphs + self.statistics, affine=False)
        self.frames = nn.Linear(size, per_step * axes)
        self.graphs = nn.Linear(graphs, views)
        self.stats = nn.Linear(self.statistics, views)
        self.both = nn.Linear(graphs + self.statistics, views)
        for part in (self.frames, self.graphs, self.stats, self.both):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(self, feature_map: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Frames (batch, steps * per_step, axes); views by graphs, statistics and both."""
        steps = self.frames(self.standard_map(feature_map.flatten(1, 2)).transpose(1, 2))
        heard = self.standard(embedding)
        graphs, statistics = heard[:, : -self.statistics], heard[:, -self.statistics :]
        views = [self.graphs(graphs), self.stats(statistics), self.both(heard)]
        return steps.reshape(len(steps), -1, self.axes), views


def imitation_loss(
    predicted: tuple[Tensor, list[Tensor]],
    views: Tensor,
    frames: Tensor,
    frame_weights: Tensor,
    *,
    view_weight: float,
) -> Tensor:
    """Squared error on the frames, one for a student that hears nothing, plus that on the views.

    Parameters
    ----------
    predicted : tuple
        What :class:`ImitationHeads` gives.
    views : Tensor [shape=(batch, views)]
    frames : Tensor [shape=(batch, frames, axes)]
        The longer one's further frames do not count: student and teacher pad their ends otherwise.
    frame_weights : Tensor [shape=(axes,)]
    view_weight : float
        Of the views' error from graphs and statistics together; each alone counts half of it.

    Returns
    -------
    Tensor [shape=()]
    """
    heard, (by_graphs, by_statistics, by_both) = predicted
    n = min(heard.shape[1], frames.shape[1])
    error = (heard[:, :n] - frames[:, :n]) * frame_weights
    loss: Tensor = error.square().sum(2).mean() / frame_weights.square().sum()
    alone, whole = (
        sum((one - views).square().sum(1).mean() for one in some)
        for some in ((by_graphs, by_statistics), (by_both,))
    )
    return loss + view_weight * (0.5 * alone + whole)


def without_dropout(model: nn.Module) -> nn.Module:
    """The same model, its dropouts at zero: noise on the way is not what the teacher hears."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


class ImitationBrain(AveragedBrain):
    """Trains ``modules.model`` with ``modules.heads``; set :attr:`targets` before ``fit``.

    Expects ``view_weight`` in `hparams`, beside what every AveragedBrain does.
    """

    targets: ImitationTargets

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> tuple[Tensor, list[Tensor]]:
        """What the heads make of the student's map and embedding."""
        feature_map = self.modules.model.feature_map(batch.to(self.device).waveform)
        predicted: tuple[Tensor, list[Tensor]] = self.modules.heads(
            feature_map, self.modules.model.read_out(feature_map)
        )
        return predicted

    def compute_objectives(
        self, predictions: tuple[Tensor, list[Tensor]], batch: Batch, stage: sb.Stage
    ) -> Tensor:
        """How far that is from what the teacher hears."""
        views, frames = self.targets.of(batch.row)
        return imitation_loss(
            predictions,
            views.to(self.device),
            frames.to(self.device),
            self.targets.frame_weights.to(self.device),
            view_weight=self.hparams.view_weight,
        )
