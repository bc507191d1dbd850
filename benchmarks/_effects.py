"""What a telephone network, a room and a second device do to sound, beyond what training uses.

As for every perturbation: float32 [shape=(n,)] at 16 kHz in and out, the input unchanged, and all
randomness from a given generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
import soxr

from voiceguard.errors import ParameterError
from voiceguard.training import rooms
from voiceguard.training.augment import (
    SAMPLE_RATE,
    add_noise,
    band_pass,
    reverberate,
    to_length,
    to_peak,
)

Samples = npt.NDArray[np.float32]
PACKET = SAMPLE_RATE // 50
_HISTORY = 640
_LAGS = (40, 240)
_KEEP, _FADE_OUT, _JOIN = 160, 800, 64
_FRAME, _SEARCH = 512, 160


def pcm16(x: Samples) -> Samples:
    """`x` as a 16-bit file holds it: rounded, and clipped at full scale."""
    steps = np.clip(np.rint(x * 32_768.0), -32_768, 32_767)
    return np.asarray(steps / 32_768.0, dtype=np.float32)


def resampled(x: Samples, rate: int) -> Samples:
    """`x` by way of another sample rate, Hz, stored there in 16 bits; its length stays."""
    there = pcm16(np.asarray(soxr.resample(x, SAMPLE_RATE, rate), dtype=np.float32))
    back = np.asarray(soxr.resample(there, rate, SAMPLE_RATE), dtype=np.float32)
    return to_length(back, len(x))


def stretched(x: Samples, factor: float) -> Samples:
    """Faster by `factor` at the same pitch, and so much shorter.

    Overlap-add of frames that continue each other's waveform (Verhelst and Roelands, "An
    overlap-add technique based on waveform similarity (WSOLA)", ICASSP 1993): no vocoder, so that a
    human voice is not re-synthesised on the way.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
    factor : float
        > 0; 1.1 makes n samples n / 1.1.

    Returns
    -------
    np.ndarray [shape=(round(n / factor),)]
    """
    if not factor > 0:
        raise ParameterError(f"The 'factor' parameter of stretched must be > 0. Got {factor!r}.")
    hop, length = _FRAME // 2, round(len(x) / factor)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(_FRAME) + 0.5) / _FRAME)
    source = np.pad(x.astype(np.float64), (0, 3 * _FRAME + _SEARCH))
    total, weight = np.zeros(length + _FRAME), np.full(length + _FRAME, 1e-9)
    place = 0
    for start in range(0, length, hop):
        if start:
            place = _best_place(source, int(start * factor), source[place + hop :][:_FRAME])
        total[start : start + _FRAME] += window * source[place : place + _FRAME]
        weight[start : start + _FRAME] += window
    return np.asarray((total / weight)[:length], dtype=np.float32)


def _best_place(
    source: npt.NDArray[np.float64], ideal: int, wanted: npt.NDArray[np.float64]
) -> int:
    """Where near `ideal` the source resembles `wanted` most."""
    low = max(ideal - _SEARCH, 0)
    region = source[low : ideal + _SEARCH + _FRAME]
    energy = np.convolve(region**2, np.ones(_FRAME), "valid")
    likeness = np.correlate(region, wanted, "valid") / np.sqrt(energy + 1e-9)
    return low + int(np.argmax(likeness))


def shifted(x: Samples, factor: float) -> Samples:
    """Pitch and formants higher by `factor` at the same duration; its length stays."""
    slow = stretched(x, 1.0 / factor)
    back = np.asarray(soxr.resample(slow, SAMPLE_RATE * factor, SAMPLE_RATE), dtype=np.float32)
    return to_length(back, len(x))


def drop_packets(x: Samples, rng: np.random.Generator, *, share: float) -> Samples:
    """Lose a share of the 20 ms packets, at least one, and conceal them.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
    rng : np.random.Generator
        Draws which of them.
    share : float
        Of the whole packets, in (0, 1].

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    n = len(x) // PACKET
    lost = rng.choice(n, min(max(round(share * n), 1), n), replace=False)
    return concealed(x, sorted(int(i) for i in lost))


