"""What devices and studios take out of a recording: its noise, and its dynamics.

Calls run through noise suppression and automatic gain before any codec; what is published was
gated, compressed, or both. Cleaned speech has no floor between words, as synthetic speech has
none: a detector that may take a clean floor for a machine has to hear cleaned people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voiceguard.errors import MissingExtraError
from voiceguard.training.draws import log_uniform

if TYPE_CHECKING:
    from webrtc_noise_gain import AudioProcessor

Samples = npt.NDArray[np.float32]
SAMPLE_RATE = 16_000
_CHUNK = 160
_DELAY = 95
"""Samples by which WebRTC's filter bank is late."""
_LEVELS = 4
_FULL_SCALE = 32_767.0


def suppress_noise(x: Samples, rng: np.random.Generator) -> Samples:
    """Stationary noise taken out, by WebRTC's suppressor or by a Wiener filter of any strength.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        float32 at 16 kHz, peak at most 1.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n,)]
        As long, and in time.

    Raises
    ------
    MissingExtraError
        If ``webrtc-noise-gain`` is absent.
    """
    if rng.random() < 0.5:
        return webrtc(x, level=int(rng.integers(1, _LEVELS, endpoint=True)))
    return wiener(
        x,
        subtraction=rng.uniform(1.0, 4.0),
        floor_db=rng.uniform(-40.0, -8.0),
        smoothing_s=log_uniform(rng, 0.01, 0.1),
        quantile=rng.uniform(0.05, 0.3),
    )


def webrtc(x: Samples, *, level: int) -> Samples:
    """`x` through the noise suppressor of WebRTC, and its high-pass.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        float32 at 16 kHz, peak at most 1.
    level : int
        1 (mild) to 4 (as much as it can).

    Returns
    -------
    np.ndarray [shape=(n,)]
        As long; the delay of its filters is taken out.

    Raises
    ------
    MissingExtraError
        If ``webrtc-noise-gain`` is absent.
    """
    processor = _processor(level)
    padded = np.pad(x, (0, _DELAY + -(len(x) + _DELAY) % _CHUNK))
    pcm = np.round(np.clip(padded, -1.0, 1.0) * _FULL_SCALE).astype("<i2").tobytes()
    step = 2 * _CHUNK
    heard = b"".join(
        processor.Process10ms(pcm[at : at + step]).audio for at in range(0, len(pcm), step)
    )
    y = np.frombuffer(heard, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)
    return y[_DELAY : _DELAY + len(x)]


def _processor(level: int) -> AudioProcessor:
    try:
        from webrtc_noise_gain import AudioProcessor
    except ImportError as error:
        raise MissingExtraError("noise suppression by WebRTC", "train") from error
    return AudioProcessor(0, level)


def wiener(
    x: Samples, *, subtraction: float, floor_db: float, smoothing_s: float, quantile: float
) -> Samples:
    """A Wiener filter whose noise is what each frequency has in its quietest frames.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        At 16 kHz.
    subtraction : float
        How many times the noise is taken off; more takes off more of the voice too.
    floor_db : float
        The least gain, dB: what is left of the noise.
    smoothing_s : float
        Time constant of the power that the gain follows, seconds; a short one leaves tones that
        flicker ("musical noise").
    quantile : float
        Of a frequency's frames that hold no speech.

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    from scipy.signal import istft, lfilter, stft

    frame, hop = 512, 128
    padded = np.pad(x, (0, max(0, frame - len(x))))
    _, _, spectrum = stft(padded, nperseg=frame, noverlap=frame - hop)
    keep = np.exp(-hop / SAMPLE_RATE / smoothing_s)
    first = np.abs(spectrum[:, :1]) ** 2
    power, _ = lfilter([1.0 - keep], [1.0, -keep], np.abs(spectrum) ** 2, zi=keep * first)
    noise = np.quantile(power, quantile, axis=1, keepdims=True)
    gain = np.maximum(1.0 - subtraction * noise / (power + 1e-20), 10.0 ** (floor_db / 20.0))
    _, y = istft(spectrum * gain, nperseg=frame, noverlap=frame - hop)
    filtered: Samples = y[: len(x)].astype(np.float32)
    return filtered


def gate(x: Samples, rng: np.random.Generator) -> Samples:
    """Turned down between words: what lies below a random level, by a random depth and speed.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        At 16 kHz.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    level_db = _level_db(x, log_uniform(rng, 0.002, 0.02))
    loud_db = float(np.quantile(level_db, 0.95))
    threshold_db = loud_db - rng.uniform(10.0, 45.0)
    depth_db, ratio = rng.uniform(10.0, 60.0), rng.uniform(1.5, 10.0)
    below = np.clip(threshold_db - level_db, 0.0, None)
    closed_db = np.minimum(below * (ratio - 1.0), depth_db)
    smooth = _smoothed(closed_db, log_uniform(rng, 0.005, 0.2))
    gated: Samples = (x * 10.0 ** (-smooth / 20.0)).astype(np.float32)
    return gated


def compress(x: Samples, rng: np.random.Generator) -> Samples:
    """Dynamics made smaller: loud passages turned down by a random ratio and speed.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        At 16 kHz.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    level_db = _level_db(x, log_uniform(rng, 0.02, 0.5))
    threshold_db = float(np.quantile(level_db, rng.uniform(0.2, 0.8)))
    ratio = rng.uniform(1.5, 6.0)
    above = np.maximum(level_db - threshold_db, 0.0)
    even: Samples = (x * 10.0 ** (-above * (1.0 - 1.0 / ratio) / 20.0)).astype(np.float32)
    return even


def _level_db(x: Samples, over_s: float) -> npt.NDArray[np.float64]:
    """Level of the power as a filter of `over_s` seconds follows it, dB."""
    return 10.0 * np.log10(_smoothed(np.square(x, dtype=np.float64), over_s) + 1e-12)


def _smoothed(x: npt.NDArray[np.float64], over_s: float) -> npt.NDArray[np.float64]:
    from scipy.signal import lfilter

    keep = np.exp(-1.0 / SAMPLE_RATE / over_s)
    followed: npt.NDArray[np.float64] = lfilter([1.0 - keep], [1.0, -keep], x)
    return followed
