"""Last stage of vg-small: hear what vg-base's encoders hear, then judge by a probe on that.

    python imitate.py hparams/imitate.yaml --data_folder ../../../shared/corpus --work work

Reads what ``pooled.py --frames`` kept: windows, pooled features, frames. The student regresses the
frames and the views of each window (:mod:`views`) and hears no label. Its last layer is then fitted
as a probe of ``vg-base`` is: a logistic regression on the embeddings of all passes. Writes
``work/<name>/``: checkpoints (a stopped run goes on at its last epoch), ``student.safetensors``
without the probe, ``average.safetensors`` with it, for ``export.py``; ``crossed.csv.gz``, scores
of every clip by such a probe that heard neither its family nor its origin, over the far folds, to
calibrate on. Prints the errors on the fold's held-out clips.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import speechbrain as sb
import torch
from bank import FULL_SCALE
from far import read_folds
from hyperpyyaml import load_hyperpyyaml
from judge import HeldOut, errors, told, write_scores
from probes import ITERATIONS, Features, LinearFit, Rows
from safetensors.torch import load_file, save_file
from split import N_FOLDS, Split, family, is_resynthesis, sampling_weights, split
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from views import views_of

from voiceguard.models.covariance import LEAST_SCALE
from voiceguard.models.graph import BONAFIDE_INDEX, SPOOF_INDEX
from voiceguard.models.probe import LinearProbe
from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig
from voiceguard.training.bank import Bank, BankDataset, open_bank
from voiceguard.training.brain import Schedule, warmed_average
from voiceguard.training.checkpoints import WholeCheckpointer
from voiceguard.training.corpus import Corpus, open_corpus
from voiceguard.training.data import Batch
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
    torch.manual_seed(hparams["seed"])
    model = SpectralAASIST(SpectralAASISTConfig.from_dict(hparams["model"]))
    if hparams["init"]:
        model.load_state_dict(load_file(hparams["init"]))
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
    steps = hparams["windows_per_epoch"] // hparams["batch_size"]
    average = AveragedModel(
        model, avg_fn=warmed_average(hparams["average_decay"]), use_buffers=True
    )
    counter = sb.utils.epoch_loop.EpochCounter(limit=hparams["epochs"])
    parts = {"model": model, "heads": heads}
    settings = {
        "seed": hparams["seed"],
        "view_weight": hparams["view_weight"],
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

    checkpointer = WholeCheckpointer(
        folder / "checkpoints", recoverables={**parts, "average": average, "counter": counter}
    )
    options = {"device": "cpu", "noprogressbar": True, "max_grad_norm": LARGEST_GRADIENT}
    return ImitationBrain(parts, optimiser, settings, options, checkpointer)


def windows_of(bank: Bank, corpus: Corpus, train: Rows, hparams: dict[str, Any]) -> BankDataset:
    """Windows of the training clips, families levelled."""
    weights = sampling_weights(
        [corpus.rows[i] for i in train],
        levelling=hparams["levelling"],
        classical=hparams["classical"],
    )
    bonafide = np.array([row["label"] == "bonafide" for row in corpus.rows])
    per_epoch = hparams["windows_per_epoch"]
    return BankDataset(bank, bonafide, train, weights, per_epoch=per_epoch, seed=hparams["seed"])


def embeddings(model: SpectralAASIST, bank: Bank) -> Floats:
    """What the student hears in every window [shape=(passes, clips, d)]."""
    found = []
    with torch.inference_mode():
        for crops in bank.crops:
            for start in range(0, bank.n_clips, BATCH):
                some = np.asarray(crops[start : start + BATCH], np.float32) / FULL_SCALE
                heard = model.read_out(model.feature_map(torch.from_numpy(some)))
                found.append(heard.numpy())
    return np.concatenate(found).reshape(len(bank.crops), bank.n_clips, -1)


def probe_of(heard: Floats, corpus: Corpus, train: Rows, penalty: float) -> LinearProbe:
    """A logistic regression on the embeddings of all passes of some clips."""
    rows = [corpus.rows[i] for i in train]
    passes = len(heard)
    how = LinearFit()
    weights = sampling_weights(rows, levelling=how.levelling, classical=how.classical)
    some = heard[:, train].reshape(passes * len(train), -1)
    return LinearProbe(
        C=0.5 / (penalty * len(some)), max_iter=ITERATIONS, least_scale=LEAST_SCALE
    ).fit(some, [row["label"] for row in rows] * passes, weights=np.tile(weights, passes))


def judge_by(model: SpectralAASIST, probe: LinearProbe) -> SpectralAASIST:
    """The same model, a probe for its last layer."""
    slope = probe.coef_ / probe.scale_
    offset = probe.intercept_ - float(probe.mean_ @ slope)
    with torch.no_grad():
        for index, sign in ((SPOOF_INDEX, -0.5), (BONAFIDE_INDEX, 0.5)):
            model.out_layer.weight[index] = torch.from_numpy(sign * slope)
            model.out_layer.bias[index] = sign * offset
    return model


def crossed(
    heard: Floats, corpus: Corpus, folds: Sequence[Split], penalty: float
) -> npt.NDArray[np.float64]:
    """Scores by probes that heard neither family nor origin; NaN for re-syntheses (passes, clips).

    The encoder before them may have learned from the labels of some clips, in the stages before
    this one: there the scores flatter.
    """
    found = np.full(heard.shape[:2], np.nan)
    for sides in folds:
        probe = probe_of(heard, corpus, sides.train, penalty)
        for number, embedded in enumerate(heard):
            found[number, sides.held_out] = probe.decision_function(embedded[sides.held_out])
    return found


def write_crossed(
    path: Path, scores: npt.NDArray[np.float64], corpus: Corpus, passes: Sequence[str]
) -> None:
    """The cross-validated scores of the clips that some fold holds out, and their errors."""
    rows = [i for i, row in enumerate(corpus.rows) if not is_resynthesis(row)]
    bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
    families = [family(corpus.rows[i]) for i in rows]
    by_pass = {name: one[rows] for name, one in zip(passes, scores, strict=True)}
    for name, one in by_pass.items():
        print(told(f"far folds, {name}", *errors(one, bonafide, families)))
    write_scores(path, bonafide, by_pass)


def save(model: SpectralAASIST, path: Path) -> None:
    """Weights with their configuration, for ``export.py``."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, path, metadata={"config": json.dumps(model.config.to_dict())})


