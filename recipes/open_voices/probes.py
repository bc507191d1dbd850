"""Probes on pooled features: what their members are, their features, how they are fitted.

A member is an encoder's file, the layers whose means and deviations its probe hears, and the width
of a hidden layer, without which the probe is linear: a logistic regression. One with a hidden layer
learns from mixtures of trials (Zhang et al., "mixup", ICLR 2018).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from split import sampling_weights
from ssl_frames import open_encoder

from voiceguard.features.ssl import SSLEncoder
from voiceguard.models.probe import MLP, LinearProbe, MLPConfig, standardise
from voiceguard.training.checkpoints import RUN_NAME
from voiceguard.training.corpus import Corpus
from voiceguard.training.losses import label_loss

PENALTY = 0.001
"""Weight of the squared coefficients beside the mean loss of a trial."""
ITERATIONS = 150
LEVELLING = 0.2
"""How far families are levelled for a linear probe; a network with a hidden layer has a half."""
LEAST_SCALE = 0.003
"""Features that deviate less carry the noise of 16 bits."""

BATCH = 128
EPOCHS = 12
RATE = 5e-4
WEIGHT_DECAY = 0.1
DROPOUT = 0.4
MIX = 1.0
SMOOTHING = 0.05

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """An encoder, the layers that its probe hears, and the probe's hidden layer."""

    path: Path
    layers: tuple[int, ...]
    hidden: int = 0

    @classmethod
    def parse(cls, text: str) -> Member:
        """From ``FILE:LAYER,LAYER`` or ``FILE:LAYER,LAYER:HIDDEN``."""
        path, layers, *hidden = text.split(":")
        return cls(Path(path), tuple(map(int, layers.split(","))), int(hidden[0]) if hidden else 0)

    def __str__(self) -> str:
        layers = ",".join(map(str, self.layers))
        return f"{self.path.stem}:{layers}" + (f":{self.hidden}" if self.hidden else "")

    def encoder(self, context_s: float | None) -> SSLEncoder:
        """The encoder, Whisper's window cut."""
        return open_encoder(self.path, layers=list(self.layers), context_s=context_s)

    def features(self, folder: Path, encoder: SSLEncoder) -> Features:
        """What ``pooled.py`` kept of its layers."""
        return Features(folder / encoder.architecture, self.layers, hidden=self.hidden)


def settings(hidden: int) -> str:
    """How a probe is fitted, for the table of ablations."""
    if hidden:
        return f"mixtures {MIX}, {EPOCHS} epochs"
    return f"penalty {PENALTY}, levelling {LEVELLING}"


class Probe(Protocol):
    """What both kinds of probe can do."""

    def decision_function(self, pooled: npt.NDArray[np.float32]) -> Floats:
        """Log-odds of bona fide."""

    def to_back_end(self, layers: int = 1) -> MLP:
        """The same map on frames."""


class Features:
    """The pooled features of one member, by pass."""

    def __init__(self, folder: Path, layers: Sequence[int], *, hidden: int = 0) -> None:
        self.folder = folder
        self.hidden = hidden
        kept = json.loads((folder / RUN_NAME).read_text("utf-8"))["layers"]
        self.places = [kept.index(layer) for layer in layers]

    def __call__(self, name: str, rows: Rows) -> npt.NDArray[np.float32]:
        """Features of some rows [shape=(rows, layers * 2 * dim)]."""
        stored = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return stored[rows][:, self.places].astype(np.float32).reshape(len(rows), -1)


class HiddenProbe:
    """A network with one hidden layer on pooled features; learned from mixtures of two trials."""

    def __init__(self, width: int, hidden: int, layers: int) -> None:
        config = MLPConfig(dim=width, hidden=hidden, dropout=DROPOUT, layers=layers)
        self.head = MLP(config)

    def fit(
        self, pooled: npt.NDArray[np.float32], bonafide: npt.NDArray[np.bool_], weights: Floats
    ) -> HiddenProbe:
        """Learn; trials are drawn by their weights."""
        scale = np.maximum(pooled.std(axis=0, dtype=np.float64), LEAST_SCALE)
        standardise(self.head.bn, pooled.mean(axis=0, dtype=np.float64), scale)
        rng = np.random.default_rng(1)
        features, labels = torch.from_numpy(pooled), torch.from_numpy(bonafide).float()
        reach = np.cumsum(weights)
        steps = EPOCHS * len(pooled) // BATCH
        optimiser = torch.optim.AdamW(self.head.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
        self.head.train()
        self.head.bn.eval()
        for _ in range(steps):
            drawn = torch.from_numpy(np.searchsorted(reach, rng.random(BATCH) * reach[-1]))
            share = torch.from_numpy(rng.beta(MIX, MIX, BATCH).astype(np.float32))
            other = drawn[torch.from_numpy(rng.permutation(BATCH))]
            mixed = features[drawn] * share[:, None] + features[other] * (1 - share[:, None])
            target = labels[drawn] * share + labels[other] * (1 - share)
            loss = label_loss(self.head.classify(mixed).logits, target, smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        self.head.eval()
        return self

    def decision_function(self, pooled: npt.NDArray[np.float32]) -> Floats:
        """Log-odds of bona fide as fitted, (n, d) to (n,)."""
        with torch.inference_mode():
            logits = self.head.classify(torch.from_numpy(pooled)).logits.double()
        return (logits[:, 1] - logits[:, 0]).numpy()

    def to_back_end(self, layers: int = 1) -> MLP:
        """The network itself."""
        return self.head


def fit(features: Features, corpus: Corpus, train: Rows, passes: Sequence[str]) -> Probe:
    """Probe on all passes of the training clips."""
    label = [corpus.rows[i]["label"] for i in train] * len(passes)
    levelling = 0.5 if features.hidden else LEVELLING
    once = sampling_weights([corpus.rows[i] for i in train], levelling=levelling)
    weights = np.tile(once, len(passes))
    heard = np.concatenate([features(name, train) for name in passes])
    if features.hidden:
        layers = len(features.places)
        torch.manual_seed(1)
        probe = HiddenProbe(heard.shape[1] // (2 * layers), features.hidden, layers)
        return probe.fit(heard, np.array(label) == "bonafide", weights)
    linear = LinearProbe(
        C=1.0 / (2.0 * PENALTY * len(heard)), max_iter=ITERATIONS, least_scale=LEAST_SCALE
    )
    with warnings.catch_warnings():
        # Stopped before its end: cross-validation could not tell twice the steps from these.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return linear.fit(heard, label, weights=weights)
