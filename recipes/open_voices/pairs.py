"""Pairs for training: a human clip and a copy made from it, the same stretch through one channel.

Speaker, words, room and channel are then the same, and only the artefact tells the two apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from split import source_name
from torch import Tensor
from torch.nn import functional

from voiceguard.training.data import CropDataset

MARGIN = 1.0


def pairs_of(rows: list[dict[str, str]], train: Iterable[int]) -> dict[int, int]:
    """Row of each re-synthesised training clip, with that of the human clip it was made from."""
    train = [int(i) for i in train]
    human = {source_name(rows[i]): i for i in train if rows[i]["label"] == "bonafide"}
    sources = ((i, rows[i]["derived_from"]) for i in train)
    return {i: human[source] for i, source in sources if source in human}


class PairedCrops(CropDataset):
    """As :class:`CropDataset`, a share of the items in pairs: a copy at 2i, its human at 2i + 1.

    Systems of copies are drawn by the root of their size, as families are.

    Parameters
    ----------
    *args, **kwargs
        As for :class:`CropDataset`.
    partner : mapping of int to int
        As :func:`pairs_of` gives it.
    pair_share : float
        Share of the items that come in pairs, in [0, 1].
    """

    def __init__(
        self, *args: Any, partner: Mapping[int, int], pair_share: float, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.partner = dict(partner)
        self.pair_share = pair_share if partner else 0.0
        self.copies = np.array(list(self.partner), dtype=np.int64)
        systems = [self.corpus.rows[i]["system"] for i in self.copies]
        sizes = Counter(systems)
        self.copy_weights = np.array([sizes[name] ** -0.5 for name in systems])
        self.copy_weights /= self.copy_weights.sum() or 1.0

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], bool, int]:
        number, second = divmod(index, 2)
        # The last number keeps these draws apart from those of single items.
        rng = np.random.default_rng([self.seed, self.epoch, number, 1])
        if rng.random() >= self.pair_share:
            return super().__getitem__(index)
        copy = int(rng.choice(self.copies, p=self.copy_weights))
        row = self.partner[copy] if second else copy
        return self.heard(row, rng), bool(second), row


def pair_loss(score: Tensor, row: Tensor, partner: Mapping[int, int]) -> Tensor:
    """How far a copy is from scoring :data:`MARGIN` below its human; 0 without pairs.

    Parameters
    ----------
    score : Tensor [shape=(batch,)]
        Log-odds of bona fide.
    row : Tensor [shape=(batch,)]
        Row of each item; a copy stands right before its human.
    partner : mapping of int to int
        As :func:`pairs_of` gives it.
    """
    rows = row.tolist()
    places = [i for i in range(len(rows) - 1) if partner.get(rows[i]) == rows[i + 1]]
    if not places:
        return score.sum() * 0.0
    copy = score[places]
    human = score[[i + 1 for i in places]]
    return functional.softplus(MARGIN - (human - copy)).mean()
