"""What encoders hear in a window as a whole, as targets that a small network can learn.

Leading axes of one encoder's pooled features, and what probes on random halves of the families
believe: the axes tell what moves most in the encoder, the probes what tells people from engines,
whichever engines those are. Both by window, whoever speaks; none is the label of a clip.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from probes import Features, Rows
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from split import family, sampling_weights
from teacher import PooledAxes

from voiceguard.training.corpus import Corpus

AXES = 256
BAG_SHARE = 0.6
"""Of the families that a probe of a bag hears."""
CLIP_SHARE = 0.8
BAG_PENALTY = 0.01
BAG_ITERATIONS = 60

Floats = npt.NDArray[np.float32]


def bag(whitened: Floats, corpus: Corpus, train: Rows, count: int, *, seed: int) -> Floats:
    """Log-odds by probes that each heard some families, one pass a clip.

    Parameters
    ----------
    whitened : np.ndarray [shape=(passes, clips, axes)]
    count : int
        Probes.

    Returns
    -------
    np.ndarray [shape=(passes, clips, count)]
    """
    rng = np.random.default_rng(seed)
    rows = [corpus.rows[i] for i in train]
    families = np.array([family(row) for row in rows])
    bonafide = np.array([row["label"] == "bonafide" for row in rows])
    weights = sampling_weights(rows, levelling=0.2, classical=0.2) * len(rows)
    names = np.unique(families)
    flat = whitened.reshape(-1, whitened.shape[2])
    beliefs = []
    for _ in range(count):
        heard = rng.permutation(names)[: max(2, int(BAG_SHARE * len(names)))]
        chosen = np.isin(families, heard) & (rng.random(len(rows)) < CLIP_SHARE)
        if len(set(bonafide[chosen])) < 2:
            chosen = np.ones(len(rows), bool)
        clips = train[chosen]
        passes = rng.integers(len(whitened), size=len(clips))
        probe = LogisticRegression(C=0.5 / (BAG_PENALTY * len(clips)), max_iter=BAG_ITERATIONS)
        with warnings.catch_warnings():
            # Stopped before its end: a probe of a bag need not be the best one.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(whitened[passes, clips], bonafide[chosen], sample_weight=weights[chosen])
        beliefs.append(probe.decision_function(flat).reshape(whitened.shape[:2]))
    return np.stack(beliefs, axis=2).astype(np.float32)


def scaled(block: Floats, train: Rows, total: float) -> Floats:
    """A block of targets about its mean, at a total variance over what trains."""
    heard = block[:, train].reshape(-1, block.shape[2])
    spread = float(heard.var(axis=0).sum())
    found: Floats = (block - heard.mean(0)) * np.float32(np.sqrt(total / max(spread, 1e-12)))
    return found


def stacked(features: Features, passes: Sequence[str], n_clips: int) -> Floats:
    """Pooled features of every clip [shape=(passes, clips, features)]."""
    rows = np.arange(n_clips)
    return np.stack([features(name, rows) for name in passes])


def views_of(
    members: Sequence[tuple[Features, int, float]],
    corpus: Corpus,
    train: Rows,
    passes: Sequence[str],
    *,
    seed: int = 1,
) -> Floats:
    """Targets of every window, axes of the first member first.

    Parameters
    ----------
    members : sequence of (Features, int, float)
        Pooled features, how many probes hear them, and what their beliefs count beside the first
        member's axes, which count 1.
    train : np.ndarray [shape=(n,)]
        Clips that axes and probes are fitted on.

    Returns
    -------
    np.ndarray [shape=(passes * clips, views)]
        In the order in which rows of a bank count.
    """
    blocks: list[Floats] = []
    for number, (features, probes, share) in enumerate(members):
        heard = stacked(features, passes, len(corpus))
        axes = PooledAxes(heard[:, train].reshape(-1, heard.shape[2]), AXES)
        whitened = axes(heard)
        if number == 0:
            # Between the axes as they move and axes that move alike.
            blocks.append(scaled(whitened * np.sqrt(axes.deviations), train, 1.0))
        beliefs = bag(whitened, corpus, train, probes, seed=seed + number)
        beliefs = beliefs / np.maximum(beliefs[:, train].std((0, 1)), 1e-6)
        blocks.append(scaled(beliefs, train, share))
    whole = np.concatenate(blocks, axis=2)
    return whole.reshape(-1, whole.shape[2])
