"""What the audio floor hands on: :class:`Audio`, and the :class:`Limits` that guard the way in."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import AudioLimitError, ParameterError

Samples = NDArray[np.float32]
"""Float samples; full scale is [-1, 1]."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Decoded audio, channels kept apart.

    Parameters
    ----------
    samples : np.ndarray [shape=(channels, n), dtype=float32]
        Finite, C-contiguous, full scale at 1.0; `n` may be zero.
    sample_rate : int
        Rate of `samples`, Hz.
    source_rate : int
        Rate of the input, Hz.
    name : str or None
        A printable name of the input, where it has one.
    codec : str
        Container and coding ("wav/ulaw", "mov/aac"), or "array/int16" for an array.
    warnings : tuple of str
        What was odd about the input and what was done about it.
    """

    samples: Samples
    sample_rate: int
    source_rate: int
    name: str | None = None
    codec: str = "array/float32"
    warnings: tuple[str, ...] = ()

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[0])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.samples.shape[1] / self.sample_rate)


@dataclass(frozen=True)
class Limits:
    """Bounds on what :func:`voiceguard.audio.read` takes in.

    They are checked on what the header claims, before anything is allocated, and again on what
    the decoder gives, block by block.

    Parameters
    ----------
    max_duration_s : float
        Longest audio, seconds.
    min_rate_hz, max_rate_hz : int
        Lowest and highest sample rate, Hz.
    max_channels : int
        Most channels.
    max_bytes : int
        Most bytes of input.
    max_decoded_bytes : int
        Most bytes of decoded float32 samples, all channels together, at the rate that is handed on.
    max_decode_s : float
        Longest time that decoding may take by the wall clock, seconds; looked at after each block.

    Raises
    ------
    ParameterError
        If a limit is not a positive number, or the lowest rate lies above the highest.
    """

    max_duration_s: float = 4 * 3600.0
    min_rate_hz: int = 4_000
    max_rate_hz: int = 192_000
    max_channels: int = 8
    max_bytes: int = 2 * 2**30
    max_decoded_bytes: int = 4 * 2**30
    max_decode_s: float = 120.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ParameterError(
                    f"The {limit.name!r} parameter of Limits must be a number > 0. "
                    f"Got {value!r} instead."
                )
        if self.min_rate_hz > self.max_rate_hz:
            raise ParameterError(
                "The 'min_rate_hz' parameter of Limits must not exceed 'max_rate_hz'. "
                f"Got {self.min_rate_hz!r} and {self.max_rate_hz!r} instead."
            )

    def check_rate(self, label: str, sample_rate: int) -> None:
        """Refuse a sample rate outside the bounds with :class:`AudioLimitError`."""
        if sample_rate < self.min_rate_hz:
            raise _passed(label, "a sample rate", sample_rate, "Hz", "min_rate_hz", self)
        if sample_rate > self.max_rate_hz:
            raise _passed(label, "a sample rate", sample_rate, "Hz", "max_rate_hz", self)

    def check_channels(self, label: str, channels: int) -> None:
        """Refuse too many channels with :class:`AudioLimitError`."""
        if channels > self.max_channels:
            raise _passed(label, "a channel count", channels, "channels", "max_channels", self)

    def check_duration(self, label: str, seconds: float) -> None:
        """Refuse audio that is too long with :class:`AudioLimitError`."""
        if seconds > self.max_duration_s:
            raise _passed(label, "a duration", seconds, "s", "max_duration_s", self)

    def check_bytes(self, label: str, n_bytes: int) -> None:
        """Refuse an input of too many bytes with :class:`AudioLimitError`."""
        if n_bytes > self.max_bytes:
            raise _passed(label, "a size", n_bytes, "bytes", "max_bytes", self)

    def check_decoded(self, label: str, n_bytes: int) -> None:
        """Refuse too many decoded bytes with :class:`AudioLimitError`."""
        if n_bytes > self.max_decoded_bytes:
            raise _passed(label, "a decoded size", n_bytes, "bytes", "max_decoded_bytes", self)

    def check_decode_time(self, label: str, seconds: float) -> None:
        """Refuse a decoder that takes too long with :class:`AudioLimitError`."""
        if seconds > self.max_decode_s:
            raise _passed(label, "a decoding time", seconds, "s", "max_decode_s", self)


DEFAULT_LIMITS = Limits()
"""The limits that apply where none are given."""


def _passed(
    label: str, what: str, found: float, unit: str, limit: str, limits: Limits
) -> AudioLimitError:
    bound = getattr(limits, limit)
    side = "least" if limit.startswith("min") else "most"
    move = "Lower" if side == "least" else "Raise"
    return AudioLimitError(
        f"{label} has {what} of {found:,.10g} {unit}; at {side} {bound:,.10g} {unit} is taken. "
        f"{move} it with limits=Limits({limit}=...) if you trust the input."
    )
