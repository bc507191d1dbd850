"""A corpus held against its protocol: counts, names, files, and whether the audio decodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voiceguard.errors import ProtocolError, VoiceguardError
from voiceguard.protocols.reading import AUDIO_SUFFIXES
from voiceguard.protocols.trial import Trial


@dataclass(frozen=True)
class TrialCounts:
    """How many trials of each class; `unlabelled` where the key is withheld."""

    bonafide: int
    spoof: int
    unlabelled: int = 0

    @property
    def total(self) -> int:
        """All trials."""
        return self.bonafide + self.spoof + self.unlabelled


PUBLISHED_COUNTS: dict[str, TrialCounts] = {
    "asvspoof2019-la/train": TrialCounts(2_580, 22_800),
    "asvspoof2019-la/dev": TrialCounts(2_548, 22_296),
    "asvspoof2019-la/eval": TrialCounts(7_355, 63_882),
    "asvspoof2019-pa/train": TrialCounts(5_400, 48_600),
    "asvspoof2019-pa/dev": TrialCounts(5_400, 24_300),
    "asvspoof2019-pa/eval": TrialCounts(18_090, 116_640),
    "asvspoof2021-la/all": TrialCounts(18_452, 163_114),
    "asvspoof2021-la/eval": TrialCounts(14_816, 133_360),
    "asvspoof2021-df/all": TrialCounts(22_617, 589_212),
    "asvspoof2021-df/eval": TrialCounts(14_869, 519_059),
    "asvspoof5/train": TrialCounts(18_797, 163_560),
    "asvspoof5/dev": TrialCounts(31_334, 109_616),
    "asvspoof5/eval": TrialCounts(138_688, 542_086),
    "in-the-wild/all": TrialCounts(19_963, 11_816),
}
"""Trials of each part as its authors publish them, by ``format/part``."""


@dataclass(frozen=True)
class DataReport:
    """What :func:`check` found.

    Parameters
    ----------
    counts : TrialCounts
        Trials in the protocol.
    expected : TrialCounts or None
        Trials that there should be.
    duplicates : tuple of str
        Utterances named more than once.
    missing : tuple of str
        Audio files of trials that are not there.
    extra : tuple of str
        Audio files that no trial names. No fault: the files of a part often lie among others.
    undecodable : tuple of (str, str)
        Audio files that do not decode, each with the reason.
    n_decoded : int
        Files decoded.
    """

    counts: TrialCounts
    expected: TrialCounts | None
    duplicates: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    undecodable: tuple[tuple[str, str], ...]
    n_decoded: int

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss; extra files are no fault."""
        return not self.problems()

    def problems(self) -> tuple[str, ...]:
        """Say what is amiss, one sentence each; empty where nothing is."""
        found = []
        if self.expected is not None and self.counts != self.expected:
            found.append(
                f"The published counts are {_say(self.expected)}. Got {_say(self.counts)} instead."
            )
        for what, items in (
            ("utterances stand more than once", self.duplicates),
            ("audio files are missing", self.missing),
            ("audio files do not decode", self.undecodable),
        ):
            if items:
                found.append(f"{len(items)} {what}.")
        return tuple(found)


def check(
    trials: Iterable[Trial],
    *,
    audio: Path | None = None,
    suffix: str = ".flac",
    expected: TrialCounts | None = None,
    decode: Callable[[Path], Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> DataReport:
    """Hold a corpus against its protocol.

    Parameters
    ----------
    trials : iterable of Trial
        The protocol, or the part of it that is meant.
    audio : Path or None
        Folder of the audio; None: the files are not looked at.
    suffix : str
        Suffix of a trial's file where the trial names no path.
    expected : TrialCounts or None
        What the counts should be; see :data:`PUBLISHED_COUNTS`.
    decode : callable or None
        Takes the path of each file that is there and raises a VoiceguardError or OSError where it
        does not decode: :func:`voiceguard.audio.read`. None: nothing is decoded.
    progress : callable or None
        Told the number of files decoded after each.

    Returns
    -------
    DataReport

    Raises
    ------
    ProtocolError
        If `audio` is no folder, or drawing the trials fails.
    """
    whole = list(trials)
    labels = Counter(trial.label for trial in whole)
    names = Counter(trial.utterance for trial in whole)
    wanted = [trial.path or trial.utterance + suffix for trial in whole]
    there = set() if audio is None else _audio_files(audio)
    present = sorted(there.intersection(wanted))
    undecodable: list[tuple[str, str]] = []
    if audio is not None and decode is not None:
        undecodable = _decode_all(audio, present, decode, progress)
    return DataReport(
        counts=TrialCounts(labels["bonafide"], labels["spoof"], labels[None]),
        expected=expected,
        duplicates=tuple(name for name, times in names.items() if times > 1),
        missing=() if audio is None else tuple(f for f in dict.fromkeys(wanted) if f not in there),
        extra=tuple(sorted(there.difference(wanted))),
        undecodable=tuple(undecodable),
        n_decoded=0 if decode is None else len(present),
    )


def _audio_files(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise ProtocolError(f"{folder} is no folder; the folder of the audio was expected.")
    return {
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.suffix.lower() in AUDIO_SUFFIXES
    }


def _decode_all(
    folder: Path,
    names: Iterable[str],
    decode: Callable[[Path], Any],
    progress: Callable[[int], None] | None,
) -> list[tuple[str, str]]:
    failed = []
    for done, name in enumerate(names, start=1):
        try:
            decode(folder / name)
        except (VoiceguardError, OSError) as error:
            failed.append((name, str(error)))
        if progress is not None:
            progress(done)
    return failed


def _say(counts: TrialCounts) -> str:
    unlabelled = f", {counts.unlabelled} unlabelled" if counts.unlabelled else ""
    return f"{counts.total} ({counts.bonafide} bona fide, {counts.spoof} spoof{unlabelled})"
