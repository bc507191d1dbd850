"""Added noise at a signal-to-noise ratio: synthetic, of recordings, or a babble of voices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voiceguard.errors import AudioFormatError, ParameterError
from voiceguard.protocols.reading import AUDIO_SUFFIXES
from voiceguard.training.augment import SAMPLE_RATE, add_noise, at_snr, babble
from voiceguard.training.perturb_options import check_choice, check_interval, refuse

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Noise:
    """Noise added at a drawn signal-to-noise ratio.

    Parameters
    ----------
    snr_db : tuple of float
        Mean power of the clip over that of the noise, dB.
    source : {"coloured", "files", "babble"}
        Synthetic noise of a random colour; a random stretch of one file; several files at once,
        each at the same power.
    files : path or sequence of path
        A folder, searched through, or audio files that libsndfile reads; for the latter two
        sources. They are read again at each call, only as far as needed.
    talkers : tuple of int
        Least and most files in a babble.
    """

    name: ClassVar[str] = "noise"
    snr_db: tuple[float, float] = (5.0, 40.0)
    source: str = "coloured"
    files: str | PathLike[str] | Sequence[str | PathLike[str]] = ()
    talkers: tuple[int, int] = (3, 7)

    def __post_init__(self) -> None:
        check_interval(self, "snr_db", low=-50.0, high=100.0)
        check_choice(self, "source", _SOURCES)
        check_interval(self, "talkers", low=1, high=100)
        if not all(isinstance(end, int) for end in self.talkers):
            raise refuse(self, "talkers", "an int or an ascending pair of them")
        found = _listed(self.files)
        if bool(found) == (self.source == "coloured"):
            raise refuse(self, "files", f"{_SOURCES[self.source]} with source {self.source!r}")
        object.__setattr__(self, "files", found)

    def __call__(self, x: Samples, rng: np.random.Generator) -> Samples:
        """Add noise to a clip."""
        snr_db = float(rng.uniform(*self.snr_db))
        if self.source == "coloured":
            return add_noise(x, snr_db, rng)
        count = 1 if self.source == "files" else int(rng.integers(*self.talkers, endpoint=True))
        return at_snr(x, self._mixed(len(x), count, rng), snr_db)

    def _mixed(self, length: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        paths = _listed(self.files)
        drawn = rng.choice(len(paths), count, replace=count > len(paths))
        return babble(_stretch(paths[at], length, rng) for at in drawn)


_SOURCES = {
    "coloured": "left out",
    "files": "a folder of audio or a list of files",
    "babble": "a folder of voices or a list of files",
}


def _listed(files: str | PathLike[str] | Sequence[str | PathLike[str]]) -> tuple[str, ...]:
    """Paths of `files`; those of a folder by name, so that a draw means the same everywhere."""
    if not isinstance(files, (str, PathLike)):
        return tuple(fspath(path) for path in files)
    folder = Path(files)
    if not folder.is_dir():
        raise ParameterError(
            "The 'files' parameter of noise must be a folder that is there, or a list of files. "
            f"Got {fspath(files)!r} instead."
        )
    found = (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    return tuple(sorted(map(str, found)))


def _stretch(path: str, length: int, rng: np.random.Generator) -> Samples:
    """A random stretch of a file at 16 kHz, channels averaged; a shorter file is repeated."""
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as file:
            wanted = math.ceil(length * file.samplerate / SAMPLE_RATE) + 1
            file.seek(int(rng.integers(0, max(file.frames - wanted, 0) + 1)))
            block = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
            heard: Samples = soxr.resample(block, file.samplerate, SAMPLE_RATE)
    except soundfile.LibsndfileError as error:
        raise AudioFormatError(f"The noise file {path!r} cannot be read: {error}") from error
    if not len(heard):
        raise AudioFormatError(f"The noise file {path!r} holds no audio.")
    return np.resize(heard, length)
