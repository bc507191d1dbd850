"""Protocols in: a stream of trials from any of the formats."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols._lines import PathLike, fault, numbered_lines
from voiceguard.protocols.layouts import LAYOUTS
from voiceguard.protocols.trial import Trial, parse_label

FORMATS = (*LAYOUTS, "in-the-wild", "csv", "folder")
"""The names of the formats."""

ALL_SUBSETS = "all"
"""The subset that stands for the whole protocol."""

AUDIO_SUFFIXES = frozenset(
    [
        *(".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac"),
        *(".aiff", ".aif", ".au", ".webm", ".amr", ".gsm"),
    ]
)
"""Suffixes, lower case, that count as audio in a folder."""

_ALIASES = {
    "utterance": ("utterance", "id", "utterance_id"),
    "path": ("path", "file", "filename"),
    "speaker": ("speaker",),
    "label": ("label", "key"),
    "attack": ("attack", "system"),
    "codec": ("codec",),
    "subset": ("subset",),
}


def read_trials(path: PathLike, format: str, *, subset: str | None = None) -> Iterator[Trial]:
    """Stream the trials of a protocol.

    Parameters
    ----------
    path : str or os.PathLike
        The protocol's file, gzip or plain; a folder for the format ``folder``.
    format : str
        One of :data:`FORMATS`. ``csv`` needs a header with ``utterance`` (or ``id``) or ``path``
        (or ``file``), and ``label``; ``speaker``, ``attack`` (or ``system``), ``codec`` and
        ``subset`` are taken where they stand, other columns come along as extra. ``folder`` holds
        folders named ``bonafide`` and ``spoof`` (or ``real``, ``fake`` ...).
    subset : str or None
        ``eval``, ``progress``, ``hidden``, or ``all`` for the whole. A protocol that has subsets
        is never read without one, for a figure over the wrong part looks like any other.

    Returns
    -------
    iterator of Trial
        In the order of the file; by name for ``folder``.

    Raises
    ------
    ParameterError
        If the format is unknown.
    ProtocolError
        If the file cannot be read or a line is malformed (it names file and line), if a subset is
        wanted and not given, or given and not there. Raised while the trials are drawn.
    """
    if format not in FORMATS:
        raise ParameterError(
            f"The 'format' parameter of read_trials must be one of {', '.join(FORMATS)}. "
            f"Got {format!r} instead."
        )
    return select_subset(_read(path, format), subset, source=os.fspath(path))


def guess_format(path: PathLike) -> str:
    """Tell a protocol's format by its first line.

    Parameters
    ----------
    path : str or os.PathLike
        The file, or the folder of ``folder``.

    Returns
    -------
    str
        One of :data:`FORMATS`; ``asvspoof2019-la`` also for PA, whose lines look alike.

    Raises
    ------
    ProtocolError
        If the file cannot be read, is empty or looks like none of the formats.
    """
    if Path(path).is_dir():
        return "folder"
    number, first = next(numbered_lines(path), (1, ""))
    header = [name.strip().lower() for name in first.split(",")]
    if header == ["file", "speaker", "label"]:
        return "in-the-wild"
    if "label" in header:
        return "csv"
    width = len(first.split())
    for name, layouts in LAYOUTS.items():
        if width in {len(layout.columns) for layout in layouts}:
            return name
    raise fault(
        path,
        number,
        f"{width} columns fit none of the formats {', '.join(FORMATS)}. Name the format.",
    )


def select_subset(
    trials: Iterable[Trial], subset: str | None, *, source: str = "The protocol"
) -> Iterator[Trial]:
    """Keep the trials of one subset, under the rule that a subset is named where there are any.

    Parameters
    ----------
    trials : iterable of Trial
        The whole protocol.
    subset : str or None
        ``all`` keeps everything.
    source : str
        What the trials come from, for the message.

    Yields
    ------
    Trial

    Raises
    ------
    ProtocolError
        If a subset is wanted and not given, or given and not there.
    """
    seen: set[str | None] = set()
    for trial in trials:
        seen.add(trial.subset)
        if subset is None and trial.subset is not None:
            raise ProtocolError(
                f"{source} has subsets. Name one ('eval', 'progress', 'hidden'), or 'all'."
            )
        if subset in (None, ALL_SUBSETS, trial.subset):
            yield trial
    if subset not in (None, ALL_SUBSETS) and subset not in seen:
        there = ", ".join(sorted(name for name in seen if name)) or "none"
        raise ProtocolError(f"{source} holds no subset {subset!r}. It has: {there}.")


def _read(path: PathLike, format: str) -> Iterator[Trial]:
    if format == "folder":
        return _read_folder(Path(path))
    if format == "in-the-wild":
        return _read_csv(path, required=("path", "speaker", "label"))
    if format == "csv":
        return _read_csv(path, required=("label",))
    return _read_columns(path, format)


def _read_columns(path: PathLike, format: str) -> Iterator[Trial]:
    layouts = {len(layout.columns): layout.parser() for layout in LAYOUTS[format]}
    expected = " or ".join(str(width) for width in layouts)
    parse: Callable[[Sequence[str]], Trial] | None = None
    width = 0
    for number, text in numbered_lines(path):
        values = text.split()
        if len(values) != width:
            # One file keeps to one layout: the first line settles which.
            parse = layouts.get(len(values)) if parse is None else None
            width = len(values)
        if parse is None:
            raise fault(
                path, number, f"{format} has {expected} columns. Got {len(values)} instead."
            )
        try:
            yield parse(values)
        except ValueError as error:
            raise fault(path, number, f"{error}.") from error


def _read_csv(path: PathLike, *, required: Sequence[str]) -> Iterator[Trial]:
    number = 1

    def lines() -> Iterator[str]:
        nonlocal number
        for at, text in numbered_lines(path):
            number = at
            yield text + "\n"

    try:
        reader = csv.reader(lines(), strict=True)
        header = next(reader, None)
        if header is None:
            raise fault(path, 1, "the file is empty; a header was expected.")
        build = _csv_builder(path, header, required)
        for values in reader:
            if len(values) != len(header):
                raise fault(
                    path,
                    number,
                    f"the header names {len(header)} columns. Got {len(values)} instead.",
                )
            try:
                yield build(values)
            except ValueError as error:
                raise fault(path, number, f"{error}.") from error
    except csv.Error as error:
        raise fault(path, number, f"is no CSV ({error}).") from error


def _csv_builder(
    path: PathLike, header: Sequence[str], required: Sequence[str]
) -> Callable[[Sequence[str]], Trial]:
    """Return a function from the columns of a row to a trial."""
    names = [name.strip().lower() for name in header]
    place = {
        field: names.index(alias)
        for field, aliases in _ALIASES.items()
        for alias in reversed(aliases)
        if alias in names
    }
    lacking = [field for field in required if field not in place]
    if "utterance" not in place and "path" not in place:
        lacking.append("utterance")
    if lacking:
        raise fault(
            path,
            1,
            f"the header lacks {', '.join(repr(name) for name in lacking)}. Got "
            f"{', '.join(repr(name) for name in header)} instead.",
        )
    taken = set(place.values())
    extra = [(i, name.strip()) for i, name in enumerate(header) if i not in taken]

    def build(values: Sequence[str]) -> Trial:
        def pick(field: str) -> str | None:
            return values[place[field]].strip() or None if field in place else None

        label_text, audio = pick("label"), pick("path")
        label = None if label_text in (None, "-") else parse_label(label_text or "")
        if label is None and label_text not in (None, "-"):
            raise ValueError(f"the label must be 'bonafide' or 'spoof'. Got {label_text!r} instead")
        utterance = pick("utterance") or (_without_suffix(audio) if audio else None)
        if utterance is None:
            raise ValueError("the row names no utterance")
        return Trial(
            utterance=utterance,
            speaker=pick("speaker"),
            label=label,
            attack=None if label == "bonafide" else pick("attack"),
            codec=pick("codec"),
            subset=pick("subset"),
            path=audio,
            extra=tuple((name, values[i]) for i, name in extra),
        )

    return build


def _without_suffix(path: str) -> str:
    """Name an utterance after its file, folders kept so that names stay apart."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix.lower() in AUDIO_SUFFIXES else path


def _read_folder(root: Path) -> Iterator[Trial]:
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError as error:
        raise ProtocolError(f"{root} cannot be read: {error.strerror or error}.") from error
    labelled = [(folder, label) for folder in folders if (label := parse_label(folder.name))]
    if {label for _, label in labelled} != {"bonafide", "spoof"}:
        there = ", ".join(folder.name for folder in folders) or "none"
        raise ProtocolError(
            f"{root} must hold folders named for both classes, such as 'bonafide' and 'spoof'. "
            f"It has: {there}."
        )
    for folder, label in labelled:
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file():
                relative = file.relative_to(root).as_posix()
                yield Trial(_without_suffix(relative), label=label, path=relative)
