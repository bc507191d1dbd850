"""Training crops drawn on the fly: which clip, which stretch, which channel, all from one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from voiceguard.training.augment import ChannelSimulator, crop
from voiceguard.training.corpus import Corpus


@dataclass(frozen=True)
class Batch:
    """A batch of crops.

    Parameters
    ----------
    waveform : Tensor [shape=(batch, n)]
    bonafide : Tensor [shape=(batch,)]
        1 for bona fide, 0 for spoof.
    row : Tensor [shape=(batch,)]
        Row of the manifest.
    """

    waveform: Tensor
    bonafide: Tensor
    row: Tensor

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.waveform.to(device), self.bonafide.to(device), self.row.to(device))

    @staticmethod
    def collate(items: Sequence[tuple[npt.NDArray[np.float32], bool, int]]) -> Batch:
        """One batch of what :class:`CropDataset` gives."""
        waveforms, labels, rows = zip(*items, strict=True)
        return Batch(
            torch.from_numpy(np.stack(waveforms)),
            torch.tensor(labels, dtype=torch.float32),
            torch.tensor(rows),
        )


class CropDataset(Dataset[tuple[npt.NDArray[np.float32], bool, int]]):
    """`per_epoch` crops an epoch; item i of epoch e is a pure function of (seed, e, i).

    That makes a resumed run the same as one that was never stopped, whatever the worker count.

    Parameters
    ----------
    corpus : Corpus
    rows : np.ndarray [shape=(n,)]
        Rows of the manifest to draw from.
    weights : np.ndarray [shape=(n,)]
        Probability of each, summing to 1.
    length : int
        Samples of a crop.
    per_epoch : int
        Crops an epoch.
    simulator : ChannelSimulator
    clean_share : float
        Share of crops that skip the channel.
    seed : int
    """

    def __init__(
        self,
        corpus: Corpus,
        rows: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
        *,
        length: int,
        per_epoch: int,
        simulator: ChannelSimulator,
        clean_share: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.corpus = corpus
        self.rows = rows
        self.weights = weights
        self.length = length
        self.per_epoch = per_epoch
        self.simulator = simulator
        self.clean_share = clean_share
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], bool, int]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        row = int(rng.choice(self.rows, p=self.weights))
        return self.heard(row, rng), self.corpus.rows[row]["label"] == "bonafide", row

    def heard(self, row: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """A stretch of a clip, mostly through a channel.

        Parameters
        ----------
        row : int
            Row of the manifest.
        rng : np.random.Generator
            Draws stretch and channel.

        Returns
        -------
        np.ndarray [shape=(length,)]
            float32.
        """
        x = crop(self.corpus.clip(row), self.length, rng)
        return x if rng.random() < self.clean_share else self.simulator(x, rng)
