"""Re-synthesise the corpus' human clips, so that a detector learns the artefact, not the speaker.

    pip install pyworld
    python resynthesis.py --data_folder ../../../shared/corpus --work work --per_clip 1
    python resynthesis.py --data_folder ../../../shared/corpus --work work --out work/neural \
        --fargan fargan_demo --lpcnet libcodec2.so.1.2 --methods fargan fargan lpcnet

Writes ``work/resynthesis/``, which ``open_corpus(folder, folder)`` opens: ``pcm.npy`` and
``offsets.npy`` (the decoded cache's format), ``stamp.json`` and ``manifest.csv`` with the corpus'
columns: label spoof, kind vocoder, system ``sig2-<method>``, group and origin of the human, and
derived_from, which names it. ``measures.csv`` says how far each clip is from its human; the table
by method is printed at the end. A killed run goes on where it stopped and ends with the same files.

Clips of under half a second and silent ones are left out. A method that cannot take a clip (nothing
voiced, say) gives way to Griffin-Lim, and a mixture that is hardly different from its human to what
it would have mixed in; ``measures.csv`` keeps what was asked for. A method named twice is asked
for twice as often.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from resyntheses import METHODS, MIXTURES, Made, Method, resynthesise
from resyntheses.measures import (
    floor_db,
    is_silent,
    lag_ms,
    level_db,
    likeness_db,
    spectral_distance_db,
)
from resyntheses.neural import FARGANVocoder, LPCNetVocoder
from resyntheses.quantised import Codebook, QuantisedVocoder, fit_codebook
from resyntheses.spectra import Samples
from resyntheses.store import Row, Store, quantised
from split import source_name

from voiceguard.training.corpus import SAMPLE_RATE, Corpus, open_corpus

LEAST_S = 0.5
CODEWORDS = "codewords"
NAMES = (*METHODS, CODEWORDS, *MIXTURES)
BOOKS: tuple[dict[str, int], ...] = (
    {"n_fft": 512, "n_mels": 40, "codewords": 64},
    {"n_fft": 512, "n_mels": 80, "codewords": 256},
    {"n_fft": 1024, "n_mels": 80, "codewords": 128},
)
BOOK_CLIPS = 50
FIGURES = ("distance_db", "likeness_db", "lag_ms", "level_db", "floor_db")
MEASURES = ("derived_from", "copy", "asked", "method", "detail", *FIGURES)


@dataclass(frozen=True)
class Item:
    """One re-synthesis to make: the row of its human, which copy, and by which method."""

    row: int
    copy: int
    asked: str


def humans(corpus: Corpus) -> list[int]:
    """Rows of the human clips that are long enough and no silence."""
    long = np.diff(corpus.offsets) >= LEAST_S * SAMPLE_RATE
    rows = [i for i, row in enumerate(corpus.rows) if row["label"] == "bonafide" and long[i]]
    return [i for i in rows if not is_silent(corpus.clip(i))]


def plan(
    rows: list[int], *, clips: int, per_clip: int, seed: int, names: Sequence[str] = NAMES
) -> list[Item]:
    """What to make: `per_clip` of each of `clips` rows, evenly spaced (0: all of them).

    Every one of `names` is asked for alike often, and the copies of a clip by different ones.
    """
    if 0 < clips < len(rows):
        rows = [rows[k * len(rows) // clips] for k in range(clips)]
    rng = np.random.default_rng([seed, 7])
    items: list[Item] = []
    deck: list[str] = []
    for row in rows:
        if len(deck) < min(per_clip, len(names)):
            deck = [str(name) for name in rng.permutation(names)]
        hand = (deck * per_clip)[:per_clip]
        deck = deck[per_clip:]
        items += [Item(row, copy, name) for copy, name in enumerate(hand)]
    return items


class Halves:
    """The methods for a clip; codebooks are learnt from the half of the humans that it is not in.

    Halves are of whole groups, so that no speaker lends the words that he is quantised with.
    """

    def __init__(
        self,
        corpus: Corpus,
        rows: list[int],
        seed: int,
        more: Mapping[str, Method] = MappingProxyType({}),
    ) -> None:
        self.corpus = corpus
        self.methods: list[Mapping[str, Method]] = []
        for half in (0, 1):
            others = [row for row in rows if self.half(row) != half] or rows
            books = self._books(others, np.random.default_rng([seed, 8, half]))
            self.methods.append({**METHODS, CODEWORDS: QuantisedVocoder(books), **more})

    def half(self, row: int) -> int:
        """0 or 1, by the clip's group."""
        return hashlib.sha256(self.corpus.rows[row]["group"].encode()).digest()[0] % 2

    def _books(self, rows: list[int], rng: np.random.Generator) -> list[Codebook]:
        taken = rng.choice(rows, min(BOOK_CLIPS, len(rows)), replace=False)
        clips = [self.corpus.clip(int(row)) for row in taken]
        return [fit_codebook(clips, rng, **book) for book in BOOKS]

    def __call__(self, row: int) -> Mapping[str, Method]:
        """The methods for the clip of a row."""
        return self.methods[self.half(row)]


