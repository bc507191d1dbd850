"""HDF5 files and locks, as a store of embeddings uses them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceguard.errors import IntegrityError, MissingExtraError

if TYPE_CHECKING:
    import h5py


def need_h5py() -> None:
    """Raise :class:`MissingExtraError` where h5py or filelock is absent."""
    try:
        import filelock  # noqa: F401
        import h5py  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("a file of embeddings", "train") from error


def open_file(path: Path, mode: str) -> h5py.File:
    """Open an HDF5 file; without its own locks, as no published file is written into.

    Raises
    ------
    FileNotFoundError
        If it is to be read and is not there.
    IntegrityError
        If it is no HDF5 file, or damaged.
    """
    import h5py

    try:
        return h5py.File(path, mode, locking=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IntegrityError(
            f"{str(path)!r} cannot be opened as HDF5 ({error}). If it is meant to be a file of "
            "embeddings it is damaged: move it away and embed again."
        ) from error


def lock_of(path: Path, timeout: float = -1) -> Any:
    """Make a lock that is the operating system's: it ends with the process that holds it."""
    import filelock

    return filelock.FileLock(path, timeout=timeout)


@contextlib.contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock; ``filelock.Timeout`` where another holds it for `timeout` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(path, timeout):
        yield


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
