"""Fine-tune a trained network: the encoder's top blocks and the back end, on augmented audio.

    python ssl_finetune.py hparams/finetune_distillmos.yaml --data_folder DATA --work work

Starts from a file of ``ssl_train.py`` or ``pooled_probe.py``; crops, channels, loop, averaged
weights and judge are those of ``train.py``, with a rate of its own for the encoder. Keeps a
checkpoint an epoch and resumes at the last. ``work/<name>/best.safetensors`` is the epoch with the
least macro EER on the held-out engines, or a point on the way from the start to the last epoch's
weights where that does better (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR
2022).
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from bank import rooms
from judge import HeldOut
from pairs import PairedCrops, pair_loss, pairs_of
from safetensors import safe_open
from split import sampling_weights
from ssl_frames import FoldRows
from ssl_train import Best, Figures, SSLBrain, append_result, macro, make_brain, run
from torch import Tensor, nn
from train import read_hparams

from voiceguard.models.graph import ModelOutput
from voiceguard.models.ssl_network import SSLNetwork, load_ssl_network, save_ssl_network
from voiceguard.training.augment import ChannelConfig, ChannelSimulator
from voiceguard.training.checkpoints import settle_configuration
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.data import Batch

_NOT_CONFIGURATION = ("data_folder", "work", "results", "threads", "init")


class FineTuneBrain(SSLBrain):
    """The encoder's rate follows the schedule at its own share; pairs are ranked."""

    def compute_objectives(
        self, predictions: tuple[Tensor, ModelOutput], batch: Batch, stage: sb.Stage
    ) -> Tensor:
        """Labels, and every copy below the human that it was made from."""
        loss = super().compute_objectives(predictions, batch, stage)
        logits = predictions[1].logits
        paired = pair_loss(logits[:, 1] - logits[:, 0], batch.row, self.crops.partner)
        return loss + self.hparams.pair_weight * paired

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Set the learning rates; norms keep what the head was fitted with.

        Statistics of so few short crops would move them, and tell one crop of its neighbours. The
        Brain sets all parts to training after an epoch's start, so that they are held here.
        """
        super().on_fit_batch_start(batch, should_step)
        for part in self.modules.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.eval()
        for group in self.optimizer.param_groups:
            group["lr"] *= group["share"]


def groups(network: SSLNetwork, encoder_share: float) -> list[dict[str, Any]]:
    """Parameters of back end and of the encoder's open part, each with its share of the rate."""
    parts = ((network.head, 1.0), (network.encoder, encoder_share))
    opened = [([p for p in part.parameters() if p.requires_grad], share) for part, share in parts]
    return [{"params": found, "share": share} for found, share in opened if found]


def open_top(network: SSLNetwork, blocks: int) -> None:
    """Freeze all of the encoder but its top `blocks`."""
    network.encoder.freeze(blocks=max(0, len(network.encoder.blocks) - blocks))


def best_so_far(path: Path) -> Figures:
    """Figures of the file that an earlier part of the run kept; empty where there is none."""
    if not path.is_file():
        return {}
    with safe_open(path, framework="pt") as stored:
        notes = stored.metadata()
    names = ("epoch", "share", "eer_clean", "macro_clean", "eer_g711", "macro_g711")
    return {name: float(notes[name]) for name in names if name in notes}


def crops(corpus: Corpus, rows: FoldRows, hparams: dict[str, Any], work: Path) -> PairedCrops:
    """Crops of the training clips through random channels."""
    channel = ChannelConfig(**hparams["channel"])
    return PairedCrops(
        corpus,
        rows.train,
        sampling_weights([corpus.rows[i] for i in rows.train]),
        partner=pairs_of(corpus.rows, rows.train),
        pair_share=hparams["pair_share"],
        length=hparams["crop_samples"],
        per_epoch=hparams["crops_per_epoch"],
        simulator=ChannelSimulator(channel, rooms(work, hparams["seed"])),
        clean_share=hparams["clean_share"],
        seed=hparams["seed"],
    )


def judge_of(corpus: Corpus, rows: FoldRows, hparams: dict[str, Any]) -> HeldOut:
    """The judge of ``train.py``; on the trial run's clips where there are fewer."""
    limit = hparams["judge_clips"]
    if hparams["clips"]:
        limit = min(limit, len(rows.held)) if limit else len(rows.held)
    return HeldOut(
        corpus, hparams["fold"], released=hparams["released"], limit=limit,
        bfloat16=hparams["precision"] == "bf16",
    )  # fmt: skip


def between(start: nn.Module, end: nn.Module, share: float) -> nn.Module:
    """A network whose weights lie at `share` of the way from one to the other."""
    middle, goal = copy.deepcopy(start), end.state_dict()
    for name, value in middle.state_dict().items():
        if value.is_floating_point():
            value.lerp_(goal[name], share)
    return middle.eval()


def main(argv: list[str]) -> None:
    hparams = read_hparams(argv)
    work, start = Path(hparams["work"]), time.monotonic()
    folder, kept = work / hparams["name"], work / hparams["name"] / "best.safetensors"
    settle_configuration(folder, {k: v for k, v in hparams.items() if k not in _NOT_CONFIGURATION})
    corpus = open_corpus(hparams["data_folder"], work / "cache")
    rows = FoldRows.of(corpus, hparams)
    torch.manual_seed(hparams["seed"])
    network = load_ssl_network(hparams["init"])
    open_top(network, hparams["open_blocks"])
    # What a processor multiplies bfloat16 by, for two-dimensional convolutions.
    network.to(memory_format=torch.channels_last)
    brain = make_brain(
        hparams,
        network,
        checkpoints=folder / "checkpoints",
        parameters=groups(network, hparams["encoder_share"]),
        kind=FineTuneBrain,
    )
    brain.judge = judge_of(corpus, rows, hparams)
    brain.crops = crops(corpus, rows, hparams, work)
    before = best_so_far(kept)

    def keep(model: nn.Module, figures: Figures) -> None:
        notes = {key: repr(float(np.float64(value))) for key, value in figures.items()}
        save_ssl_network(model, kept, notes=notes)

    best = Best(keep, macro(before) if before else np.inf)
    run(brain, hparams, best)
    start_weights = load_ssl_network(hparams["init"]).to(memory_format=torch.channels_last)
    for share in hparams["interpolate"]:
        tried = between(start_weights, brain.hparams.average.module, share)
        figures = brain.judge(tried)
        print(f"{share:g} of the way: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        best(tried, hparams["epochs"], {**figures, "share": share})
    minutes = (time.monotonic() - start) / 60
    stored = load_ssl_network(kept)
    figures = best.figures or before
    append_result(
        Path(hparams["results"]), hparams, f"{network.config.back_end}, fine-tuned", stored,
        figures, minutes,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
