"""Train the spectral AASIST on the open-voices corpus; resumes where it stopped.

    python train.py hparams/base.yaml --data_folder ../../../shared/corpus --work work

Writes ``work/<name>/`` (checkpoints, ``log.csv``, ``average.safetensors``) and, at the end, one row
of ``results.csv``.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import speechbrain as sb
import torch
from bank import rooms
from hyperpyyaml import load_hyperpyyaml
from judge import HeldOut
from safetensors.torch import load_file, save_file
from split import sampling_weights, split
from teacher import bank_targets
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig
from voiceguard.training.augment import ChannelConfig, ChannelSimulator
from voiceguard.training.bank import BankDataset, open_bank
from voiceguard.training.brain import (
    CountermeasureBrain,
    Schedule,
    TeacherTargets,
    warmed_average,
)
from voiceguard.training.checkpoints import WholeCheckpointer
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.data import Batch, CropDataset
from voiceguard.training.loop import AveragedBrain

_BRAIN_SETTINGS = (
    "label_smoothing", "label_weight", "branch_weight", "belief_weight", "view_weight",
    "frame_weight", "seed", "judge_every",
)  # fmt: skip

Brain = TypeVar("Brain", bound=AveragedBrain)
_NOT_CONFIGURATION = ("data_folder", "work", "results", "threads", "init")


def read_hparams(argv: list[str]) -> dict[str, Any]:
    """The settings of a YAML file, what the command line overrides; torch takes their threads."""
    hparams_file, _, overrides = sb.parse_arguments(argv)
    hparams: dict[str, Any] = load_hyperpyyaml(Path(hparams_file).read_text("utf-8"), overrides)
    torch.set_num_threads(hparams["threads"])
    return hparams


def dataset(corpus: Corpus, hparams: dict[str, Any], work: Path) -> CropDataset | BankDataset:
    """Training crops of the chosen fold: drawn on the fly, from a bank, or from kept windows."""
    train = split(corpus.rows, hparams["fold"], released=hparams["released"]).train
    weights = sampling_weights([corpus.rows[i] for i in train])
    if hparams["bank"] or hparams.get("windows"):
        kept = "bank" if hparams["bank"] else "windows"
        return BankDataset(
            open_bank(work / kept, hparams[kept]),
            np.array([row["label"] == "bonafide" for row in corpus.rows]),
            train,
            weights,
            per_epoch=hparams["crops_per_epoch"],
            seed=hparams["seed"],
            length=None if hparams["bank"] else hparams["crop_samples"],
        )
    return CropDataset(
        corpus,
        train,
        weights,
        length=hparams["crop_samples"],
        per_epoch=hparams["crops_per_epoch"],
        simulator=ChannelSimulator(
            ChannelConfig(**hparams["channel"]), rooms(work, hparams["seed"])
        ),
        clean_share=hparams["clean_share"],
        seed=hparams["seed"],
    )


def teacher(corpus: Corpus, work: Path, hparams: dict[str, Any]) -> TeacherTargets | None:
    """Targets of ``teacher.py``, or of the bank, where the recipe asks for them."""
    if hparams["bank"]:
        train = split(corpus.rows, hparams["fold"], released=hparams["released"]).train
        return bank_targets(open_bank(work / "bank", hparams["bank"]), corpus.rows, train)
    if not hparams["teacher"]:
        return None
    stored = np.load(work / hparams["teacher"])
    return TeacherTargets(torch.from_numpy(stored["features"]), torch.from_numpy(stored["logits"]))


def network(hparams: dict[str, Any]) -> SpectralAASIST:
    """The network, seeded, from its start or from earlier weights."""
    torch.manual_seed(hparams["seed"])
    model = SpectralAASIST(SpectralAASISTConfig.from_dict(hparams["model"]))
    if hparams["init"]:
        model.load_state_dict(load_file(hparams["init"]))
    return model


def modules(hparams: dict[str, Any], targets: TeacherTargets | None) -> dict[str, torch.nn.Module]:
    """The network and its projections onto what the teacher hears, seeded."""
    model = network(hparams)
    parts: dict[str, torch.nn.Module] = {"model": model}
    if targets is not None:
        parts["view"] = torch.nn.Linear(model.out_layer.in_features, targets.features.shape[1])
        if targets.frames is not None:
            size = model.config.blocks[-1].channels * model.pos_S.shape[1]
            parts["frames"] = torch.nn.Linear(size, targets.frames.shape[2])
    return parts


def averaged(
    kind: type[Brain],
    names: Sequence[str],
    hparams: dict[str, Any],
    parts: dict[str, torch.nn.Module],
    folder: Path,
    **options: Any,
) -> Brain:
    """A Brain with its optimiser, averaged weights and checkpoints.

    `names` are the settings that it takes from `hparams`; `options` go to SpeechBrain.
    """
    steps = hparams["crops_per_epoch"] // hparams["batch_size"]
    average = AveragedModel(
        parts["model"],
        avg_fn=warmed_average(hparams["average_decay"]),
        use_buffers=True,
    )
    counter = sb.utils.epoch_loop.EpochCounter(limit=hparams["epochs"])
    checkpointer = WholeCheckpointer(
        folder / "checkpoints",
        recoverables={**parts, "average": average, "counter": counter},
    )
    settings = {
        **{name: hparams[name] for name in names},
        "schedule": Schedule(
            peak=hparams["learning_rate"],
            total_steps=steps * hparams["epochs"],
            decay_share=hparams["decay_share"],
        ),
        "average": average,
        "counter": counter,
        "steps_per_epoch": steps,
    }

    def optimiser(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters, lr=hparams["learning_rate"], weight_decay=hparams["weight_decay"]
        )

    return kind(
        parts,
        optimiser,
        settings,
        {"device": "cpu", "noprogressbar": True, **options},
        checkpointer,
    )


def fit(brain: AveragedBrain, batch_size: int) -> None:
    """Run the remaining epochs."""
    loader = DataLoader(
        brain.crops, batch_size=batch_size, collate_fn=Batch.collate, drop_last=True
    )
    brain.fit(brain.hparams.counter, loader)


def fingerprint(hparams: dict[str, Any]) -> str:
    """Ten hex digits of the configuration, paths left out."""
    kept = {k: v for k, v in hparams.items() if k not in _NOT_CONFIGURATION}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:10]


def save(model: SpectralAASIST, path: Path, **notes: str) -> None:
    """Weights with their configuration, for ``export.py``."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, path, metadata={"config": json.dumps(model.config.to_dict()), **notes})