def manifest_row(human: Row, item: Item, measures: Row) -> Row:
    """The row of a re-synthesis, from that of its human."""
    name = source_name(human)
    return {
        **human,
        "file": f"resynthesis/sig2_{measures['method']}_{item.copy}_{name}",
        "label": "spoof",
        "kind": "vocoder",
        "system": f"sig2-{measures['method']}",
        "method": measures["detail"],
        "source": "generated",
        "ref_path": "",
        "orig_rate": str(SAMPLE_RATE),
        "orig_codec": "",
        "stored": "pcm",
        "derived_from": name,
    }


def measured(human: Samples, made: Made) -> Row:
    """How far a re-synthesis is from its human."""
    return {
        "distance_db": f"{spectral_distance_db(human, made.samples):.2f}",
        "likeness_db": f"{likeness_db(human, made.samples):.2f}",
        "lag_ms": f"{lag_ms(human, made.samples):.0f}",
        "level_db": f"{level_db(human, made.raw):.2f}",
        "floor_db": f"{floor_db(human, made.samples):.2f}",
    }


def run(
    corpus: Corpus,
    folder: Path,
    *,
    clips: int,
    per_clip: int,
    seed: int,
    names: Sequence[str] = NAMES,
    more: Mapping[str, Method] = MappingProxyType({}),
) -> list[Row]:
    """Fill `folder` from where it stands; the measures of all clips.

    Each clip is a pure function of (corpus, seed, row, copy, method). `names` are the methods to
    ask for, `more` those beyond :data:`NAMES`.
    """
    rows = humans(corpus)
    items = plan(rows, clips=clips, per_clip=per_clip, seed=seed, names=names)
    lengths = [int(corpus.offsets[item.row + 1] - corpus.offsets[item.row]) for item in items]
    settings = {"clips": clips, "per_clip": per_clip, "seed": seed, "samples": sum(lengths)}
    if tuple(names) != NAMES:
        settings["methods"] = list(names)
    store = Store(folder, settings, lengths, MEASURES)
    if store.done < len(items):
        methods = Halves(corpus, rows, seed, more)
        for item in items[store.done :]:
            make(corpus, item, methods(item.row), seed, store)
            if store.done % 100 == 0:
                print(f"{store.done} of {len(items)} clips", flush=True)
    manifest = [
        manifest_row(corpus.rows[item.row], item, row)
        for item, row in zip(items, store.rows, strict=True)
    ]
    store.finish(manifest)
    return store.rows


def make(
    corpus: Corpus, item: Item, methods: Mapping[str, Method], seed: int, store: Store
) -> None:
    """Make one clip and store it with its measures."""
    human = corpus.clip(item.row)
    rng = np.random.default_rng([seed, item.row, item.copy])
    made = resynthesise(human, item.asked, rng, methods)
    store.put(
        quantised(made.samples),
        {
            "derived_from": source_name(corpus.rows[item.row]),
            "copy": str(item.copy),
            "asked": item.asked,
            "method": made.method,
            "detail": made.detail,
            **measured(human, made),
        },
    )


def table(rows: list[Row]) -> str:
    """Per method: clips, share that gave way, median and 95th percentile of each measure."""
    head = f"{'method':11}{'clips':>6}{'gave way':>10}"
    lines = [head + "".join(f"{name + ' p50/p95':>22}" for name in FIGURES)]
    for name in (*NAMES, *sorted({row["asked"] for row in rows} - set(NAMES))):
        asked = [row for row in rows if row["asked"] == name]
        kept = [row for row in asked if row["method"] == name]
        if not kept:
            continue
        cells = [_cell(np.array([float(row[figure]) for row in kept])) for figure in FIGURES]
        gave_way = 1 - len(kept) / len(asked)
        lines.append(f"{name:11}{len(kept):6}{gave_way:10.1%}" + "".join(cells))
    return "\n".join(lines)


def _cell(values: np.ndarray) -> str:
    """Median, and the 95th percentile of the size."""
    return f"{np.median(values):13.1f} /{np.percentile(np.abs(values), 95):7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--per_clip", type=int, default=1)
    parser.add_argument("--clips", type=int, default=0, help="human clips, evenly; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=NAMES, help="to ask for alike often")
    parser.add_argument("--fargan", type=Path, help="fargan_demo of libopus 1.5")
    parser.add_argument("--lpcnet", type=Path, help="libcodec2 1.2, which has LPCNet inside")
    parser.add_argument("--out", type=Path, help="by default WORK/resynthesis")
    args = parser.parse_args()
    for path in filter(None, (args.fargan, args.lpcnet)):
        if not path.is_file():
            parser.error(f"{path} is no file; the README says where the vocoders come from.")
    more: dict[str, Method] = {}
    if args.fargan:
        more["fargan"] = FARGANVocoder(args.fargan)
    if args.lpcnet:
        more["lpcnet"] = LPCNetVocoder(args.lpcnet)
    if unknown := set(args.methods) - {*NAMES, *more}:
        parser.error(f"--methods has {sorted(unknown)}; there are {[*NAMES, *more]}.")
    corpus = open_corpus(args.data_folder, args.work / "cache")
    rows = run(
        corpus,
        args.out or args.work / "resynthesis",
        clips=args.clips,
        per_clip=args.per_clip,
        seed=args.seed,
        names=args.methods,
        more=more,
    )
    print(table(rows))


if __name__ == "__main__":
    main()
