"""G.711 (ITU-T Rec. G.711, 11/1988) by table, and the path of a call through it.

Both laws are segmented: a code is a sign, a 3-bit segment (chord) and a 4-bit step. Decoding is a
table of 256 entries; encoding finds the decision interval that a sample falls into, from a table
over all 16-bit values. The sample scale is 16-bit linear PCM: u-law's 14-bit values times 4,
A-law's 13-bit values times 8.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voiceguard.audio.resample import resample
from voiceguard.audio.values import Samples
from voiceguard.errors import ParameterError

Law = Literal["ulaw", "alaw"]
"""The two companding laws: u-law (North America, Japan) and A-law (elsewhere)."""

TELEPHONE_RATE = 8_000
"""Sample rate of a telephone channel, Hz."""

_ULAW_BIAS = 33
"""Shifts u-law's 14-bit magnitudes so that each segment starts at a power of two."""

_PASS_HZ = (300.0, 3400.0)
_STOP_HZ = (100.0, 3900.0)


def decode_g711(codes: bytes | NDArray[np.uint8], *, law: Law = "ulaw") -> NDArray[np.int16]:
    """G.711 codes to 16-bit linear samples.

    Parameters
    ----------
    codes : bytes or np.ndarray [shape=(n,), dtype=uint8]
        One code a sample.
    law : {"ulaw", "alaw"}
        The companding law.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=int16]

    Raises
    ------
    ParameterError
        If the law is unknown or the codes are no bytes.
    """
    raw = np.asarray(codes if isinstance(codes, np.ndarray) else np.frombuffer(codes, np.uint8))
    if raw.dtype != np.uint8:
        raise ParameterError(
            f"The 'codes' parameter of decode_g711 must hold uint8. Got {raw.dtype} instead."
        )
    values: NDArray[np.int16] = _decoder(_checked(law))[raw]
    return values


def encode_g711(samples: NDArray[np.int16], *, law: Law = "ulaw") -> NDArray[np.uint8]:
    """16-bit linear samples to G.711 codes.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=int16]
        Linear samples. Magnitudes are cut to the law's precision (14 bits with sign for u-law, 13
        for A-law) and then put into the interval of the Recommendation's decision values.
    law : {"ulaw", "alaw"}
        The companding law.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=uint8]

    Raises
    ------
    ParameterError
        If the law is unknown or the samples are not int16.
    """
    linear = np.asarray(samples)
    if linear.dtype != np.int16:
        raise ParameterError(
            f"The 'samples' parameter of encode_g711 must hold int16. Got {linear.dtype} instead."
        )
    codes: NDArray[np.uint8] = _encoder(_checked(law))[linear.astype(np.int32) + 32768]
    return codes


def g711_path(samples: Samples, *, sample_rate: int = 16_000, law: Law = "ulaw") -> Samples:
    """Send audio down a telephone line: band limit, 8 kHz, G.711, back to the first rate.

    The band limit is a zero-phase filter, flat from 300 to 3,400 Hz with raised-cosine edges (100
    to 300 Hz, 3,400 to 3,900 Hz); it stands for the handset and the line's codec filter (in the
    spirit of ITU-T G.712), not for one device. The output depends on the input alone: no dither.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=float32]
        One channel, full scale 1.0; beyond it the line clips.
    sample_rate : int
        Rate of `samples`, Hz.
    law : {"ulaw", "alaw"}
        The companding law.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]

    Raises
    ------
    ParameterError
        If the law is unknown, a rate is invalid, or `samples` is not one-dimensional.
    """
    mono = np.asarray(samples, np.float32)
    if mono.ndim != 1:
        raise ParameterError(
            "The 'samples' parameter of g711_path must have shape (n,). "
            f"Got shape {mono.shape} instead."
        )
    narrow = _band_limit(
        resample(mono, source_rate=sample_rate, target_rate=TELEPHONE_RATE), TELEPHONE_RATE
    )
    linear = np.clip(np.rint(narrow * 32768.0), -32768, 32767).astype(np.int16)
    heard = decode_g711(encode_g711(linear, law=law), law=law).astype(np.float32) / 32768.0
    wide = resample(heard, source_rate=TELEPHONE_RATE, target_rate=sample_rate)[: len(mono)]
    return np.pad(wide, (0, len(mono) - len(wide)))


def _checked(law: str) -> Law:
    if law == "ulaw" or law == "alaw":
        return law  # type: ignore[return-value]
    raise ParameterError(f"The 'law' parameter must be 'ulaw' or 'alaw'. Got {law!r} instead.")


@lru_cache(maxsize=2)
def _decoder(law: Law) -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.int32) ^ (0xFF if law == "ulaw" else 0x55)
    segment, step = (code >> 4) & 7, code & 15
    if law == "ulaw":
        magnitude = 4 * (((2 * step + _ULAW_BIAS) << segment) - _ULAW_BIAS)
        # u-law's inverted sign bit is set for negative values, A-law's for positive ones.
        negative = (code & 0x80) != 0
    else:
        # The lowest two A-law segments share one step size.
        magnitude = 8 * np.where(
            segment == 0, 2 * step + 1, (2 * step + 33) << (segment - 1).clip(0)
        )
        negative = (code & 0x80) == 0
    table = np.where(negative, -magnitude, magnitude).astype(np.int16)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=2)
def _encoder(law: Law) -> NDArray[np.uint8]:
    linear = np.arange(-32768, 32768, dtype=np.int32)
    code = _ulaw_codes(linear) if law == "ulaw" else _alaw_codes(linear)
    table: NDArray[np.uint8] = code.astype(np.uint8)
    table.setflags(write=False)
    return table


def _ulaw_codes(linear: NDArray[np.int32]) -> NDArray[np.int32]:
    magnitude = (np.abs(linear) >> 2).clip(max=8158) + _ULAW_BIAS
    segment = _highest_bit(magnitude) - 5
    step = (magnitude >> (segment + 1)) & 15
    sign = np.where(linear < 0, 0x80, 0)
    codes: NDArray[np.int32] = (sign | (segment << 4) | step) ^ 0xFF
    return codes


def _alaw_codes(linear: NDArray[np.int32]) -> NDArray[np.int32]:
    # Negative values mirror the positive ones about -1/2: -1 falls into the first negative step.
    magnitude = np.where(linear < 0, ~linear, linear) >> 3
    segment = (_highest_bit(magnitude) - 4).clip(0)
    step = (magnitude >> np.maximum(segment, 1)) & 15
    sign = np.where(linear < 0, 0, 0x80)
    codes: NDArray[np.int32] = (sign | (segment << 4) | step) ^ 0x55
    return codes


def _highest_bit(values: NDArray[np.int32]) -> NDArray[np.int32]:
    bits: NDArray[np.int32] = np.frexp(values.astype(np.float64))[1] - 1
    return bits


def _band_limit(samples: Samples, sample_rate: int) -> Samples:
    n = len(samples)
    if n == 0:
        return samples
    hz = np.fft.rfftfreq(n, 1.0 / sample_rate)
    low = ((hz - _STOP_HZ[0]) / (_PASS_HZ[0] - _STOP_HZ[0])).clip(0, 1)
    high = ((_STOP_HZ[1] - hz) / (_STOP_HZ[1] - _PASS_HZ[1])).clip(0, 1)
    gain = np.sin(0.5 * np.pi * low) ** 2 * np.sin(0.5 * np.pi * high) ** 2
    return np.fft.irfft(np.fft.rfft(samples) * gain, n).astype(np.float32)
