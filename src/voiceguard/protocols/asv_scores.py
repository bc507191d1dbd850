"""Scores of the challenges' own speaker verifier, which the t-DCF needs."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voiceguard.errors import ProtocolError
from voiceguard.protocols._lines import PathLike, fault, numbered_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class AsvScores:
    """A verifier's scores by kind of trial, higher = more the claimed speaker.

    Parameters
    ----------
    target, nontarget, spoof : np.ndarray [shape=(n,), dtype=float64]
        The scores.
    """

    target: NDArray[np.float64]
    nontarget: NDArray[np.float64]
    spoof: NDArray[np.float64]


def read_asv_scores(path: PathLike) -> AsvScores:
    """Read the ASV score file of ASVspoof 2019: source, key, score.

    Parameters
    ----------
    path : str or os.PathLike
        For example ``ASVspoof2019.LA.asv.eval.gi.trl.scores.txt``, gzip or plain. Take the one of
        the part that the countermeasure is judged on.

    Returns
    -------
    AsvScores

    Raises
    ------
    ProtocolError
        If the file cannot be read, a line is malformed, or a kind of trial is absent.
    """
    import numpy as np

    kinds: dict[str, list[float]] = {"target": [], "nontarget": [], "spoof": []}
    for number, text in numbered_lines(path):
        values = text.split()
        if len(values) != 3 or values[1] not in kinds:
            raise fault(
                path,
                number,
                "source, key (target, nontarget or spoof) and score were expected. "
                f"Got {text!r} instead.",
            )
        kinds[values[1]].append(_number(path, number, values[2]))
    lacking = [kind for kind, scores in kinds.items() if not scores]
    if lacking:
        raise ProtocolError(f"{os.fspath(path)} holds no trials of kind {', '.join(lacking)}.")
    return AsvScores(**{kind: np.array(scores) for kind, scores in kinds.items()})


def _number(path: PathLike, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise fault(path, line, f"the score must be a finite number. Got {text!r} instead.")
    return value
