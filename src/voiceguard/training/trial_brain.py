"""The training loop of the published systems, on SpeechBrain's Brain.

A run can be killed at any step and resumed: with the same hardware and thread count its weights end
the same to the last bit. That needs no state of random generators: every crop follows from (seed,
epoch, trial) and everything random inside the network from (seed, epoch, step, process).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from voiceguard.errors import VoiceguardError
from voiceguard.models.graph import ModelOutput
from voiceguard.training.data import Batch
from voiceguard.training.loop import ScheduledBrain
from voiceguard.training.objectives import Objective, WeightedCrossEntropy
from voiceguard.training.scoring import processes
from voiceguard.training.trials import EpochBatches, TrainingCrops

DevJudge = Callable[[Any], float]
"""Takes the network and gives its EER on the development trials; called on every process."""

DEV_FIGURE = "dev_eer"
"""Name, in log and checkpoints, of the figure that the choice of an epoch rests on."""


class NonFiniteLossError(VoiceguardError, ArithmeticError):
    """The loss became NaN or infinite.

    Parameters
    ----------
    epoch, step : int
        Both from 1; the step counts the epoch's batches.
    loss : float
        What it was.
    """

    def __init__(self, epoch: int, step: int, loss: float) -> None:
        self.epoch, self.step, self.loss = epoch, step, loss
        super().__init__(
            f"The loss is {loss} in epoch {epoch}, step {step}. Lower the learning rate, train "
            "with --precision=fp32, or look at that batch's audio."
        )

    def __reduce__(self) -> tuple[type[NonFiniteLossError], tuple[int, int, float]]:
        return type(self), (self.epoch, self.step, self.loss)


class TrialBrain(ScheduledBrain):
    """Trains ``modules.model`` with an objective on labelled crops and judges it on dev trials.

    Expects in `hparams`: ``objective``, ``schedule``, ``steps_per_epoch``, ``seed``, ``counter``
    (the epoch counter), ``history`` (:class:`~voiceguard.training.checkpoints.History`),
    ``judge_every`` (epochs), ``average`` (an ``AveragedModel``, or None) and ``average_when``:
    ``best`` takes the weights of each epoch that is the best on dev so far, as AASIST's authors do,
    ``every`` those of all. Set :attr:`crops`, :attr:`batches` and :attr:`judge` before ``fit``.
    SpeechBrain's run options apply: ``precision``, ``grad_accumulation_factor``,
    ``ckpt_interval_steps`` (make it a multiple of the accumulation: a checkpoint holds no
    half-summed gradients), ``max_grad_norm``.

    Several processes give the gradients of one with the joint batch. Batch norm is synchronised on
    GPUs; on CPUs torch cannot, and each process normalises by its own batch.
    """

    crops: TrainingCrops
    batches: EpochBatches
    judge: DevJudge | None = None

    def __init__(self, modules: dict[str, torch.nn.Module], *args: Any, **kwargs: Any) -> None:
        super().__init__(modules, *args, **kwargs)
        # As it was before any wrapping: what is judged, averaged and stored.
        self.network = modules["model"]

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> ModelOutput:
        """Output of the network."""
        output: ModelOutput = self.modules.model(batch.waveform.to(self.device))
        return output

    def compute_objectives(self, predictions: ModelOutput, batch: Batch, stage: sb.Stage) -> Tensor:
        """The objective, scaled so that the mean over processes is that of the joint batch."""
        bonafide = batch.bonafide.to(self.device)
        output = ModelOutput(predictions.logits.float(), predictions.embedding)
        loss: Tensor = self.hparams.objective(output, bonafide)
        return loss * _share(self.hparams.objective, bonafide)

    def check_loss_isfinite(self, loss: Tensor) -> None:
        """Stop at the first loss that is none.

        Raises
        ------
        NonFiniteLossError
            Naming the step.
        """
        if not torch.isfinite(loss):
            raise NonFiniteLossError(self.epoch, self.step, float(loss.detach()))

    def on_fit_start(self) -> None:
        """Resume from the newest whole checkpoint."""
        if self.checkpointer is not None:
            self.checkpointer.clear_unfinished()
        super().on_fit_start()

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Set crops and batches to the epoch, and to the step that it is resumed at."""
        if stage == sb.Stage.TRAIN and epoch is not None:
            self.epoch = self.crops.epoch = self.batches.epoch = epoch
            self.batches.start = self.step

    def on_fit_batch_start(self, batch: Batch, should_step: bool) -> None:
        """Set the learning rate, and seed what is random inside the network."""
        super().on_fit_batch_start(batch, should_step)
        key = [self.hparams.seed, self.epoch, self.step, processes()[0]]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Judge on dev, move the averaged weights, write a checkpoint and the log."""
        if stage != sb.Stage.TRAIN or epoch is None:
            return
        figures = {"train_loss": _mean(float(stage_loss), self.device)}
        if self.judge is not None and self._is_judged(epoch):
            figures[DEV_FIGURE] = self.judge(self.network)
        self._average(figures)
        self.hparams.history.rows.append({"epoch": epoch, **figures})
        # The next epoch starts at its first step; the checkpoint must say so.
        self.step, self.avg_train_loss = 0, 0.0
        if self.checkpointer is not None:
            self._save_epoch({"epoch": epoch, **figures})

    def _is_judged(self, epoch: int) -> bool:
        return bool(epoch % self.hparams.judge_every == 0 or epoch == self.hparams.counter.limit)

    def _average(self, figures: dict[str, float]) -> None:
        if self.hparams.average is None:
            return
        figure = figures.get(DEV_FIGURE, float("inf"))
        best = DEV_FIGURE in figures and figure <= self.hparams.history.best(DEV_FIGURE)
        if best or self.hparams.average_when == "every":
            self.hparams.average.update_parameters(self.network)

    def _save_epoch(self, meta: dict[str, float]) -> None:
        """Keep this epoch's checkpoint and the one of the best epoch on dev."""
        self.checkpointer.save_and_keep_only(
            meta=meta, min_keys=[DEV_FIGURE], importance_keys=[], num_to_keep=1
        )
        if if_main_process():
            folder = self.checkpointer.checkpoints_dir.parent
            self.hparams.history.write_csv(folder / "log.csv")

    def _wrap_distributed(self) -> None:
        if not (self.distributed_launch and self.device_type == "cpu"):
            super()._wrap_distributed()
            return
        for name, module in self.modules.items():
            self.modules[name] = DistributedDataParallel(
                module, find_unused_parameters=self.find_unused_parameters
            )


def _share(objective: Objective, bonafide: Tensor) -> Tensor | float:
    """Part of this process in the joint batch's normaliser, times the number of processes.

    Weighted cross entropy divides by the sum of its batch's weights, which differs from process to
    process; all others divide by the number of trials, which does not.
    """
    count = processes()[1]
    if count == 1 or not isinstance(objective, WeightedCrossEntropy):
        return 1.0
    weights = torch.where(bonafide > 0, objective.bonafide, objective.spoof).sum()
    total = weights.clone()
    distributed.all_reduce(total)
    return count * weights / total


def _mean(value: float, device: str) -> float:
    count = processes()[1]
    if count == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total) / count
