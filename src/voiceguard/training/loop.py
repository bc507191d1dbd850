"""What the Brains share: a learning rate by schedule, averaged weights, a checkpoint an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import speechbrain as sb
import torch
from torch import Tensor


class ScheduledBrain(sb.Brain):  # type: ignore[misc]
    """A Brain whose learning rate follows ``hparams.schedule``.

    Expects in `hparams`: ``schedule`` (see :mod:`voiceguard.training.schedules`) and
    ``steps_per_epoch``, steps of the optimiser. Subclasses set :attr:`epoch` where a training epoch
    starts.
    """

    epoch: int = 1

    @property
    def global_step(self) -> int:
        """Step of the optimiser that the current batch belongs to, from 0."""
        within = (self.step - 1) // self.grad_accumulation_factor
        return int((self.epoch - 1) * self.hparams.steps_per_epoch + within)

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Set the learning rate."""
        rate = self.hparams.schedule.rate(self.global_step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate


class Drawn(Protocol):
    """Data that is drawn anew each epoch, by the epoch's number."""

    epoch: int


class AveragedBrain(ScheduledBrain):
    """A Brain that keeps a running average of ``modules.model`` and a checkpoint of each epoch.

    Expects in `hparams`: ``schedule``, ``steps_per_epoch``, ``average``, ``seed``. Set
    :attr:`crops` (whose epoch it keeps) before ``fit``. A resumed run is the same as one that was
    never stopped.
    """

    crops: Drawn | None = None
    on_epoch: Callable[[int, dict[str, float]], None] | None = None

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Seed the epoch, so that a resumed one repeats it."""
        if stage == sb.Stage.TRAIN and epoch is not None:
            torch.manual_seed(self.hparams.seed * 100_003 + epoch)
            self.epoch = epoch
            # A checkpoint of an epoch's end carries the step and mean loss that it ended with.
            self.step, self.avg_train_loss = 0, 0.0
            if self.crops is not None:
                self.crops.epoch = epoch

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Tensor, should_step: bool) -> None:
        """Move the averaged weights."""
        if should_step:
            self.hparams.average.update_parameters(self.modules.model)

    def figures(self, epoch: int) -> dict[str, float]:
        """What is told of an epoch beside its loss; nothing by itself."""
        return {}

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Tell the epoch's figures and write a checkpoint."""
        if stage != sb.Stage.TRAIN or epoch is None:
            return
        figures = {"train_loss": float(stage_loss), **self.figures(epoch)}
        if self.on_epoch is not None:
            self.on_epoch(epoch, figures)
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(meta={"epoch": epoch, **figures}, num_to_keep=2)
