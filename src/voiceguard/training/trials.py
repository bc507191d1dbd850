"""The trials of a protocol as training crops and evaluation windows.

In training a clip is perturbed and a random stretch of it taken; in evaluation its first samples
are. A clip that is too short is repeated from its start, as the published systems do. What item i
of epoch e holds follows from (seed, e, i) alone, and which items batch b holds from (seed, e, b):
a resumed run goes on with the very crops that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, Sampler

from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols import Trial

Samples = npt.NDArray[np.float32]
Perturb = Callable[[Samples, np.random.Generator], Samples]
Item = tuple[Samples, bool, int]

SAMPLE_RATE = 16_000
"""Rate of all training audio, Hz."""

_ORDER = 0x6F72646572
# Apart from the crops' streams, whose third number is an index into the trials.


class Clips(Protocol):
    """Decoded audio by trial, such as :class:`Files` or a cache over it."""

    def __len__(self) -> int: ...

    def clip(self, index: int) -> Samples:
        """Samples of one trial, float32 [shape=(n,)] at 16 kHz."""
        ...


class Files:
    """Audio of trials, decoded when it is asked for.

    Parameters
    ----------
    trials : sequence of Trial
    folder : Path
        Folder of the audio.
    suffix : str
        Suffix of a trial's file where the trial names no path.
    """

    def __init__(self, trials: Sequence[Trial], folder: Path, *, suffix: str = ".flac") -> None:
        self.paths = [folder / (trial.path or trial.utterance + suffix) for trial in trials]

    def __len__(self) -> int:
        return len(self.paths)

    def clip(self, index: int) -> Samples:
        """First channel of one file.

        Parameters
        ----------
        index : int
            Place of the trial in the protocol.

        Returns
        -------
        np.ndarray [shape=(n,)]
            float32, full scale 1, 16 kHz.

        Raises
        ------
        AudioError
            If the file is absent or does not decode.
        """
        from voiceguard.audio import read

        samples: Samples = read(self.paths[index], sample_rate=SAMPLE_RATE).samples[0]
        return samples


class Perturbed:
    """Other clips after a perturbation, each with its own seed, so that a score can be repeated.

    Parameters
    ----------
    clips : Clips
    perturb : callable
        See :func:`voiceguard.training.perturb.build_pipeline`.
    seed : int
    """

    def __init__(self, clips: Clips, perturb: Perturb, *, seed: int = 0) -> None:
        self.clips = clips
        self.perturb = perturb
        self.seed = seed

    def __len__(self) -> int:
        return len(self.clips)

    def clip(self, index: int) -> Samples:
        """The perturbed samples of one trial, float32 [shape=(n,)] at 16 kHz."""
        return self.perturb(self.clips.clip(index), np.random.default_rng([self.seed, index]))


def label_of(trial: Trial) -> bool:
    """Whether a trial is bona fide.

    Raises
    ------
    ProtocolError
        If its label is withheld.
    """
    if trial.label is None:
        raise ProtocolError(
            f"Trial {trial.utterance!r} has no label; training and judging need the key."
        )
    return trial.label == "bonafide"


def first_window(x: Samples, length: int) -> Samples:
    """The first `length` samples; a shorter clip is repeated from its start.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        n >= 1.
    length : int

    Returns
    -------
    np.ndarray [shape=(length,)]

    Raises
    ------
    ParameterError
        If the clip is empty.
    """
    if not len(x):
        raise ParameterError("The 'x' parameter of first_window must not be empty.")
    window: Samples = x[:length] if len(x) >= length else np.resize(x, length)
    return window


def random_window(x: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A random stretch of `length` samples; a shorter clip is repeated from its start.

    Parameters
    ----------
    x : np.ndarray [shape=(n,)]
        n >= 1.
    length : int
    rng : np.random.Generator
        Drawn from once, whatever the length of the clip.

    Returns
    -------
    np.ndarray [shape=(length,)]

    Raises
    ------
    ParameterError
        If the clip is empty.
    """
    share = rng.random()
    spare = max(0, len(x) - length)
    return first_window(x[int(share * (spare + 1)) :], length)


