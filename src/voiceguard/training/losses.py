"""Losses of the open-voices recipe: labels, a teacher's belief, a teacher's view."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def label_loss(logits: Tensor, bonafide: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross entropy over (spoof, bona fide), mean over the batch.

    Parameters
    ----------
    logits : Tensor [shape=(batch, 2)]
        Column 1 is bona fide.
    bonafide : Tensor [shape=(batch,)]
        1 for bona fide, 0 for spoof.
    smoothing : float
        Label smoothing, in [0, 1).

    Returns
    -------
    Tensor [shape=()]
    """
    return functional.cross_entropy(logits, bonafide.long(), label_smoothing=smoothing)


def belief_loss(score: Tensor, teacher_logit: Tensor) -> Tensor:
    """Binary cross entropy against a teacher's posterior (Hinton et al. 2015).

    Parameters
    ----------
    score : Tensor [shape=(batch,)]
        The student's log odds of bona fide.
    teacher_logit : Tensor [shape=(batch,)]
        The teacher's log odds; NaN where it has none: such clips do not count.

    Returns
    -------
    Tensor [shape=()]
        Zero where no clip counts.
    """
    known = torch.isfinite(teacher_logit)
    if not bool(known.any()):
        return score.sum() * 0.0
    target = torch.sigmoid(teacher_logit[known])
    return functional.binary_cross_entropy_with_logits(score[known], target)


def view_loss(predicted: Tensor, teacher_features: Tensor) -> Tensor:
    """One minus the cosine between predicted and true teacher features, mean over the batch.

    Parameters
    ----------
    predicted, teacher_features : Tensor [shape=(batch, axes)]

    Returns
    -------
    Tensor [shape=()]
    """
    return (1.0 - functional.cosine_similarity(predicted, teacher_features, dim=1)).mean()


def frame_loss(predicted: Tensor, teacher_frames: Tensor) -> Tensor:
    """One minus the cosine at each step, mean over steps and batch.

    Parameters
    ----------
    predicted, teacher_frames : Tensor [shape=(batch, steps, axes)]
        The longer one's further steps do not count: student and teacher pad their ends differently.

    Returns
    -------
    Tensor [shape=()]
    """
    steps = min(predicted.shape[1], teacher_frames.shape[1])
    cosine = functional.cosine_similarity(predicted[:, :steps], teacher_frames[:, :steps], dim=2)
    return (1.0 - cosine).mean()
