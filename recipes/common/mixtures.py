"""Training of the Gaussian mixture systems: frames are streamed, the fit is seeded.

A fit is one step that starts anew where it was stopped; there is nothing to resume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from corpora import find, limited, load_trials, part_of
from systems import DEV_SCORES_NAME, MIXTURE_NAME, TrainedMixture, write_dev_scores

from voiceguard.metrics import eer
from voiceguard.models.gmm import GMM, GMMConfig
from voiceguard.protocols import Trial
from voiceguard.training.trials import Files, Samples, label_of


def utterances(trials: Sequence[Trial], files: Files, *, bonafide: bool) -> Iterator[Samples]:
    """Clips of one class, one at a time."""
    for index, trial in enumerate(trials):
        if label_of(trial) == bonafide:
            yield files.clip(index)


def train_mixture(hparams: dict[str, Any], corpus: str, folder: Path) -> None:
    """Fit both mixtures on train, judge on dev, write ``gmm.safetensors``."""
    data = Path(hparams["data_folder"])
    sets = {}
    for name, limit in (("train", 0), ("dev", hparams["dev_limit"])):
        part = part_of(corpus, name)
        trials = limited(load_trials(part, data), limit, hparams["seed"])
        sets[name] = trials, Files(trials, find(data, part.audio, "audio"), suffix=part.suffix)
    trials, files = sets["train"]
    gmm = GMM(GMMConfig(seed=hparams["seed"], **hparams["options"])).fit(
        bonafide=utterances(trials, files, bonafide=True),
        spoof=utterances(trials, files, bonafide=False),
    )
    gmm.save(folder / MIXTURE_NAME)
    trials, files = sets["dev"]
    scores = TrainedMixture(gmm).score(trials, files)
    write_dev_scores(folder / DEV_SCORES_NAME, trials, scores)
    bonafide = np.array([label_of(trial) for trial in trials])
    figure = eer(scores[bonafide], scores[~bonafide]).value
    (folder / "choice.json").write_text(json.dumps({"dev_eer": {"gmm": figure}}) + "\n")
    print(f"dev EER {100 * figure:.3f} %; wrote {folder / MIXTURE_NAME}")
