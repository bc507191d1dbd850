"""The official layouts: which trials there are, what they are called, where their files stand.

A layout drafts its trials from clips that have their part, and writes its protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mini_source import PARTS, SHARES, Clip, choose

from voiceguard.audio.telephony import g711_path
from voiceguard.protocols import Trial, TrialLabel, write_trials
from voiceguard.training.augment import transcode
from voiceguard.training.codecs import has_encoder
from voiceguard.training.perturb_wave import TrimSilence

BONAFIDE_SHARE = 0.4
# Of 2021 LA 148,176 of 181,566 trials are eval; the rest is dealt alike.
SUBSET_SHARES = {"progress": 0.09, "hidden": 0.09}

Samples = npt.NDArray[np.float32]
Channel = Callable[[Samples], Samples]


@dataclass(frozen=True)
class Draft:
    """A trial before its audio is made.

    Parameters
    ----------
    clip : Clip
    trial : Trial
    file : str
        Where its audio goes, below the corpus.
    channel : callable
        What the samples go through.
    """

    clip: Clip
    trial: Trial
    file: str
    channel: Channel


def _clean(x: Samples) -> Samples:
    return x


def _through(*codecs: tuple[str, int | None]) -> Channel:
    def channel(x: Samples) -> Samples:
        for codec, bit_rate in codecs:
            x = transcode(x, codec, bit_rate=bit_rate)
        return x

    return channel


def _trimmed(channel: Channel) -> Channel:
    trim = TrimSilence(threshold_db=(30.0, 30.0))
    return lambda x: channel(trim(x, np.random.default_rng(0)))


LA_CODECS: dict[str, Channel] = {
    "none": _clean,
    "alaw": _through(("alaw", None)),
    "pstn": lambda x: g711_path(x, law="ulaw"),
    "g722": _through(("g722", None)),
    "ulaw": _through(("ulaw", None)),
    "gsm": _through(("gsm", None)),
    "opus": _through(("opus", 20_000)),
}
"""Codec conditions of 2021 LA, LA-C1 to LA-C7."""

_LOW_MP3, _LOW_OGG = ("mp3", 32_000), ("vorbis", 34_000)
_HIGH_M4A = ("aac", 64_000)
DF_CODECS: dict[str, Channel] = {
    "nocodec": _clean,
    "low_mp3": _through(_LOW_MP3),
    "high_mp3": _through(("mp3", 128_000)),
    "low_m4a": _through(("aac", 24_000)),
    "high_m4a": _through(_HIGH_M4A),
    "low_ogg": _through(_LOW_OGG),
    "high_ogg": _through(("vorbis", 89_000)),
    "mp3m4a": _through(_LOW_MP3, _HIGH_M4A),
    "oggm4a": _through(_LOW_OGG, _HIGH_M4A),
}
"""Compressions of 2021 DF, DF-C1 to DF-C9."""

_ASVSPOOF5 = {
    "C01": ("opus", (10_000, 14_000, 20_000, 32_000)),
    "C05": ("mp3", (16_000, 24_000, 32_000, 48_000)),
    "C06": ("aac", (16_000, 24_000, 32_000, 64_000)),
    "C08": ("opus_nb", (6_000, 8_000, 12_000)),
    "C09": ("amr_nb", (4_750, 7_400, 12_200)),
}
"""Codecs of ASVspoof 5's eval part that can be encoded here, with their rates, lowest first."""


