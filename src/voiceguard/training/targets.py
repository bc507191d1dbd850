"""What a teacher says, looked up by row while a student trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class TeacherTargets:
    """What a teacher says of each clip or crop, by :attr:`voiceguard.training.data.Batch.row`.

    Parameters
    ----------
    features : Tensor [shape=(n_rows, axes)]
    logits : Tensor [shape=(n_rows,)]
        Log odds of bona fide, NaN where the teacher has none.
    frames : np.ndarray [shape=(n_rows, steps, axes)], optional
        What it hears at each step of the student's map; may lie on disk.
    """

    features: Tensor
    logits: Tensor
    frames: npt.NDArray[np.float16] | None = None

    def frames_of(self, row: Tensor) -> Tensor | None:
        """Frames of a batch [shape=(batch, steps, axes)], float32; None where there are none."""
        if self.frames is None:
            return None
        return torch.from_numpy(self.frames[row.numpy()].astype(np.float32))
