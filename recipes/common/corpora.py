"""Where protocols and audio of each corpus lie, as its archives unpack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols import Trial, read_trials


@dataclass(frozen=True)
class Part:
    """One part of a corpus.

    Parameters
    ----------
    protocol, audio : tuple of str
        Places below the data folder, the first that is there counts.
    format : str
        The protocol's, see :func:`voiceguard.protocols.read_trials`.
    published : str
        Key of :data:`voiceguard.protocols.PUBLISHED_COUNTS`; ``{subset}`` is filled in.
    suffix : str
        Of the audio.
    subsets : bool
        Whether a subset must be named.
    asv : tuple of str
        Places of the ASV scores of this part.
    """

    protocol: tuple[str, ...]
    audio: tuple[str, ...]
    format: str
    published: str
    suffix: str = ".flac"
    subsets: bool = False
    asv: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """A corpus: its parts by name, the format of its score files, what its tables break down by."""

    parts: dict[str, Part]
    score_format: str
    by: tuple[str, ...] = ()


def _below(*folders: str, names: str) -> tuple[str, ...]:
    return tuple(f"{folder}{names}" for folder in folders)


def _asvspoof2019_la(part: str, ending: str, asv: bool) -> Part:
    names = {
        "protocol": f"ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{ending}.txt",
        "audio": f"ASVspoof2019_LA_{part}/flac",
        "asv": f"ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.{part}.gi.trl.scores.txt",
    }
    places = {what: _below("", "LA/", names=name) for what, name in names.items()}
    return Part(
        protocol=places["protocol"],
        audio=places["audio"],
        format="asvspoof2019-la",
        published=f"asvspoof2019-la/{part}",
        asv=places["asv"] if asv else (),
    )


def _asvspoof2021(track: str) -> Part:
    return Part(
        protocol=_below("keys/", "", names=f"{track}/CM/trial_metadata.txt"),
        audio=(f"ASVspoof2021_{track}_eval/flac",),
        format=f"asvspoof2021-{track.lower()}",
        published=f"asvspoof2021-{track.lower()}/{{subset}}",
        subsets=True,
    )


def _asvspoof5(part: str, ending: str, *folders: str) -> Part:
    return Part(
        protocol=_below("", "ASVspoof5_protocols/", names=f"ASVspoof5.{ending}.tsv"),
        audio=folders,
        format="asvspoof5",
        published=f"asvspoof5/{part}",
    )


CORPORA = {
    "asvspoof2019_la": Corpus(
        {
            "train": _asvspoof2019_la("train", "train.trn", asv=False),
            "dev": _asvspoof2019_la("dev", "dev.trl", asv=True),
            "eval": _asvspoof2019_la("eval", "eval.trl", asv=True),
        },
        score_format="asvspoof2019",
        by=("attack",),
    ),
    "asvspoof2021": Corpus(
        {"LA": _asvspoof2021("LA"), "DF": _asvspoof2021("DF")},
        score_format="asvspoof2021",
        by=("codec",),
    ),
    "asvspoof5": Corpus(
        {
            "train": _asvspoof5("train", "train", "flac_T"),
            "dev": _asvspoof5("dev", "dev.track_1", "flac_D"),
            "eval": _asvspoof5("eval", "eval.track_1", "flac_E_eval", "flac_E"),
        },
        score_format="asvspoof5",
        by=("attack",),
    ),
    "in_the_wild": Corpus(
        {
            "all": Part(
                protocol=("meta.csv", "release_in_the_wild/meta.csv"),
                audio=("release_in_the_wild", ""),
                format="in-the-wild",
                published="in-the-wild/all",
                suffix=".wav",
            )
        },
        score_format="csv",
        by=("speaker",),
    ),
}
"""The corpora by the name of their recipe."""


def find(folder: Path, places: Sequence[str], what: str) -> Path:
    """The first of some places that is there.

    Raises
    ------
    ProtocolError
        If none is; it names them all.
    """
    for place in places:
        if (folder / place).exists():
            return folder / place
    raise ProtocolError(
        f"{folder} holds no {what}: looked for {' and '.join(places)}. Pass the folder that the "
        "corpus was unpacked into as --data_folder."
    )


def part_of(corpus: str, name: str) -> Part:
    """A part of a corpus by name.

    Raises
    ------
    ParameterError
        If there is none of that name.
    """
    parts = CORPORA[corpus].parts
    if name not in parts:
        raise ParameterError(
            f"The 'part' parameter of {corpus} must be one of {', '.join(parts)}. "
            f"Got {name!r} instead."
        )
    return parts[name]


def load_trials(part: Part, folder: Path, subset: str | None = None) -> list[Trial]:
    """All trials of a part or of one subset of it."""
    return list(read_trials(find(folder, part.protocol, "protocol"), part.format, subset=subset))


def limited(trials: list[Trial], limit: int, seed: int) -> list[Trial]:
    """At most `limit` trials drawn from each class in proportion; 0: all of them."""
    if not 0 < limit < len(trials):
        return trials
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in ("bonafide", "spoof"):
        own = [i for i, trial in enumerate(trials) if trial.label == label]
        count = min(len(own), max(1, round(limit * len(own) / len(trials))))
        chosen += rng.choice(own, count, replace=False).tolist() if own else []
    return [trials[i] for i in sorted(chosen)]