class Numbers:
    """The names that the corpora give: attacks, speakers, utterances.

    Attacks and speakers are numbered over the whole source, utterances at random, so that no
    number tells a class.
    """

    def __init__(self, clips: Sequence[Clip], rng: np.random.Generator) -> None:
        systems = {(PARTS.index(c.part), c.family) for c in clips if not c.bonafide}
        self.attacks = {name: f"A{i:02d}" for i, (_, name) in enumerate(sorted(systems), start=1)}
        groups = sorted({clip.group for clip in clips})
        self.speakers = {group: i for i, group in enumerate(groups, start=1)}
        self._rng = rng

    def utterances(self, count: int, *, low: int, high: int) -> list[int]:
        """`count` different numbers in [low, high)."""
        return [low + int(i) for i in self._rng.choice(high - low, count, replace=False)]

    def trial(
        self,
        clip: Clip,
        utterance: str,
        *,
        speaker: str,
        codec: str | None = None,
        subset: str | None = None,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> Trial:
        """The trial of a clip; `speaker` is what stands before the speaker's number."""
        label: TrialLabel = "bonafide" if clip.bonafide else "spoof"
        return Trial(
            utterance,
            speaker=f"{speaker}_{self.speakers[clip.group]:04d}",
            label=label,
            attack=None if clip.bonafide else self.attacks[clip.family],
            codec=codec,
            subset=subset,
            extra=extra,
        )


def _drawn(
    clips: Sequence[Clip], part: str, trials: int, rng: np.random.Generator
) -> list[list[Clip]]:
    """Bona fide and spoof clips of a part, in random order."""
    bonafide = max(1, round(BONAFIDE_SHARE * trials))
    drawn = []
    for wanted, count in ((True, bonafide), (False, trials - bonafide)):
        own = [clip for clip in clips if clip.part == part and clip.bonafide == wanted]
        chosen = choose(own, count, rng)
        drawn.append([chosen[i] for i in rng.permutation(count)])
    return drawn


def _part_sizes(trials: int) -> dict[str, int]:
    sizes = {part: round(SHARES[part] * trials) for part in PARTS}
    return sizes | {"train": trials - sizes["dev"] - sizes["eval"]}


_LETTERS = {"train": "T", "dev": "D", "eval": "E"}


def _draft_asvspoof2019_la(
    clips: Sequence[Clip], trials: int, rng: np.random.Generator
) -> list[Draft]:
    numbers = Numbers(clips, rng)
    drafts = []
    for part, size in _part_sizes(trials).items():
        pool = [clip for of_class in _drawn(clips, part, size, rng) for clip in of_class]
        for clip, number in zip(pool, numbers.utterances(size, low=10**6, high=10**7), strict=True):
            name = f"LA_{_LETTERS[part]}_{number}"
            trial = numbers.trial(clip, name, speaker="LA", extra=(("environment", "-"),))
            file = f"ASVspoof2019_LA_{part}/flac/{name}.flac"
            drafts.append(Draft(clip, trial, file, _clean))
    return drafts


def _write_asvspoof2019_la(folder: Path, drafts: Sequence[Draft]) -> None:
    for part, ending in (("train", "train.trn"), ("dev", "dev.trl"), ("eval", "eval.trl")):
        protocol = folder / "ASVspoof2019_LA_cm_protocols" / f"ASVspoof2019.LA.cm.{ending}.txt"
        _write(protocol, _trials(drafts, part), "asvspoof2019-la")


def _draft_asvspoof2021_la(
    clips: Sequence[Clip], trials: int, rng: np.random.Generator
) -> list[Draft]:
    numbers = Numbers(clips, rng)
    ids = iter(numbers.utterances(trials, low=10**6, high=10**7))
    drafts = []
    for clip, subset, codec in _conditions(clips, trials, tuple(LA_CODECS), rng):
        name = f"LA_E_{next(ids)}"
        extra = (("transmission", "mad_tx" if codec == "pstn" else "loc_tx"), _trim(subset))
        trial = numbers.trial(clip, name, speaker="LA", codec=codec, subset=subset, extra=extra)
        channel = _in_subset(LA_CODECS[codec], subset)
        drafts.append(Draft(clip, trial, f"ASVspoof2021_LA_eval/flac/{name}.flac", channel))
    return drafts


def _draft_asvspoof2021_df(
    clips: Sequence[Clip], trials: int, rng: np.random.Generator
) -> list[Draft]:
    numbers = Numbers(clips, rng)
    ids = iter(numbers.utterances(trials, low=2 * 10**6, high=10**7))
    drafts = []
    for clip, subset, codec in _conditions(clips, trials, tuple(DF_CODECS), rng):
        name = f"DF_E_{next(ids)}"
        extra = (
            ("source", "asvspoof"),
            _trim(subset),
            ("vocoder", "bonafide" if clip.bonafide else "unknown"),
            *((column, "-") for column in ("task", "team", "gender_pair", "language")),
        )
        trial = numbers.trial(clip, name, speaker="LA", codec=codec, subset=subset, extra=extra)
        channel = _in_subset(DF_CODECS[codec], subset)
        drafts.append(Draft(clip, trial, f"ASVspoof2021_DF_eval/flac/{name}.flac", channel))
    return drafts


def _write_asvspoof2021(track: str) -> Callable[[Path, Sequence[Draft]], None]:
    def write(folder: Path, drafts: Sequence[Draft]) -> None:
        trials = _trials(drafts, "eval")
        _write(
            folder / "keys" / track / "CM" / "trial_metadata.txt",
            trials,
            f"asvspoof2021-{track.lower()}",
        )
        listed = folder / f"ASVspoof2021_{track}_eval" / f"ASVspoof2021.{track}.cm.eval.trl.txt"
        listed.write_text("".join(f"{trial.utterance}\n" for trial in trials), encoding="utf-8")

    return write


def _draft_asvspoof5(clips: Sequence[Clip], trials: int, rng: np.random.Generator) -> list[Draft]:
    numbers = Numbers(clips, rng)
    coded = [name for name, (codec, _) in _ASVSPOOF5.items() if has_encoder(codec)]
    drafts = []
    for part, size in _part_sizes(trials).items():
        letter = _LETTERS[part]
        folder = "flac_E_eval" if part == "eval" else f"flac_{letter}"
        ids = iter(numbers.utterances(size, low=0, high=10**10))
        for pool in _drawn(clips, part, size, rng):
            for place, clip in enumerate(pool):
                name = f"{letter}_{next(ids):010d}"
                code = [None, *coded][place % (1 + len(coded))] if part == "eval" else None
                quality, channel = _asvspoof5_codec(code, rng)
                extra = (
                    ("gender", "-"),
                    ("codec_q", quality),
                    *((column, "-") for column in ("codec_seed", "attack_tag", "tmp")),
                )
                trial = numbers.trial(clip, name, speaker=letter, codec=code, extra=extra)
                drafts.append(Draft(clip, trial, f"{folder}/{name}.flac", channel))
    return drafts


def _asvspoof5_codec(code: str | None, rng: np.random.Generator) -> tuple[str, Channel]:
    """The quality column, 1 for the lowest bit rate, and the codec at it."""
    if code is None:
        return "-", _clean
    codec, rates = _ASVSPOOF5[code]
    quality = int(rng.integers(len(rates)))
    return str(quality + 1), _through((codec, rates[quality]))


def _write_asvspoof5(folder: Path, drafts: Sequence[Draft]) -> None:
    for part, ending in (("train", "train"), ("dev", "dev.track_1"), ("eval", "eval.track_1")):
        _write(folder / f"ASVspoof5.{ending}.tsv", _trials(drafts, part), "asvspoof5")


def _draft_in_the_wild(clips: Sequence[Clip], trials: int, rng: np.random.Generator) -> list[Draft]:
    numbers = Numbers(clips, rng)
    pool = [clip for of_class in _drawn(clips, "eval", trials, rng) for clip in of_class]
    drafts = []
    for number, place in enumerate(rng.permutation(len(pool))):
        clip = pool[place]
        trial = numbers.trial(clip, str(number), speaker="Speaker")
        drafts.append(Draft(clip, trial, f"{number}.wav", _clean))
    return drafts


def _write_in_the_wild(folder: Path, drafts: Sequence[Draft]) -> None:
    _write(folder / "meta.csv", [draft.trial for draft in drafts], "in-the-wild")


def _conditions(
    clips: Sequence[Clip], trials: int, codecs: Sequence[str], rng: np.random.Generator
) -> Iterator[tuple[Clip, str, str]]:
    """Clips of the eval part with the subset and the codec of each, codecs alike in each class."""
    for pool in _drawn(clips, "eval", trials, rng):
        progress, hidden = (max(1, round(s * len(pool))) for s in SUBSET_SHARES.values())
        subsets = ["progress"] * progress + ["hidden"] * hidden
        subsets += ["eval"] * (len(pool) - len(subsets))
        first = int(rng.integers(len(codecs)))
        for place, (clip, subset) in enumerate(zip(pool, subsets, strict=True)):
            yield clip, subset, codecs[(first + place) % len(codecs)]


def _in_subset(channel: Channel, subset: str) -> Channel:
    return _trimmed(channel) if subset == "hidden" else channel


def _trim(subset: str) -> tuple[str, str]:
    return "trim", "trim" if subset == "hidden" else "notrim"


def _trials(drafts: Sequence[Draft], part: str) -> list[Trial]:
    """Trials of a part by name, so that the order tells no class."""
    own = (draft.trial for draft in drafts if draft.clip.part == part)
    return sorted(own, key=lambda trial: trial.utterance)


def _write(path: Path, trials: Sequence[Trial], format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_trials(path, trials, format)


@dataclass(frozen=True)
class Layout:
    """One corpus' way to lie on a disk.

    Parameters
    ----------
    draft : callable
        (clips, trials, generator) -> list of Draft.
    write : callable
        (folder, drafts): the protocols.
    """

    draft: Callable[[Sequence[Clip], int, np.random.Generator], list[Draft]]
    write: Callable[[Path, Sequence[Draft]], None]


LAYOUTS = {
    "asvspoof2019_la": Layout(_draft_asvspoof2019_la, _write_asvspoof2019_la),
    "asvspoof2021_la": Layout(_draft_asvspoof2021_la, _write_asvspoof2021("LA")),
    "asvspoof2021_df": Layout(_draft_asvspoof2021_df, _write_asvspoof2021("DF")),
    "asvspoof5": Layout(_draft_asvspoof5, _write_asvspoof5),
    "in_the_wild": Layout(_draft_in_the_wild, _write_in_the_wild),
}
"""The layouts by name."""
