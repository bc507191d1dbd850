"""Clips decoded once into a file of 16-bit samples, read back in microseconds.

Training reads each clip once an epoch; decoding FLAC every time costs a small network's training a
good part of its speed. Audio that came as 16 bits at 16 kHz is kept to the last bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voiceguard.training.trials import Files, Samples

_FULL_SCALE = 32_768.0


class CachedClips:
    """Clips in memory-mapped 16-bit samples; a drop-in for :class:`Files`.

    Parameters
    ----------
    pcm : np.ndarray [shape=(total_samples,)]
        int16, all clips one after the other.
    offsets : np.ndarray [shape=(n_clips + 1,)]
        Where each clip starts.
    """

    def __init__(self, pcm: npt.NDArray[np.int16], offsets: npt.NDArray[np.int64]) -> None:
        self.pcm = pcm
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def clip(self, index: int) -> Samples:
        """Samples of one clip, float32 [shape=(n,)], full scale 1."""
        start, stop = self.offsets[index], self.offsets[index + 1]
        return np.asarray(self.pcm[start:stop], dtype=np.float32) / np.float32(_FULL_SCALE)


def open_cache(
    files: Files, folder: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> CachedClips:
    """Open the cache of some files, decoding them where it is absent or of other files.

    Parameters
    ----------
    files : Files
    folder : Path
        Where the cache lies; it takes 32 kB a second of audio.
    on_progress : callable, optional
        Called with (clips done, clips in all) while decoding.

    Returns
    -------
    CachedClips

    Raises
    ------
    AudioError
        If a file does not decode; no cache is left behind then.
    """
    stamp, pcm, offsets = (folder / name for name in ("stamp.json", "pcm.i16", "offsets.npy"))
    wanted = {"files": _digest(files), "clips": len(files)}
    if not stamp.is_file() or json.loads(stamp.read_text("utf-8")) != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        # An interrupted decoding must leave no stamp that vouches for half of it.
        stamp.unlink(missing_ok=True)
        np.save(offsets, _decode(files, pcm, on_progress))
        stamp.write_text(json.dumps(wanted), "utf-8")
    return CachedClips(np.memmap(pcm, np.int16, "r"), np.load(offsets))


def _digest(files: Files) -> str:
    """Of names, sizes and times of change: a corpus that was written anew is decoded anew."""
    digest = hashlib.sha256()
    for path in files.paths:
        status = path.stat() if path.is_file() else None
        known = "absent" if status is None else f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"{path} {known}\n".encode())
    return digest.hexdigest()


def _decode(
    files: Files, target: Path, on_progress: Callable[[int, int], None] | None
) -> npt.NDArray[np.int64]:
    offsets = [0]
    with target.open("wb") as stream:
        for index in range(len(files)):
            scaled = np.round(files.clip(index) * np.float32(_FULL_SCALE))
            pcm = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
            stream.write(pcm.tobytes())
            offsets.append(offsets[-1] + len(pcm))
            if on_progress is not None:
                on_progress(index + 1, len(files))
    return np.array(offsets, dtype=np.int64)
