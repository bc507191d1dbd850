"""State dicts of Whisper's encoder in transformers' names: Hugging Face's layout and OpenAI's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from voiceguard.errors import BundleError, ParameterError
from voiceguard.features.ssl.reading import State, as_float32, check_fit
from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder

_HEAD_WIDTH = 64
"""Width of an attention head in every published size."""

_OPENAI = tuple(
    (re.compile(f"^{pattern}$"), replacement)
    for pattern, replacement in (
        (r"(conv[12]\..+)", r"\1"),
        (r"positional_embedding", r"embed_positions.weight"),
        (r"ln_post\.(.+)", r"layer_norm.\1"),
        (r"blocks\.(\d+)\.attn_ln\.(.+)", r"layers.\1.self_attn_layer_norm.\2"),
        (r"blocks\.(\d+)\.attn\.query\.(.+)", r"layers.\1.self_attn.q_proj.\2"),
        (r"blocks\.(\d+)\.attn\.key\.(.+)", r"layers.\1.self_attn.k_proj.\2"),
        (r"blocks\.(\d+)\.attn\.value\.(.+)", r"layers.\1.self_attn.v_proj.\2"),
        (r"blocks\.(\d+)\.attn\.out\.(.+)", r"layers.\1.self_attn.out_proj.\2"),
        (r"blocks\.(\d+)\.mlp_ln\.(.+)", r"layers.\1.final_layer_norm.\2"),
        (r"blocks\.(\d+)\.mlp\.0\.(.+)", r"layers.\1.fc1.\2"),
        (r"blocks\.(\d+)\.mlp\.2\.(.+)", r"layers.\1.fc2.\2"),
    )
)


def recognises(state: Mapping[str, Any]) -> bool:
    """Whether a state dict is one of Whisper's."""
    return any(re.match(r"(model\.)?(encoder\.)?conv1\.weight$", key) for key in state)


def encoder_state(state: Mapping[str, Tensor], *, name: str) -> State:
    """Rename the encoder's part to transformers' names; the decoder is left out.

    Parameters
    ----------
    state : mapping of str to Tensor
        In the names of transformers or of OpenAI's own files.
    name : str
        File that it came from, for messages.

    Raises
    ------
    BundleError
        If a name of the encoder is not known.
    """
    renamed = {}
    for key, value in state.items():
        bare = key.removeprefix("model.")
        if bare.startswith(("decoder.", "proj_out.")):
            continue
        bare = bare.removeprefix("encoder.")
        renamed[_rename(bare, name) if _is_openai(bare) else bare] = value
    return as_float32(renamed)


def config_from(plain: Mapping[str, Any]) -> WhisperConfig:
    """Shape from a ``config.json`` of transformers.

    Raises
    ------
    BundleError
        If a value is absent or the form is not the published one.
    """
    if plain.get("activation_function", "gelu") != "gelu" or plain.get("scale_embedding"):
        raise BundleError("config.json describes a form of Whisper that is not supported.")
    try:
        return WhisperConfig(
            dim=plain["d_model"],
            depth=plain["encoder_layers"],
            heads=plain["encoder_attention_heads"],
            feedforward=plain["encoder_ffn_dim"],
            mels=plain.get("num_mel_bins", 80),
            positions=plain.get("max_source_positions", 1500),
        )
    except (KeyError, ParameterError) as error:
        raise BundleError(f"config.json does not describe a Whisper encoder: {error}.") from error


def told_by_shapes(
    state: Mapping[str, Tensor], *, name: str, heads: int | None = None
) -> WhisperConfig:
    """Shape from the weights; heads are 64 wide, as published, unless their number is given.

    Raises
    ------
    BundleError
        If the tensors that tell it are missing or of another rank.
    """
    try:
        dim, mels, _ = state["conv1.weight"].shape
        positions, _ = state["embed_positions.weight"].shape
        feedforward, _ = state["layers.0.fc1.weight"].shape
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
        return WhisperConfig(
            dim, depth, heads or dim // _HEAD_WIDTH, feedforward, mels=mels, positions=positions
        )
    except (KeyError, ValueError, ParameterError) as error:
        raise BundleError(
            f"Weights file {name!r} does not hold Whisper's encoder ({error})."
        ) from error


def fill(
    config: WhisperConfig,
    state: Mapping[str, Tensor],
    *,
    name: str,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> WhisperEncoder:
    """Encoder with the weights of a state dict in transformers' names.

    Raises
    ------
    BundleError
        If a tensor is missing, unexpected or of another shape.
    """
    with torch.device("meta"):
        expected = WhisperEncoder(config).state_dict()
        encoder = WhisperEncoder(config, layers=layers, **options)
    whole = {f"network.{key}": tensor for key, tensor in state.items()}
    check_fit(expected, whole, name=name)
    encoder.load_state_dict(encoder.tensors_from(whole), assign=True)
    return encoder.eval()


def _is_openai(key: str) -> bool:
    return key.startswith(("blocks.", "ln_post.")) or key == "positional_embedding"


def _rename(key: str, name: str) -> str:
    for pattern, replacement in _OPENAI:
        renamed, count = pattern.subn(replacement, key)
        if count:
            return renamed
    raise BundleError(f"Weights file {name!r} holds {key!r}, which Whisper's encoder lacks.")
