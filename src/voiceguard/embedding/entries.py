"""Entries of a cache inside an open HDF5 file: writing block by block, reading, checking.

An entry is a group under ``/entries``, named by its key, with the datasets ``values``
[shape=(channels, frames, dim), or without what is pooled away] and ``times_s`` [shape=(frames,)],
and the attributes of :data:`ATTRIBUTES`. The last, ``sha256``, seals the bytes of both, in C order,
and the other attributes: an entry without it, or with another, counts as absent. ``/names`` lists
pairs of input name and key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voiceguard.embedding.values import Embedding, Layer, Values
from voiceguard.errors import IntegrityError

if TYPE_CHECKING:
    import h5py

ATTRIBUTES = ("model", "model_sha256", "sample_rate", "layer", "pool", "audio_sha256", "sha256")
"""What an entry says of itself; ``layer`` and ``pool`` are empty where there is none."""

_ENTRIES = "entries"
_NAMES = "names"
_CHUNK_BYTES = 1 << 18


class EntryWriter:
    """Writes one entry; it counts once :meth:`close` has sealed it.

    Parameters
    ----------
    file : h5py.File
        Open for writing.
    key : str
        Of the entry; one that stands there is replaced.
    channels : int
        Channels that will come.
    dtype : numpy dtype
        Type of the values: float32 or float16.
    """

    def __init__(self, file: h5py.File, key: str, *, channels: int, dtype: Any) -> None:
        drop_entry(file, key)
        self._group = file.require_group(_ENTRIES).create_group(key)
        self._channels = channels
        self._dtype = np.dtype(dtype)
        self._digest = hashlib.sha256()
        self._values: Any = None
        self._filled = [0] * channels

    def extend(self, channel: int, blocks: Iterable[Values]) -> None:
        """Add frames [shape=(frames, ..., dim)] to a channel; channels come one after the other."""
        for block in blocks:
            self._append(channel, block)

    def pooled(self, vectors: Values) -> None:
        """Write pooled values [shape=(channels, ..., dim)] in place of frames."""
        vectors = np.ascontiguousarray(vectors, self._dtype)
        self._group.create_dataset("values", data=vectors)
        self._digest.update(vectors.tobytes())

    def close(self, times_s: NDArray[np.float64], attributes: Mapping[str, Any]) -> None:
        """Write what describes the entry, and seal it with its hash."""
        times_s = np.ascontiguousarray(times_s, np.float64)
        self._group.create_dataset("times_s", data=times_s)
        self._digest.update(times_s.tobytes())
        self._group.attrs.update(dict(attributes))
        self._digest.update(_said(self._group.attrs))
        self._group.attrs["sha256"] = self._digest.hexdigest()

    def _append(self, channel: int, block: Values) -> None:
        block = np.ascontiguousarray(block, self._dtype)
        at, values = self._filled[channel], self._room(block.shape[1:])
        if at + len(block) > values.shape[1]:
            values.resize(at + len(block), axis=1)
        values[channel, at : at + len(block)] = block
        self._filled[channel] = at + len(block)
        self._digest.update(block.tobytes())

    def _room(self, shape: tuple[int, ...]) -> Any:
        """Make the dataset at the first block, whose shape tells the layers and the dimension."""
        if self._values is None:
            frame = self._dtype.itemsize * int(np.prod(shape))
            rows = max(_CHUNK_BYTES // max(frame, 1), 1)
            self._values = self._group.create_dataset(
                "values",
                shape=(self._channels, 0, *shape),
                maxshape=(self._channels, None, *shape),
                dtype=self._dtype,
                chunks=(1, rows, *shape),
            )
        return self._values


def drop_entry(file: h5py.File, key: str) -> None:
    """Remove an entry, sealed or not, if it is there."""
    if key in file.get(_ENTRIES, {}):
        del file[_ENTRIES][key]


def entry_keys(file: h5py.File) -> list[str]:
    """Keys of the entries, not checked."""
    return list(file.get(_ENTRIES, {}))


def check_entry(file: h5py.File, key: str) -> bool:
    """Whether an entry's content has the hash that it was sealed with; read a piece at a time."""
    try:
        group = file[_ENTRIES][key]
        digest = hashlib.sha256()
        values = group["values"]
        for channel in range(values.shape[0]):
            for piece in _pieces(values, channel):
                digest.update(piece.tobytes())
        digest.update(group["times_s"][()].tobytes())
        digest.update(_said(group.attrs))
        return bool(digest.hexdigest() == group.attrs["sha256"])
    # HDF5 reports damage as whatever its parser stumbled over.
    except (OSError, KeyError, ValueError, RuntimeError, TypeError):
        return False


def read_entry(file: h5py.File, key: str) -> Embedding:
    """Read an entry.

    Raises
    ------
    IntegrityError
        If its content is not what was sealed.
    """
    if not check_entry(file, key):
        raise IntegrityError(
            f"The embedding {key} in {file.filename!r} is damaged: its SHA-256 is not the one on "
            "record. Embed the recording again into the same file, which replaces it."
        )
    group = file[_ENTRIES][key]
    values, attributes = group["values"][()], group.attrs
    return Embedding(
        values=values[0] if len(values) == 1 else values,
        times_s=group["times_s"][()],
        model=str(attributes["model"]),
        model_sha256=str(attributes["model_sha256"]),
        sample_rate=int(attributes["sample_rate"]),
        n_channels=len(values),
        layer=_layer_of(str(attributes["layer"])),
        pool=str(attributes["pool"]) or None,
    )


def copy_entry(source: h5py.File, target: h5py.File, key: str) -> None:
    """Copy an entry to another file, in place of one of that key."""
    drop_entry(target, key)
    source.copy(source[_ENTRIES][key], target.require_group(_ENTRIES), name=key)


def read_names(file: h5py.File) -> list[tuple[str, str]]:
    """Pairs of input name and key, in the order in which they were written."""
    if _NAMES not in file:
        return []
    return [(name, key) for name, key in file[_NAMES].asstr()[()]]


def add_names(file: h5py.File, pairs: Iterable[tuple[str, str]]) -> None:
    """Add pairs of input name, made storable, and key."""
    import h5py

    fresh = list(pairs)
    if not fresh:
        return
    if _NAMES not in file:
        file.create_dataset(
            _NAMES, shape=(0, 2), maxshape=(None, 2), chunks=(256, 2), dtype=h5py.string_dtype()
        )
    names = file[_NAMES]
    names.resize(len(names) + len(fresh), axis=0)
    names[-len(fresh) :] = np.array(fresh, dtype=object)


def _said(attributes: Any) -> bytes:
    """Give what an entry says of itself as bytes that do not hang on how HDF5 types a value."""
    return repr([f"{name}={attributes[name]}" for name in ATTRIBUTES[:-1]]).encode()


def _layer_of(text: str) -> Layer:
    """Layer from its text in an entry."""
    if text == "all":
        return "all"
    return int(text) if text else None


def storable(name: str) -> str:
    """Text that HDF5 can hold: file names may carry bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _pieces(values: Any, channel: int) -> Iterable[NDArray[Any]]:
    if values.ndim < 3 or values.chunks is None:
        yield values[channel]
        return
    step = values.chunks[1] * 16
    for start in range(0, values.shape[1], step):
        yield values[channel, start : start + step]
