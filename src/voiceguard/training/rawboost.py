"""RawBoost: distortion of raw waveforms that needs no recordings of noise or rooms.

Tak et al., "RawBoost: a raw data boosting and augmentation method applied to automatic speaker
verification anti-spoofing", ICASSP 2022 (arXiv 2111.04433). Three kinds of noise, alone or
together:

===  ====================================================================
 0   none, the waveform as it is
 1   linear and non-linear convolutive noise
 2   impulsive noise that depends on the signal
 3   stationary coloured noise that does not
 4   1, then 2, then 3
 5   1, then 2 (the authors' choice for ASVspoof 2021 LA)
 6   1, then 3
 7   2, then 3
 8   1 and 2 side by side, added
===  ====================================================================

All of it follows from one ``numpy.random.Generator``. One thing differs from the authors' file: its
filters come out one sample early, here they have no delay at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voiceguard.errors import ParameterError

Samples = npt.NDArray[np.float32]
_Wave = npt.NDArray[np.float64]

# Points of the frequency grid that a filter's largest gain is looked for on.
_GRID = 1024


def _require(name: str, value: Any, valid: bool, domain: str) -> None:
    if not valid:
        raise ParameterError(
            f"The {name!r} parameter of RawBoostConfig must be {domain}. Got {value!r} instead."
        )


@dataclass(frozen=True)
class RawBoostConfig:
    """Ranges that RawBoost draws from; the defaults are the published ones.

    A pair is (lowest, highest) of a uniform distribution.

    Parameters
    ----------
    orders : int
        Powers of the signal in the convolutive noise; 1 is the linear part alone (``N_f``).
    bands : int
        Notches of a filter (``nBands``).
    centre_hz, width_hz : tuple of float
        Centre and width of a notch, Hz (``minF``, ``maxF``, ``minBW``, ``maxBW``).
    taps : tuple of int
        Length of one notch's filter (``minCoeff``, ``maxCoeff``); even lengths get one more.
    gain_db : tuple of float
        Largest gain of a filter, dB (``minG``, ``maxG``).
    bias_db : tuple of float
        By how much both ends of `gain_db` lie lower for powers above the first
        (``minBiasLinNonLin``, ``maxBiasLinNonLin``).
    impulsive_percent : float
        Largest share of samples that impulsive noise changes, in [0, 100] (``P``).
    impulsive_gain : float
        Largest change of a sample relative to itself (``g_sd``).
    snr_db : tuple of float
        Signal-to-noise ratio of the coloured noise, dB (``SNRmin``, ``SNRmax``).
    sample_rate : int
        Hz.
    """

    orders: int = 5
    bands: int = 5
    centre_hz: tuple[float, float] = (20.0, 8000.0)
    width_hz: tuple[float, float] = (100.0, 1000.0)
    taps: tuple[int, int] = (10, 100)
    gain_db: tuple[float, float] = (0.0, 0.0)
    bias_db: tuple[float, float] = (5.0, 20.0)
    impulsive_percent: float = 10.0
    impulsive_gain: float = 2.0
    snr_db: tuple[float, float] = (10.0, 40.0)
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        for name in ("orders", "bands", "sample_rate"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, ">= 1")
        half = self.sample_rate / 2
        low, high = self.centre_hz
        _require("centre_hz", self.centre_hz, 0 < low <= high <= half, f"inside (0, {half:g}]")
        _require("width_hz", self.width_hz, 1 <= self.width_hz[0] <= self.width_hz[1], ">= 1")
        _require("taps", self.taps, 2 <= self.taps[0] <= self.taps[1], ">= 2")
        for name in ("gain_db", "snr_db"):
            first, last = getattr(self, name)
            _require(name, (first, last), first <= last, "in ascending order")
        share = self.impulsive_percent
        _require("impulsive_percent", share, 0 <= share <= 100, "in [0, 100]")
        _require("impulsive_gain", self.impulsive_gain, self.impulsive_gain >= 0, ">= 0")


_DEFAULT = RawBoostConfig()


def convolutive_noise(
    x: Samples, rng: np.random.Generator, *, config: RawBoostConfig = _DEFAULT
) -> Samples:
    """Algorithm 1: a random filter on each power of the signal, summed, mean taken off.

    Powers above the first model a non-linear microphone or amplifier; their gain is lower by
    `config.bias_db`.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        float32, full scale 1, n >= 1.
    rng : np.random.Generator
    config : RawBoostConfig

    Returns
    -------
    np.ndarray [shape=(n,)]
        float32; divided by its peak where that passes 1.

    Raises
    ------
    ParameterError
        If `x` is not one-dimensional and floating, or is empty.
    """
    wave = _checked(x)
    total = np.zeros_like(wave)
    (low, high), (low_bias, high_bias) = config.gain_db, config.bias_db
    ends = (low, high)
    for order in range(1, config.orders + 1):
        if order > 1:
            ends = (low - low_bias, high - high_bias)
        gain_db = rng.uniform(min(ends), max(ends))
        total += _filtered(wave**order, _notches(rng, config, gain_db=gain_db))
    return _within_full_scale(total - total.mean())


def impulsive_noise(
    x: Samples, rng: np.random.Generator, *, config: RawBoostConfig = _DEFAULT
) -> Samples:
    """Algorithm 2: random samples change by a random multiple of themselves.

    A share drawn from 0 to `config.impulsive_percent` of the samples is hit; the multiple is
    `config.impulsive_gain` times the product of two uniform draws from [-1, 1].

    Parameters
    ----------
    x, rng, config
        As for :func:`convolutive_noise`.

    Returns
    -------
    np.ndarray [shape=(n,)]
        float32; divided by its peak where that passes 1.

    Raises
    ------
    ParameterError
        As for :func:`convolutive_noise`.
    """
    wave = _checked(x)
    count = int(len(wave) * rng.uniform(0.0, config.impulsive_percent) / 100.0)
    hit = rng.permutation(len(wave))[:count]
    factor = rng.uniform(-1.0, 1.0, count) * rng.uniform(-1.0, 1.0, count)
    wave[hit] += config.impulsive_gain * wave[hit] * factor
    return _within_full_scale(wave)


def coloured_noise(
    x: Samples, rng: np.random.Generator, *, config: RawBoostConfig = _DEFAULT
) -> Samples:
    """Algorithm 3: white noise through a random filter, added at a drawn SNR.

    Parameters
    ----------
    x, rng, config
        As for :func:`convolutive_noise`.

    Returns
    -------
    np.ndarray [shape=(n,)]
        float32; its peak may pass 1, as published. Silence stays silence.

    Raises
    ------
    ParameterError
        As for :func:`convolutive_noise`.
    """
    wave = _checked(x)
    white = rng.standard_normal(len(wave))
    noise = _filtered(white, _notches(rng, config, gain_db=rng.uniform(*config.gain_db)))
    snr_db = rng.uniform(*config.snr_db)
    scale = np.linalg.norm(wave) / max(float(np.linalg.norm(noise)), 1e-20)
    noisy: Samples = (wave + scale * 10.0 ** (-snr_db / 20.0) * noise).astype(np.float32)
    return noisy


_SERIES: dict[int, tuple[Callable[..., Samples], ...]] = {
    0: (),
    1: (convolutive_noise,),
    2: (impulsive_noise,),
    3: (coloured_noise,),
    4: (convolutive_noise, impulsive_noise, coloured_noise),
    5: (convolutive_noise, impulsive_noise),
    6: (convolutive_noise, coloured_noise),
    7: (impulsive_noise, coloured_noise),
}
_PARALLEL = 8


@dataclass(frozen=True)
class RawBoost:
    """One of the nine algorithms, to call on waveforms.

    Parameters
    ----------
    algorithm : int
        0 to 8, see the module.
    config : RawBoostConfig

    Raises
    ------
    ParameterError
        If there is no such algorithm.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = 0.1 * rng.standard_normal(16000).astype(np.float32)
    >>> RawBoost(5)(x, rng).shape
    (16000,)
    """

    algorithm: int
    config: RawBoostConfig = _DEFAULT

    def __post_init__(self) -> None:
        if type(self.algorithm) is not int or not 0 <= self.algorithm <= _PARALLEL:
            raise ParameterError(
                "The 'algorithm' parameter of RawBoost must be an int from 0 to 8. "
                f"Got {self.algorithm!r} instead."
            )

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Distort a waveform.

        Parameters
        ----------
        x : np.ndarray [shape=(n,)]
            float32, full scale 1, n >= 1. It is not changed.
        rng : np.random.Generator
            All randomness comes from here; algorithm 0 draws nothing.

        Returns
        -------
        np.ndarray [shape=(n,)]
            float32, finite for finite input.

        Raises
        ------
        ParameterError
            If `x` is not one-dimensional and floating, or is empty.
        """
        if self.algorithm == _PARALLEL:
            first = convolutive_noise(x, rng, config=self.config)
            second = impulsive_noise(x, rng, config=self.config)
            return _within_full_scale(first.astype(np.float64) + second)
        y = _checked(x).astype(np.float32)
        for step in _SERIES[self.algorithm]:
            y = step(y, rng, config=self.config)
        return y


