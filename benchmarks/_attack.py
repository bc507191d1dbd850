"""A white-box attack: the smallest change of a waveform that makes a network call it human.

Projected gradient ascent on the score inside a ball around the clip (Madry et al., "Towards deep
learning models resistant to adversarial attacks", ICLR 2018), with the Euclidean norm, so that the
ball's radius is a signal-to-noise ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from _effects import pcm16

Samples = npt.NDArray[np.float32]
Score = Callable[[Tensor], Tensor]


def load_network(path: Path) -> Score:
    """Score function of a stored network: waveforms (batch, n) to scores (batch,).

    Parameters
    ----------
    path : Path
        Weights that ``recipes/open_voices/export.py`` takes.

    Returns
    -------
    callable
    """
    from export import load_model

    network = load_model(path)
    network.eval().requires_grad_(False)
    return lambda waveform: network.score(network(waveform))


def heard(x: Tensor, window: int) -> Tensor:
    """The first window of a clip as the detector hears it; a shorter clip repeats, (1, window)."""
    return x[torch.arange(window) % len(x)][None]


def network_scores(score: Score, clips: list[Samples], window: int) -> npt.NDArray[np.float64]:
    """Score of the first window of each clip."""
    with torch.inference_mode():
        found = [float(score(heard(torch.from_numpy(x), window))[0]) for x in clips]
    return np.array(found)


def attacked(
    x: Samples, score: Score, *, window: int, snr_db: float, steps: int, rng: np.random.Generator
) -> Samples:
    """A clip changed so that a network's score of its first window rises.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        float32 at 16 kHz, in [-1, 1].
    score : callable
        (batch, window) to (batch,), differentiable.
    window : int
        Samples that the network hears; what lies behind them stays.
    snr_db : float
        Least power of the window over that of the change, dB.
    steps : int
        Gradient steps; the best point on the way is kept.
    rng : np.random.Generator
        For the start inside the ball.

    Returns
    -------
    np.ndarray [shape=(n,)]
        In 16 bits, as a file would hold it.
    """
    clean = torch.from_numpy(x[:window].copy())
    radius = float(torch.linalg.vector_norm(clean)) * 10.0 ** (-snr_db / 20.0)
    start = rng.standard_normal(len(clean))
    change = torch.from_numpy((0.5 * radius * start / np.linalg.norm(start)).astype(np.float32))
    best, highest = change, -np.inf
    for _ in range(steps):
        value, slope = _value_and_slope(clean, change, score, window)
        if value > highest:
            best, highest = change, value
        change = _inside(change + slope * (2.5 * radius / steps), radius)
    if _value_and_slope(clean, change, score, window)[0] > highest:
        best = change
    return np.concatenate([pcm16((clean + best).numpy()), x[window:]])


def _value_and_slope(
    clean: Tensor, change: Tensor, score: Score, window: int
) -> tuple[float, Tensor]:
    """Score of the changed clip, and the direction in which it rises fastest, of unit length."""
    change = change.detach().requires_grad_(True)
    value = score(heard(torch.clamp(clean + change, -1.0, 1.0), window))[0]
    (slope,) = torch.autograd.grad(value, change)
    length = torch.linalg.vector_norm(slope)
    return float(value.detach()), slope / torch.clamp(length, min=1e-20)


def _inside(change: Tensor, radius: float) -> Tensor:
    """`change`, drawn back onto the ball where it left it."""
    length = float(torch.linalg.vector_norm(change))
    return change * min(1.0, radius / max(length, 1e-20))
