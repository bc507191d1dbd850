"""Trained systems: how a network is built from a YAML file, stored, and found again."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voiceguard.errors import ModelError
from voiceguard.protocols import Trial
from voiceguard.training.trials import Clips, Windows

if TYPE_CHECKING:
    from voiceguard.models import Network
    from voiceguard.models.gmm import GMM

NETWORK_NAME = "model.safetensors"
MIXTURE_NAME = "gmm.safetensors"
DEV_SCORES_NAME = "dev_scores.csv"

Scores = npt.NDArray[np.float64]


def build_network(system: str, options: Mapping[str, Any]) -> Network:
    """An untrained network from plain values.

    Parameters
    ----------
    system : str
        One of :func:`voiceguard.models.names`.
    options : mapping
        As for :func:`voiceguard.models.build`, lists for tuples. The AASIST pair takes ``sizes``
        besides, a mapping like :meth:`voiceguard.models.aasist.AASISTConfig.to_dict`.

    Raises
    ------
    UnknownModelError, ParameterError
        As :func:`voiceguard.models.build`.
    """
    from voiceguard.models import build

    options = dict(options)
    if system == "spectral-aasist":
        from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig

        return SpectralAASIST(SpectralAASISTConfig.from_dict(options))
    if system in ("aasist", "aasist-l") and "sizes" in options:
        from voiceguard.models.aasist import AASIST, AASISTConfig

        return AASIST(AASISTConfig.from_dict(options.pop("sizes")), **options)
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return build(system, **tuples)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network as ``train.py`` leaves it.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    about : dict
        What the file says of itself: system, options, crop_samples, corpus ...
    """

    network: Network
    about: dict[str, Any]

    def score(
        self, trials: Sequence[Trial], clips: Clips, *, batch_size: int = 32, device: str = "cpu"
    ) -> Scores:
        """Score of the first window of each trial, as long as the training crops."""
        from voiceguard.training.scoring import score_windows

        windows = Windows(trials, clips, length=int(self.about["crop_samples"]))
        network = self.network.to(device)
        return score_windows(network, windows, batch_size=batch_size, device=device)


@dataclass(frozen=True)
class TrainedMixture:
    """A pair of mixtures as ``train.py`` leaves it."""

    gmm: GMM

    def score(
        self, trials: Sequence[Trial], clips: Clips, *, batch_size: int = 32, device: str = "cpu"
    ) -> Scores:
        """Score of each whole trial; batch size and device do not apply."""
        return np.array([self.gmm.score(clips.clip(i)) for i in range(len(trials))])


def save_network(path: Path, network: Network, about: Mapping[str, Any]) -> None:
    """Write weights with what is needed to build the network again."""
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(save(tensors, metadata={"about": json.dumps(dict(about))}))
    unfinished.replace(path)


def load_system(folder: Path) -> TrainedNetwork | TrainedMixture:
    """The system that a run's folder holds.

    Raises
    ------
    ModelError
        If there is none.
    """
    if (folder / NETWORK_NAME).is_file():
        return _load_network(folder / NETWORK_NAME)
    if (folder / MIXTURE_NAME).is_file():
        from voiceguard.models.gmm import GMM

        return TrainedMixture(GMM.load(folder / MIXTURE_NAME))
    raise ModelError(
        f"{folder} holds neither {NETWORK_NAME} nor {MIXTURE_NAME}: pass the output_folder of a "
        "training that has ended."
    )


def _load_network(path: Path) -> TrainedNetwork:
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, framework="pt") as stored:
        about = json.loads(stored.metadata()["about"])
    network = build_network(about["system"], about["options"])
    network.load_state_dict(load_file(path))
    return TrainedNetwork(network.eval(), about)


def write_dev_scores(path: Path, trials: Sequence[Trial], scores: Scores) -> None:
    """Labelled scores of the dev part, which ``export.py`` calibrates on."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", "label", "score"])
        for trial, score in zip(trials, scores, strict=True):
            writer.writerow([trial.utterance, trial.label, repr(float(score))])


def read_dev_scores(path: Path) -> tuple[Scores, list[str]]:
    """Scores and labels of :func:`write_dev_scores`.

    Raises
    ------
    ModelError
        If the file is absent.
    """
    if not path.is_file():
        raise ModelError(f"{path} is absent: it is written at the end of train.py.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return np.array([float(row["score"]) for row in rows]), [row["label"] for row in rows]
