"""The corpus' columns, and a manifest with them that a reader never sees half of."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

COLUMNS = (
    *("file", "label", "kind", "system", "method", "speaker", "group", "language", "source"),
    *("origin", "ref_path", "licence", "orig_rate", "orig_codec", "stored", "duration_s"),
    *("joined", "derived_from"),
)


def write(file: Path, rows: Iterable[dict[str, str]]) -> None:
    """Put a manifest in the place of the old one, whole at any time."""
    partial = file.with_suffix(".part")
    with partial.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(file)
