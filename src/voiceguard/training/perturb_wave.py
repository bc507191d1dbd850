"""What may happen to a waveform itself, one small class each: tempo, level, clipping, ends.

As for every perturbation: called with (float32 [shape=(n,)] at 16 kHz, n >= 1, generator), it
changes neither its input nor anything else and gives float32 [shape=(m,)], m >= 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voiceguard.training.augment import SAMPLE_RATE, clip, to_peak
from voiceguard.training.perturb_options import check_choice, check_interval, is_number, refuse

Samples = npt.NDArray[np.float32]
_FRAME = SAMPLE_RATE // 100


@dataclass(frozen=True)
class Speed:
    """Played faster or slower, tempo and pitch together.

    Parameters
    ----------
    factors : tuple of float
        One is drawn, in [0.5, 2]; 1.1 makes the clip a tenth faster, and shorter.
    """

    name: ClassVar[str] = "speed"
    factors: tuple[float, ...] = (0.9, 1.0, 1.1)

    def __post_init__(self) -> None:
        numbers = isinstance(self.factors, tuple) and all(is_number(f) for f in self.factors)
        if not numbers or not self.factors or not all(0.5 <= f <= 2.0 for f in self.factors):
            raise refuse(self, "factors", "a list of numbers in [0.5, 2]")

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Resample a clip to 1 / factor of its length."""
        import soxr

        factor = self.factors[rng.integers(len(self.factors))]
        if factor == 1.0:
            return x
        changed: Samples = soxr.resample(x, SAMPLE_RATE * factor, SAMPLE_RATE)
        return changed if len(changed) else x


@dataclass(frozen=True)
class Gain:
    """Louder or softer by some decibels; the peak may pass full scale.

    Parameters
    ----------
    db : tuple of float
    """

    name: ClassVar[str] = "gain"
    db: tuple[float, float] = (-6.0, 6.0)

    def __post_init__(self) -> None:
        check_interval(self, "db", low=-100.0, high=100.0)

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Scale a clip."""
        scaled: Samples = x * np.float32(10.0 ** (rng.uniform(*self.db) / 20.0))
        return scaled


@dataclass(frozen=True)
class Level:
    """The peak put at a level, so that loudness tells nothing.

    Parameters
    ----------
    peak_dbfs : tuple of float
        dB relative to full scale.
    """

    name: ClassVar[str] = "level"
    peak_dbfs: tuple[float, float] = (-30.0, 0.0)

    def __post_init__(self) -> None:
        check_interval(self, "peak_dbfs", low=-100.0, high=0.0)

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Scale a clip."""
        return to_peak(x, rng.uniform(*self.peak_dbfs))


@dataclass(frozen=True)
class Clip:
    """Hard clipping.

    Parameters
    ----------
    ratio : tuple of float
        Where, relative to the peak.
    """

    name: ClassVar[str] = "clip"
    ratio: tuple[float, float] = (0.2, 0.9)

    def __post_init__(self) -> None:
        check_interval(self, "ratio", low=0.01, high=1.0)

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Clip a clip."""
        return clip(x, float(rng.uniform(*self.ratio)))


@dataclass(frozen=True)
class TrimSilence:
    """Silence cut off the ends.

    In ASVspoof 2019 and 2021 the silence around the speech tells the classes apart (Mueller et al.,
    "Speech is silver, silence is golden: what do ASVspoof-trained models really learn?", ASVspoof
    workshop 2021): a model that must not lean on it trains and is judged without.

    Parameters
    ----------
    threshold_db : tuple of float
        A frame of 10 ms is silent where its mean power lies further below the loudest frame's, dB.
    margin_s : float
        Seconds of the silence that stay.
    ends : {"both", "leading", "trailing"}
        Where to cut.
    """

    name: ClassVar[str] = "trim_silence"
    threshold_db: tuple[float, float] = (40.0, 40.0)
    margin_s: float = 0.0
    ends: str = "both"

    def __post_init__(self) -> None:
        check_interval(self, "threshold_db", low=0.0, high=120.0)
        check_choice(self, "ends", ("both", "leading", "trailing"))
        if not is_number(self.margin_s) or self.margin_s < 0:
            raise refuse(self, "margin_s", "a number >= 0")

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Cut a clip; its loudest frame always stays, and digital silence stays whole."""
        threshold_db = float(rng.uniform(*self.threshold_db))
        frames = np.pad(x.astype(np.float64), (0, -len(x) % _FRAME)).reshape(-1, _FRAME)
        power = np.mean(frames**2, axis=1)
        speech = np.flatnonzero(power >= power.max() * 10.0 ** (-threshold_db / 10.0))
        margin = round(self.margin_s * SAMPLE_RATE)
        start = 0 if self.ends == "trailing" else max(speech[0] * _FRAME - margin, 0)
        stop = len(x) if self.ends == "leading" else (speech[-1] + 1) * _FRAME + margin
        return x[start:stop]
