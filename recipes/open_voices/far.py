"""Fold the human origins by how they sound, so that those held out are far from those heard.

    python far.py --data_folder ../../../shared/corpus --work work --out far_folds.csv

The folds of :mod:`split` deal origins by size: a held-out telephone prompt has prompts of the next
language in training, and a studio reader other studio readers. What nobody trained on is farther
away than that. Here the origins are clustered by what both encoders hear in them (the mean over an
origin's clips of the leading axes of the pooled features, pass ``first``), each cluster at most a
third larger than an even share, and a fold holds out a whole cluster. Engine families stay where
they are. ``pooled_probe.py --far far_folds.csv`` chooses and calibrates by these folds.

People that were added to the corpus (``people.py``) have no fold and move none: they always train.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from probes import Features
from split import N_FOLDS, family, is_added

from voiceguard.training.corpus import open_corpus

HEARD = (("distillmos-96", 0), ("whisper", 1))
"""Folder and layer of the pooled features that tell origins apart."""
AXES = 20
FITTED_ON = 2000
"""Clips that the axes are fitted on."""
STARTS = 20
ROUNDS = 30
MOST = 1.35
"""Clips of the largest cluster over those of an even share."""
FLAT = 1e-3

Points = npt.NDArray[np.float64]


def leading_axes(pooled: npt.NDArray[np.float32]) -> Points:
    """Coordinates on the leading axes, at unit deviation overall [shape=(n, AXES)]."""
    rows = (pooled - pooled.mean(0)) / (pooled.std(0) + FLAT)
    some = rows[:: max(1, len(rows) // FITTED_ON)]
    _, _, axes = np.linalg.svd(some - some.mean(0), full_matrices=False)
    found = (rows @ axes[:AXES].T).astype(np.float64)
    return found / found.std()


def assign(distance: Points, sizes: Points, most: float) -> npt.NDArray[np.int64]:
    """The nearest centre with room for each point; who has most to lose chooses first."""
    nearest_two = np.partition(distance, 1, axis=1)
    eager = np.argsort(nearest_two[:, 0] - nearest_two[:, 1], kind="stable")
    load = np.zeros(distance.shape[1])
    chosen = np.zeros(len(distance), np.int64)
    for i in eager:
        order = np.argsort(distance[i], kind="stable")
        roomy = [k for k in order if load[k] == 0 or load[k] + sizes[i] <= most]
        k = roomy[0] if roomy else int(np.argmin(load))
        chosen[i] = k
        load[k] += sizes[i]
    return chosen


def clusters(points: Points, sizes: Points, n: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """k-means with bounded clusters, points weighted by the root of their size; the best start."""
    weights, most = np.sqrt(sizes), MOST * sizes.sum() / n
    rng = np.random.default_rng(seed)
    best: tuple[float, npt.NDArray[np.int64]] | None = None
    for _ in range(STARTS):
        centres = points[rng.choice(len(points), n, replace=False, p=weights / weights.sum())]
        for _ in range(ROUNDS):
            distance = ((points[:, None] - centres[None]) ** 2).sum(2)
            chosen = assign(distance, sizes, most)
            for k in set(chosen):
                inside = chosen == k
                centres[k] = np.average(points[inside], axis=0, weights=weights[inside])
        cost = float((weights * ((points - centres[chosen]) ** 2).sum(1)).sum())
        if best is None or cost < best[0]:
            best = cost, chosen
    assert best is not None
    return best[1]


def read_folds(path: Path) -> dict[str, int]:
    """Fold by name, as :func:`main` wrote them."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["name"]: int(row["fold"]) for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("far_folds.csv"))
    args = parser.parse_args()
    corpus = open_corpus(args.data_folder, args.work / "cache")
    judged = np.array([i for i, row in enumerate(corpus.rows) if not is_added(row)])
    where = []
    for folder, layer in HEARD:
        features = Features(args.work / "pooled" / folder, [layer], plain=True)
        where.append(leading_axes(features("first", judged)))
    points = np.concatenate(where, axis=1)
    clips: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(corpus.rows[i] for i in judged):
        if row["label"] == "bonafide":
            clips[family(row)].append(place)
    names = sorted(clips)
    means = np.stack([points[clips[name]].mean(0) for name in names])
    sizes = np.array([len(clips[name]) for name in names], float)
    folds = clusters(means, sizes, N_FOLDS)
    with args.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "fold"])
        writer.writerows(zip(names, folds.tolist(), strict=True))
    for k in range(N_FOLDS):
        print(f"fold {k}: {int(sizes[folds == k].sum())} clips of {(folds == k).sum()} origins")


if __name__ == "__main__":
    main()
