"""Harmonics plus noise (Stylianou, 2001): sines at multiples of the pitch, shaped noise above."""

from __future__ import annotations

import numpy as np

from .pitch import Pitch, Track, track_pitch
from .spectra import SAMPLE_RATE, Samples, Transform, random_phase, smooth, turned

_MAX_HARMONICS = 70


def harmonic_vocoder(x: Samples, rng: np.random.Generator) -> Samples:
    """Sines up to a drawn 2 to 7 kHz in voiced frames, noise with the clip's envelope elsewhere.

    Raises
    ------
    UnsuitableClipError
        If hardly anything is voiced.
    """
    pitch = track_pitch(x)
    top = rng.uniform(2000.0, 7000.0)
    transform = Transform(int(rng.choice([512, 1024])), 128)
    magnitude = np.abs(transform.forward(x))
    tones = _tones(pitch, magnitude, transform, top, len(x), rng)
    leak = 10 ** rng.uniform(-1.5, -0.5)
    return (tones + _noise(pitch, magnitude, transform, top, leak, len(x), rng)).astype(np.float32)


def _tones(
    pitch: Pitch,
    magnitude: Samples,
    transform: Transform,
    top: float,
    length: int,
    rng: np.random.Generator,
) -> Track:
    """Sum of the harmonics below `top`, with zero, random or quadratic phases."""
    f0, voiced = pitch.per_sample(length)
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    at = np.arange(length)
    frame_at = np.arange(len(magnitude)) * transform.hop
    frame_f0 = np.interp(frame_at, at, f0)
    count = min(_MAX_HARMONICS, int(top / frame_f0.min()))
    starts = _start_phases(count, rng)
    total = np.zeros(length)
    for k in range(1, count + 1):
        amplitude = harmonic_level(magnitude, k * frame_f0, transform)
        amplitude = np.where(k * frame_f0 < top, amplitude, 0.0)
        total += np.interp(at, frame_at, amplitude) * np.cos(k * phase + starts[k - 1])
    return total * voiced


def _start_phases(count: int, rng: np.random.Generator) -> Track:
    kind = rng.choice(["zero", "random", "quadratic"])
    if kind == "random":
        return rng.uniform(-np.pi, np.pi, count)
    # Schroeder (1970): quadratic phases spread the pulse over the period.
    spread = np.pi * np.arange(count) ** 2 / max(count, 1)
    return spread if kind == "quadratic" else np.zeros(count)


def harmonic_level(magnitude: Samples, frequency: Track, transform: Transform) -> Track:
    """Amplitude of the sine at `frequency` (Hz, one a frame): the larger bin beside it."""
    place = frequency * transform.n_fft / SAMPLE_RATE
    last = magnitude.shape[1] - 1
    below = np.clip(np.floor(place).astype(int), 0, last)
    above = np.minimum(below + 1, last)
    rows = np.arange(len(magnitude))
    peak = np.maximum(magnitude[rows, below], magnitude[rows, above])
    return 2 * peak / float(transform.window.sum())


def _noise(
    pitch: Pitch,
    magnitude: Samples,
    transform: Transform,
    top: float,
    leak: float,
    length: int,
    rng: np.random.Generator,
) -> Samples:
    """Noise with a smoothed magnitude; below `top` in voiced frames only a `leak` of it."""
    envelope = np.sqrt(smooth(magnitude**2, int(rng.choice([3, 7, 15])), 1))
    bins = np.arange(magnitude.shape[1]) * SAMPLE_RATE / transform.n_fft
    _, voiced = pitch.per_sample(length)
    at = np.minimum(np.arange(len(magnitude)) * transform.hop, length - 1)
    ramp = np.clip((bins - top) / 500.0 + 0.5, leak, 1.0)
    gain = 1 - voiced[at][:, None] * (1 - ramp)
    return transform.inverse(
        turned(envelope * gain.astype(np.float32), random_phase(envelope.shape, rng)), length
    )
