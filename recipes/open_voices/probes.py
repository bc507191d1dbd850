"""Probes on pooled features: what their members are, their features, how they are fitted.

A member is an encoder's file, the layers whose means and deviations its probe hears, and the width
of a hidden layer, without which the probe is linear: a logistic regression. One with a hidden layer
learns from mixtures of trials (Zhang et al., "mixup", ICLR 2018). Settings that are not the usual
ones follow: ``FILE:0::penalty=0.01,axes=96``, ``FILE:0,1,2:128:epochs=6,mix=0.4``,
``cepstra:0::segment=128``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pooled import folder_of
from sklearn.exceptions import ConvergenceWarning
from split import sampling_weights
from ssl_frames import open_encoder

from voiceguard.features.ssl import SSLEncoder
from voiceguard.models import BackEnd
from voiceguard.models.covariance import LEAST_SCALE, CovarianceProbe
from voiceguard.models.modulation import ModulationConfig, ModulationProbe
from voiceguard.models.probe import MLP, LinearProbe, MLPConfig, standardise
from voiceguard.models.ssl_network import FrameNetwork, SSLNetwork
from voiceguard.training.checkpoints import RUN_NAME
from voiceguard.training.corpus import Corpus
from voiceguard.training.losses import label_loss

ITERATIONS = 150
BATCH = 128
RATE = 5e-4
SMOOTHING = 0.05

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LinearFit:
    """How a linear probe is fitted.

    `penalty` is the weight of the squared coefficients beside the mean loss of a trial; `levelling`
    and `classical` say what families count (:func:`split.sampling_weights`); with `axes` the probe
    hears covariances along so many axes too (``pooled.py --axes``), with `segment` modulation
    spectra over so many frames instead of means and deviations (``pooled.py --segment``).
    """

    hidden: ClassVar[int] = 0
    penalty: float = 0.001
    levelling: float = 0.2
    classical: float = 0.2
    axes: int = 0
    segment: int = 0


@dataclass(frozen=True)
class HiddenFit:
    """How a probe with a hidden layer is fitted; `mix` is the parameter of the mixtures' Beta."""

    axes: ClassVar[int] = 0
    segment: ClassVar[int] = 0
    hidden: int
    levelling: float = 0.5
    classical: float = 0.2
    mix: float = 1.0
    epochs: int = 12
    dropout: float = 0.4
    decay: float = 0.1


Fit = LinearFit | HiddenFit


def told_of(fit: Fit) -> str:
    """Settings for the table of ablations: the main ones always, others where they are unusual."""
    if isinstance(fit, LinearFit):
        known = ("penalty", "levelling", "classical")
        main = f"penalty {fit.penalty}, levelling {fit.levelling}, classical {fit.classical}"
    else:
        known = ("mix", "epochs", "classical")
        main = f"mixtures {fit.mix}, {fit.epochs} epochs, classical {fit.classical}"
    others = filter(None, unusual(fit).split(","))
    rest = [one.replace("=", " ") for one in others if one.partition("=")[0] not in known]
    return ", ".join([main, *rest])


def unusual(fit: Fit) -> str:
    """The settings that are not the usual ones, as :meth:`Member.parse` takes them."""
    plain = HiddenFit(fit.hidden) if fit.hidden else LinearFit()
    names = [one.name for one in fields(fit) if getattr(fit, one.name) != getattr(plain, one.name)]
    return ",".join(f"{name}={getattr(fit, name)}" for name in names)


def read_fit(hidden: int, text: str) -> Fit:
    """The settings from ``NAME=VALUE,NAME=VALUE``.

    Raises
    ------
    ValueError
        If this kind of probe has no such setting, or it is no number.
    """
    kind: type[Fit] = HiddenFit if hidden else LinearFit
    types = {one.name: float if one.type == "float" else int for one in fields(kind)}
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in types or name == "hidden":
            usable = ", ".join(known for known in types if known != "hidden")
            raise ValueError(f"A probe of this kind has no setting {name!r}; it has {usable}.")
        given[name] = types[name](value)
    return HiddenFit(hidden, **given) if hidden else LinearFit(**given)


@dataclass(frozen=True)
class Member:
    """An encoder, the layers that its probe hears, and how the probe is fitted."""

    path: Path
    layers: tuple[int, ...]
    fit: Fit = LinearFit()

    @classmethod
    def parse(cls, text: str) -> Member:
        """From ``FILE:LAYER,LAYER[:HIDDEN[:NAME=VALUE,NAME=VALUE]]``."""
        path, layers, *rest = text.split(":")
        hidden, options = (*rest, "", "")[:2]
        heard = tuple(int(layer) for layer in layers.split(","))
        return cls(Path(path), heard, read_fit(int(hidden or 0), options))

    def __str__(self) -> str:
        hidden, options = str(self.fit.hidden or ""), unusual(self.fit)
        layers = ",".join(map(str, self.layers))
        return ":".join([self.path.stem, layers, hidden, options]).rstrip(":")

    def encoder(self, context_s: float | None) -> SSLEncoder:
        """The encoder, Whisper's window cut."""
        return open_encoder(self.path, layers=list(self.layers), context_s=context_s)

    def features(self, work: Path, encoder: SSLEncoder) -> Features:
        """What ``pooled.py`` kept of its layers."""
        folder = folder_of(work, encoder.architecture, self.fit.axes, self.fit.segment)
        return Features(folder, self.layers, fit=self.fit)


