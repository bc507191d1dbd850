"""State dicts of the wav2vec 2.0 family in torchaudio's names, and a network filled with one.

Known layouts: torchaudio's own, :mod:`.huggingface` and :mod:`.fairseq`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from voiceguard.errors import BundleError
from voiceguard.features.ssl import fairseq, huggingface
from voiceguard.features.ssl.reading import State, as_float32, check_fit
from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
from voiceguard.features.ssl.wave_config import WAVE_CONFIGS, WaveConfig

_OLD_NORM = re.compile(r"(encoder\.transformer\.pos_conv_embed\.conv)\.weight_([gv])$")
_AUX = re.compile(r"aux\.(weight|bias)$")


def to_torchaudio(state: Mapping[str, Tensor], *, name: str) -> State:
    """Rename a state dict of any known layout to torchaudio's names; a head is left out.

    Parameters
    ----------
    state : mapping of str to Tensor
    name : str
        File that it came from, for messages.

    Raises
    ------
    BundleError
        If the layout is none of the known ones, or a name does not belong to it.
    """
    if any(key.startswith("encoder.transformer.") for key in state):
        renamed = {k: v for k, v in state.items() if not _AUX.match(k)}
    elif fairseq.recognises(state):
        renamed = fairseq.to_torchaudio(state, name=name)
    elif huggingface.recognises(state):
        renamed = huggingface.to_torchaudio(state, name=name)
    else:
        raise BundleError(
            f"Weights file {name!r} has none of the known layouts of wav2vec 2.0, HuBERT and "
            "WavLM: torchaudio, Hugging Face, fairseq. Its first names: "
            f"{', '.join(list(state)[:3])}."
        )
    return as_float32({_new_norm(key): value for key, value in renamed.items()})


def told_by_shapes(state: Mapping[str, Tensor], *, name: str) -> WaveConfig:
    """Published network that a state dict in torchaudio's names fits.

    Some sizes differ only in what they drop while training; the first one that fits is taken, and
    who means to fine-tune names the architecture.

    Raises
    ------
    BundleError
        If none fits.
    """
    shapes = {key: tensor.shape for key, tensor in state.items()}
    width = shapes.get("encoder.transformer.layer_norm.weight")
    for config in WAVE_CONFIGS.values():
        # Building a network takes a while, so the width is asked first.
        if (
            width == (config.dim,)
            and {key: tensor.shape for key, tensor in _empty(config).items()} == shapes
        ):
            return config
    raise BundleError(
        f"Weights file {name!r} fits none of the published networks "
        f"({', '.join(WAVE_CONFIGS)}). One of another shape is read from a folder in the Hugging "
        "Face layout, whose config.json says what it is."
    )


def fill(
    config: WaveConfig,
    state: Mapping[str, Tensor],
    *,
    name: str,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> WaveEncoder:
    """Network with the weights of a state dict in torchaudio's names.

    Parameters
    ----------
    config : WaveConfig
    state : mapping of str to Tensor
        All weights of the published network, those above the highest chosen layer too.
    name : str
        File that it came from, for messages.
    layers, **options
        See :class:`WaveEncoder`.

    Raises
    ------
    BundleError
        If a tensor is missing, unexpected or of another shape.
    """
    check_fit(_empty(config), state, name=name)
    with torch.device("meta"):
        encoder = WaveEncoder(config, layers=layers, **options)
    kept = encoder.network.state_dict()
    encoder.network.load_state_dict({key: state[key] for key in kept}, assign=True)
    return encoder.eval()


def _empty(config: WaveConfig) -> State:
    with torch.device("meta"):
        return dict(WaveEncoder(config).network.state_dict())


def _new_norm(key: str) -> str:
    """Names of the weight norm since torch 2: its length is original0, its direction original1."""
    found = _OLD_NORM.match(key)
    if found is None:
        return key
    return f"{found[1]}.parametrizations.weight.original{'gv'.index(found[2])}"
