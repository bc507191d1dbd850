"""One manifest over several folders of clips: the corpus, and what was made beside it.

    python people.py --out work/people
    python engines.py --data_folder ../../../shared/corpus --out work/engines
    python join.py ../../../shared/corpus work/people work/engines --out work/corpus

Rows keep their order, folder after folder, so that what was computed for the first folder's clips
stands at the same rows; no clip is copied. Everything else takes ``--data_folder work/corpus``.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path

from voiceguard.errors import ProtocolError
from voiceguard.training.corpus import read_manifest


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="each with a manifest.csv")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = joined(args.folders, args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    bonafide = sum(row["label"] == "bonafide" for row in rows)
    print(f"{len(rows)} clips, {bonafide} of them human, in {args.out / 'manifest.csv'}")


if __name__ == "__main__":
    main()