def _notches(rng: np.random.Generator, config: RawBoostConfig, *, gain_db: float) -> _Wave:
    """Cascade of random band-stop filters, as one linear-phase filter of odd length.

    Its largest gain over frequency is `gain_db`.
    """
    cascade = np.ones(1)
    for _ in range(config.bands):
        centre, width = rng.uniform(*config.centre_hz), rng.uniform(*config.width_hz)
        taps = int(rng.uniform(*config.taps)) | 1
        cascade = np.convolve(cascade, _band_stop(centre, width, taps, config.sample_rate))
    peak = np.abs(np.fft.rfft(cascade, max(_GRID, len(cascade)))).max()
    scaled: _Wave = cascade * (10.0 ** (gain_db / 20.0) / peak)
    return scaled


def _band_stop(centre: float, width: float, taps: int, sample_rate: int) -> _Wave:
    """Windowed-sinc band-stop of unit gain at 0 Hz; the band is clipped to the spectrum."""
    from scipy.signal import firwin

    low = max(centre - width / 2, 1e-3)
    high = min(centre + width / 2, sample_rate / 2 - 1e-3)
    filter_: _Wave = firwin(taps, [low, high], window="hamming", fs=sample_rate)
    return filter_


def _filtered(wave: _Wave, taps: _Wave) -> _Wave:
    """Convolution without delay: cut to the signal, which the odd filter is centred on."""
    from scipy.signal import oaconvolve

    start = len(taps) // 2
    filtered: _Wave = oaconvolve(wave, taps)[start : start + len(wave)]
    return filtered


def _within_full_scale(wave: _Wave) -> Samples:
    peak = float(np.abs(wave).max())
    return (wave / max(peak, 1.0)).astype(np.float32)


def _checked(x: Samples) -> _Wave:
    if not isinstance(x, np.ndarray) or x.ndim != 1 or not x.size or x.dtype.kind != "f":
        given = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ParameterError(
            "The 'x' parameter of RawBoost must be a floating array of shape (n,), n >= 1. "
            f"Got {given} instead."
        )
    return x.astype(np.float64)
