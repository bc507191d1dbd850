"""What the Brains share: a learning rate by schedule, step by step."""

from __future__ import annotations

from typing import Any

import speechbrain as sb


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
