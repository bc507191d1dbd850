"""What stands between a mouth and a detector, one small class each: room, band, codec, telephone.

As for every perturbation: called with (float32 [shape=(n,)] at 16 kHz, n >= 1, generator), it
changes neither its input nor anything else and gives float32 [shape=(n,)]. The signal processing is
that of :mod:`voiceguard.training.augment`; here it gets ranges to draw from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voiceguard.audio.telephony import g711_path
from voiceguard.errors import ParameterError
from voiceguard.training.augment import (
    SAMPLE_RATE,
    band_pass,
    draw_bit_rate,
    narrowband,
    reverberate,
    transcode,
)
from voiceguard.training.codecs import CODECS, has_encoder
from voiceguard.training.perturb_options import (
    check_choice,
    check_count,
    check_interval,
    is_number,
    refuse,
)

Samples = npt.NDArray[np.float32]
_NYQUIST = SAMPLE_RATE / 2


@dataclass(frozen=True)
class Room:
    """Reverberation by a simulated room (:func:`voiceguard.training.rooms.room_bank`).

    Parameters
    ----------
    rooms : int
        How many there are to draw from. Simulated when the pipeline is built, a tenth of a second
        or more each.
    seed : int
        Same seed, same rooms.
    file : path, optional
        An ``.npy`` that keeps them: read where it is there, else written.
    """

    name: ClassVar[str] = "room"
    rooms: int = 32
    seed: int = 0
    file: str | os.PathLike[str] | None = None
    bank: Samples = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_count(self, "rooms", minimum=1)
        check_count(self, "seed", minimum=0)
        object.__setattr__(self, "bank", self._load())

    def _load(self) -> Samples:
        from voiceguard.training.rooms import room_bank

        path = None if self.file is None else Path(self.file)
        if path is None or not path.is_file():
            bank = room_bank(self.rooms, seed=self.seed)
            if path is not None:
                # Several processes may start at once: none may read half a file.
                part = path.with_name(f"{path.name}.{os.getpid()}.npy")
                np.save(part, bank)
                part.replace(path)
            return bank
        stored: Samples = np.load(path, allow_pickle=False)
        if stored.ndim != 2 or len(stored) != self.rooms:
            raise ParameterError(
                f"The 'file' parameter of room must hold {self.rooms} rooms. {path} holds an array "
                f"of shape {stored.shape} instead: remove it or set 'rooms'."
            )
        return stored

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Put a clip into a room; its length stays."""
        return reverberate(x, self.bank[rng.integers(len(self.bank))])


@dataclass(frozen=True)
class BandLimit:
    """A band of frequencies, the rest filtered away (Butterworth, 24 dB an octave).

    Parameters
    ----------
    low_hz, high_hz : tuple of float
        Where the band begins and ends, Hz; 0 leaves the bottom open, 8000 the top.
    """

    name: ClassVar[str] = "band_limit"
    low_hz: tuple[float, float] = (0.0, 300.0)
    high_hz: tuple[float, float] = (3_400.0, _NYQUIST)

    def __post_init__(self) -> None:
        check_interval(self, "low_hz", low=0.0, high=_NYQUIST)
        check_interval(self, "high_hz", low=0.0, high=_NYQUIST)
        if self.low_hz[1] >= self.high_hz[0]:
            raise refuse(self, "low_hz", f"below high_hz ({self.high_hz[0]:g})")

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Filter a clip; its length stays."""
        low, high = float(rng.uniform(*self.low_hz)), float(rng.uniform(*self.high_hz))
        return band_pass(x, low, high, sample_rate=SAMPLE_RATE)


@dataclass(frozen=True)
class Codec:
    """A round trip through a codec, or through a chain of them, at a drawn bit rate.

    Parameters
    ----------
    codecs : tuple of (str or tuple of str)
        One is drawn: a key of :data:`voiceguard.training.codecs.CODECS`, or several that follow
        each other.
    """

    name: ClassVar[str] = "codec"
    codecs: tuple[str | tuple[str, ...], ...] = (
        "ulaw",
        "alaw",
        "gsm",
        "g722",
        "opus",
        "mp3",
        "aac",
    )

    def __post_init__(self) -> None:
        if not isinstance(self.codecs, tuple) or not self.codecs:
            raise refuse(self, "codecs", "a list of codecs or of chains of codecs")
        for codec in {codec for chain in self.codecs for codec in _chain(chain)}:
            if codec not in CODECS:
                raise refuse(self, "codecs", f"made of {sorted(CODECS)}")
            if not has_encoder(codec):
                raise refuse(self, "codecs", f"made of what PyAV can encode here; {codec} is not")

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Encode and decode a clip; its length stays."""
        for codec in _chain(self.codecs[rng.integers(len(self.codecs))]):
            x = transcode(x, codec, bit_rate=draw_bit_rate(codec, rng))
        return x


def _chain(codecs: str | tuple[str, ...]) -> tuple[str, ...]:
    return (codecs,) if isinstance(codecs, str) else codecs


@dataclass(frozen=True)
class Telephone:
    """A telephone call.

    Parameters
    ----------
    path : {"g711", "any"}
        Telephone band and G.711 (:func:`voiceguard.audio.telephony.g711_path`), its law drawn; or
        any 8 kHz path of :func:`voiceguard.training.augment.narrowband`.
    second_codec : float
        Probability of a second codec behind the first on the path "any".
    """

    name: ClassVar[str] = "telephone"
    path: str = "g711"
    second_codec: float = 0.15

    def __post_init__(self) -> None:
        check_choice(self, "path", ("g711", "any"))
        if not is_number(self.second_codec) or not 0.0 <= self.second_codec <= 1.0:
            raise refuse(self, "second_codec", "a probability in [0, 1]")

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Send a clip through; its length stays."""
        if self.path == "any":
            return narrowband(x, rng, second=rng.random() < self.second_codec)
        return g711_path(x, law="ulaw" if rng.random() < 0.5 else "alaw")
