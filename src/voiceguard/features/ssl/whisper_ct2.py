"""Whisper's encoder out of a CTranslate2 ``model.bin``.

The file is a list of named arrays, little endian: format version (uint32), the name of the model's
kind and its revision (uint32), the number of arrays (uint32); for each its name, rank (uint8),
shape (uint32 each), type (uint8), bytes (uint32) and data. A name is its length (uint16, with the
closing zero) and its bytes. Nothing in it is code.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from voiceguard.errors import BundleError
from voiceguard.features.ssl.reading import State, check_file, checked_state
from voiceguard.features.ssl.whisper import WhisperEncoder
from voiceguard.features.ssl.whisper_layouts import fill, told_by_shapes

MODEL_NAME = "model.bin"
"""The weights in a CTranslate2 folder."""

_VERSION = 6
_MAX_RANK = 4
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_FLOATS = ("<f4", "<f2")
_PLAIN = {
    "encoder/conv1/weight": "conv1.weight",
    "encoder/conv1/bias": "conv1.bias",
    "encoder/conv2/weight": "conv2.weight",
    "encoder/conv2/bias": "conv2.bias",
    "encoder/layer_norm/gamma": "layer_norm.weight",
    "encoder/layer_norm/beta": "layer_norm.bias",
    "encoder/position_encodings/encodings": "embed_positions.weight",
}
_IN_BLOCK = {
    "self_attention/layer_norm/gamma": "self_attn_layer_norm.weight",
    "self_attention/layer_norm/beta": "self_attn_layer_norm.bias",
    "self_attention/linear_1/weight": "self_attn.out_proj.weight",
    "self_attention/linear_1/bias": "self_attn.out_proj.bias",
    "ffn/layer_norm/gamma": "final_layer_norm.weight",
    "ffn/layer_norm/beta": "final_layer_norm.bias",
    "ffn/linear_0/weight": "fc1.weight",
    "ffn/linear_0/bias": "fc1.bias",
    "ffn/linear_1/weight": "fc2.weight",
    "ffn/linear_1/bias": "fc2.bias",
}


def read_encoder(path: Path) -> WhisperEncoder:
    """Encoder of a converted Whisper, in float32.

    Parameters
    ----------
    path : Path
        The folder or its ``model.bin``; float16 or float32, not quantised.

    Raises
    ------
    ModelError
        If the file is absent or too large.
    BundleError
        If it is damaged, truncated, quantised, or no Whisper.
    MissingExtraError
        If transformers is absent.
    """
    file = path / MODEL_NAME if path.is_dir() else path
    check_file(file)
    arrays = read_arrays(file)
    heads = arrays.pop("encoder/num_heads", None)
    state = checked_state(_renamed(arrays, file.name), file.name)
    count = int(heads) if heads is not None else None
    return fill(told_by_shapes(state, name=file.name, heads=count), state, name=file.name)


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Arrays of the encoder by name.

    Raises
    ------
    BundleError
        If the file is damaged, truncated, or no Whisper.
    """
    try:
        with file.open("rb") as stream:
            return dict(_arrays(stream, file))
    except (struct.error, UnicodeDecodeError, EOFError) as error:
        raise BundleError(
            f"{file.name!r} is damaged, truncated or no CTranslate2 model ({error})."
        ) from error


def _arrays(stream: BinaryIO, file: Path) -> Iterator[tuple[str, np.ndarray]]:
    (version,) = _numbers(stream, "<I")
    kind = _text(stream) if version == _VERSION else ""
    if kind != "WhisperSpec":
        raise BundleError(
            f"{file.name!r} must be a CTranslate2 model of version {_VERSION} and kind "
            f"'WhisperSpec'. Got version {version}, kind {kind!r} instead."
        )
    _, count = _numbers(stream, "<II")
    size = file.stat().st_size
    for _ in range(count):
        name = _text(stream)
        (rank,) = _numbers(stream, "<B")
        shape = _numbers(stream, f"<{min(rank, _MAX_RANK)}I")
        kind_number, length = _numbers(stream, "<BI")
        if rank > _MAX_RANK or length > size - stream.tell():
            raise EOFError(f"{name!r} does not fit into it")
        if name.startswith("encoder/"):
            yield name, _array(stream.read(length), shape, kind_number, name, file.name)
        else:
            stream.seek(length, 1)


def _array(content: bytes, shape: tuple[int, ...], kind: int, name: str, file: str) -> np.ndarray:
    try:
        return np.frombuffer(content, dtype=_TYPES[kind]).reshape(shape)
    except (KeyError, ValueError) as error:
        raise BundleError(
            f"Array {name!r} of {file!r} has a type that is not read, or not the bytes that its "
            "shape asks for."
        ) from error


def _renamed(arrays: dict[str, np.ndarray], file: str) -> State:
    state: State = {}
    for name, array in arrays.items():
        if array.dtype not in _FLOATS:
            raise BundleError(
                f"{file!r} holds {name!r} as {array.dtype}: a quantised model. Convert the "
                "published one with quantization='float16' or 'float32'."
            )
        tensor = torch.from_numpy(array.astype(np.float32))
        block = re.match(r"encoder/layer_(\d+)/(.+)$", name)
        if block is None:
            state[_PLAIN.get(name, name)] = tensor
        elif block[2].startswith("self_attention/linear_0/"):
            _split_attention(state, f"layers.{block[1]}.self_attn", block[2][-6:], tensor)
        else:
            state[f"layers.{block[1]}.{_IN_BLOCK.get(block[2], block[2])}"] = tensor
    return state


def _split_attention(state: State, prefix: str, kind: str, joined: torch.Tensor) -> None:
    """Query, key and value out of one array; Whisper's keys have no bias."""
    part = "weight" if kind == "weight" else "bias"
    for letter, tensor in zip("qkv", joined.chunk(3), strict=False):
        if (letter, part) != ("k", "bias"):
            state[f"{prefix}.{letter}_proj.{part}"] = tensor.contiguous()


def _numbers(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _text(stream: BinaryIO) -> str:
    (length,) = _numbers(stream, "<H")
    content = stream.read(length)
    if len(content) < length:
        raise EOFError("a name is cut off")
    return content.rstrip(b"\0").decode("ascii")
