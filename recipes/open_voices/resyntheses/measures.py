"""Listening by numbers: how far a re-synthesis is from its human."""

from __future__ import annotations

import numpy as np

from .spectra import SAMPLE_RATE, Samples, Transform, mel_filters

_MS = SAMPLE_RATE // 1000
_MAX_LAG_MS = 25
_LEAST_LEVEL = 2e-4
_RANGE_DB = 40.0


def is_silent(x: Samples) -> bool:
    """Whether a clip is too quiet to be re-synthesised: at -74 dB of full scale or below."""
    return bool(np.sqrt(np.mean(x**2)) <= _LEAST_LEVEL)


def spectral_distance_db(x: Samples, y: Samples) -> float:
    """Log-spectral distance: root mean square over 32 mel bands in dB, loud frames only.

    Frames within 40 dB of the loudest of `x` count, and bands that far below their frame's loudest
    are held at that floor, so that a silence is no distance.
    """
    transform = Transform(512, 128)
    filters = mel_filters(32, 512)
    a, b = (np.abs(transform.forward(v)) ** 2 @ filters.T + 1e-10 for v in (x, y))
    total = a.sum(axis=1)
    loud = total > total.max() * 10 ** (-_RANGE_DB / 10)
    floor = a.max(axis=1, keepdims=True) * 10 ** (-_RANGE_DB / 10)
    difference = 10 * np.log10(np.maximum(a, floor) / np.maximum(b, floor))[loud]
    return float(np.sqrt(np.mean(difference**2)))


def likeness_db(x: Samples, y: Samples) -> float:
    """Power of `x` over that of the difference of the two, in dB: high where nothing was done."""
    return level_db(y - x, x)


def lag_ms(x: Samples, y: Samples) -> float:
    """By how much `y` comes after `x`, in ms, from the course of their levels every ms."""
    a, b = (_level_course(v) for v in (x, y))
    lags = range(-_MAX_LAG_MS, _MAX_LAG_MS + 1)
    inner = a[_MAX_LAG_MS : len(a) - _MAX_LAG_MS]
    course = [
        float(np.corrcoef(inner, b[_MAX_LAG_MS + k : len(b) - _MAX_LAG_MS + k])[0, 1]) for k in lags
    ]
    return float(lags[int(np.nanargmax(course))])


def _level_course(x: Samples) -> np.ndarray:
    """Level every ms to the power of a quarter; over 25 ms, so that no period of pitch shows."""
    power = x[: len(x) // _MS * _MS].astype(np.float64).reshape(-1, _MS) ** 2
    return np.convolve(power.mean(axis=1), np.hanning(27)[1:-1], mode="same") ** 0.25


def level_db(x: Samples, y: Samples) -> float:
    """Level of `y` over that of `x`, in dB."""
    a, b = (float(np.mean(v.astype(np.float64) ** 2)) + 1e-12 for v in (x, y))
    return 10 * np.log10(b / a)


def floor_db(x: Samples, y: Samples) -> float:
    """Noise floor (tenth percentile of the level over 20 ms) of `y` over that of `x`, in dB."""
    a, b = (_floor(v) for v in (x, y))
    return 10 * np.log10((b + 1e-10) / (a + 1e-10))


def _floor(x: Samples) -> float:
    frames = x[: len(x) // 320 * 320].astype(np.float64).reshape(-1, 320)
    return float(np.percentile(np.mean(frames**2, axis=1), 10))
