"""From arguments to inputs: files, folders, patterns, standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voiceguard.errors import AudioNotFoundError

STDIN = "-"
_WITH_HEADER = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".w64", ".rf64", ".caf", ".nist", ".sph", ".voc", ".m4a", ".mp4", ".aac", ".amr",
    ".3gp", ".webm", ".mka", ".mkv", ".wma",
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """One input: its name in the output, and what the detector takes."""

    path: str
    source: Any


def expand(arguments: Iterable[str]) -> list[Input]:
    """Turn arguments into inputs.

    Parameters
    ----------
    arguments : iterable of str
        Paths of files, folders (searched through for audio, by extension, hidden ones left out) or
        patterns that the shell left alone; ``-`` is standard input. A path that does not exist is
        an input too: scoring it says what is wrong.

    Returns
    -------
    list of Input
        In the order of the arguments, a folder's files sorted; each file once.

    Raises
    ------
    AudioNotFoundError
        If a folder holds no audio or a pattern matches nothing.
    """
    found: dict[str, Input] = {}
    for argument in arguments:
        for each in _expand(argument):
            found.setdefault(each.path, each)
    return list(found.values())


def _expand(argument: str) -> Iterator[Input]:
    if argument == STDIN:
        yield Input(STDIN, sys.stdin.buffer)
    elif os.path.isdir(argument):  # noqa: PTH112 - a Path would drop a leading "./"
        yield from _of_folder(argument)
    elif not os.path.lexists(argument) and glob.has_magic(argument):
        yield from _of_pattern(argument)
    else:
        yield Input(argument, argument)


def _of_folder(folder: str) -> Iterator[Input]:
    from voiceguard.audio.containers import HEADERLESS

    suffixes = {*_WITH_HEADER, *HEADERLESS}
    count = 0
    for home, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                count += 1
                path = os.path.join(home, name)  # noqa: PTH118 - as above
                yield Input(path, path)
    if not count:
        raise AudioNotFoundError(
            f"The folder {folder!r} holds no file with an audio extension. Name the files "
            "themselves; their content is what counts then."
        )


def _of_pattern(pattern: str) -> Iterator[Input]:
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207 - a pattern may be absolute
    matches = sorted(path for path in found if Path(path).is_file())
    if not matches:
        raise AudioNotFoundError(f"No file matches {pattern!r}.")
    for path in matches:
        yield Input(path, path)
