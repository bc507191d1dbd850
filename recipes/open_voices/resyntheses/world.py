"""WORLD analysis and synthesis (Morise, Yokomori and Ozawa, 2016), its parameters coded.

A statistical engine of the 2010s is WORLD with smoothed parameters: the coded envelope, the coarse
aperiodicity and the smooth pitch are its artefacts without its errors of prosody.
"""

from __future__ import annotations

import numpy as np

from .pitch import Pitch, Track, track_pitch, world
from .spectra import SAMPLE_RATE, Samples, smooth


def world_vocoder(x: Samples, rng: np.random.Generator) -> Samples:
    """WORLD, with drawn estimator, frame period, envelope order, aperiodicity and smoothing.

    Raises
    ------
    UnsuitableClipError
        If hardly anything is voiced.
    """
    pw = world()
    # Harvest costs ten times what DIO does.
    estimator = "harvest" if rng.random() < 0.05 else "dio"
    pitch = track_pitch(x, estimator=estimator, period_ms=float(rng.choice([5.0, 5.0, 8.0, 10.0])))
    samples = np.asarray(x, dtype=np.float64)
    n_fft = int(rng.choice([512, 1024]))
    floor = 3.0 * SAMPLE_RATE / (n_fft - 3.0)
    analysed = np.where(pitch.f0 >= floor, pitch.f0, 0.0)
    envelope = pw.cheaptrick(
        samples, analysed, pitch.times, SAMPLE_RATE, q1=rng.uniform(-0.3, 0.0), fft_size=n_fft
    )
    aperiodicity = pw.d4c(samples, analysed, pitch.times, SAMPLE_RATE, fft_size=n_fft)
    envelope = _coded_envelope(envelope, n_fft, rng)
    aperiodicity = _coded_aperiodicity(aperiodicity, n_fft, rng)
    f0 = _smoothed_pitch(pitch, rng)
    y = pw.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE, pitch.period_ms)
    return np.resize(np.append(y, np.zeros(max(0, len(x) - len(y)))), len(x)).astype(np.float32)


def _coded_envelope(envelope: Track, n_fft: int, rng: np.random.Generator) -> Track:
    """The envelope through 18 to 80 mel-cepstral numbers (or whole), smoothed in time at times."""
    pw = world()
    order = int(rng.choice([0, 18, 24, 32, 40, 60, 80]))
    if order:
        coded = pw.code_spectral_envelope(envelope, SAMPLE_RATE, order)
        if rng.random() < 0.4:
            coded = smooth(coded, int(rng.choice([3, 5])), 0)
        envelope = pw.decode_spectral_envelope(np.ascontiguousarray(coded), SAMPLE_RATE, n_fft)
    return np.ascontiguousarray(np.maximum(envelope, 1e-16))


def _coded_aperiodicity(aperiodicity: Track, n_fft: int, rng: np.random.Generator) -> Track:
    """Whole, in the one band that WORLD codes at 16 kHz, or flat steps over a few bands."""
    pw = world()
    kind = rng.choice(["whole", "coded", "bands"])
    if kind == "coded":
        coded = pw.code_aperiodicity(aperiodicity, SAMPLE_RATE)
        aperiodicity = pw.decode_aperiodicity(coded, SAMPLE_RATE, n_fft)
    elif kind == "bands":
        edges = np.linspace(0, aperiodicity.shape[1], int(rng.integers(3, 9)) + 1).astype(int)
        means = np.add.reduceat(aperiodicity, edges[:-1], axis=1) / np.diff(edges)
        aperiodicity = np.repeat(means, np.diff(edges), axis=1)
    return np.ascontiguousarray(np.clip(aperiodicity, 1e-6, 1.0 - 1e-6))


def _smoothed_pitch(pitch: Pitch, rng: np.random.Generator) -> Track:
    """The pitch without its finest movement, voicing as it was."""
    width = int(rng.choice([1, 1, 3, 7, 11]))
    smoothed = np.exp(smooth(np.log(pitch.filled()), width, 0))
    return np.ascontiguousarray(np.where(pitch.voiced, smoothed, 0.0))
