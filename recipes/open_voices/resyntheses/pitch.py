"""Pitch by WORLD, for every method that has a source of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voiceguard.errors import AudioError, VoiceguardError

from .spectra import SAMPLE_RATE, Samples

MIN_VOICED = 0.2
"""Share of voiced frames that a method with a pitch of its own needs; DIO finds 0.15 in hiss."""

Track = npt.NDArray[np.float64]


class UnsuitableClipError(AudioError):
    """A method cannot re-synthesise this clip: unvoiced, silent or too short."""


@dataclass(frozen=True)
class Pitch:
    """Pitch every `period_ms`.

    Parameters
    ----------
    f0 : np.ndarray [shape=(frames,)]
        In Hz; 0 where unvoiced.
    times : np.ndarray [shape=(frames,)]
        In seconds.
    period_ms : float
        Step between frames.
    """

    f0: Track
    times: Track
    period_ms: float

    @property
    def voiced(self) -> npt.NDArray[np.bool_]:
        """Which frames are voiced."""
        return self.f0 > 0

    def filled(self) -> Track:
        """Pitch with unvoiced stretches bridged by straight lines."""
        return np.interp(self.times, self.times[self.voiced], self.f0[self.voiced])

    def per_sample(self, length: int) -> tuple[Track, Track]:
        """Bridged pitch, and how voiced (0 to 1, linear at the edges), at every sample."""
        at = np.arange(length) / SAMPLE_RATE
        voiced = np.interp(at, self.times, self.voiced.astype(float))
        return np.interp(at, self.times, self.filled()), voiced


def world() -> Any:
    """The pyworld module.

    Raises
    ------
    VoiceguardError
        If it is not installed.
    """
    try:
        import pyworld
    except ImportError as error:
        raise VoiceguardError("WORLD re-synthesis needs pyworld: pip install pyworld") from error
    return pyworld


def track_pitch(
    x: Samples, *, estimator: str = "dio", period_ms: float = 5.0, low: float = 65.0
) -> Pitch:
    """Pitch by DIO and StoneMask (Morise, 2009 and 2010) or Harvest (Morise, 2017).

    Raises
    ------
    UnsuitableClipError
        If under :data:`MIN_VOICED` of the frames are voiced.
    """
    pw, x64 = world(), np.asarray(x, dtype=np.float64)
    if estimator == "harvest":
        f0, times = pw.harvest(x64, SAMPLE_RATE, f0_floor=low, frame_period=period_ms)
    else:
        f0, times = pw.dio(x64, SAMPLE_RATE, f0_floor=low, frame_period=period_ms)
        f0 = pw.stonemask(x64, f0, times, SAMPLE_RATE)
    share = float(np.mean(f0 > 0)) if len(f0) else 0.0
    if share < MIN_VOICED:
        raise UnsuitableClipError(
            f"{share:.0%} of the clip is voiced; a method with a pitch needs {MIN_VOICED:.0%}."
        )
    return Pitch(f0, times, period_ms)
