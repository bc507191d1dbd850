"""Protocols out: trials to a file in any of the formats."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from typing import TextIO

from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols._lines import PathLike, replacing
from voiceguard.protocols.layouts import LAYOUTS, Layout
from voiceguard.protocols.trial import Trial

_WRITABLE = (*LAYOUTS, "in-the-wild", "csv")
_CSV_FIELDS = ("utterance", "path", "speaker", "label", "attack", "codec", "subset")


def write_trials(path: PathLike, trials: Iterable[Trial], format: str) -> int:
    """Write trials as a protocol; the file takes its name only once it is whole.

    Parameters
    ----------
    path : str or os.PathLike
        Compressed where it ends in ``.gz``.
    trials : iterable of Trial
        Drawn one by one.
    format : str
        One of the formats of :func:`read_trials` but ``folder``. A field that the format has no
        column for is left out, a column that the trial has no value for gets ``-``; in ``csv``
        the extra columns are those of the first trial.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ParameterError
        If the format is unknown or cannot be written.
    ProtocolError
        If a trial does not fit the format or the file cannot be written.
    """
    if format not in _WRITABLE:
        raise ParameterError(
            f"The 'format' parameter of write_trials must be one of {', '.join(_WRITABLE)}. "
            f"Got {format!r} instead."
        )
    try:
        with replacing(path) as stream:
            if format in LAYOUTS:
                return _write_columns(stream, trials, LAYOUTS[format][0])
            rows = _csv_rows(trials) if format == "csv" else _in_the_wild_rows(trials)
            return _write_csv(stream, rows)
    except ProtocolError:
        raise
    except ValueError as error:
        raise ProtocolError(f"{os.fspath(path)}: {error}.") from error


def _write_columns(stream: TextIO, trials: Iterable[Trial], layout: Layout) -> int:
    count = 0
    for trial in trials:
        stream.write(" ".join(layout.render(trial)) + "\n")
        count += 1
    return count


def _write_csv(stream: TextIO, rows: Iterable[list[str]]) -> int:
    """Write rows, the first of which is the header, and count the others."""
    writer = csv.writer(stream, lineterminator="\n")
    count = -1
    for row in rows:
        writer.writerow(row)
        count += 1
    return count


def _in_the_wild_rows(trials: Iterable[Trial]) -> Iterator[list[str]]:
    yield ["file", "speaker", "label"]
    for trial in trials:
        yield _in_the_wild(trial)


def _in_the_wild(trial: Trial) -> list[str]:
    if trial.label is None or trial.speaker is None:
        raise ValueError(
            f"trial {trial.utterance!r} needs a speaker and a label in this format. "
            f"Got {trial.speaker!r} and {trial.label!r} instead"
        )
    label = "bona-fide" if trial.label == "bonafide" else "spoof"
    return [trial.path or f"{trial.utterance}.wav", trial.speaker, label]


def _csv_rows(trials: Iterable[Trial]) -> Iterator[list[str]]:
    extra: list[str] | None = None
    for trial in trials:
        names = [name for name, _ in trial.extra]
        if extra is None:
            extra = names
            yield [*_CSV_FIELDS, *extra]
        if names != extra:
            raise ValueError(
                f"trial {trial.utterance!r} must have the extra columns of the first, {extra}. "
                f"Got {names} instead"
            )
        values = [value for _, value in trial.extra]
        yield [*(trial.get(field) or "" for field in _CSV_FIELDS), *values]
    if extra is None:
        yield list(_CSV_FIELDS)
