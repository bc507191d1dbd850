"""A folder of re-synthesised clips in the decoded cache's format, filled clip by clip."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voiceguard.errors import ProtocolError

FULL_SCALE = 32_767.0
PEAK = 0.99
FLUSH = 50
"""Clips between two points that a killed run goes on from."""

Row = dict[str, str]


def quantised(x: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """16-bit samples, turned down where they would be clipped."""
    peak = max(float(np.max(np.abs(x))), 1e-9)
    return np.round(x * (min(1.0, PEAK / peak) * FULL_SCALE)).astype(np.int16)


class Store:
    """``pcm.npy``, ``offsets.npy`` and ``measures.csv``, which is the record of what is done.

    Parameters
    ----------
    folder : Path
        Where the files are; made if need be.
    settings : dict
        What decides the samples; kept as ``settings.json``.
    lengths : sequence of int
        Samples of each clip.
    columns : sequence of str
        Of ``measures.csv``.

    Raises
    ------
    ProtocolError
        If the folder was begun with other settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        lengths: Sequence[int],
        columns: Sequence[str],
    ) -> None:
        self.folder, self.columns = folder, list(columns)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.rows: list[Row] = []
        path = folder / "settings.json"
        if path.is_file():
            self._resume(json.loads(path.read_text("utf-8")), settings)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._begin()
            path.write_text(json.dumps(settings), "utf-8")
        self.pcm = np.load(folder / "pcm.npy", mmap_mode="r+")
        self.written = len(self.rows)

    def _begin(self) -> None:
        shape = (int(self.offsets[-1]),)
        np.lib.format.open_memmap(
            self.folder / "pcm.npy", mode="w+", dtype=np.int16, shape=shape
        ).flush()
        np.save(self.folder / "offsets.npy", self.offsets)
        write_csv(self.folder / "measures.csv", [], self.columns)

    def _resume(self, before: dict[str, Any], settings: dict[str, Any]) -> None:
        if before != settings:
            raise ProtocolError(
                f"{self.folder}: begun with the settings {before}. Got {settings} instead; give "
                "those of before, or remove the folder."
            )
        path = self.folder / "measures.csv"
        # A line that was cut off in writing has no end, and its clip is made again.
        lines = path.read_text("utf-8").split("\n")[:-1]
        self.rows = list(csv.DictReader(lines))
        write_csv(path, self.rows, self.columns)

    @property
    def done(self) -> int:
        """Clips stored so far."""
        return len(self.rows)

    def put(self, samples: npt.NDArray[np.int16], row: Row) -> None:
        """Store the next clip; every :data:`FLUSH` of them, and at the end, for good."""
        self.pcm[self.offsets[self.done] : self.offsets[self.done + 1]] = samples
        self.rows.append(row)
        if self.done - self.written >= FLUSH or self.done + 1 == len(self.offsets):
            self.pcm.flush()
            with (self.folder / "measures.csv").open("a", newline="", encoding="utf-8") as file:
                _writer(file, self.columns).writerows(self.rows[self.written :])
            self.written = self.done

    def finish(self, manifest: Sequence[Row]) -> None:
        """Write the manifest, and the stamp that makes ``open_corpus(folder, folder)`` read it."""
        path = self.folder / "manifest.csv"
        write_csv(path, manifest, list(manifest[0]))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        stamp = {"manifest_sha256": digest, "clips": len(manifest)}
        (self.folder / "stamp.json").write_text(json.dumps(stamp), "utf-8")


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write `rows` under `columns`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = _writer(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _writer(file: Any, columns: Sequence[str]) -> csv.DictWriter[str]:
    return csv.DictWriter(file, fieldnames=list(columns), lineterminator="\n")
