"""Error rates on held-out clips while training: clean, and through a telephone."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from split import family, split

from voiceguard.audio.telephony import g711_path
from voiceguard.metrics import eer
from voiceguard.training.corpus import Corpus

WINDOW = 64_160


def window(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The first window; a shorter clip is repeated from its start."""
    return np.resize(x, WINDOW) if len(x) < WINDOW else x[:WINDOW]


def macro_eer(
    scores: npt.NDArray[np.float64],
    bonafide: npt.NDArray[np.bool_],
    families: Sequence[str],
) -> float:
    """Equal error rate with each engine family and each recording origin weighted alike, in [0, 1].

    A few large origins rule the plain figure; this one followed voices from elsewhere better.
    """
    sizes = Counter(families)
    weight = np.array([1.0 / sizes[name] for name in families])
    order = np.argsort(scores, kind="stable")
    human, weight = bonafide[order], weight[order]
    miss = np.cumsum(weight * human) / np.sum(weight * human)
    false_alarm = 1.0 - np.cumsum(weight * ~human) / np.sum(weight * ~human)
    # Sums of weights end beside one by a rounding error.
    false_alarm = np.maximum(false_alarm, 0.0)
    i = int(np.argmin(np.abs(miss - false_alarm)))
    return float((miss[i] + false_alarm[i]) / 2.0)


def errors(
    scores: npt.NDArray[np.float64], bonafide: npt.NDArray[np.bool_], families: Sequence[str]
) -> tuple[float, float]:
    """Equal error rate, plain and with families weighted alike, in [0, 1]."""
    plain = float(eer(scores[bonafide], scores[~bonafide]).value)
    return plain, macro_eer(scores, bonafide, families)


def told(name: str, plain: float, macro: float) -> str:
    """A line that says both errors."""
    return f"{name}: EER {100 * plain:.1f} %, macro {100 * macro:.1f} %"


def write_scores(
    path: Path, bonafide: npt.NDArray[np.bool_], scores: Mapping[str, npt.NDArray[np.float64]]
) -> None:
    """The scores behind the calibration and the operating points."""
    with gzip.GzipFile(path, "wb", mtime=0) as packed, io.TextIOWrapper(packed, "utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "channel", "score"])
        for channel, values in scores.items():
            for good, value in zip(bonafide, values, strict=True):
                writer.writerow(["bonafide" if good else "spoof", channel, f"{value:.6f}"])


def read_scores(path: Path) -> tuple[npt.NDArray[np.bool_], dict[str, npt.NDArray[np.float64]]]:
    """What :func:`write_scores` wrote: labels, True for bona fide, and scores by channel."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    channels = dict.fromkeys(row["channel"] for row in rows)
    first = next(iter(channels))
    bonafide = np.array([row["label"] == "bonafide" for row in rows if row["channel"] == first])
    scores = {
        channel: np.array([float(row["score"]) for row in rows if row["channel"] == channel])
        for channel in channels
    }
    return bonafide, scores


class HeldOut:
    """Judge a model on the held-out clips of a fold.

    Parameters
    ----------
    corpus : Corpus
    fold : int
    released : collection of str
        Parts of the fold that train, see :func:`split.split`.
    limit : int
        At most this many clips, taken by even stride; 0 for all.
    bfloat16 : bool
        Run the model in bfloat16 where it may: four times faster on some processors.
    """

    def __init__(
        self,
        corpus: Corpus,
        fold: int,
        *,
        released: Collection[str] = (),
        limit: int = 0,
        bfloat16: bool = False,
    ) -> None:
        self.bfloat16 = bfloat16
        rows = split(corpus.rows, fold, released=released).held_out
        if limit and limit < len(rows):
            rows = rows[np.linspace(0, len(rows) - 1, limit).astype(int)]
        self.rows = rows
        self.bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
        self.families = [family(corpus.rows[i]) for i in rows]
        self.clips = {
            "clean": np.stack([window(corpus.clip(i)) for i in rows]),
            "g711": np.stack([window(g711_path(corpus.clip(i))) for i in rows]),
        }

    def scores(self, model: torch.nn.Module, channel: str) -> npt.NDArray[np.float64]:
        """Raw scores of each held-out clip through a channel."""
        scores = []
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)
        with torch.inference_mode(), autocast:
            for batch in torch.from_numpy(self.clips[channel]).split(16):
                logits = model(batch).logits.double()
                scores.append((logits[:, 1] - logits[:, 0]).numpy())
        return np.concatenate(scores)

    def __call__(self, model: torch.nn.Module) -> dict[str, float]:
        """Equal error rate by channel, plain and by family, in [0, 1]."""
        figures = {}
        for channel in self.clips:
            s = self.scores(model, channel)
            plain, macro = errors(s, self.bonafide, self.families)
            figures[f"eer_{channel}"], figures[f"macro_{channel}"] = plain, macro
        return figures
