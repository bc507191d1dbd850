"""Score files of the challenges, and plain CSV.

================  ============================================================  =========
format            columns                                                       header
================  ============================================================  =========
``asvspoof2019``  utterance attack label score                                  no
``asvspoof2021``  utterance score                                               no
``asvspoof5``     filename, cm-score; tab                                       yes
``sasv``          spk, filename, cm-score, asv-score, sasv-score; tab           yes
``csv``           utterance (or id, path, file, filename), score; comma         yes
================  ============================================================  =========

Utterance ids may hold blanks: the columns are taken from the right.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TextIO

from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols._lines import PathLike, fault, numbered_lines, replacing

SCORE_FORMATS = ("asvspoof2019", "asvspoof2021", "asvspoof5", "sasv", "csv")
"""The names of the formats."""

_HEADERS = {
    "asvspoof5": ("filename", "cm-score"),
    "sasv": ("spk", "filename", "cm-score", "asv-score", "sasv-score"),
}
_CSV_NAMES = ("utterance", "id", "utterance_id", "path", "file", "filename")


class ScoreRow(NamedTuple):
    """One line of a score file.

    Parameters
    ----------
    utterance : str
        The trial's id.
    score : float
        The countermeasure's, higher = more bona fide.
    speaker : str or None
        The claimed speaker (``sasv``).
    asv_score, sasv_score : float or None
        The verifier's and the whole system's score (``sasv``).
    attack, label : str or None
        What ``asvspoof2019`` repeats of the protocol.
    """

    utterance: str
    score: float
    speaker: str | None = None
    asv_score: float | None = None
    sasv_score: float | None = None
    attack: str | None = None
    label: str | None = None


def iter_scores(path: PathLike, format: str | None = None) -> Iterator[ScoreRow]:
    """Stream the rows of a score file.

    Parameters
    ----------
    path : str or os.PathLike
        Gzip or plain.
    format : str or None
        One of :data:`SCORE_FORMATS`; None: told by the first line.

    Yields
    ------
    ScoreRow

    Raises
    ------
    ParameterError
        If the format is unknown.
    ProtocolError
        If the file cannot be read or a line is malformed; it names file and line.
    """
    if format is not None and format not in SCORE_FORMATS:
        raise ParameterError(
            f"The 'format' parameter of iter_scores must be one of {', '.join(SCORE_FORMATS)}. "
            f"Got {format!r} instead."
        )
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None:
        raise ProtocolError(f"{os.fspath(path)} holds no scores.")
    kind = format or _tell(first[1])
    try:
        parse = _headed(kind, first[1])
        if parse is None:
            parse = _row_2019 if kind == "asvspoof2019" else _row_2021
            yield parse(first[1])
    except ValueError as error:
        raise fault(path, first[0], f"{error}.") from error
    for number, text in lines:
        try:
            row = parse(text)
        except (ValueError, csv.Error) as error:
            raise fault(path, number, f"{error}.") from error
        yield row


def read_scores(path: PathLike, format: str | None = None) -> dict[str, float]:
    """Read the countermeasure's scores.

    Parameters
    ----------
    path : str or os.PathLike
        Gzip or plain.
    format : str or None
        One of :data:`SCORE_FORMATS`; None: told by the first line.

    Returns
    -------
    dict of str to float
        Score by utterance.

    Raises
    ------
    ParameterError
        If the format is unknown.
    ProtocolError
        If the file cannot be read, a line is malformed, or an utterance has two scores that
        differ.
    """
    found: dict[str, float] = {}
    for row in iter_scores(path, format):
        if found.setdefault(row.utterance, row.score) != row.score:
            raise ProtocolError(
                f"{os.fspath(path)} scores {row.utterance!r} twice: {found[row.utterance]!r} and "
                f"{row.score!r}."
            )
    return found


def write_scores(path: PathLike, rows: Iterable[ScoreRow], format: str) -> int:
    """Write a score file; it takes its name only once it is whole.

    Parameters
    ----------
    path : str or os.PathLike
        Compressed where it ends in ``.gz``.
    rows : iterable of ScoreRow
        Drawn one by one.
    format : str
        One of :data:`SCORE_FORMATS`.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ParameterError
        If the format is unknown.
    ProtocolError
        If a row lacks what the format needs, or the file cannot be written.
    """
    if format not in SCORE_FORMATS:
        raise ParameterError(
            f"The 'format' parameter of write_scores must be one of {', '.join(SCORE_FORMATS)}. "
            f"Got {format!r} instead."
        )
    try:
        with replacing(path) as stream:
            return _write(stream, rows, format)
    except ProtocolError:
        raise
    except ValueError as error:
        raise ProtocolError(f"{os.fspath(path)}: {error}.") from error


def _tell(first: str) -> str:
    """Tell the format by a file's first line."""
    names = tuple(first.split("\t"))
    for kind, header in _HEADERS.items():
        if names == header:
            return kind
    if "score" in _csv_header(first):
        return "csv"
    fields = first.rsplit(maxsplit=3)
    if len(fields) == 4 and fields[2] in ("bonafide", "spoof"):
        return "asvspoof2019"
    return "asvspoof2021"


