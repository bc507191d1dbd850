"""The training loop, on SpeechBrain's Brain: averaged weights, exact resume at an epoch's start.

Ravanelli et al., "SpeechBrain: a general-purpose speech toolkit", 2021. Weights are averaged over
steps with a decay (Polyak & Juditsky 1992); the average is what is judged and exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import speechbrain as sb
import torch
from torch import Tensor
from torch.nn import functional

from voiceguard.models.graph import ModelOutput
from voiceguard.training.data import Batch, CropDataset
from voiceguard.training.loop import ScheduledBrain
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


class CountermeasureBrain(ScheduledBrain):
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
    on_epoch: Callable[[int, dict[str, float]], None] | None = None
    crops: CropDataset | None = None

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

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Seed the epoch, so that a resumed one repeats it."""
        if stage == sb.Stage.TRAIN and epoch is not None:
            torch.manual_seed(self.hparams.seed * 100_003 + epoch)
            self.epoch = epoch
            # A checkpoint of an epoch's end carries the step and mean loss that it ended with.
            self.step, self.avg_train_loss = 0, 0.0
            if self.crops is not None:
                self.crops.epoch = epoch

    def on_fit_batch_end(self, batch: Batch, outputs: Any, loss: Tensor, should_step: bool) -> None:
        """Move the averaged weights."""
        if should_step:
            self.hparams.average.update_parameters(self.modules.model)

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Judge the averaged weights and write a checkpoint."""
        if stage != sb.Stage.TRAIN or epoch is None:
            return
        figures = {"train_loss": float(stage_loss)}
        if self.judge is not None and epoch % self.hparams.judge_every == 0:
            figures.update(self.judge(self.hparams.average.module.eval()))
        if self.on_epoch is not None:
            self.on_epoch(epoch, figures)
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(meta={"epoch": epoch, **figures}, num_to_keep=2)
