"""Last stage of vg-small: hear what vg-base's encoders hear, then judge by a probe on that.

    python imitate.py hparams/imitate.yaml --data_folder ../../../shared/corpus --work work

Reads what ``pooled.py --frames`` kept: windows, pooled features, frames. The student regresses the
frames and the views of each window (:mod:`views`) and hears no label. Its last layer is then fitted
as a probe of ``vg-base`` is: a logistic regression on the embeddings of all ``probe_passes``. With
``--epochs 0`` that is all, on what the network at ``init`` hears: it needs windows alone. Writes
``work/<name>/``: checkpoints (a stopped run goes on at its last epoch), ``student.safetensors``
without the probe, ``average.safetensors`` with it, for ``export.py``; ``crossed.csv.gz``, scores
of every clip by such a probe that heard neither its family nor its origin, over the far folds, to
calibrate on. Prints the errors on the fold's held-out clips.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import probes
import torch
from bank import FULL_SCALE
from far import read_folds
from judge import HeldOut
from pooled_probe import PASSES, crossed, write_crossed
from probes import Features, LinearFit, Rows
from split import N_FOLDS, sampling_weights, split
from train import averaged, fit, network, read_hparams, save
from views import views_of

from voiceguard.models.graph import BONAFIDE_INDEX, SPOOF_INDEX
from voiceguard.models.probe import LinearProbe
from voiceguard.models.spectral_aasist import SpectralAASIST
from voiceguard.training.bank import Bank, BankDataset, open_bank
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.imitation import (
    ImitationBrain,
    ImitationHeads,
    ImitationTargets,
    without_dropout,
)

BATCH = 32
Floats = npt.NDArray[np.float32]
LARGEST_GRADIENT = 5.0


def targets_of(
    corpus: Corpus, train: Rows, hparams: dict[str, Any], work: Path
) -> ImitationTargets:
    """Views, made once a run, and frames as they lie on disk."""
    path = work / hparams["name"] / "views.npy"
    if not path.is_file():
        members = [
            (Features(work / "pooled" / folder, layers, plain=True), count, share)
            for folder, layers, count, share in hparams["teachers"]
        ]
        np.save(path, views_of(members, corpus, train, hparams["passes"]).astype(np.float16))
    kept, axes = work / "frames" / hparams["frames"], hparams["frame_axes"]
    frames = [
        np.load(kept / f"{name}.npy", mmap_mode="r")[:, :, :axes] for name in hparams["passes"]
    ]
    whitening = np.load(work / "pooled" / hparams["frames"] / "axes.npy")[:axes]
    deviations = 1.0 / np.linalg.norm(whitening, axis=1)
    weights = torch.from_numpy(np.sqrt(deviations / deviations.max())).float()
    return ImitationTargets(np.load(path, mmap_mode="r"), frames, weights)


def student(hparams: dict[str, Any]) -> SpectralAASIST:
    """The network, from its start or from earlier weights, dropouts off."""
    model = network(hparams)
    without_dropout(model)
    return model.to(memory_format=torch.channels_last)


def heads_of(model: SpectralAASIST, targets: ImitationTargets, samples: int) -> ImitationHeads:
    """Heads that fit the teacher's frames to the steps of the student's map."""
    with torch.inference_mode():
        steps = model.eval().feature_map(torch.zeros(1, samples)).shape[3]
    frames, axes = targets.frames[0].shape[1:]
    return ImitationHeads(
        model, axes=axes, per_step=max(1, round(frames / steps)), views=targets.views.shape[1]
    )


def make_brain(
    model: SpectralAASIST, heads: ImitationHeads, hparams: dict[str, Any], folder: Path
) -> ImitationBrain:
    """The Brain with its optimiser, averaged weights and checkpoints."""
    parts = {"model": model, "heads": heads}
    names = ("seed", "view_weight")
    return averaged(ImitationBrain, names, hparams, parts, folder, max_grad_norm=LARGEST_GRADIENT)


def windows_of(bank: Bank, corpus: Corpus, train: Rows, hparams: dict[str, Any]) -> BankDataset:
    """Windows of the training clips, families levelled."""
    weights = sampling_weights(
        [corpus.rows[i] for i in train],
        levelling=hparams["levelling"],
        classical=hparams["classical"],
    )
    bonafide = np.array([row["label"] == "bonafide" for row in corpus.rows])
    per_epoch = hparams["crops_per_epoch"]
    return BankDataset(bank, bonafide, train, weights, per_epoch=per_epoch, seed=hparams["seed"])


class Embeddings:
    """What the student hears in every window, by pass, and how its probe is fitted on that."""

    def __init__(self, heard: dict[str, Floats], fit: LinearFit) -> None:
        self.heard, self.fit = heard, fit

    @classmethod
    def of(
        cls, model: SpectralAASIST, bank: Bank, passes: Sequence[str], fit: LinearFit
    ) -> Embeddings:
        """Run the student on every window of the bank."""
        heard = {}
        with torch.inference_mode():
            for name, crops in zip(passes, bank.crops, strict=True):
                batches = []
                for start in range(0, bank.n_clips, BATCH):
                    some = np.asarray(crops[start : start + BATCH], np.float32) / FULL_SCALE
                    batches.append(model.read_out(model.feature_map(torch.from_numpy(some))))
                heard[name] = torch.cat(batches).numpy()
        return cls(heard, fit)

    def __call__(self, name: str, rows: Rows) -> Floats:
        """Embeddings of some clips [shape=(rows, d)]."""
        return self.heard[name][rows]


def judge_by(model: SpectralAASIST, probe: LinearProbe) -> SpectralAASIST:
    """The same model, a probe for its last layer."""
    slope = probe.coef_ / probe.scale_
    offset = probe.intercept_ - float(probe.mean_ @ slope)
    with torch.no_grad():
        for index, sign in ((SPOOF_INDEX, -0.5), (BONAFIDE_INDEX, 0.5)):
            model.out_layer.weight[index] = torch.from_numpy(sign * slope)
            model.out_layer.bias[index] = sign * offset
    return model


def teach(corpus: Corpus, train: Rows, hparams: dict[str, Any], work: Path) -> SpectralAASIST:
    """Run the imitation to its end, from where it stands; the averaged weights."""
    folder = work / hparams["name"]
    bank = open_bank(work / "windows", hparams["passes"])
    targets = targets_of(corpus, train, hparams, work)
    model = student(hparams)
    heads = heads_of(model, targets, bank.crops[0].shape[1])
    brain = make_brain(model, heads, hparams, folder)
    brain.targets, brain.crops = targets, windows_of(bank, corpus, train, hparams)
    start = time.monotonic()
    brain.on_epoch = lambda epoch, figures: print(
        f"epoch {epoch}: loss {figures['train_loss']:.3f}, "
        f"{(time.monotonic() - start) / 60:.1f} minutes",
        flush=True,
    )
    fit(brain, hparams["batch_size"])
    taught: SpectralAASIST = brain.hparams.average.module
    return taught


def main(argv: list[str]) -> None:
    hparams = read_hparams(argv)
    work = Path(hparams["work"])
    folder = work / hparams["name"]
    folder.mkdir(parents=True, exist_ok=True)
    corpus = open_corpus(hparams["data_folder"], work / "cache")
    train = split(corpus.rows, hparams["fold"], released=hparams["released"]).train
    if hparams["epochs"]:
        taught = teach(corpus, train, hparams, work)
        save(taught, folder / "student.safetensors")
    else:
        taught = student(hparams)
    passes = hparams["probe_passes"]
    bank = open_bank(work / "windows", passes)
    heard = Embeddings.of(taught.eval(), bank, passes, LinearFit(penalty=hparams["penalty"]))
    judge_by(taught, probes.fit(heard, corpus, train, passes))
    save(taught, folder / "average.safetensors")
    dealt = read_folds(Path(hparams["far"]))
    folds = [split(corpus.rows, number, dealt=dealt) for number in range(N_FOLDS)]
    scores = crossed({"probe": heard}, corpus, folds, passes, PASSES)["probe"]
    write_crossed(folder / "crossed.csv.gz", scores, corpus)
    judge = HeldOut(corpus, hparams["fold"], released=hparams["released"])
    for name, value in judge(taught).items():
        print(f"held out, {name}: {100 * value:.1f} %")
    print(f"wrote {folder / 'average.safetensors'}")


if __name__ == "__main__":
    main(sys.argv[1:])
