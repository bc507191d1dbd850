"""Is there speech to judge, and how good is it: measurements on a channel and on its windows.

The measures are those of :class:`voiceguard.results.Quality`:

- *Speech*: frames of 32 ms that the voice activity network calls speech, telephone tones taken out.
- *Level*: RMS over all samples, not below -120 dBFS.
- *SNR*: mean power of the speech frames, less the noise's, over the noise's: the 25th percentile of
  the frames between speech (those next to speech and digital silence left out). Where fewer than
  five such frames exist, the noise is the 5th percentile of all frames, and the ratio errs low. At
  most 100 dB.
- *Clipping*: share of samples in runs of three or more within 10 % of the extreme (the 99.5th
  percentile of the magnitude), so that clipping shows after a change of sample rate too. Unclipped
  speech gives 0.5 to 1.3 %.
- *Bandwidth*: upper edge of the highest 200 Hz band that, with its lower neighbour, lies within 45
  dB of the loudest band, or within 70 dB if its level also moves by 10 dB or more: dither and
  stationary hiss far below the voice do not move.
- *Tone* and *music*: :mod:`voiceguard.audio.tones`, :mod:`voiceguard.audio.music`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voiceguard.audio import music, tones
from voiceguard.audio.frames import BAND_HZ, Frames, measure
from voiceguard.audio.gate import (
    ALWAYS_BLOCKING,
    DEFAULT_POLICY,
    GatePolicy,
    Verdict,
    blocking,
    gate,
    reasons,
)
from voiceguard.audio.vad import FRAME, SAMPLE_RATE
from voiceguard.audio.values import Samples
from voiceguard.errors import ParameterError
from voiceguard.results import Quality

__all__ = [
    "ALWAYS_BLOCKING",
    "DEFAULT_POLICY",
    "ChannelQuality",
    "GatePolicy",
    "Verdict",
    "assess",
    "blocking",
    "gate",
    "reasons",
]

_FLOOR_POWER = 1e-12
_DIGITAL_SILENCE = 1e-10
_MAX_SNR_DB = 100.0
_MIN_NOISE_FRAMES = 5
# Not the median: frames of speech that the network missed must not count as noise.
_NOISE_PERCENTILE = 25

_EXTREME_PERCENTILE = 99.5
_EXTREME_REACH = 0.9
_EXTREME_LEAST = 1e-3
_MAX_SORTED = 1 << 15
_CLIP_BLOCK = 1 << 20

_BAND_NEAR_DB = 45.0
_BAND_REACH_DB = 70.0
_BAND_MOVES_DB = 10.0


@dataclass(frozen=True)
class ChannelQuality:
    """Measurements on a channel.

    Parameters
    ----------
    overall : Quality
        On the whole channel.
    windows : tuple of Quality
        On each span, in the order given.
    """

    overall: Quality
    windows: tuple[Quality, ...]


def assess(channel: Samples, spans: Sequence[tuple[int, int]] = ()) -> ChannelQuality:
    """Measure a channel and its windows.

    Parameters
    ----------
    channel : np.ndarray [shape=(n,), dtype=float32]
        One channel at 16 kHz, finite.
    spans : sequence of (int, int)
        The windows as (start, stop) in samples, 0 <= start <= stop <= n.

    Returns
    -------
    ChannelQuality
        Frames are measured once; time and memory grow with the channel's length and the windows'.

    Raises
    ------
    ParameterError
        If the channel is not one-dimensional or a span leaves it.
    """
    mono = np.asarray(channel, np.float32)
    if mono.ndim != 1:
        raise ParameterError(
            f"The 'channel' parameter of assess must have shape (n,). Got shape {mono.shape}."
        )
    for start, stop in spans:
        if not 0 <= start <= stop <= len(mono):
            raise ParameterError(
                f"The 'spans' parameter of assess must lie in [0, {len(mono)}] and ascend. "
                f"Got ({start}, {stop}) instead."
            )
    frames = measure(mono)
    overall = _quality(mono, frames)
    windows = tuple(_quality(mono[a:b], frames.span(a, b)) for a, b in spans)
    return ChannelQuality(overall, windows)


def _quality(samples: Samples, frames: Frames) -> Quality:
    duration_s = len(samples) / SAMPLE_RATE
    loud = frames.loud
    tone = tones.dominant(frames.tone, loud)
    return Quality(
        duration_s=duration_s,
        speech_s=min(duration_s, float(np.count_nonzero(frames.speech)) * FRAME / SAMPLE_RATE),
        level_dbfs=_level_dbfs(samples),
        snr_db=_snr_db(frames),
        clipped=_clipped(samples),
        bandwidth_hz=_bandwidth_hz(frames.bands[loud]),
        silence=1.0 - float(loud.mean()) if len(loud) else 1.0,
        tone=tones.NAMES.get(tone),
        music=music.likelihood(frames.steady, loud, frames.speech | (frames.tone > 0)),
    )


def _level_dbfs(samples: Samples) -> float:
    if not len(samples):
        return 10.0 * math.log10(_FLOOR_POWER)
    power = float(np.dot(samples, samples)) / len(samples)
    return 10.0 * math.log10(max(power, _FLOOR_POWER))


def _snr_db(frames: Frames) -> float | None:
    speech = frames.speech
    if not speech.any():
        return None
    near = speech.copy()
    near[1:] |= speech[:-1]
    near[:-1] |= speech[1:]
    audible = frames.power > _DIGITAL_SILENCE
    between = frames.power[~near & audible & (frames.tone == tones.Tone.NONE)]
    if len(between) >= _MIN_NOISE_FRAMES:
        noise = float(np.percentile(between, _NOISE_PERCENTILE))
    elif audible.any():
        noise = float(np.percentile(frames.power[audible], 5))
    else:
        return None
    voice = max(float(frames.power[speech].mean()) - noise, 1e-3 * noise)
    return min(10.0 * math.log10(voice / noise), _MAX_SNR_DB)


def _clipped(samples: Samples) -> float:
    n = len(samples)
    if n < 3:
        return 0.0
    centre = float(samples.mean())
    some = np.abs(samples[:: -(-n // _MAX_SORTED)] - centre)
    extreme = float(np.percentile(some, _EXTREME_PERCENTILE))
    if extreme < _EXTREME_LEAST:
        return 0.0
    edge = _EXTREME_REACH * extreme
    starts = range(0, n, _CLIP_BLOCK)
    return sum(_in_runs(np.abs(samples[i : i + _CLIP_BLOCK] - centre) >= edge) for i in starts) / n


def _in_runs(high: NDArray[np.bool_]) -> int:
    """Count members of runs of three and more."""
    if len(high) < 3:
        return 0
    triple = high[:-2] & high[1:-1] & high[2:]
    member = np.zeros_like(high)
    for shift in range(3):
        member[shift : shift + len(triple)] |= triple
    return int(np.count_nonzero(member))


def _bandwidth_hz(bands: Samples) -> float:
    if not len(bands):
        return 0.0
    low, high = np.percentile(np.maximum(bands, 1e-20), (10.0, 95.0), axis=0)
    high_db = 10.0 * np.log10(high)
    below_peak = high_db.max() - high_db
    moves = high_db - 10.0 * np.log10(low) >= _BAND_MOVES_DB
    filled = (below_peak <= _BAND_NEAR_DB) | ((below_peak <= _BAND_REACH_DB) & moves)
    filled[1:] &= filled[:-1]
    reached = np.flatnonzero(filled)
    return float((reached[-1] + 1) * BAND_HZ) if len(reached) else 0.0
