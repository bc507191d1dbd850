"""A corpus as one memory-mapped run of 16-bit samples: decode once, read any clip in microseconds.

The cache is two ``.npy`` files and a copy of the manifest's digest; it is rebuilt when the manifest
changes. Clips keep the manifest's order, so that a row number names a clip everywhere.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voiceguard.audio import read
from voiceguard.errors import ProtocolError

SAMPLE_RATE = 16_000
_FULL_SCALE = 32_767.0


@dataclass(frozen=True)
class Corpus:
    """Decoded clips with their manifest rows.

    Parameters
    ----------
    rows : list of dict
        The manifest, one dict a clip.
    pcm : np.ndarray [shape=(total_samples,)]
        All clips one after the other, int16 at 16 kHz, memory-mapped.
    offsets : np.ndarray [shape=(n_clips + 1,)]
        Where each clip starts.
    """

    rows: list[dict[str, str]]
    pcm: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def clip(self, index: int) -> npt.NDArray[np.float32]:
        """Samples of one clip.

        Parameters
        ----------
        index : int
            Row of the manifest.

        Returns
        -------
        np.ndarray [shape=(n,)]
            float32 in [-1, 1].
        """
        start, stop = self.offsets[index], self.offsets[index + 1]
        return np.asarray(self.pcm[start:stop], dtype=np.float32) / np.float32(_FULL_SCALE)


def read_manifest(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV manifest.

    Raises
    ------
    ProtocolError
        If the file is missing or has no ``label`` column.
    """
    if not path.is_file():
        raise ProtocolError(f"{path}: no such manifest; pass the folder that holds manifest.csv.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "label" not in rows[0]:
        raise ProtocolError(f"{path}: expected a CSV with a 'label' column and at least one row.")
    return rows


def open_corpus(
    folder: Path | str,
    cache: Path | str,
    *,
    path_column: str = "file",
    on_progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Open a corpus, decoding it into `cache` at the first call.

    Parameters
    ----------
    folder : Path
        Holds ``manifest.csv`` and the audio that its `path_column` names.
    cache : Path
        Where the decoded samples are kept.
    path_column : str
        Column with the clip's path relative to `folder`.
    on_progress : callable, optional
        Called with (clips done, clips in all) while decoding.

    Returns
    -------
    Corpus

    Raises
    ------
    ProtocolError
        If the manifest is missing, malformed or lacks the path column.
    AudioError
        If a clip cannot be decoded.
    """
    folder, cache = Path(folder), Path(cache)
    manifest = folder / "manifest.csv"
    rows = read_manifest(manifest)
    if path_column not in rows[0]:
        raise ProtocolError(f"{manifest}: expected a {path_column!r} column. Got {list(rows[0])}.")
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    stamp = cache / "stamp.json"
    if not stamp.is_file() or json.loads(stamp.read_text())["manifest_sha256"] != digest:
        # An interrupted decoding must leave no stamp that vouches for half of it.
        stamp.unlink(missing_ok=True)
        _decode_all(folder, cache, [row[path_column] for row in rows], on_progress)
        stamp.write_text(json.dumps({"manifest_sha256": digest, "clips": len(rows)}))
    pcm = np.load(cache / "pcm.npy", mmap_mode="r")
    return Corpus(rows=rows, pcm=pcm, offsets=np.load(cache / "offsets.npy"))


def _decode_all(
    folder: Path,
    cache: Path,
    paths: Sequence[str],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    clips: list[npt.NDArray[np.int16]] = []
    for done, path in enumerate(paths, start=1):
        samples = read(folder / path, sample_rate=SAMPLE_RATE).samples[0]
        clips.append(np.round(np.clip(samples, -1.0, 1.0) * _FULL_SCALE).astype(np.int16))
        if on_progress is not None:
            on_progress(done, len(paths))
    offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips])]).astype(np.int64)
    np.save(cache / "pcm.npy", np.concatenate(clips))
    np.save(cache / "offsets.npy", offsets)
