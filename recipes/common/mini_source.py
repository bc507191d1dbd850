"""A folder of bona fide and spoof clips, dealt into parts that share no system and no speaker.

Which part a clip belongs to follows from the source alone, so that every layout made of one source
holds out the same systems and people, whatever its seed.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voiceguard.errors import ProtocolError
from voiceguard.protocols import parse_label, read_trials
from voiceguard.training.corpus import read_manifest

PARTS = ("train", "dev", "eval")
SHARES = {"train": 0.55, "dev": 0.15, "eval": 0.30}

Family = Callable[[dict[str, str]], str]

# Columns of a manifest, each with the names that it may have.
_ALIASES = {
    "file": ("file", "path", "filename"),
    "system": ("system", "attack"),
    "group": ("group", "speaker"),
    "origin": ("origin", "group", "speaker"),
    "kind": ("kind",),
    "derived_from": ("derived_from",),
}

# Names that open_voices keeps apart (it needs no third part) and that share an engine or vocoder.
_SAME_ENGINE = (
    ("cosyvoice", r"cosyvoice"),
    ("mega-tts", r"mega-tts"),
    ("step-audio", r"step-audio"),
    ("hifigan", r"own-hifi"),
    ("vocos", r"vocos"),
    ("wavernn", r"wavernn"),
    ("griffin-lim", r"griffinlim|melgl"),
    ("world", r"world"),
)


@dataclass(frozen=True)
class Clip:
    """One clip of the source.

    Parameters
    ----------
    path : Path
    bonafide : bool
    family : str
        The engine family of a spoof clip, the recording origin of a bona fide one.
    group : str
        What must not stand on both sides of a split: the speaker, as a rule.
    part : str
        One of :data:`PARTS`.
    """

    path: Path
    bonafide: bool
    family: str
    group: str
    part: str


def engine_family() -> Family:
    """The families of ``recipes/open_voices/split.py``, and a few more put together."""
    family = _open_voices_family()

    def name(row: dict[str, str]) -> str:
        found = family(row)
        if row["label"] == "bonafide":
            return found
        return next((same for same, pattern in _SAME_ENGINE if re.search(pattern, found)), found)

    return name


def _open_voices_family() -> Family:
    name = "_voiceguard_open_voices_split"
    if name not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "open_voices" / "split.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    family: Family = sys.modules[name].family
    return family


def read_source(source: Path, *, family: Family | None = None) -> list[Clip]:
    """Clips of a source, each in its part; those that would stand between two parts left out.

    Parameters
    ----------
    source : Path
        With a ``manifest.csv`` (columns file and label, at will system, origin, group or speaker,
        kind, and derived_from, the name of the human file that a clip was made from), or with a
        folder a class (``bonafide``, ``spoof``) in which the folders below, else the file names
        without their number, are systems and speakers.
    family : callable, optional
        From a manifest row to the name under which it is held out;
        :func:`engine_family` without.

    Returns
    -------
    list of Clip

    Raises
    ------
    ProtocolError
        If there are fewer than three systems or three human origins to tell apart, or no clips of
        one class are left in a part.
    """
    rows = _rows(source)
    family = family or engine_family()
    names = [family(row) for row in rows]
    origins = _human_parts(rows)
    families = _deal(_sizes(rows, names, "spoof"), "systems")
    groups = _group_parts(rows, names, families, origins)
    copied = {
        Path(row["file"]).stem.removeprefix("h_"): origins[row["origin"]]
        for row in rows
        if row["label"] == "bonafide"
    }
    clips = []
    for row, name in zip(rows, names, strict=True):
        own = origins[row["origin"]] if row["label"] == "bonafide" else families[name]
        # A demonstration's own recordings share its room and codec with its synthetic clips.
        shared = origins.get(row["origin"], own)
        if own == groups[row["group"]] == shared == copied.get(row["derived_from"], own):
            path = source / row["file"]
            clips.append(Clip(path, row["label"] == "bonafide", name, row["group"], own))
    _check_parts(clips, source)
    return clips


def choose(clips: Sequence[Clip], count: int, rng: np.random.Generator) -> list[Clip]:
    """`count` clips, every family alike until its own run out; clips come again where all did."""
    order = rng.permutation(len(clips))
    seen: Counter[str] = Counter()
    ranked = []
    for place in order:
        ranked.append((seen[clips[place].family], place))
        seen[clips[place].family] += 1
    ranked.sort(key=lambda item: item[0])
    return [clips[ranked[i % len(ranked)][1]] for i in range(count)]


def _rows(source: Path) -> list[dict[str, str]]:
    manifest = source / "manifest.csv"
    raw = read_manifest(manifest) if manifest.is_file() else _folder_rows(source)
    rows = []
    for number, given in enumerate(raw, start=2):
        label = parse_label(given["label"])
        row = {field: _first(given, names) for field, names in _ALIASES.items()}
        if label is None or not row["file"]:
            raise ProtocolError(
                f"{manifest}, line {number}: a clip needs a file and a label, bonafide or spoof. "
                f"Got {row['file']!r} and {given['label']!r} instead."
            )
        row["label"] = label
        row["system"] = "human" if label == "bonafide" else row["system"] or _stem(row["file"])
        row["group"] = row["group"] or f"{label}:{_stem(row['file'])}"
        row["origin"] = row["origin"] or row["group"]
        rows.append(row)
    return rows


def _first(row: Mapping[str, str], names: Iterable[str]) -> str:
    return next((row[name] for name in names if row.get(name)), "")


def _stem(file: str) -> str:
    """What a file is called without its number: the folder below its class, else its name."""
    path = Path(file)
    if len(path.parts) > 2:
        return path.parts[1]
    return re.sub(r"[\W_]*\d+$", "", path.stem) or path.stem


def _folder_rows(source: Path) -> list[dict[str, str]]:
    return [
        {"file": trial.path or "", "label": trial.label or ""}
        for trial in read_trials(source, "folder")
    ]


def _sizes(
    rows: Sequence[Mapping[str, str]], names: Sequence[str], label: str
) -> dict[str, Counter[str]]:
    """Clips of each name, by kind; a name counts for the kind where it comes first."""
    kinds: dict[str, str] = {}
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for row, name in zip(rows, names, strict=True):
        if row["label"] == label:
            sizes[kinds.setdefault(name, row["kind"])][name] += 1
    return dict(sorted(sizes.items()))


def _deal(sizes: Mapping[str, Counter[str]], what: str) -> dict[str, str]:
    """Names to parts: largest first, each to the part that its share leaves emptiest.

    Kind by kind, so that every part holds its share of each; no part is left without a name.
    """
    left = sum(len(names) for names in sizes.values())
    if left < len(PARTS):
        raise ProtocolError(
            f"The source must hold at least {len(PARTS)} {what}, one for each part. Got {left} "
            "instead: name them in the manifest, or put their clips into folders of their own."
        )
    parts: dict[str, str] = {}
    load = dict.fromkeys(PARTS, 0)
    total = 0
    for names in sizes.values():
        total += sum(names.values())
        for name, size in sorted(names.items(), key=lambda item: (-item[1], item[0])):
            empty = [part for part in PARTS if part not in parts.values()]
            open_parts = empty if left <= len(empty) else PARTS
            part = max(open_parts, key=lambda p: SHARES[p] * total - load[p])
            parts[name] = part
            load[part] += size
            left -= 1
    return parts


def _human_parts(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The part of every human origin; origins that share a speaker stay together."""
    humans = [row for row in rows if row["label"] == "bonafide"]
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for row in humans:
        leader[find("origin:" + row["origin"])] = find("group:" + row["group"])
    units = [find("origin:" + row["origin"]) for row in humans]
    parts = _deal({"human": Counter(units)}, "human origins")
    return {row["origin"]: parts[unit] for row, unit in zip(humans, units, strict=True)}


def _group_parts(
    rows: Sequence[Mapping[str, str]],
    names: Sequence[str],
    families: Mapping[str, str],
    origins: Mapping[str, str],
) -> dict[str, str]:
    """The part of every group: its human's, else that of most of its clips."""
    parts: dict[str, str] = {}
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for row, name in zip(rows, names, strict=True):
        if row["label"] == "bonafide":
            parts[row["group"]] = origins[row["origin"]]
        else:
            votes[row["group"]][families[name]] += 1
    for group, count in votes.items():
        parts.setdefault(group, max(PARTS, key=lambda part: count[part]))
    return parts


def _check_parts(clips: Sequence[Clip], source: Path) -> None:
    there = Counter((clip.part, clip.bonafide) for clip in clips)
    for part in PARTS:
        for bonafide in (True, False):
            if not there[part, bonafide]:
                raise ProtocolError(
                    f"{source}: no {'bona fide' if bonafide else 'spoof'} clip is left for the "
                    f"{part} part once whole systems, origins and groups are kept apart."
                )
