"""What is to be embedded: reading it, its name, and the key of its embedding in a cache."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from voiceguard.audio import Audio, Limits, read
from voiceguard.errors import ParameterError

RECIPE = 1
"""Raised when the same model and parameters begin to give other values."""

_BLOCK = 1 << 20


def read_at(source: Any, rate: int, *, sample_rate: int | None, limits: Limits) -> Audio:
    """Read a source at a model's rate.

    Parameters
    ----------
    source : path, bytes, file object, (array, rate), mapping, Audio or array
        As an embedder takes it.
    rate : int
        The model's, Hz.
    sample_rate : int or None
        That of a bare array, Hz; None with any other source.
    limits : Limits
        Bounds on the input.

    Returns
    -------
    Audio

    Raises
    ------
    AudioError
        If the input cannot be taken in.
    ParameterError
        If `sample_rate` comes with a source that carries its own.
    """
    if isinstance(source, Audio) and sample_rate is None:
        if source.sample_rate == rate:
            return source
        return read((source.samples, source.sample_rate), sample_rate=rate, limits=limits)
    if sample_rate is None:
        return read(source, sample_rate=rate, limits=limits)
    if not isinstance(source, np.ndarray):
        raise ParameterError(
            "The 'sample_rate' parameter of embed is the rate of a bare array; any other source "
            f"carries its own. Got it with {type(source).__name__}."
        )
    return read((source, sample_rate), sample_rate=rate, limits=limits)


def name_of(source: Any) -> str | None:
    """Printable name of a source: its path, or the name that it carries."""
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else None


def audio_sha256(source: Any) -> str | None:
    """Hash what a source holds, without decoding it.

    Parameters
    ----------
    source : path, bytes, Audio or (array, rate)
        As an embedder takes it.

    Returns
    -------
    str or None
        SHA-256 in hex: of a file's bytes, and of its extension where its coding hangs on that; of
        an array's samples, shape, type and rate. None for a source that can be read only once or is
        not there, and for anything else, which is then not looked up.
    """
    if isinstance(source, Audio):
        return _of_array(source.samples, source.sample_rate)
    if isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "__array__"):
        return _of_array(np.asarray(source[0]), source[1])
    if isinstance(source, (bytes, bytearray, memoryview)):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, (str, os.PathLike)):
        return _of_file(Path(source))
    return None


def _of_array(samples: np.ndarray[Any, Any], rate: object) -> str:
    head = f"array:{samples.shape}:{samples.dtype.str}:{rate}:"
    return hashlib.sha256(head.encode() + np.ascontiguousarray(samples).tobytes()).hexdigest()


def _of_file(path: Path) -> str | None:
    """Hash a regular file; reading says what is wrong with any other."""
    from voiceguard.audio.containers import HEADERLESS

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except (OSError, ValueError):
        return None
    suffix = path.suffix.lower()
    if suffix in HEADERLESS:
        digest.update(f"as:{suffix}".encode())
    return digest.hexdigest()


def entry_key(audio: str, parameters: Mapping[str, Any]) -> str:
    """Key of an entry: SHA-256 over the audio's hash, the model's, and every parameter."""
    plain = {"recipe": RECIPE, "audio": audio, **parameters}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
