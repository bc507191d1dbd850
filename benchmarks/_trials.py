"""Labelled clips and systems for the benchmarks that judge one window a clip."""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _held_out import Floats, Samples, even
from voiceguard import Detector
from voiceguard.audio import read
from voiceguard.detect.windows import cut, lay
from voiceguard.errors import ParameterError
from voiceguard.training.corpus import read_manifest

# isort: split
# The recipe is on the path since _held_out was imported.
from evaluate import Scores as Scores
from evaluate import Trials as Trials
from evaluate import figures as figures
from split import split_of

RATE = 16_000
READ_S = 5.0
BATCH = 8
Row = dict[str, str]


@dataclass(frozen=True)
class System:
    """Something that gives a clip's first window a value that grows towards bona fide.

    Parameters
    ----------
    name : str
    sha256 : str
        Of its weights; scores of other weights are not mixed with these.
    score : callable
        Clips at 16 kHz to values, llr where the system is calibrated.
    calibration : str
        What makes an llr of its value, in words; empty where nothing does. Rows by another one are
        not mixed with these.
    balanced : float or None
        Threshold of the operating point ``balanced``: spoof below it.
    everywhere : bool
        False for what is heard on clean clips and under attack only.
    """

    name: str
    sha256: str
    score: Callable[[Sequence[Samples]], Floats]
    calibration: str = ""
    balanced: float | None = None
    everywhere: bool = True

    @property
    def calibrated(self) -> bool:
        """Whether its values are llr."""
        return bool(self.calibration)

    @property
    def rules(self) -> str:
        """What tells its verdicts from those of the same weights, calibrated otherwise."""
        told = f"{self.calibration or 'none'}; balanced {self.balanced}"
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def bundle_system(detector: Detector) -> System:
    """A bundle's own graph and calibration on the first window of each clip.

    Neither the quality gate nor the mean over further windows comes in, so that each clip has a
    value and costs one run of the graph.
    """
    manifest = detector.manifest
    window, calibration = manifest.window_samples, manifest.calibration

    def score(clips: Sequence[Samples]) -> Floats:
        found = []
        for first in range(0, len(clips), BATCH):
            rows = [first_window(x, window) for x in clips[first : first + BATCH]]
            found.append(detector.engine.run(np.concatenate(rows))[0])
        scores = np.concatenate(found).astype(np.float64)
        return scores if calibration is None else calibration.apply(scores)

    points = {point.name: point.threshold for point in manifest.operating_points}
    return System(
        detector.model.id,
        detector.model.sha256,
        score,
        calibration="" if calibration is None else f"{calibration.slope}, {calibration.offset}",
        balanced=points.get("balanced"),
    )


def first_window(x: Samples, window: int) -> Samples:
    """The first window of a clip as the Detector cuts it, (1, window)."""
    return next(cut(x, lay(x, window=window, hop=window)[:1], window=window))


def name_of(row: Mapping[str, str]) -> str:
    """What a manifest calls a clip: its ``id``, else its file."""
    return row.get("id") or row["file"]


def path_of(row: Mapping[str, str], folder: Path) -> Path:
    """Where a clip's audio lies."""
    return folder / (row.get("path") or row["file"])


def balanced_rows(rows: Sequence[Row], clips: int) -> list[Row]:
    """At most `clips` rows: half of either class, and of a class as much of each system.

    Within a system they are taken by even stride; where systems outnumber the places, so are they.
    Rows keep their order. 0 takes all.
    """
    if not clips:
        return list(rows)
    keep: list[int] = []
    for label, share in (("bonafide", clips - clips // 2), ("spoof", clips // 2)):
        systems: dict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            if row["label"] == label:
                systems[row["system"]].append(index)
        keep += _dealt([systems[name] for name in sorted(systems)], share)
    return [rows[index] for index in sorted(keep)]


def _dealt(parts: list[list[int]], share: int) -> list[int]:
    """`share` numbers, as many from each part as it has, a place at a time."""
    takes = [0] * len(parts)
    share = min(share, sum(map(len, parts)))
    while sum(takes) < share:
        open_parts = [i for i, part in enumerate(parts) if takes[i] < len(part)]
        for place in even(len(open_parts), share - sum(takes)):
            takes[open_parts[place]] += 1
    return [
        part[i]
        for part, take in zip(parts, takes, strict=True)
        if take
        for i in even(len(part), take)
    ]


def chosen_rows(args: argparse.Namespace, provenance: Mapping[str, Any]) -> list[Row]:
    """The manifest's rows that ``--rows`` lists or ``--held-out`` leaves, all without either.

    Raises
    ------
    ParameterError
        If nothing is left, or one class only.
    """
    rows = read_manifest(args.data / "manifest.csv")
    if args.held_out:
        rows = [rows[i] for i in split_of(rows, provenance).held_out]
    if args.rows:
        wanted = set(args.rows.read_text("utf-8").split())
        rows = [row for row in rows if wanted & {name_of(row), row.get("path"), row.get("file")}]
    if {row["label"] for row in rows} != {"bonafide", "spoof"}:
        raise ParameterError(f"{args.data}: expected clips of both classes. Got {len(rows)} rows.")
    return rows


def read_trials(rows: list[Row], folder: Path) -> Trials:
    """The first 5 s of clips, first channels, with labels and groups."""
    return Trials(
        rows,
        [read(path_of(row, folder)).samples[0][: int(READ_S * RATE)] for row in rows],
        np.array([row["label"] == "bonafide" for row in rows]),
        np.array([row["group"] for row in rows]),
    )


def data_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which clips."""
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--rows", type=Path, help="file that lists ids or paths of clips to use")
    parser.add_argument(
        "--held-out", action="store_true", help="only what the bundle says it never heard"
    )