class Probe(Protocol):
    """What both kinds of probe can do."""

    def decision_function(self, pooled: npt.NDArray[np.float32]) -> Floats:
        """Log-odds of bona fide."""

    def to_back_end(self, layers: int = 1) -> MLP:
        """The same map on frames, where it hears means and deviations alone."""


class Features:
    """The pooled features of one member, by pass, and how its probe is fitted on them.

    With `plain` the covariances are left out.
    """

    def __init__(
        self, folder: Path, layers: Sequence[int], *, fit: Fit = LinearFit(), plain: bool = False
    ) -> None:
        self.folder = folder
        self.fit = fit
        kept = json.loads((folder / RUN_NAME).read_text("utf-8"))["layers"]
        self.places = [kept.index(layer) for layer in layers]
        axes = folder / "axes.npy"
        self.width = 2 * np.load(axes).shape[1] if plain and axes.is_file() else None

    def __call__(self, name: str, rows: Rows) -> npt.NDArray[np.float32]:
        """Features of some rows [shape=(rows, layers * features of a layer)]."""
        stored = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        heard = stored[rows][:, self.places, : self.width]
        return heard.astype(np.float32).reshape(len(rows), -1)

    def network(self, probe: Probe, encoder: SSLEncoder) -> SSLNetwork:
        """A probe on these features behind the encoder."""
        name, back_end = self._back_end(probe, encoder)
        head = FrameNetwork(encoder.n_layers, back_end)
        return SSLNetwork(encoder, head, back_end=name).eval()

    def _back_end(self, probe: Probe, encoder: SSLEncoder) -> tuple[str, BackEnd]:
        if isinstance(probe, LinearProbe) and self.fit.axes:
            axes = np.load(self.folder / "axes.npy")
            return "covariance", CovarianceProbe.from_probe(probe, axes)
        if isinstance(probe, LinearProbe) and self.fit.segment:
            config = ModulationConfig(encoder.dim, self.fit.segment)
            return "modulation", ModulationProbe.from_probe(probe, config)
        return "mlp", probe.to_back_end(encoder.n_layers)


class HiddenProbe:
    """A network with one hidden layer on pooled features; learned from mixtures of two trials."""

    def __init__(self, width: int, layers: int, how: HiddenFit) -> None:
        config = MLPConfig(dim=width, hidden=how.hidden, dropout=how.dropout, layers=layers)
        self.head = MLP(config)
        self.how = how

    def fit(
        self, pooled: npt.NDArray[np.float32], bonafide: npt.NDArray[np.bool_], weights: Floats
    ) -> HiddenProbe:
        """Learn; trials are drawn by their weights."""
        scale = np.maximum(pooled.std(axis=0, dtype=np.float64), LEAST_SCALE)
        standardise(self.head.bn, pooled.mean(axis=0, dtype=np.float64), scale)
        rng = np.random.default_rng(1)
        features, labels = torch.from_numpy(pooled), torch.from_numpy(bonafide).float()
        reach = np.cumsum(weights)
        steps = self.how.epochs * len(pooled) // BATCH
        optimiser = torch.optim.AdamW(self.head.parameters(), lr=RATE, weight_decay=self.how.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
        self.head.train()
        self.head.bn.eval()
        for _ in range(steps):
            drawn = torch.from_numpy(np.searchsorted(reach, rng.random(BATCH) * reach[-1]))
            share = torch.from_numpy(rng.beta(self.how.mix, self.how.mix, BATCH).astype(np.float32))
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
    how = features.fit
    label = [corpus.rows[i]["label"] for i in train] * len(passes)
    trials = [corpus.rows[i] for i in train]
    once = sampling_weights(trials, levelling=how.levelling, classical=how.classical)
    weights = np.tile(once, len(passes))
    heard = np.concatenate([features(name, train) for name in passes])
    if isinstance(how, HiddenFit):
        layers = len(features.places)
        torch.manual_seed(1)
        probe = HiddenProbe(heard.shape[1] // (2 * layers), layers, how)
        return probe.fit(heard, np.array(label) == "bonafide", weights)
    linear = LinearProbe(
        C=1.0 / (2.0 * how.penalty * len(heard)), max_iter=ITERATIONS, least_scale=LEAST_SCALE
    )
    with warnings.catch_warnings():
        # Stopped before its end: cross-validation could not tell twice the steps from these.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return linear.fit(heard, label, weights=weights)