class Log:
    """One row an epoch in ``log.csv``, and on the terminal.

    Minutes are of this process; those of a run that was stopped and resumed add up over its parts.
    """

    FIELDS = (
        "epoch", "minutes", "train_loss", "eer_clean", "eer_g711", "macro_clean", "macro_g711",
    )  # fmt: skip

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = time.monotonic()

    def rows(self) -> list[dict[str, str]]:
        """All rows so far."""
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def minutes(self) -> float:
        """Minutes of all parts of the run."""
        times = [float(row["minutes"]) for row in self.rows()]
        ends = [a for a, b in zip(times, [*times[1:], 0.0], strict=True) if b <= a]
        return sum(ends)

    def __call__(self, epoch: int, figures: dict[str, float]) -> None:
        """Write one epoch's figures."""
        row = {"epoch": epoch, "minutes": round((time.monotonic() - self.start) / 60, 1)}
        row |= {name: round(value, 4) for name, value in figures.items()}
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.FIELDS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(json.dumps(row), flush=True)


def append_run(path: Path, hparams: dict[str, Any], digest: str, log: Log) -> None:
    """One row in the table of runs."""
    judged = [row for row in log.rows() if row["eer_clean"]]
    last = judged[-1] if judged else {}
    row = {
        "date": datetime.date.today().isoformat(),
        "name": hparams["name"],
        "hparams": digest,
        "fold": hparams["fold"],
        "crops": hparams["epochs"] * hparams["crops_per_epoch"],
        "minutes": round(log.minutes()),
        "held_out_eer_clean": last.get("eer_clean", ""),
        "held_out_eer_g711": last.get("eer_g711", ""),
    }
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main(argv: list[str]) -> None:
    hparams = read_hparams(argv)
    digest = fingerprint(hparams)
    work = Path(hparams["work"])
    folder = work / hparams["name"]
    folder.mkdir(parents=True, exist_ok=True)
    corpus = open_corpus(hparams["data_folder"], work / "cache")
    targets = teacher(corpus, work, hparams)
    parts = modules(hparams, targets)
    brain = averaged(
        CountermeasureBrain, _BRAIN_SETTINGS, hparams, parts, folder,
        precision=hparams.get("precision", "fp32"),
    )  # fmt: skip
    brain.teacher = targets
    brain.judge = HeldOut(
        corpus, hparams["fold"], released=hparams["released"], limit=hparams["judge_clips"]
    )
    brain.on_epoch = log = Log(folder / "log.csv")
    brain.crops = dataset(corpus, hparams, work)
    fit(brain, hparams["batch_size"])
    save(brain.hparams.average.module, folder / "average.safetensors", hparams=digest)
    append_run(Path(hparams["results"]), hparams, digest, log)
    print(f"wrote {folder / 'average.safetensors'}")


if __name__ == "__main__":
    main(sys.argv[1:])