class TrainingCrops(Dataset[Item]):
    """A random, perturbed crop of every trial, another one each epoch.

    Items are (waveform [shape=(length,)], bona fide?, place in the protocol), for
    :meth:`voiceguard.training.data.Batch.collate`.

    Parameters
    ----------
    trials : sequence of Trial
        Labelled.
    clips : Clips
        Their audio, in the same order.
    length : int
        Samples of a crop.
    perturb : callable, optional
        Applied to the whole clip before it is cut; see
        :func:`voiceguard.training.perturb.build_pipeline`.
    seed : int

    Attributes
    ----------
    epoch : int
        Which epoch's crops it gives.

    Raises
    ------
    ProtocolError
        If a label is withheld, or a class is absent.
    ParameterError
        If there are not as many clips as trials.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        clips: Clips,
        *,
        length: int,
        perturb: Perturb | None = None,
        seed: int = 0,
    ) -> None:
        self.bonafide = [label_of(trial) for trial in trials]
        if len(set(self.bonafide)) < 2:
            raise ProtocolError("Training needs bona fide and spoof trials. Got one class only.")
        _check_clips(trials, clips)
        self.clips = clips
        self.length = length
        self.perturb = perturb
        self.seed = seed
        self.epoch = 1

    def __len__(self) -> int:
        return len(self.bonafide)

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        x = self.clips.clip(index)
        if self.perturb is not None:
            x = self.perturb(x, rng)
        crop = np.ascontiguousarray(random_window(x, self.length, rng))
        return crop, self.bonafide[index], index


class Windows(Dataset[Item]):
    """The first window of every trial, as scored. A withheld label counts as spoof here.

    Parameters
    ----------
    trials : sequence of Trial
    clips : Clips
        Their audio, in the same order.
    length : int
        Samples of a window.

    Raises
    ------
    ParameterError
        If there are not as many clips as trials.
    """

    def __init__(self, trials: Sequence[Trial], clips: Clips, *, length: int) -> None:
        _check_clips(trials, clips)
        self.trials = trials
        self.clips = clips
        self.length = length

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, index: int) -> Item:
        window = np.ascontiguousarray(first_window(self.clips.clip(index), self.length))
        return window, self.trials[index].label == "bonafide", index


class EpochBatches(Sampler[list[int]]):
    """The batches of an epoch in a shuffled order, from any of them on.

    Each of `processes` takes its own part of every global batch, so that two processes see what one
    with twice the batch does. Trials that do not fill a last step are left out until the next
    shuffle.

    Parameters
    ----------
    count : int
        Trials.
    batch_size : int
        Trials of one process in one batch.
    accumulate : int
        Batches a step of the optimiser.
    seed : int
    process, processes : int
        Which process of how many.

    Attributes
    ----------
    epoch : int
        Sets the order.
    start : int
        Batches to leave out at the start, for a run that is resumed in the middle.

    Raises
    ------
    ParameterError
        If there are fewer trials than one step takes.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.process, self.processes = process, processes
        self.epoch = 1
        self.start = 0
        self.steps = count // (batch_size * accumulate * processes)
        self.batches = self.steps * accumulate
        if self.steps < 1:
            raise ParameterError(
                f"One step takes {batch_size * accumulate * processes} trials (batch size times "
                f"accumulation times processes). Got {count} trials in all."
            )

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch, _ORDER]).permutation(self.count)
        for batch in range(self.start, self.batches):
            at = (batch * self.processes + self.process) * self.batch_size
            yield [int(index) for index in order[at : at + self.batch_size]]


def _check_clips(trials: Sequence[Trial], clips: Clips) -> None:
    if len(trials) != len(clips):
        raise ParameterError(
            f"The 'clips' parameter must hold a clip a trial, {len(trials)}. "
            f"Got {len(clips)} instead."
        )
