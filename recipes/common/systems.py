"""Trained systems: how a network is built from a YAML file, stored, and found again."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from voiceguard.errors import ModelError, ParameterError
from voiceguard.protocols import Trial
from voiceguard.training.trials import Clips, Windows

if TYPE_CHECKING:
    from voiceguard.models import Network
    from voiceguard.models.gmm import GMM
    from voiceguard.models.ssl_network import SSLNetwork

NETWORK_NAME = "model.safetensors"
MIXTURE_NAME = "gmm.safetensors"
DEV_SCORES_NAME = "dev_scores.csv"

Scores = npt.NDArray[np.float64]


def build_network(system: str, options: Mapping[str, Any]) -> Network:
    """An untrained network from plain values.

    Parameters
    ----------
    system : str
        One of :func:`voiceguard.models.names`, or ``ssl``.
    options : mapping
        Of ``ssl`` those of :func:`ssl_network`; of the others as for
        :func:`voiceguard.models.build`, lists for tuples. The AASIST pair takes ``sizes`` besides,
        a mapping like :meth:`voiceguard.models.aasist.AASISTConfig.to_dict`.

    Raises
    ------
    UnknownModelError, ParameterError
        As :func:`voiceguard.models.build`.
    """
    from voiceguard.models import build

    options = dict(options)
    if system == "ssl":
        return ssl_network(**options)
    if system == "spectral-aasist":
        from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig

        return SpectralAASIST(SpectralAASISTConfig.from_dict(options))
    if system in ("aasist", "aasist-l") and "sizes" in options:
        from voiceguard.models.aasist import AASIST, AASISTConfig

        return AASIST(AASISTConfig.from_dict(options.pop("sizes")), **options)
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return build(system, **tuples)


def ssl_network(
    encoder: str | Path,
    back_end: str,
    *,
    layers: Sequence[int] = (-1,),
    open_blocks: int | Literal["all"] = "all",
    window_samples: int = 64_600,
    encoder_options: Mapping[str, Any] | None = None,
    back_end_options: Mapping[str, Any] | None = None,
) -> SSLNetwork:
    """An untrained back end behind a pretrained encoder.

    Parameters
    ----------
    encoder : str or Path
        What :func:`voiceguard.features.ssl.load_encoder` reads; a trained network asks for it
        again, for its sizes.
    back_end : str
        One of :func:`voiceguard.models.back_ends`.
    layers : sequence of int
        Layers of the encoder that the back end hears; negative ones from the end.
    open_blocks : int or "all"
        Blocks from the top that train, 0 for a frozen encoder; "all" opens what lies below too.
    window_samples : int
        Length of a window, for back ends that fix their frames.
    encoder_options, back_end_options : mapping, optional
        Such as ``gradient_checkpointing``; fields of the back end's configuration.

    Raises
    ------
    ParameterError
        If there are not so many blocks to open, or an option does not fit.
    VoiceguardError
        As ``load_encoder``.
    """
    from voiceguard.features.ssl import load_encoder
    from voiceguard.models.ssl_network import SSLNetwork, frame_network

    heard = load_encoder(encoder, layers=list(layers), **(encoder_options or {}))
    if open_blocks != "all":
        if not isinstance(open_blocks, int) or not 0 <= open_blocks <= len(heard.blocks):
            raise ParameterError(
                f"The 'open_blocks' option must be all or an int in [0, {len(heard.blocks)}], the "
                f"blocks of this encoder. Got {open_blocks!r} instead."
            )
        heard.freeze(blocks=len(heard.blocks) - open_blocks if open_blocks else None)
    head = frame_network(
        back_end,
        dim=heard.dim,
        n_layers=heard.n_layers,
        frames=heard.frames(window_samples),
        **(back_end_options or {}),
    )
    return SSLNetwork(heard, head, back_end=back_end)


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
