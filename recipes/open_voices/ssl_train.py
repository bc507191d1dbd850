"""Train back ends on the frames of a frozen encoder, one after the other.

    voiceguard models import whisper-ct2 FOLDER --out work/encoders/whisper-tiny-en.safetensors
    python ssl_train.py hparams/ssl_whisper.yaml --data_folder ../../../shared/corpus --work work

Encodes the fold first (:mod:`ssl_frames`; goes on after a stop), then trains each back end of the
YAML, keeps its averaged weights of the epoch with the least macro EER on the held-out engines
(mean of clean and G.711), and appends a row to ``ssl_results.csv``. A back end takes minutes, so
one that is stopped starts anew; those that have their file already are passed over. The held-out
figure has chosen the epoch: judge on other voices, with ``ssl_judge.py``.
"""

from __future__ import annotations

import csv
import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import speechbrain as sb
import torch
from judge import WINDOW, HeldOut
from split import sampling_weights
from ssl_frames import FoldRows, encode_fold, open_encoder
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from train import fingerprint, read_hparams

from voiceguard.features.ssl import SSLEncoder
from voiceguard.models.graph import ModelOutput
from voiceguard.models.probe import LinearProbe, pool_statistics
from voiceguard.models.ssl_network import (
    FrameNetwork,
    SSLNetwork,
    frame_network,
    save_ssl_network,
)
from voiceguard.training.brain import CountermeasureBrain, warmed_average
from voiceguard.training.corpus import open_corpus
from voiceguard.training.data import Batch
from voiceguard.training.schedules import Schedule

Frames = dict[str, npt.NDArray[np.float16]]
Figures = dict[str, float]
PROBE = "linear-probe"
_PROBE_CHUNK = 256
# The Brain's further losses imitate a teacher, of which there is none here.
_LABELS_ONLY = {
    "label_weight": 1.0, "branch_weight": 0.0, "belief_weight": 0.0, "view_weight": 0.0,
    "frame_weight": 0.0,
}  # fmt: skip


class SSLBrain(CountermeasureBrain):
    """The recipe's Brain for a model that goes from its input to logits in one step."""

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> tuple[Tensor, ModelOutput]:
        """The batch's input and the model's output."""
        given = batch.to(self.device).waveform
        return given, self.modules.model(given)

    def _branches(self, embedding: Tensor) -> list[Tensor]:
        return []


class FrameDataset(Dataset[tuple[npt.NDArray[np.float32], bool, int]]):
    """Cached frames; item i of an epoch is a pure function of (seed, epoch, i)."""

    def __init__(self, frames: Frames, rows: FoldRows, weights: npt.NDArray, *,
                 per_epoch: int, seed: int) -> None:  # fmt: skip
        self.parts = (frames["train_clean"], frames["train_telephone"])
        self.rows = rows
        self.weights = weights
        self.per_epoch = per_epoch
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], bool, int]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        place = int(rng.choice(len(self.rows.train), p=self.weights))
        row = int(self.rows.train[place])
        part = self.parts[int(rng.integers(len(self.parts)))]
        return part[place].astype(np.float32), bool(self.rows.bonafide[row]), row


class FrameJudge(HeldOut):
    """Judge a back end on the cached frames of the held-out clips."""

    def __init__(self, frames: Frames, rows: FoldRows) -> None:
        self.rows = rows.held
        self.bonafide = rows.bonafide[rows.held]
        self.families = [rows.families[i] for i in rows.held]
        self.clips = {"clean": frames["held_clean"], "g711": frames["held_g711"]}

    def scores(self, model: nn.Module, channel: str) -> npt.NDArray[np.float64]:
        """Raw scores of each held-out clip through a channel."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(self.rows), 32):
                part = self.clips[channel][start : start + 32].astype(np.float32)
                logits = model(torch.from_numpy(part)).logits
                found.append((logits[:, 1] - logits[:, 0]).double().numpy())
        return np.concatenate(found)


def macro(figures: Figures) -> float:
    """What an epoch is chosen by: mean macro EER of both channels."""
    return (figures["macro_clean"] + figures["macro_g711"]) / 2


class Best:
    """Keeps the averaged weights of the epoch that did best on the held-out engines."""

    def __init__(self, keep: Callable[[nn.Module, Figures], None], least: float = np.inf) -> None:
        self.keep = keep
        self.least = least
        self.figures: Figures = {}

    def __call__(self, model: nn.Module, epoch: int, figures: Figures) -> None:
        """See an epoch's figures."""
        if "macro_clean" in figures and macro(figures) < self.least:
            self.least, self.figures = macro(figures), {**figures, "epoch": epoch}
            self.keep(model, self.figures)


