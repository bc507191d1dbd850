"""Scores of a network over the windows of trials, on one process or shared by several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed
from torch.utils.data import DataLoader

from voiceguard.metrics import eer
from voiceguard.training.data import Batch
from voiceguard.training.trials import Windows, label_of

if TYPE_CHECKING:
    from voiceguard.models import Network

Scores = npt.NDArray[np.float64]


def processes() -> tuple[int, int]:
    """Which process this is, of how many; (0, 1) where training is not distributed."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def score_windows(
    model: Network,
    windows: Windows,
    *,
    batch_size: int = 32,
    device: str = "cpu",
    workers: int = 0,
    share: bool = False,
) -> Scores:
    """Score of each trial; the model is left in evaluation mode.

    Parameters
    ----------
    model : Network
        On `device`.
    windows : Windows
    batch_size : int
    device : str
    workers : int
        Processes that decode; 0: this one does.
    share : bool
        Whether the processes of a distributed training each score a part and exchange the scores;
        all of them must call this then.

    Returns
    -------
    np.ndarray [shape=(n_trials,)]
        In the order of the trials, higher = more bona fide.
    """
    process, count = processes() if share else (0, 1)
    loader: DataLoader[Any] = DataLoader(
        windows,
        batch_sampler=_batches(range(process, len(windows), count), batch_size),
        collate_fn=Batch.collate,
        num_workers=workers,
        # A generator of its own, or the loader would draw from training's.
        generator=torch.Generator(),
    )
    mine = _score(model.eval(), loader, device)
    if count == 1:
        return mine
    parts: list[Scores] = [np.empty(0)] * count
    distributed.all_gather_object(parts, mine)
    scores = np.empty(len(windows))
    for place, part in enumerate(parts):
        scores[place::count] = part
    return scores


def equal_error_rate(scores: Scores, windows: Windows) -> float:
    """EER of scores over labelled trials, in [0, 1].

    Raises
    ------
    ProtocolError
        If a label is withheld.
    MetricError
        If a class is absent or a score is not finite.
    """
    bonafide = np.array([label_of(trial) for trial in windows.trials])
    return eer(scores[bonafide], scores[~bonafide]).value


def _batches(indices: range, size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def _score(model: Network, loader: DataLoader[Any], device: str) -> Scores:
    scores = [np.empty(0)]
    with torch.no_grad():
        for batch in loader:
            output = model(batch.waveform.to(device))
            scores.append(model.score(output).double().cpu().numpy())
    return np.concatenate(scores)