def _csv_header(first: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([first]), [])]


def _headed(kind: str, first: str) -> Callable[[str], ScoreRow] | None:
    """Give the parser of a format that has a header, having checked it; None for the others."""
    if kind == "csv":
        return _csv_parser(_csv_header(first))
    if kind in _HEADERS:
        if tuple(first.split("\t")) != _HEADERS[kind]:
            raise ValueError(
                f"the header must be {' '.join(_HEADERS[kind])}, separated by tabs. "
                f"Got {first!r} instead"
            )
        return _row_sasv if kind == "sasv" else _row_asvspoof5
    return None


def _csv_parser(header: Sequence[str]) -> Callable[[str], ScoreRow]:
    named = [name for name in _CSV_NAMES if name in header]
    if not named or "score" not in header:
        raise ValueError(
            f"the header must name 'score' and one of {', '.join(_CSV_NAMES)}. "
            f"Got {', '.join(header)} instead"
        )
    at_utterance, at_score = header.index(named[0]), header.index("score")

    def parse(text: str) -> ScoreRow:
        values = next(csv.reader([text], strict=True))
        if len(values) != len(header):
            raise ValueError(f"the header names {len(header)} columns. Got {len(values)} instead")
        return ScoreRow(values[at_utterance], _number(values[at_score]))

    return parse


def _row_2019(text: str) -> ScoreRow:
    utterance, attack, label, score = _from_right(text, 4)
    attack_or_none = None if attack == "-" else attack
    return ScoreRow(utterance, _number(score), attack=attack_or_none, label=label)


def _row_2021(text: str) -> ScoreRow:
    utterance, score = _from_right(text, 2)
    return ScoreRow(utterance, _number(score))


def _row_asvspoof5(text: str) -> ScoreRow:
    utterance, score = _from_right(text, 2, separator="\t")
    return ScoreRow(utterance, _number(score))


def _row_sasv(text: str) -> ScoreRow:
    speaker, utterance, cm, asv, sasv = _from_right(text, 5, separator="\t")
    return ScoreRow(utterance, _number(cm), speaker, _number(asv), _number(sasv))


def _from_right(text: str, columns: int, separator: str | None = None) -> list[str]:
    fields = text.strip().rsplit(separator, columns - 1)
    if len(fields) != columns:
        raise ValueError(f"{columns} columns were expected. Got {len(fields)} instead")
    return fields


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the score must be a finite number. Got {text!r} instead")
    return value


def _write(stream: TextIO, rows: Iterable[ScoreRow], format: str) -> int:
    separator = {"csv": ",", "asvspoof5": "\t", "sasv": "\t"}.get(format, " ")
    header = ("utterance", "score") if format == "csv" else _HEADERS.get(format)
    if header:
        stream.write(separator.join(header) + "\n")
    count = 0
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        columns = _columns(row, format)
        if format == "csv":
            writer.writerow(columns)
        else:
            stream.write(separator.join(columns) + "\n")
        count += 1
    return count


def _columns(row: ScoreRow, format: str) -> list[str]:
    score = repr(float(row.score))
    if format == "asvspoof2019":
        if row.label is None:
            raise ValueError(f"{row.utterance!r} needs a label in this format")
        return [row.utterance, row.attack or "-", row.label, score]
    if format == "sasv":
        if row.speaker is None or row.asv_score is None or row.sasv_score is None:
            raise ValueError(
                f"{row.utterance!r} needs a speaker, an asv_score and a sasv_score in this format"
            )
        others = [repr(float(value)) for value in (row.asv_score, row.sasv_score)]
        return [row.speaker, row.utterance, score, *others]
    return [row.utterance, score]
