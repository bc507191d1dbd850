"""Linear prediction: pulses and noise, or a residual of which only the lowest band is kept.

Excitation of LPC-10 (Tremain, 1982) and of residual-excited coders with regenerated high bands
(Makhoul and Berouti, 1979). Reflection coefficients are quantised as arcsines, which stays stable.
"""

from __future__ import annotations

import numpy as np

from .pitch import track_pitch
from .spectra import SAMPLE_RATE, Samples, Transform


def lpc_vocoder(x: Samples, rng: np.random.Generator) -> Samples:
    """An all-pole filter of order 10 to 24, excited by pulses and noise or a coarse residual.

    Raises
    ------
    UnsuitableClipError
        If pulses were drawn and hardly anything is voiced.
    """
    hop = int(rng.choice([80, 160, 240]))
    transform = Transform(2 * hop if hop > 80 else 4 * hop, hop)
    order = int(rng.choice([10, 12, 16, 20, 24]))
    steps = float(rng.choice([0, 0, 24, 48]))
    reflection = quantised_reflection(reflection_of(transform.frames(x), transform, order), steps)
    predictor = predictor_of(reflection) * rng.uniform(0.985, 1.0) ** np.arange(order + 1)
    residual = filtered(x, predictor, transform.hop, inverse=False)
    pulses = rng.random() < 0.5
    source = _pulses(x, rng) if pulses else _coarse(residual, rng)
    source = with_envelope(source, residual, 480)
    y = filtered(source, predictor, transform.hop, inverse=True)
    # Coders send a frame's level, not the source's: resonances between pulses would raise it.
    return with_envelope(y, x, int(rng.choice([320, 480, 640]))).astype(np.float32)


def reflection_of(frames: Samples, transform: Transform, order: int) -> np.ndarray:
    """Reflection coefficients of each frame by Levinson and Durbin [shape=(frames, order)]."""
    power = np.abs(np.fft.rfft(frames * transform.window, 2 * transform.n_fft, axis=1)) ** 2
    lags = np.fft.irfft(power, axis=1)[:, : order + 1]
    # White noise 50 dB down keeps silence and stop bands invertible.
    lags[:, 0] = lags[:, 0] * 1.00001 + 1e-9
    a = np.zeros((len(frames), order + 1))
    a[:, 0], error = 1.0, lags[:, 0].copy()
    reflection = np.zeros((len(frames), order))
    for i in range(1, order + 1):
        k = -np.sum(a[:, :i] * lags[:, i:0:-1], axis=1) / error
        reflection[:, i - 1] = k = np.clip(k, -0.9999, 0.9999)
        a[:, 1 : i + 1] += k[:, None] * a[:, i - 1 :: -1][:, :i]
        error *= 1 - k**2
    return reflection


def quantised_reflection(reflection: np.ndarray, steps: float) -> np.ndarray:
    """Reflection coefficients in `steps` even steps of their arcsine; 0 leaves them."""
    if not steps:
        return reflection
    width = np.pi / steps
    return np.sin(np.clip(np.round(np.arcsin(reflection) / width) * width, -1.45, 1.45))


def predictor_of(reflection: np.ndarray) -> np.ndarray:
    """Prediction error filters of reflection coefficients [shape=(frames, order + 1)]."""
    frames, order = reflection.shape
    a = np.zeros((frames, order + 1))
    a[:, 0] = 1.0
    for i in range(1, order + 1):
        a[:, 1 : i + 1] += reflection[:, i - 1, None] * a[:, i - 1 :: -1][:, :i]
    return a


def filtered(x: Samples, predictor: np.ndarray, hop: int, *, inverse: bool) -> np.ndarray:
    """`x` through A(z), or 1 / A(z) for the inverse, each filter for the `hop` about its frame."""
    from scipy.signal import lfilter

    y = np.empty(len(x))
    state = np.zeros(predictor.shape[1] - 1)
    edges = np.clip(np.arange(len(predictor) + 1) * hop - hop // 2, 0, len(x))
    edges[-1] = len(x)
    for a, start, stop in zip(predictor, edges[:-1], edges[1:], strict=True):
        b, c = ([1.0], a) if inverse else (a, [1.0])
        if stop > start:
            y[start:stop], state = lfilter(b, c, x[start:stop], zi=state)
    return y


def with_envelope(source: np.ndarray, model: np.ndarray, width: int) -> np.ndarray:
    """`source` with the short-time level of `model`, both over `width` samples."""
    from scipy.ndimage import uniform_filter1d

    level = [np.sqrt(uniform_filter1d(x**2, width) + 1e-12) for x in (source, model)]
    return source * level[1] / np.maximum(level[0], 1e-3 * level[0].max())


def _pulses(x: Samples, rng: np.random.Generator) -> np.ndarray:
    """Pulses where voiced, noise elsewhere, and a drawn share of noise among the pulses."""
    pitch = track_pitch(x)
    f0, voiced = pitch.per_sample(len(x))
    noise = rng.standard_normal(len(x))
    turn = np.cumsum(f0 / SAMPLE_RATE)
    pulses = np.diff(np.floor(turn), prepend=np.floor(turn[0])) * np.sqrt(SAMPLE_RATE / f0)
    breath = rng.uniform(0.0, 0.5)
    return np.where(voiced > 0.5, (1 - breath) * pulses + breath * noise, noise)


def _coarse(residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The lowest 0.8 to 1.6 kHz of the residual, folded or copied upwards, with some noise."""
    from scipy.signal import firwin, lfilter

    factor = int(rng.choice([5, 8, 10]))
    taps = firwin(161, 1 / factor)
    low = lfilter(taps, [1.0], np.append(residual, np.zeros(80)))[80:]
    if rng.random() < 0.5:
        # Zeros between the kept samples mirror the low band over the whole spectrum.
        kept = np.zeros_like(low)
        kept[::factor] = low[::factor] * factor
    else:
        transform = Transform(512, 128)
        copied = np.arange(257) % (256 // factor)
        kept = transform.inverse(transform.forward(low)[:, copied], len(low))
    return kept + rng.uniform(0.05, 0.4) * np.std(kept) * rng.standard_normal(len(kept))