def make_brain(
    hparams: dict[str, Any],
    model: nn.Module,
    *,
    checkpoints: Path | None = None,
    parameters: list[dict[str, Any]] | None = None,
    kind: type[SSLBrain] = SSLBrain,
) -> SSLBrain:
    """The Brain with averaged weights; with checkpoints and groups of parameters where given."""
    steps = hparams["crops_per_epoch"] // hparams["batch_size"]
    average = AveragedModel(
        model, avg_fn=warmed_average(hparams["average_decay"]), use_buffers=True
    )
    counter = sb.utils.epoch_loop.EpochCounter(limit=hparams["epochs"])
    schedule = Schedule(
        hparams["learning_rate"],
        steps * hparams["epochs"],
        warmup_steps=hparams["warmup_steps"],
        decay_share=hparams["decay_share"],
    )
    settings = {
        **_LABELS_ONLY,
        **{name: hparams[name] for name in ("label_smoothing", "seed", "judge_every")},
        "pair_weight": hparams.get("pair_weight", 0.0),
        "schedule": schedule, "average": average, "counter": counter, "steps_per_epoch": steps,
    }  # fmt: skip
    checkpointer = None
    if checkpoints is not None:
        kept = {"model": model, "average": average, "counter": counter}
        checkpointer = sb.utils.checkpoints.Checkpointer(checkpoints, recoverables=kept)

    def optimiser(given: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters or given, lr=hparams["learning_rate"], weight_decay=hparams["weight_decay"]
        )

    options = {
        "device": "cpu", "noprogressbar": True, "precision": hparams["precision"],
    }  # fmt: skip
    return kind({"model": model}, optimiser, settings, options, checkpointer)


def run(brain: SSLBrain, hparams: dict[str, Any], best: Best) -> None:
    """Train; the judge, the crops and what hears of each epoch are set before."""

    def see(epoch: int, figures: Figures) -> None:
        print(
            f"epoch {epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()), flush=True
        )
        best(brain.hparams.average.module, epoch, figures)

    brain.on_epoch = see
    loader = DataLoader(
        brain.crops, batch_size=hparams["batch_size"], collate_fn=Batch.collate, drop_last=True
    )
    brain.fit(brain.hparams.counter, loader)


def train_back_end(
    name: str, options: dict[str, Any], encoder: SSLEncoder, frames: Frames, rows: FoldRows,
    weights: npt.NDArray, hparams: dict[str, Any], out: Path,
) -> tuple[SSLNetwork, Figures]:  # fmt: skip
    """Train one back end; its best weights go behind the encoder into `out`."""
    torch.manual_seed(hparams["seed"])
    head = frame_network(
        name, dim=encoder.dim, n_layers=encoder.n_layers, frames=encoder.frames(WINDOW), **options
    )
    network = SSLNetwork(encoder, head, back_end=name).eval()

    def keep(model: nn.Module, figures: Figures) -> None:
        head.load_state_dict(model.state_dict())
        notes = {key: f"{value:.4f}" for key, value in figures.items()}
        save_ssl_network(network, out.with_suffix(".part.safetensors"), notes=notes)

    # The Brain trains a copy, so that the network holds the best weights and not the last.
    learner = frame_network(
        name, dim=encoder.dim, n_layers=encoder.n_layers, frames=encoder.frames(WINDOW), **options
    )
    learner.load_state_dict(head.state_dict())
    rate = hparams["rates"].get(name, hparams["learning_rate"])
    brain = make_brain({**hparams, "learning_rate": rate}, learner)
    brain.judge = FrameJudge(frames, rows)
    brain.crops = FrameDataset(
        frames, rows, weights, per_epoch=hparams["crops_per_epoch"], seed=hparams["seed"]
    )
    best = Best(keep)
    run(brain, hparams, best)
    # Takes its name when it is whole: a stopped training leaves none.
    out.with_suffix(".part.safetensors").replace(out)
    return network, best.figures