def concealed(x: Samples, lost: list[int]) -> Samples:
    """Fill lost packets with the last pitch period before them, in the manner of G.711 Appendix I.

    The period is repeated, whole for 10 ms and then fading to silence at 60 ms; where packets
    arrive again, 4 ms of cross-fade join the two.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
    lost : list of int
        Numbers of the lost packets, ascending.

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    y = x.copy()
    for _, run in groupby(enumerate(lost), key=lambda pair: pair[1] - pair[0]):
        packets = [number for _, number in run]
        start, stop = packets[0] * PACKET, (packets[-1] + 1) * PACKET
        fill = _continued(y[max(0, start - _HISTORY) : start], stop - start + _JOIN)
        y[start:stop] = fill[: stop - start]
        join = min(_JOIN, len(x) - stop)
        rise = (np.arange(join, dtype=np.float32) + 1) / (join + 1)
        y[stop : stop + join] = rise * x[stop : stop + join] + (1 - rise) * fill[-_JOIN:][:join]
    return y


def _continued(history: Samples, length: int) -> Samples:
    """`length` samples that follow `history`; silence where it is too short to have a pitch."""
    half = _HISTORY - _LAGS[1]
    if len(history) < _HISTORY:
        return np.zeros(length, np.float32)
    recent = history[-half:].astype(np.float64)
    lags = np.arange(_LAGS[0], _LAGS[1] + 1)
    earlier = np.lib.stride_tricks.sliding_window_view(history, half)[_HISTORY - half - lags]
    energy = np.sqrt(np.sum(earlier.astype(np.float64) ** 2, axis=1) + 1e-9)
    lag = int(lags[np.argmax(earlier @ recent / energy)])
    fade = np.clip(1.0 - (np.arange(length) - _KEEP) / _FADE_OUT, 0.0, 1.0)
    return (np.resize(history[-lag:], length) * fade).astype(np.float32)


@dataclass(frozen=True)
class Room:
    """A shoebox room with a talker and a microphone in it.

    Parameters
    ----------
    size_m : tuple of float
        Length, width and height.
    rt60_s : float
        Seconds in which its sound falls by 60 dB, by Sabine's formula.
    distance_m : float
        From mouth to microphone.
    """

    size_m: tuple[float, float, float]
    rt60_s: float
    distance_m: float


SMALL_ROOM = Room((3.0, 2.6, 2.4), 0.25, 0.6)
LARGE_ROOM = Room((9.0, 7.0, 3.2), 0.7, 3.0)


@lru_cache
def room_response(room: Room) -> Samples:
    """Impulse response, direct sound first, unit energy [shape=(taps,)]."""
    absorption, order = rooms.walls_for(room.rt60_s, room.size_m)
    talker = np.array(room.size_m) * (0.28, 0.37, 0.55)
    # Off every axis of the room, so that few reflections coincide.
    direction = np.array([0.8, 0.58, 0.153])
    microphone = talker + room.distance_m * direction / np.linalg.norm(direction)
    response = rooms.room_response(
        room.size_m, absorption=absorption, order=order, talker=talker, microphone=microphone
    )
    response.setflags(write=False)
    return response


def in_room(x: Samples, *, room: Room) -> Samples:
    """`x` heard in a room, cut to its own length."""
    return reverberate(x, room_response(room))


@dataclass(frozen=True)
class Handset:
    """A device that plays a recording to another one.

    Parameters
    ----------
    low_hz, high_hz : float
        Band of its loudspeaker.
    drive_db : float
        Peak at the membrane, dB above the point where it gives way.
    room : Room
        Between the two devices.
    snr_db : float
        Of the room's noise at the second device.
    """

    low_hz: float
    high_hz: float
    drive_db: float
    room: Room
    snr_db: float


PHONE = Handset(450.0, 7_000.0, 3.0, Room((3.0, 2.6, 2.4), 0.25, 0.15), 30.0)
LAPTOP = Handset(200.0, 7_500.0, 0.0, Room((5.0, 4.0, 2.6), 0.45, 1.0), 20.0)


def replayed(x: Samples, rng: np.random.Generator, *, handset: Handset) -> Samples:
    """Played by one device, recorded by another; the length stays.

    A band-pass, a membrane that gives way (a hyperbolic tangent, with an even part for its lack of
    symmetry), a room, a microphone's band and noise, 16 bits.
    """
    y = band_pass(x, handset.low_hz, handset.high_hz, sample_rate=SAMPLE_RATE)
    y = y * np.float32(10.0 ** (handset.drive_db / 20.0) / max(float(np.max(np.abs(y))), 1e-8))
    y = np.tanh(y + 0.1 * y**2)
    y = in_room(y, room=handset.room)
    # The even part leaves a constant behind, which no microphone hears.
    y = band_pass(y, 80.0, SAMPLE_RATE / 2, sample_rate=SAMPLE_RATE)
    return pcm16(to_peak(add_noise(y, handset.snr_db, rng), -6.0))


def padded(
    x: Samples, rng: np.random.Generator, *, seconds: float, floor_dbfs: float | None
) -> Samples:
    """Silence put before and after.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
    rng : np.random.Generator
    seconds : float
        On each side.
    floor_dbfs : float or None
        RMS level of the silence, dB relative to full scale, white; None for zeros.

    Returns
    -------
    np.ndarray [shape=(n + 2 * pad,)]
    """
    pad = round(seconds * SAMPLE_RATE)
    level = 0.0 if floor_dbfs is None else 10.0 ** (floor_dbfs / 20.0)
    ends = level * rng.standard_normal((2, pad))
    return np.concatenate([ends[0], x, ends[1]]).astype(np.float32)
