"""Scores laid beside their trials; what does not match is refused, with a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols.reading import AUDIO_SUFFIXES, select_subset
from voiceguard.protocols.trial import Trial

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Key = Literal["exact", "stem"]
_SHOWN = 10


class MismatchError(ProtocolError):
    """Scores and trials are not the same set.

    Parameters
    ----------
    missing : sequence of str
        Utterances of the protocol that have no score.
    extra : sequence of str
        Scored utterances that the protocol does not know.
    """

    def __init__(self, missing: Sequence[str], extra: Sequence[str]) -> None:
        self.missing = tuple(missing)
        self.extra = tuple(extra)
        super().__init__(
            f"Scores and protocol do not match: {len(self.missing)} trials without a score"
            f"{_some(self.missing)}, {len(self.extra)} scores without a trial{_some(self.extra)}."
        )

    def __reduce__(self) -> tuple[type[MismatchError], tuple[tuple[str, ...], tuple[str, ...]]]:
        return type(self), (self.missing, self.extra)


@dataclass(frozen=True, eq=False)
class ScoredTrials:
    """Trials with their scores, by class, in the order of the protocol.

    Parameters
    ----------
    bonafide, spoof : tuple of Trial
        The trials of each class.
    bonafide_scores, spoof_scores : np.ndarray [shape=(n,), dtype=float64]
        Their scores.
    missing : tuple of str
        Trials left out for want of a score; empty unless that was allowed.
    """

    bonafide: tuple[Trial, ...]
    spoof: tuple[Trial, ...]
    bonafide_scores: NDArray[np.float64]
    spoof_scores: NDArray[np.float64]
    missing: tuple[str, ...] = ()

    def groups(self, by: str) -> tuple[list[str], list[str]] | None:
        """Name the group of every trial.

        Parameters
        ----------
        by : str
            A field of :class:`Trial`, such as ``speaker``, or an extra column.

        Returns
        -------
        (list of str, list of str) or None
            For the bona fide and the spoof trials, ``-`` where a trial has none; None where no
            trial has any.
        """
        named = [[trial.get(by) or "-" for trial in of] for of in (self.bonafide, self.spoof)]
        if all(name == "-" for of in named for name in of):
            return None
        return named[0], named[1]


def match(
    scores: Mapping[str, float],
    trials: Iterable[Trial],
    *,
    subset: str | None = None,
    key: Key = "exact",
    partial: bool = False,
) -> ScoredTrials:
    """Lay scores beside the trials of a protocol.

    Parameters
    ----------
    scores : mapping of str to float
        Score by utterance, as :func:`read_scores` gives it.
    trials : iterable of Trial
        The whole protocol (read with ``subset="all"``): a score outside the subset is no error,
        one outside the protocol is.
    subset : str or None
        Part to keep; as in :func:`read_trials` it must be named where there are parts.
    key : {"exact", "stem"}
        ``stem`` compares names without folders and audio suffix.
    partial : bool
        Leave out trials that have no score instead of refusing; they are listed in the result.

    Returns
    -------
    ScoredTrials

    Raises
    ------
    MismatchError
        If a trial has no score (unless `partial`) or a score no trial.
    ProtocolError
        If two trials or two scores share a name, a trial has no label, or a subset is wanted and
        not given.
    ParameterError
        If `key` is neither.
    """
    by_name = _by_name(scores, key)
    whole = list(trials)
    names = _distinct(whole, key)
    chosen = list(select_subset(whole, subset))
    extra = [of for name, (of, _) in by_name.items() if name not in names]
    missing = [trial.utterance for trial in chosen if _name(trial.utterance, key) not in by_name]
    if extra or (missing and not partial):
        raise MismatchError(missing, extra)
    return _split(chosen, by_name, key, missing)


def _split(
    trials: Sequence[Trial],
    by_name: Mapping[str, tuple[str, float]],
    key: Key,
    missing: Sequence[str],
) -> ScoredTrials:
    import numpy as np

    kept: dict[str, list[Trial]] = {"bonafide": [], "spoof": []}
    values: dict[str, list[float]] = {"bonafide": [], "spoof": []}
    for trial in trials:
        found = by_name.get(_name(trial.utterance, key))
        if found is None:
            continue
        if trial.label is None:
            raise ProtocolError(f"Trial {trial.utterance!r} has no label; the key is needed.")
        kept[trial.label].append(trial)
        values[trial.label].append(found[1])
    return ScoredTrials(
        tuple(kept["bonafide"]),
        tuple(kept["spoof"]),
        np.array(values["bonafide"], dtype=np.float64),
        np.array(values["spoof"], dtype=np.float64),
        tuple(missing),
    )


def _name(utterance: str, key: Key) -> str:
    if key == "exact":
        return utterance
    pure = PurePosixPath(utterance)
    return pure.stem if pure.suffix.lower() in AUDIO_SUFFIXES else pure.name


def _by_name(scores: Mapping[str, float], key: Key) -> dict[str, tuple[str, float]]:
    if key not in ("exact", "stem"):
        raise ParameterError(
            f"The 'key' parameter of match must be 'exact' or 'stem'. Got {key!r} instead."
        )
    found: dict[str, tuple[str, float]] = {}
    for utterance, score in scores.items():
        before = found.setdefault(_name(utterance, key), (utterance, score))
        if before[0] != utterance:
            raise ProtocolError(f"Scores {before[0]!r} and {utterance!r} share one name.")
    return found


def _distinct(trials: Sequence[Trial], key: Key) -> set[str]:
    names: set[str] = set()
    for trial in trials:
        name = _name(trial.utterance, key)
        if name in names:
            raise ProtocolError(f"The protocol holds two trials named {name!r}.")
        names.add(name)
    return names


def _some(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _SHOWN else ""
    return f" ({', '.join(names[:_SHOWN])}{more})"
