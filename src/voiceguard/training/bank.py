"""A bank of prepared crops on disk: several passes over a corpus, one crop of each clip in each.

Preparing a crop (channel, codecs, a teacher's answer) costs more than learning from it, so each is
made once and learned from several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from voiceguard.errors import ProtocolError
from voiceguard.training.augment import crop

_FULL_SCALE = np.float32(32_767.0)


@dataclass(frozen=True)
class Bank:
    """Passes over a corpus, memory-mapped; row i of each pass belongs to clip i of the manifest.

    Parameters
    ----------
    crops : tuple of np.ndarray [shape=(n_clips, n)]
        int16 at 16 kHz, one array a pass.
    pooled : tuple of np.ndarray [shape=(n_clips, features)]
        A teacher's pooled features of each crop; none where they are kept elsewhere.
    frames : tuple of np.ndarray [shape=(n_clips, steps, axes)]
        What the teacher hears over time; none where nobody kept it.
    """

    crops: tuple[npt.NDArray[np.int16], ...]
    pooled: tuple[npt.NDArray[np.float16], ...] = ()
    frames: tuple[npt.NDArray[np.float16], ...] = ()

    @property
    def n_clips(self) -> int:
        """Clips of the corpus."""
        return len(self.crops[0])

    def crop(self, row: int) -> npt.NDArray[np.float32]:
        """Samples of one crop.

        Parameters
        ----------
        row : int
            Pass number times `n_clips`, plus the clip.

        Returns
        -------
        np.ndarray [shape=(n,)]
            float32 in [-1, 1].
        """
        number, clip = divmod(row, self.n_clips)
        samples: npt.NDArray[np.float32] = self.crops[number][clip].astype(np.float32) / _FULL_SCALE
        return samples


def open_bank(folder: Path | str, passes: Sequence[str]) -> Bank:
    """Open finished passes of a bank.

    Parameters
    ----------
    folder : Path
        Holds one folder a pass.
    passes : sequence of str
        Names of the passes, in the order in which rows count.

    Returns
    -------
    Bank

    Raises
    ------
    ProtocolError
        If a pass is missing, unfinished, or of another corpus than the first.
    """
    arrays: dict[str, list[npt.NDArray[np.generic]]] = {"crops": [], "pooled": [], "frames": []}
    for name in passes:
        _require_finished(Path(folder) / name)
        for key, found in arrays.items():
            path = Path(folder) / name / f"{key}.npy"
            if key != "crops" and not path.is_file():
                continue
            found.append(np.load(path, mmap_mode="r"))
            if len(found[-1]) != len(found[0]):
                raise ProtocolError(
                    f"{folder}: pass {name!r} has {len(found[-1])} clips, {passes[0]!r} has "
                    f"{len(found[0])}; make both from the same corpus."
                )
    return Bank(**{key: tuple(found) for key, found in arrays.items()})  # type: ignore[arg-type]


def _require_finished(folder: Path) -> None:
    stamp, crops = folder / "done.txt", folder / "crops.npy"
    if not stamp.is_file() or not crops.is_file():
        raise ProtocolError(f"{folder}: no such pass of the bank; run the recipe's bank.py first.")
    done, clips = int(stamp.read_text()), len(np.load(crops, mmap_mode="r"))
    if done != clips:
        raise ProtocolError(
            f"{folder}: {done} of {clips} clips are done; run bank.py again, it goes on there."
        )


class BankDataset(Dataset[tuple[npt.NDArray[np.float32], bool, int]]):
    """`per_epoch` crops an epoch; item i of epoch e is a pure function of (seed, e, i).

    Parameters
    ----------
    bank : Bank
    bonafide : np.ndarray [shape=(n_clips,)]
        Whether each clip is bona fide.
    clips : np.ndarray [shape=(n,)]
        Clips to draw from.
    weights : np.ndarray [shape=(n,)]
        Probability of each, summing to 1.
    per_epoch : int
        Crops an epoch.
    seed : int
    length : int, optional
        Samples to take out of each crop, from anywhere in it; by default the whole crop.
    """

    def __init__(
        self,
        bank: Bank,
        bonafide: npt.NDArray[np.bool_],
        clips: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
        *,
        per_epoch: int,
        seed: int = 0,
        length: int | None = None,
    ) -> None:
        self.bank = bank
        self.bonafide = bonafide
        self.clips = clips
        self.cumulative = np.cumsum(weights)
        self.per_epoch = per_epoch
        self.seed = seed
        self.length = length
        self.epoch = 0

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], bool, int]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        drawn = np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right")
        clip = int(self.clips[drawn])
        row = int(rng.integers(len(self.bank.crops))) * self.bank.n_clips + clip
        samples = self.bank.crop(row)
        if self.length is not None:
            samples = crop(samples, self.length, rng)
        return samples, bool(self.bonafide[clip]), row
