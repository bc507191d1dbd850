"""Scores of the challenges' own speaker verifier, which the t-DCF needs."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from voiceguard.errors import ProtocolError
from voiceguard.protocols._lines import PathLike, fault, numbered_lines
from voiceguard.protocols.layouts import SUBSET_SPELLINGS
from voiceguard.protocols.reading import ALL_SUBSETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KINDS = ("target", "nontarget", "spoof")
_KEY_COLUMNS = 8


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
    kinds = _no_scores()
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
    return _gathered(path, kinds, "")


def read_asv_scores_2021(path: PathLike, keys: PathLike, *, subset: str) -> AsvScores:
    """Read the ASV scores of ASVspoof 2021 with their keys, which lie in a file of their own.

    A line of the scores is speaker, utterance, score; the same line of the keys is speaker,
    utterance, codec, transmission, attack, key, trim, subset. The lines are paired by their order,
    as the official package does, and here their names must agree.

    Parameters
    ----------
    path : str or os.PathLike
        The scores, ``keys/LA/ASV/ASVTorch_Kaldi/score.txt``, gzip or plain.
    keys : str or os.PathLike
        The keys, ``keys/LA/ASV/trial_metadata.txt``.
    subset : str
        ``eval``, ``progress``, ``hidden``, or ``all`` for every line: the one that the
        countermeasure is judged on.

    Returns
    -------
    AsvScores

    Raises
    ------
    ProtocolError
        If a file cannot be read, a line is malformed, the two files do not fit, or the subset lacks
        a kind of trial.
    """
    kinds = _no_scores()
    for scored, keyed in zip_longest(numbered_lines(path), numbered_lines(keys)):
        if scored is None or keyed is None:
            shorter, longer = (path, keys) if scored is None else (keys, path)
            raise ProtocolError(
                f"{os.fspath(shorter)} holds fewer trials than {os.fspath(longer)}; the ASV scores "
                "and their keys must list the same ones."
            )
        key = _key(keys, *keyed)
        number, text = scored
        values = text.split()
        if len(values) != 3 or values[:2] != key.names:
            raise fault(
                path,
                number,
                f"'{' '.join(key.names)}' and a score were expected, as on line {keyed[0]} of "
                f"{os.fspath(keys)}. Got {text!r} instead.",
            )
        if subset in (ALL_SUBSETS, key.subset):
            kinds[key.kind].append(_number(path, number, values[2]))
    return _gathered(path, kinds, "" if subset == ALL_SUBSETS else f" in the subset {subset!r}")


class _Key(NamedTuple):
    names: list[str]
    kind: str
    subset: str


def _key(path: PathLike, number: int, text: str) -> _Key:
    values = text.split()
    if len(values) != _KEY_COLUMNS or values[5] not in _KINDS:
        raise fault(
            path,
            number,
            "speaker, utterance, codec, transmission, attack, key (target, nontarget or spoof), "
            f"trim and subset were expected. Got {text!r} instead.",
        )
    return _Key(values[:2], values[5], SUBSET_SPELLINGS.get(values[7], values[7]))


def _no_scores() -> dict[str, list[float]]:
    return {kind: [] for kind in _KINDS}


def _gathered(path: PathLike, kinds: dict[str, list[float]], where: str) -> AsvScores:
    import numpy as np

    lacking = [kind for kind, scores in kinds.items() if not scores]
    if lacking:
        raise ProtocolError(
            f"{os.fspath(path)} holds no trials of kind {', '.join(lacking)}{where}."
        )
    return AsvScores(**{kind: np.array(scores) for kind, scores in kinds.items()})


def _number(path: PathLike, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise fault(path, line, f"the score must be a finite number. Got {text!r} instead.")
    return value
