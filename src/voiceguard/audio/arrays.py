"""Arrays as input: shape and type are checked, integers are scaled, nothing is guessed.

Axis 0 is always the channel. ``soundfile.read`` and others give (samples, channels); such an array
is refused with a hint to transpose it, as a library that guesses would one day guess wrong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from voiceguard.audio.values import Limits, Samples
from voiceguard.errors import AudioFormatError

_SCALES = {"i1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31, "u1": 2.0**7}
_FLOATS = ("f2", "f4", "f8")


def checked_array(array: Any, *, label: str, limits: Limits) -> np.ndarray[Any, Any]:
    """Make an array [shape=(channels, n)], of a type that :func:`to_float32` scales.

    Raises
    ------
    AudioFormatError
        If the shape or the type is none that audio has.
    AudioLimitError
        If there are too many channels.
    """
    try:
        values = np.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioFormatError(
            f"{label} is not convertible to an array ({error}). Expected a numpy array."
        ) from error
    _check_type(values, label)
    return _check_shape(values, label, limits)


def to_float32(values: np.ndarray[Any, Any]) -> Samples:
    """Scale samples of any accepted type to float32, full scale 1.0; always a new array."""
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    if kind in _FLOATS:
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    offset = 128.0 if kind == "u1" else 0.0
    if kind == "i4":
        return (values / _SCALES[kind]).astype(np.float32)
    return ((values.astype(np.float32) - np.float32(offset)) / np.float32(_SCALES[kind])).astype(
        np.float32
    )


def checked_rate(rate: Any, *, label: str) -> int:
    """Take a sample rate as an int.

    Raises
    ------
    AudioFormatError
        If it is no positive whole number.
    """
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if number and math.isfinite(rate) and rate > 0 and float(rate).is_integer():
        return int(rate)
    raise AudioFormatError(
        f"{label} has a sample rate of {rate!r}. Expected a positive whole number of Hz."
    )


def _check_type(values: np.ndarray[Any, Any], label: str) -> None:
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    if kind not in _SCALES and kind not in _FLOATS:
        raise AudioFormatError(
            f"{label} has dtype {values.dtype}, whose full scale is not known. Expected float16, "
            "float32, float64 (full scale 1.0), int8, int16, int32 or uint8; convert it first."
        )


def _check_shape(values: np.ndarray[Any, Any], label: str, limits: Limits) -> np.ndarray[Any, Any]:
    if values.ndim == 1:
        return values[None, :]
    if values.ndim != 2 or values.shape[0] == 0:
        raise AudioFormatError(
            f"{label} has shape {values.shape}. Expected (n,) or (channels, n) with a channel."
        )
    rows, columns = values.shape
    if rows > limits.max_channels and 0 < columns <= limits.max_channels:
        raise AudioFormatError(
            f"{label} has shape {values.shape}, which looks like (samples, channels). "
            "Expected (n,) or (channels, n): pass array.T."
        )
    limits.check_channels(label, rows)
    return values
