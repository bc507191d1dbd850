"""Any source that a detector takes, as audio at the detector's rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from voiceguard.audio import Audio, Limits, read
from voiceguard.errors import ParameterError

SAMPLE_RATE = 16_000
"""The rate of everything behind the door, Hz."""


def take(source: Any, *, sample_rate: int | None, limits: Limits) -> Audio:
    """Read a source at the detector's rate.

    Parameters
    ----------
    source : path, bytes, file object, (array, rate), mapping, Audio or array
        As :func:`voiceguard.audio.read` takes it, or what that gave, or a bare array.
    sample_rate : int or None
        Rate of a bare array, Hz; None with any other source.
    limits : Limits
        Bounds on the input.

    Returns
    -------
    Audio
        At 16 kHz; `source_rate` is still the input's own.

    Raises
    ------
    AudioError
        If the input cannot be taken in.
    ParameterError
        If `sample_rate` comes with a source that carries its own.
    """
    if isinstance(source, Audio):
        return _at_rate(source, sample_rate, limits)
    if sample_rate is None:
        return read(source, sample_rate=SAMPLE_RATE, limits=limits)
    if not isinstance(source, np.ndarray):
        raise ParameterError(
            "The 'sample_rate' parameter of score is the rate of a bare array; any other source "
            f"carries its own. Got it with {type(source).__name__}."
        )
    return read((source, sample_rate), sample_rate=SAMPLE_RATE, limits=limits)


def _at_rate(audio: Audio, sample_rate: int | None, limits: Limits) -> Audio:
    if sample_rate is not None:
        raise ParameterError("The 'sample_rate' parameter of score does not go with an Audio.")
    if audio.sample_rate == SAMPLE_RATE:
        return audio
    again = read((audio.samples, audio.sample_rate), sample_rate=SAMPLE_RATE, limits=limits)
    return Audio(
        samples=again.samples,
        sample_rate=SAMPLE_RATE,
        source_rate=audio.source_rate,
        name=audio.name,
        codec=audio.codec,
        warnings=audio.warnings,
    )
