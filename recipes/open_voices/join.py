r"""One manifest over several folders of clips: the corpus, and what was made beside it.

    python people.py --out work/people
    python engines.py --data_folder ../../../shared/corpus --out work/engines
    python join.py ../../../shared/corpus work/people work/engines --out work/corpus \
        --apart ../../../shared/wild-dev

Rows keep their order, folder after folder, so that what was computed for the first folder's clips
stands at the same rows; no clip is copied. Everything else takes ``--data_folder work/corpus``.

What is gathered from packages may be what others gathered to judge by. ``--apart`` looks for clips
of either class whose loudness rises and falls as a clip of that folder does, and leaves out every
origin that has one: its other clips are of the same people. The first folder is taken as it is.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voiceguard.audio import read
from voiceguard.errors import ProtocolError
from voiceguard.training.corpus import SAMPLE_RATE, read_manifest

HOP = 160
"""Samples of a value of the envelope."""
SPAN = 1024
"""Values that two envelopes are shifted along each other in: twice the longest clip and more."""
SAME = 0.9
"""Correlation of two envelopes from which on they are of one recording; strangers reach 0.85."""


def joined(folders: Sequence[Path], out: Path) -> list[dict[str, str]]:
    """Rows of all folders, their files told from `out`.

    Raises
    ------
    ProtocolError
        If a manifest is missing or malformed, its columns are others than the first one's, or two
        rows name one file.
    """
    rows: list[dict[str, str]] = []
    for folder in folders:
        found = read_manifest(folder / "manifest.csv")
        if rows and set(found[0]) != set(rows[0]):
            odd = sorted(set(found[0]) ^ set(rows[0]))
            raise ProtocolError(
                f"{folder / 'manifest.csv'}: expected the columns of {folders[0]}; only one of "
                f"both has {', '.join(odd)}."
            )
        here = os.path.relpath(folder, out)
        rows += [{**row, "file": f"{here}/{row['file']}"} for row in found]
    files = [row["file"] for row in rows]
    if len(set(files)) < len(files):
        twice = next(name for name in files if files.count(name) > 1)
        raise ProtocolError(f"{twice}: named twice; give each folder once.")
    return rows


def envelope(path: Path) -> npt.NDArray[np.complex128]:
    """Spectrum of a clip's log energy over time, at unit norm [shape=(SPAN / 2 + 1,)]."""
    samples = read(path, sample_rate=SAMPLE_RATE).samples[0][: HOP * (SPAN // 2)]
    frames = samples[: len(samples) // HOP * HOP].reshape(-1, HOP).astype(np.float64)
    level = np.log10(np.square(frames).mean(axis=1) + 1e-7)
    level -= level.mean()
    found: npt.NDArray[np.complex128] = np.fft.rfft(level / (np.linalg.norm(level) + 1e-9), SPAN)
    return found


def shared_origins(
    rows: Sequence[dict[str, str]], here: Path, judged: Sequence[Path]
) -> dict[str, str]:
    """Origins with a clip that is one of those judged, and the first such clip of each."""
    theirs = np.conj(np.stack([envelope(path) for path in judged]))
    found: dict[str, str] = {}
    for row in rows:
        if row["origin"] in found:
            continue
        likeness = np.fft.irfft(envelope(here / row["file"]) * theirs, SPAN, axis=1)
        if likeness.max() > SAME:
            found[row["origin"]] = row["file"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="each with a manifest.csv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--apart", type=Path, help="a folder to judge by, with a manifest.csv")
    args = parser.parse_args()
    rows = joined(args.folders, args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.apart:
        first = len(read_manifest(args.folders[0] / "manifest.csv"))
        judged = [args.apart / row["path"] for row in read_manifest(args.apart / "manifest.csv")]
        shared = shared_origins(rows[first:], args.out, judged)
        for origin, file in shared.items():
            print(f"{origin} is left out: {file} is a clip of {args.apart}")
        rows = [row for i, row in enumerate(rows) if i < first or row["origin"] not in shared]
    with (args.out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    bonafide = sum(row["label"] == "bonafide" for row in rows)
    print(f"{len(rows)} clips, {bonafide} of them human, in {args.out / 'manifest.csv'}")


if __name__ == "__main__":
    main()
