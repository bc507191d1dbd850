"""The Hugging Face layout of wav2vec 2.0, HuBERT and WavLM: a folder with a config and weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features.ssl.fairseq import joined_attention
from voiceguard.features.ssl.reading import State
from voiceguard.features.ssl.wave_config import FAMILIES, WaveConfig

CONFIG_NAME = "config.json"
WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Files of the weights, the first one that is there."""

_HEADS = re.compile(
    r"^(masked_spec_embed|lm_head\.|quantizer\.|project_q\.|project_hid\.|projector\.|classifier\.)"
)
# Values that torchaudio's networks have built in; a config that says otherwise is another network.
_FIXED: dict[str, Any] = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "layer_norm_eps": 1e-5,
    "add_adapter": False,
    "adapter_attn_dim": None,
}


def weights_file(folder: Path) -> Path:
    """Weights of a folder.

    Raises
    ------
    BundleError
        If there are none, or they lie in several pieces.
    """
    for name in WEIGHTS_NAMES:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise BundleError(
                f"The weights in {folder.name!r} lie in several pieces, which are not read. Save "
                "the model anew in one: save_pretrained(FOLDER, max_shard_size='20GB')."
            )
    raise BundleError(f"{folder.name!r} holds {CONFIG_NAME} but none of {WEIGHTS_NAMES}.")


def config_from(plain: Mapping[str, Any]) -> WaveConfig:
    """Shape of a network from its ``config.json``.

    Whether the waveform is normalised follows the original training, which goes with the norm of
    the convolutions, not ``preprocessor_config.json``.

    Raises
    ------
    BundleError
        If the model is of another kind, or of a form that torchaudio's networks lack.
    """
    family = plain.get("model_type")
    if family not in FAMILIES:
        raise BundleError(
            f"The 'model_type' of {CONFIG_NAME} must be one of {FAMILIES} or 'whisper'. "
            f"Got {family!r} instead."
        )
    for key, value in _FIXED.items():
        if plain.get(key, value) != value:
            raise BundleError(
                f"The {key!r} of {CONFIG_NAME} must be {value!r}. Got {plain[key]!r} instead, a "
                "form that is not supported."
            )
    group_norm = plain.get("feat_extract_norm", "group") == "group"
    ours: dict[str, Any] = {
        name: tuple(plain[key]) if isinstance(plain[key], list) else plain[key]
        for name, key in _FIELDS.items()
        if key in plain
    }
    try:
        return WaveConfig(family=family, group_norm=group_norm, normalize=not group_norm, **ours)
    except (ParameterError, TypeError) as error:
        raise BundleError(f"{CONFIG_NAME} does not describe a network: {error}") from error


_FIELDS = {
    "conv_dims": "conv_dim",
    "conv_kernels": "conv_kernel",
    "conv_strides": "conv_stride",
    "conv_bias": "conv_bias",
    "dim": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feedforward": "intermediate_size",
    "norm_first": "do_stable_layer_norm",
    "position_kernel": "num_conv_pos_embeddings",
    "position_groups": "num_conv_pos_embedding_groups",
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "projection_dropout": "feat_proj_dropout",
    "buckets": "num_buckets",
    "max_distance": "max_bucket_distance",
}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of transformers."""
    return any(".attention.k_proj." in key for key in state)


def to_torchaudio(state: Mapping[str, Tensor], *, name: str) -> State:
    """Rename to torchaudio's names; the heads of fine-tuned models are left out.

    Parameters
    ----------
    state : mapping of str to Tensor
        With or without the prefix of a model with a head.
    name : str
        File that it came from, for messages.

    Raises
    ------
    BundleError
        If a name is not one of the layout's.
    """
    renamed = {}
    for key, value in state.items():
        bare = re.sub(r"^(wav2vec2|hubert|wavlm)\.", "", key)
        if not _HEADS.match(bare):
            renamed[_rename(bare, name)] = value
    wavlm = any("gru_rel_pos" in key for key in renamed)
    return joined_attention(renamed) if wavlm else renamed


def _rename(key: str, name: str) -> str:
    part, _, rest = key.partition(".")
    if part == "encoder":
        return f"encoder.transformer.{rest}"
    if part == "feature_projection":
        return f"encoder.{key}"
    if part == "feature_extractor":
        return key
    raise BundleError(f"Weights file {name!r} holds {key!r}, which the network does not have.")