def pooled(part: npt.NDArray[np.float16], layer: int) -> npt.NDArray[np.float32]:
    """Means and deviations of one cached layer, (clips, 2 * dim)."""
    chunks = []
    for start in range(0, len(part), _PROBE_CHUNK):
        frames = torch.from_numpy(part[start : start + _PROBE_CHUNK, layer].astype(np.float32))
        chunks.append(pool_statistics(frames).numpy())
    return np.concatenate(chunks)


def fit_probe(
    frames: Frames, rows: FoldRows, encoder: SSLEncoder, hparams: dict[str, Any], out: Path
) -> tuple[SSLNetwork, Figures]:
    """Logistic regression on each layer, both passes together; the layer chosen as epochs are."""
    label = np.where(rows.bonafide[rows.train], "bonafide", "spoof").tolist()
    judge = FrameJudge(frames, rows)
    tried = []
    for layer in range(encoder.n_layers):
        features = [pooled(frames[name], layer) for name in ("train_clean", "train_telephone")]
        probe = LinearProbe(C=hparams["probe_c"], max_iter=hparams["probe_iterations"])
        back_end = probe.fit(np.concatenate(features), label * 2).to_back_end()
        one = {k: v[:, layer : layer + 1] for k, v in frames.items()}
        judge.clips = {"clean": one["held_clean"], "g711": one["held_g711"]}
        figures = {**judge(FrameNetwork(1, back_end)), "layer": encoder.layers[layer]}
        tried.append((macro(figures), layer, back_end, figures))
    _, layer, back_end, figures = min(tried, key=lambda each: each[:2])
    chosen = open_encoder(
        hparams["encoder"], layers=[encoder.layers[layer]], context_s=hparams["context_s"]
    )
    network = SSLNetwork(chosen, FrameNetwork(1, back_end), back_end="mlp").eval()
    save_ssl_network(network, out, notes={k: f"{v:.4f}" for k, v in figures.items()})
    return network, figures


def append_result(
    path: Path, hparams: dict[str, Any], name: str, network: SSLNetwork, figures: Figures,
    minutes: float,
) -> None:  # fmt: skip
    """One row of the table of runs."""
    row = {
        "date": datetime.date.today().isoformat(),
        "name": hparams["name"],
        "hparams": fingerprint(hparams),
        "seed": hparams["seed"],
        "fold": hparams["fold"],
        "encoder": network.config.architecture,
        "layers": " ".join(map(str, network.config.layers)),
        "back_end": name,
        "encoder_parameters": sum(p.numel() for p in network.encoder.parameters()),
        "back_end_parameters": sum(p.numel() for p in network.head.parameters()),
        "minutes": round(minutes, 1),
        "epoch": int(figures.get("epoch", 0)),
        **{k: round(figures[k], 4) for k in ("eer_clean", "macro_clean", "eer_g711", "macro_g711")},
    }
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main(argv: list[str]) -> None:
    hparams = read_hparams(argv)
    work = Path(hparams["work"])
    folder = work / hparams["name"]
    corpus = open_corpus(hparams["data_folder"], work / "cache")
    rows = FoldRows.of(corpus, hparams)
    encoder = open_encoder(
        hparams["encoder"], layers=hparams["layers"], context_s=hparams["context_s"]
    ).freeze()
    encoder = encoder.to(memory_format=torch.channels_last)
    frames = encode_fold(
        corpus, encoder, rows, work, folder / "frames", bfloat16=hparams["precision"] == "bf16"
    )
    weights = sampling_weights([corpus.rows[i] for i in rows.train])
    for name, options in {PROBE: {}, **hparams["back_ends"]}.items():
        out = folder / f"{name}-seed{hparams['seed']}.safetensors"
        if out.is_file():
            print(f"{out} is there")
            continue
        print(f"{hparams['name']}, {name}", flush=True)
        start = time.monotonic()
        if name == PROBE:
            network, figures = fit_probe(frames, rows, encoder, hparams, out)
        else:
            network, figures = train_back_end(
                name, options or {}, encoder, frames, rows, weights, hparams, out
            )
        minutes = (time.monotonic() - start) / 60
        append_result(Path(hparams["results"]), hparams, name, network, figures, minutes)


if __name__ == "__main__":
    main(sys.argv[1:])
