"""The training loop, on SpeechBrain's Brain: averaged weights, exact resume at an epoch's start.

Ravanelli et al., "SpeechBrain: a general-purpose speech toolkit", 2021. Weights are averaged over
steps with a decay (Polyak & Juditsky 1992); the average is what is judged and exported.
"""

from __future__ import annotations

from collections.abc import Callable

import speechbrain as sb
import torch
from torch import Tensor
from torch.nn import functional

from voiceguard.models.graph import ModelOutput
from voiceguard.training.data import Batch
from voiceguard.training.loop import AveragedBrain
from voiceguard.training.losses import belief_loss, frame_loss, label_loss, view_loss
from voiceguard.training.schedules import Schedule
from voiceguard.training.targets import TeacherTargets

__all__ = ["CountermeasureBrain", "Judge", "Schedule", "TeacherTargets", "warmed_average"]

Judge = Callable[[torch.nn.Module], dict[str, float]]


def warmed_average(decay: float) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Exponential average of weights whose memory grows with the steps, up to `decay`.

    A fixed decay would carry the random start along for hundreds of steps.
    """

    def average(mean: Tensor, new: Tensor, steps: int) -> Tensor:
        share = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return mean * share + new * (1.0 - share)

    return average


class CountermeasureBrain(AveragedBrain):
    """Trains ``modules.model``, with ``modules.view`` and ``modules.frames`` to imitate a teacher.

    ``view`` projects the embedding onto the teacher's pooled features, ``frames`` each step of the
    model's map onto what the teacher hears there.

    Expects in `hparams`: ``schedule``, ``label_smoothing``, ``label_weight``, ``branch_weight``,
    ``belief_weight``, ``view_weight``, ``frame_weight``, ``average``, ``seed``,
    ``steps_per_epoch``, ``judge_every``.
    Set :attr:`crops` (whose epoch it keeps), and :attr:`teacher` and :attr:`judge` where there are
    any, before ``fit``.
    """

    teacher: TeacherTargets | None = None
    judge: Judge | None = None

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> tuple[Tensor, ModelOutput]:
        """The model's map and its output."""
        feature_map = self.modules.model.feature_map(batch.to(self.device).waveform)
        return feature_map, self.modules.model.back_end(feature_map)

    def compute_objectives(
        self, predictions: tuple[Tensor, ModelOutput], batch: Batch, stage: sb.Stage
    ) -> Tensor:
        """Labels, and what the teacher says where there is a teacher."""
        feature_map, output = predictions
        bonafide = batch.bonafide.to(self.device)
        smoothing = self.hparams.label_smoothing
        loss: Tensor = self.hparams.label_weight * label_loss(
            output.logits, bonafide, smoothing=smoothing
        )
        for logits in self._branches(output.embedding):
            branch = label_loss(logits, bonafide, smoothing=smoothing)
            loss = loss + self.hparams.branch_weight * branch
        if self.teacher is None:
            return loss
        return loss + self._imitation(feature_map, output, batch.row, self.teacher)

    def _imitation(
        self, feature_map: Tensor, output: ModelOutput, row: Tensor, teacher: TeacherTargets
    ) -> Tensor:
        score = output.logits[:, 1] - output.logits[:, 0]
        belief = belief_loss(score, teacher.logits[row].to(self.device))
        view = view_loss(self.modules.view(output.embedding), teacher.features[row].to(self.device))
        loss: Tensor = self.hparams.belief_weight * belief + self.hparams.view_weight * view
        frames = teacher.frames_of(row)
        if frames is not None:
            steps = self.modules.frames(feature_map.flatten(1, 2).transpose(1, 2))
            loss = loss + self.hparams.frame_weight * frame_loss(steps, frames.to(self.device))
        return loss

    def _branches(self, embedding: Tensor) -> list[Tensor]:
        """Logits of the graphs alone and of the statistics alone, where the model has both.

        Judging each by itself keeps the branch that learns fast from silencing the other.
        """
        model = self.modules.model
        width = model.config.statistics
        if not width:
            return []
        out = model.out_layer
        graphs, statistics = embedding[:, :-width], embedding[:, -width:]
        return [
            functional.linear(model.drop(graphs), out.weight[:, :-width], out.bias),
            functional.linear(statistics, out.weight[:, -width:], out.bias),
        ]

    def figures(self, epoch: int) -> dict[str, float]:
        """Errors of the averaged weights, where there is a judge."""
        if self.judge is None or epoch % self.hparams.judge_every:
            return {}
        return self.judge(self.hparams.average.module.eval())
