"""The sound of the robustness benchmark: made once for each condition, kept, read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from _conditions import Condition, attack_name
from _held_out import Samples, even
from _trials import RATE, System, Trials, name_of, path_of

KEPT_SAMPLES = int(4.1 * RATE)
_FULL_SCALE = 32_767.0


@dataclass(frozen=True)
class Sound:
    """What a condition makes of the trials.

    Parameters
    ----------
    which : np.ndarray [shape=(n,)]
        Numbers of the trials.
    clips : list of np.ndarray
        float32 at 16 kHz.
    """

    which: npt.NDArray[np.int64]
    clips: list[Samples]

    def write(self, path: Path) -> None:
        """Keep the clips as 16-bit samples; the file takes its name last."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        pcm = np.concatenate([np.rint(x * _FULL_SCALE).astype(np.int16) for x in self.clips])
        np.savez(part, which=self.which, pcm=pcm, lengths=[len(x) for x in self.clips])
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Sound:
        """Read what :meth:`write` wrote."""
        with np.load(path) as stored:
            samples = stored["pcm"].astype(np.float32) / np.float32(_FULL_SCALE)
            return cls(stored["which"], np.split(samples, np.cumsum(stored["lengths"])[:-1]))


@dataclass(frozen=True)
class Job:
    """A condition whose sound is made when it is asked for.

    Parameters
    ----------
    name, group : str
        Of the condition.
    key : str
        Short name for whatever else decides the result: clips, seed, attack.
    make : callable
        Gives the :class:`Sound`.
    """

    name: str
    group: str
    key: str
    make: Callable[[], Sound]


@dataclass(frozen=True)
class Maker:
    """Makes the sound of each condition once, and keeps it.

    Parameters
    ----------
    trials : Trials
    folder : Path
        Of the trials' audio.
    out : Path
        Holds the folder ``audio``.
    seed : int
    """

    trials: Trials
    folder: Path
    out: Path
    seed: int

    @property
    def key(self) -> str:
        """Short name for the clips and the seed."""
        return digest([name_of(row) for row in self.trials.rows], self.seed)

    def job(self, condition: Condition) -> Job:
        """All trials under a condition."""
        path = self.out / "audio" / self.key / f"{condition.name.replace(' ', '_')}.npz"
        make = partial(_kept, path, partial(self._sound, condition))
        return Job(condition.name, condition.group, self.key, make)

    def _sound(self, condition: Condition) -> Sound:
        clips = [self._changed(condition, index) for index in range(len(self.trials.rows))]
        return Sound(np.arange(len(clips)), clips)

    def _changed(self, condition: Condition, index: int) -> Samples:
        rows = self.trials.rows
        others = (i for i in np.flatnonzero(self.trials.bonafide) if i != index)
        changed = condition(
            self.trials.clips[index],
            clip_id=name_of(rows[index]),
            seed=self.seed,
            voices=[str(path_of(rows[i], self.folder)) for i in others],
        )
        return fit_to_file(changed)


@dataclass(frozen=True)
class Attack:
    """A network that can be differentiated, and how hard it is attacked.

    Parameters
    ----------
    file : Path
        Its weights.
    window : int
        Samples that it hears.
    steps : int
        Gradient steps a clip.
    clips : int
        Synthetic clips that are changed, by even stride; 0 for all.
    """

    file: Path
    window: int
    steps: int
    clips: int

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def system(self) -> System:
        """The network as a system, uncalibrated, for clean clips and the attack on itself."""
        from _attack import load_network, network_scores

        score = load_network(self.file)
        return System(
            f"network {self.file.parent.name}/{self.file.stem}",
            self.sha256,
            lambda clips: network_scores(score, list(clips), self.window),
            everywhere=False,
        )

    def jobs(self, maker: Maker, snrs_db: Sequence[float]) -> Iterator[Job]:
        """The attack at each signal-to-noise ratio, dB."""
        key = digest(maker.key, self.sha256, self.window, self.steps, self.clips)
        for snr_db in snrs_db:
            path = maker.out / "audio" / key / f"attack_{snr_db:g}.npz"
            make = partial(_kept, path, partial(self._sound, maker, snr_db))
            yield Job(attack_name(snr_db), "attack", key, make)

    def _sound(self, maker: Maker, snr_db: float) -> Sound:
        """Human clips as they are, and synthetic ones changed to pass."""
        from _attack import attacked, load_network

        score, bonafide = load_network(self.file), maker.trials.bonafide
        humans, spoofs = np.flatnonzero(bonafide), np.flatnonzero(~bonafide)
        spoofs = spoofs[even(len(spoofs), self.clips)]
        clips = [fit_to_file(maker.trials.clips[i]) for i in humans]
        for index in spoofs:
            clips.append(
                attacked(
                    fit_to_file(maker.trials.clips[index]),
                    score,
                    window=self.window,
                    snr_db=snr_db,
                    steps=self.steps,
                    rng=np.random.default_rng([maker.seed, int(index)]),
                )
            )
        return Sound(np.concatenate([humans, spoofs]), clips)


def fit_to_file(x: Samples) -> Samples:
    """What is kept of a clip: 4.1 s, turned down where it passes full scale."""
    x = x[:KEPT_SAMPLES]
    return x / np.float32(max(1.0, float(np.max(np.abs(x)))))


def digest(*parts: object) -> str:
    """Short name for whatever decides a result."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _kept(path: Path, make: Callable[[], Sound]) -> Sound:
    """The sound of a file, made and written where there is none; from the file in any case."""
    if not path.is_file():
        make().write(path)
    return Sound.read(path)
