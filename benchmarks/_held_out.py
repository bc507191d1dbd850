"""What the benchmarks on held-out clips share: options, the fold of a bundle, tables.

The clips to judge on are those that the bundle's own manifest says were held out (``held_out_fold``
and ``released`` in its provenance), so that a new model is judged on its own held-out clips.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voiceguard import Detector
from voiceguard.audio.gate import GatePolicy
from voiceguard.training.corpus import SAMPLE_RATE, Corpus, open_corpus

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT / "recipes" / "open_voices"))

import splice as splice  # noqa: E402
from evaluate import CHANNELS as CHANNELS  # noqa: E402
from split import Split, split, split_of  # noqa: E402
from split import family as family  # noqa: E402

Samples = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
CHANNEL_TITLES = {"clean": "clean", "g711": "G.711"}


def mark(detector: Detector) -> str:
    """What tells kept scores of one model from another's: its graph and its calibration."""
    parts = f"{detector.model.sha256} {detector.manifest.calibration}"
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def parser(doc: str, *, clips: int, clips_help: str) -> argparse.ArgumentParser:
    """The options that every one of these benchmarks takes."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--system", default="vg-base", help="what Detector.load takes")
    made.add_argument("--clips", type=int, default=clips, help=f"{clips_help} ({clips})")
    made.add_argument("--out", type=Path, required=True, help="folder for scores and the plot")
    made.add_argument("--corpus", type=Path, default=SHARED / "corpus")
    made.add_argument("--cache", type=Path, help="of the decoded corpus; in --out by default")
    made.add_argument(
        "--channels", type=_channels, default=list(CHANNEL_TITLES), help="of clean,g711"
    )
    made.add_argument("--fold", type=int, help="held out; by default as the bundle says")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--plot", type=Path, help="PNG to write; in --out by default")
    made.add_argument("--json", type=Path, help="write all figures to this file")
    made.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    return made


@dataclass(frozen=True)
class Held:
    """A detector, the corpus and which of its rows the detector never heard."""

    detector: Detector
    corpus: Corpus
    rows: Split

    @classmethod
    def open(cls, args: argparse.Namespace, policy: GatePolicy | None = None) -> Held:
        """Load what the options name."""
        detector = Detector.load(args.system, policy=policy)
        corpus = open_corpus(args.corpus, args.cache or args.out / "cache")
        said = detector.manifest.provenance
        if args.fold is None:
            return cls(detector, corpus, split_of(corpus.rows, said))
        return cls(detector, corpus, split(corpus.rows, args.fold))

    def key(self, **settings: object) -> str:
        """Name for stored scores: another graph, split or setting gives another one."""
        parts = [mark(self.detector), self.rows.held_out.tolist(), sorted(settings.items())]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:12]


class ShortWindows:
    """An engine that hears shorter windows, each repeated until the graph's length is reached."""

    def __init__(self, engine: Any, window_samples: int) -> None:
        self.engine, self.window_samples = engine, window_samples
        self.embedding_dim, self.max_batch = engine.embedding_dim, engine.max_batch

    def run(self, windows: Samples) -> tuple[Samples, Samples]:
        """Scores and embeddings of windows [shape=(n, window_samples)]."""
        repeats = -(-self.engine.window_samples // self.window_samples)
        long = np.tile(windows, (1, repeats))[:, : self.engine.window_samples]
        return self.engine.run(long)


def with_windows(detector: Detector, window_s: float | None, hop_s: float | None) -> Detector:
    """The detector with other windows, both in seconds; None keeps what its bundle says."""
    manifest, engine = detector.manifest, detector.engine
    if window_s is not None:
        engine = ShortWindows(engine, min(round(window_s * SAMPLE_RATE), manifest.window_samples))
        manifest = replace(manifest, window_samples=engine.window_samples)
    hop = manifest.hop_samples if hop_s is None else round(hop_s * SAMPLE_RATE)
    manifest = replace(manifest, hop_samples=min(hop, manifest.window_samples))
    return replace(detector, manifest=manifest, engine=engine)


def stored_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of a JSON-lines file by name; a line that was cut off is removed from it."""
    if not path.is_file():
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return {row["name"]: row for row in map(json.loads, whole.splitlines())}


def even(n: int, limit: int) -> npt.NDArray[np.int64]:
    """At most `limit` of `n` numbers by even stride; all for 0."""
    if not 0 < limit < n:
        return np.arange(n, dtype=np.int64)
    return np.linspace(0, n - 1, limit).astype(np.int64)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """A table with a line above it, as Markdown or in columns."""
    if markdown:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines), ""])
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    return "\n".join([title, *_columns([head, *rows], widths), ""])


def percent(value: float, interval: tuple[float, float] | None = None) -> str:
    """A share in per cent, with its interval."""
    if not np.isfinite(value):
        return "-"
    ends = "" if interval is None else f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"
    return f"{100 * value:.1f}{ends}"


def write_json(path: Path | None, figures: Mapping[str, object]) -> None:
    """All figures, where a file is named."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


def _channels(text: str) -> list[str]:
    chosen = text.split(",")
    if set(chosen) - set(CHANNEL_TITLES):
        raise argparse.ArgumentTypeError(f"{text!r}: choose among {', '.join(CHANNEL_TITLES)}")
    return chosen


def _columns(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for line in lines:
        first, *rest = (
            cell.ljust(w) if not i else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join([first, *rest]).rstrip()
