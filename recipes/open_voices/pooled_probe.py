"""Probes on pooled features, alone and summed: cross-validated, then written as networks.

    E=work/encoders
    M="$E/distillmos.safetensors:0 $E/whisper-tiny-en.safetensors:0,1,2:128"
    python pooled_probe.py --data_folder ../../../shared/corpus --work work --members $M
    python pooled_probe.py --data_folder ../../../shared/corpus --work work --members $M \
        --fold 3 --released $R --out work/base5

A member is an encoder's file, the layers whose means and deviations its probe hears, out of those
that ``pooled.py`` kept, and the width of a hidden layer, without which the probe is linear: a
logistic regression. One with a hidden layer learns from mixtures of trials (Zhang et al., "mixup",
ICLR 2018). Without ``--out`` each of the five folds is held out in turn and the mean of the errors
is printed, for each member and for their sum, as recorded and by telephone: by that the members are
chosen. With it the probes of one fold are written behind their encoders, for ``join.py``, and
``targets.npz``: what they believe of each window that trains, and what the encoders hear in it, for
a student to imitate (``train.py hparams/distil.yaml``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from judge import errors, told
from split import N_FOLDS, family, sampling_weights, split
from ssl_frames import open_encoder
from teacher import PooledAxes

from voiceguard.features.ssl import SSLEncoder
from voiceguard.models.probe import MLP, LinearProbe, MLPConfig, standardise
from voiceguard.models.ssl_network import FrameNetwork, SSLNetwork, save_ssl_network
from voiceguard.training.checkpoints import RUN_NAME
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.losses import label_loss

TRAINED_ON = ("first", "g711", "telephone", "channel")
JUDGED_ON = ("first", "g711")
PENALTY = 0.01
"""Weight of the squared coefficients beside the mean loss of a trial."""
LEAST_SCALE = 0.003
"""Features that deviate less carry the noise of 16 bits."""

BATCH = 128
EPOCHS = 6
RATE = 5e-4
WEIGHT_DECAY = 0.1
DROPOUT = 0.4
MIX = 0.4
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

    def encoder(self, context_s: float | None) -> SSLEncoder:
        """The encoder, Whisper's window cut."""
        return open_encoder(self.path, layers=list(self.layers), context_s=context_s)


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
    """Probe on all passes of the training clips, families weighted by the root of their size."""
    label = [corpus.rows[i]["label"] for i in train] * len(passes)
    weights = np.tile(sampling_weights([corpus.rows[i] for i in train]), len(passes))
    heard = np.concatenate([features(name, train) for name in passes])
    if features.hidden:
        layers = len(features.places)
        torch.manual_seed(1)
        probe = HiddenProbe(heard.shape[1] // (2 * layers), features.hidden, layers)
        return probe.fit(heard, np.array(label) == "bonafide", weights)
    linear = LinearProbe(
        C=1.0 / (2.0 * PENALTY * len(heard)), max_iter=100, least_scale=LEAST_SCALE
    )
    return linear.fit(heard, label, weights=weights)


def figures(scores: Floats, corpus: Corpus, rows: Rows) -> tuple[float, float]:
    """Equal error rate, plain and with families weighted alike."""
    bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
    families = [family(corpus.rows[i]) for i in rows]
    return errors(scores, bonafide, families)


def cross_validate(members: dict[str, Features], corpus: Corpus, passes: Sequence[str]) -> None:
    """Print the mean errors over the folds, and each fold's."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(N_FOLDS):
        sides = split(corpus.rows, number)
        probes = {name: fit(one, corpus, sides.train, passes) for name, one in members.items()}
        for channel in JUDGED_ON:
            scores = {
                name: probes[name].decision_function(one(channel, sides.held_out))
                for name, one in members.items()
            }
            if len(scores) > 1:
                scores["sum"] = np.sum([s / np.std(s) for s in scores.values()], axis=0)
            for name, values in scores.items():
                both = figures(values, corpus, sides.held_out)
                found.setdefault((name, channel), []).append(both)
        print(f"fold {number} of {N_FOLDS} is judged", flush=True)
    for (name, channel), pairs in found.items():
        each = " ".join(f"{100 * value:.1f}" for _, value in pairs)
        print(told(f"{name}, {channel}", *np.mean(pairs, axis=0)), f"(folds: {each})")


def believed(
    members: dict[str, Features],
    probes: dict[str, Probe],
    passes: Sequence[str],
    train: Rows,
    n_clips: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the probes together say of each window, and what the encoders hear in it.

    Both by pass and clip [shape=(passes * n_clips,)] and [shape=(passes * n_clips, AXES)]. The
    belief in a clip, the mean of the members' log-odds, is the mean over its passes: what is plain
    as recorded is asked of the same clip by telephone. NaN for clips that do not train.
    """
    odds = np.zeros(len(train))
    for name, features in members.items():
        for heard in passes:
            odds += probes[name].decision_function(features(heard, train))
    odds /= len(members) * len(passes)
    whole = np.concatenate(
        [np.hstack([f(heard, train) for f in members.values()]) for heard in passes]
    )
    axes = PooledAxes(whole)(whole).reshape(len(passes), len(train), -1)
    beliefs = np.full((len(passes), n_clips), np.nan, np.float32)
    views = np.zeros((len(passes), n_clips, axes.shape[2]), np.float32)
    beliefs[:, train], views[:, train] = odds, axes
    return beliefs.reshape(-1), views.reshape(len(passes) * n_clips, -1)


def write(name: str, probe: Probe, encoder: SSLEncoder, out: Path) -> Path:
    """The probe behind its encoder, as a network."""
    head = probe.to_back_end(encoder.n_layers)
    network = SSLNetwork(encoder, FrameNetwork(encoder.n_layers, head), back_end="mlp")
    return save_ssl_network(network, out / f"{name}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--members", nargs="+", type=Member.parse, required=True)
    parser.add_argument("--context_s", type=float, default=4.02, help="of Whisper's window")
    parser.add_argument("--passes", nargs="+", default=TRAINED_ON)
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--released", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    corpus = open_corpus(args.data_folder, args.work / "cache")
    encoders = {member: member.encoder(args.context_s) for member in args.members}
    members = {
        one.architecture: Features(
            args.work / "pooled" / one.architecture, one.layers, hidden=member.hidden
        )
        for member, one in encoders.items()
    }
    if args.out is None:
        cross_validate(members, corpus, args.passes)
        return
    sides = split(corpus.rows, args.fold, released=args.released)
    probes: dict[str, Probe] = {}
    for member, encoder in encoders.items():
        name = encoder.architecture
        probe = probes[name] = fit(members[name], corpus, sides.train, args.passes)
        for channel in JUDGED_ON:
            scores = probe.decision_function(members[name](channel, sides.held_out))
            print(told(f"{name}, {channel}", *figures(scores, corpus, sides.held_out)))
        path = write(name, probe, encoder, args.out)
        print(f"{member.path.name}, layers {list(member.layers)}: wrote {path}")
    logits, views = believed(members, probes, args.passes, sides.train, len(corpus))
    np.savez(args.out / "targets.npz", features=views, logits=logits)
    print(f"wrote {args.out / 'targets.npz'}: {len(sides.train)} clips, {len(args.passes)} passes")


if __name__ == "__main__":
    main()