def main(argv: list[str]) -> None:
    hparams_file, _, overrides = sb.parse_arguments(argv)
    hparams = load_hyperpyyaml(Path(hparams_file).read_text("utf-8"), overrides)
    torch.set_num_threads(hparams["threads"])
    work = Path(hparams["work"])
    folder = work / hparams["name"]
    folder.mkdir(parents=True, exist_ok=True)
    corpus = open_corpus(hparams["data_folder"], work / "cache")
    train = split(corpus.rows, hparams["fold"], released=hparams["released"]).train
    bank = open_bank(work / "windows", hparams["passes"])
    targets = targets_of(corpus, train, hparams, work)
    model = student(hparams)
    heads = heads_of(model, targets, bank.crops[0].shape[1])
    brain = make_brain(model, heads, hparams, folder)
    brain.targets, brain.windows = targets, windows_of(bank, corpus, train, hparams)
    start = time.monotonic()
    brain.on_epoch = lambda epoch, loss: print(
        f"epoch {epoch}: loss {loss:.3f}, {(time.monotonic() - start) / 60:.1f} minutes", flush=True
    )
    loader = DataLoader(
        brain.windows, batch_size=hparams["batch_size"], collate_fn=Batch.collate, drop_last=True
    )
    brain.fit(brain.hparams.counter, loader)
    taught = brain.hparams.average.module
    save(taught, folder / "student.safetensors")
    heard, penalty = embeddings(taught.eval(), bank), hparams["penalty"]
    judge_by(taught, probe_of(heard, corpus, train, penalty))
    save(taught, folder / "average.safetensors")
    dealt = read_folds(Path(hparams["far"]))
    folds = [split(corpus.rows, number, dealt=dealt) for number in range(N_FOLDS)]
    scores = crossed(heard, corpus, folds, penalty)
    write_crossed(folder / "crossed.csv.gz", scores, corpus, hparams["passes"])
    judge = HeldOut(corpus, hparams["fold"], released=hparams["released"])
    for name, value in judge(taught).items():
        print(f"held out, {name}: {100 * value:.1f} %")
    print(f"wrote {folder / 'average.safetensors'}")


if __name__ == "__main__":
    main(sys.argv[1:])
