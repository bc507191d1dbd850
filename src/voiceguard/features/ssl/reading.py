"""Weights files to tensors, without running what is in them.

safetensors is read as it is. A ``.pt``, ``.pth`` or ``.bin`` file is a pickle: torch's restricted
unpickler builds its tensors and plain values and refuses all else. Of an ONNX graph the weights are
taken.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voiceguard.errors import BundleError, IntegrityError, MissingExtraError, ModelError
from voiceguard.features._state_fit import first_names, misshapen

MAX_BYTES = 16 * 1024**3
"""Larger files are refused, and archives that would unpack to more."""

MAX_CONFIG_BYTES = 1 << 20
"""Largest ``config.json``."""

_BLOCK = 1 << 20

State = dict[str, Tensor]


def check_file(path: Path, *, sha256: str | None = None) -> None:
    """Refuse what is absent, too large, or not the file on record.

    Raises
    ------
    ModelError
        If the path is no regular file or is larger than :data:`MAX_BYTES`.
    IntegrityError
        If a SHA-256 is given and the file has another.
    """
    if not path.is_file():
        raise ModelError(f"Weights file {str(path)!r} does not exist or is no regular file.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(
            f"Weights file {path.name!r} has {size} bytes; at most {MAX_BYTES} are taken."
        )
    if sha256 is not None and (found := file_sha256(path)) != sha256.lower():
        raise IntegrityError(
            f"Weights file {path.name!r} has SHA-256 {found}; {sha256.lower()} was expected. It "
            "was not read. Fetch it again from where it is published."
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, lower case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Object of a small JSON file.

    Raises
    ------
    BundleError
        If it is absent, larger than :data:`MAX_CONFIG_BYTES`, or no JSON object.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise ValueError(f"larger than {MAX_CONFIG_BYTES} bytes")
        value = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path.name!r} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path.name!r} must hold a JSON object. Got {type(value).__name__}.")
    return value


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """Tensors and the header's text of a safetensors file.

    Raises
    ------
    MissingExtraError
        If safetensors is absent.
    BundleError
        If the file is damaged, truncated, or no safetensors file.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtraError("reading safetensors", "train") from error
    try:
        with safe_open(str(path), framework="pt") as file:
            header = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(
            f"Weights file {path.name!r} is damaged, truncated or no safetensors file: {error}. "
            "Fetch it again and compare its SHA-256."
        ) from error
    return state, header


def read_pickle(path: Path, *, hint: str = "") -> Any:
    """What a torch archive holds, by the restricted unpickler.

    Parameters
    ----------
    path : Path
        As torch.save writes it since 1.6: an archive.
    hint : str
        Said where objects besides tensors and plain values were refused.

    Raises
    ------
    BundleError
        If the file is no archive, damaged, unpacks to more than it has, or holds other objects.
    """
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BundleError(
            f"Weights file {path.name!r} was refused: it holds objects besides tensors and plain "
            f"values, and unpickling those could run code. {hint}".rstrip()
        ) from error
    # A damaged record surfaces as whatever the parser stumbled over.
    except Exception as error:
        raise BundleError(
            f"Weights file {path.name!r} is damaged or no torch archive ({type(error).__name__}). "
            "Fetch it again and compare its SHA-256."
        ) from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    # zipfile raises several types on a damaged directory.
    except Exception as error:
        raise BundleError(
            f"Weights file {path.name!r} is damaged, truncated or no torch archive: it must be a "
            "zip archive as torch.save has written it since torch 1.6. Fetch it again and compare "
            "its SHA-256; an older file must be saved anew."
        ) from error
    if unpacked > path.stat().st_size:
        raise BundleError(
            f"Weights file {path.name!r} would unpack to {unpacked} bytes, more than it has; "
            "torch.save compresses nothing. Is it the right file?"
        )


def onnx_weights(path: Path) -> State:
    """Initialisers of an ONNX graph by name; nothing of it is run.

    Raises
    ------
    MissingExtraError
        If onnx is absent.
    ModelError
        If the file is absent or too large.
    BundleError
        If it is damaged or no ONNX graph.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtraError("reading ONNX graphs", "train") from error
    check_file(path)
    try:
        # Not what lies outside: a graph may name any file.
        graph = onnx.load(path, load_external_data=False).graph
        return {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
            for tensor in graph.initializer
        }
    # The parser raises several types on a damaged file, protobuf's own among them.
    except Exception as error:
        raise BundleError(
            f"Weights file {path.name!r} is damaged or no ONNX graph ({type(error).__name__}). "
            "Fetch it again."
        ) from error


def checked_state(state: object, name: str) -> State:
    """Names to tensors, all of them dense and finite.

    Raises
    ------
    BundleError
        If it is no such mapping.
    """
    if not isinstance(state, Mapping) or not state:
        raise BundleError(
            f"Weights file {name!r} must hold a state dict (names to tensors). "
            f"Got {type(state).__name__} instead."
        )
    for key, value in state.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided
        if not isinstance(key, str) or not dense or value.is_quantized:
            raise BundleError(
                f"Weights file {name!r} must hold names and dense tensors only. Got "
                f"{type(value).__name__} under {key!r} instead."
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise BundleError(f"Weights file {name!r} holds NaN or infinity in {key!r}.")
    return dict(state)


def as_float32(state: Mapping[str, Tensor]) -> State:
    """The same with every real number in float32; whole numbers stay."""
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def check_fit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], *, name: str) -> None:
    """Compare names and shapes; say the first few differences.

    Raises
    ------
    BundleError
        If a tensor is missing, unexpected or of another shape.
    """
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        raise BundleError(
            f"Weights file {name!r} does not fit the network. Missing: {first_names(missing)}. "
            f"Unexpected: {first_names(unexpected)}. Is it this architecture and layout?"
        )
    wrong = misshapen(expected, state)
    if wrong:
        raise BundleError(f"Weights file {name!r} does not fit the network: {first_names(wrong)}.")
