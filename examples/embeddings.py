"""Map of voices: embeddings of 200 clips of a labelled corpus, drawn by system.

    python examples/embeddings.py ../corpus --out docs/embeddings.png

The corpus is a folder with ``manifest.csv``, whose columns ``file``, ``label`` and ``system`` name
clips, their class and who or what spoke. Needs ``pip install "voiceguard[train,plots]"``.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from voiceguard import Embedder
from voiceguard.embedding import EmbeddingStore

SYSTEMS, CLIPS = 8, 25
PANELS = {
    "log-mel, mean and deviation": {"model": "log-mel", "pool": "mean+std"},
    "bundled model, mean": {"model": None, "pool": "mean"},
}


def chosen(corpus: Path) -> dict[str, list[Path]]:
    """The human class and the systems with most clips, as many clips of each."""
    clips: dict[str, list[Path]] = defaultdict(list)
    with (corpus / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            # Builds of one engine may differ in case only.
            clips[row["system"].lower()].append(corpus / row["file"])
    largest = sorted((name for name in clips if name != "human"), key=lambda n: -len(clips[n]))
    lot = random.Random(0)
    return {name: lot.sample(clips[name], CLIPS) for name in ["human", *largest[: SYSTEMS - 1]]}


def vectors(paths: list[Path], cache: Path, **options: str | None) -> np.ndarray:
    """One vector a clip; what the cache holds is not computed again."""
    rows = Embedder(**options).embed_many(paths, out=cache)
    for row in rows:
        if row.error is not None:
            raise row.error
    store = EmbeddingStore(cache)
    return np.stack([store.load(str(row.key)).by_channel()[0] for row in rows])


def draw(axes: Axes, title: str, points: np.ndarray, names: list[str]) -> None:
    """Draw vectors on their first two principal components, one colour a system."""
    flat = PCA(2, random_state=0).fit_transform(StandardScaler().fit_transform(points))
    for place, name in enumerate(dict.fromkeys(names)):
        part = flat[[other == name for other in names]]
        colour, marker = ("black", "x") if name == "human" else (f"C{place - 1}", "o")
        axes.scatter(*part.T, s=14, c=colour, marker=marker, alpha=0.8, label=name, linewidths=0.9)
    axes.set(title=title, xlabel="first component", ylabel="second component", xticks=[], yticks=[])


def main() -> None:
    """Choose, embed, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("embeddings.png"))
    parser.add_argument("--cache", type=Path, default=Path("embeddings.h5"))
    args = parser.parse_args()
    clips = chosen(args.corpus)
    paths = [path for part in clips.values() for path in part]
    names = [name for name, part in clips.items() for _ in part]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for place, (title, options) in zip(axes, PANELS.items(), strict=True):
        draw(place, title, vectors(paths, args.cache, **options), names)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
