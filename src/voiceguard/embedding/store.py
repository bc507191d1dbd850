"""Embeddings on disk: one HDF5 file, through h5py, that survives a killed process.

HDF5 has no journal: a process that dies while it writes into a file can leave one that nothing
reads. So no published file is ever written into. A process writes what it computes into a part of
its own in ``FILE.parts``, which takes its final name only once it is complete and on the disk.
Parts are joined with FILE into a new file that replaces it in one step, under a lock. A process
that is killed costs what it had not published yet, seconds of work or one recording; what lies
about of it is removed by the next that joins. Locks are the operating system's (through filelock),
so the death of their holder frees them.

The price: joining copies FILE once, and needs its size in free space meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceguard.embedding import entries
from voiceguard.embedding.disk import lock_of, locked, need_h5py, open_file, to_disk
from voiceguard.embedding.values import Embedding
from voiceguard.errors import IntegrityError, ModelError

if TYPE_CHECKING:
    import h5py

PUBLISH_S = 2.0
"""A part that was begun this long ago is published after the entry at hand."""


class EmbeddingStore:
    """A file of embeddings, for reading and for writing into.

    Several processes may use one file at once. What one has published the others see at their next
    look-up.

    Parameters
    ----------
    path : path
        The file; it need not exist.

    Raises
    ------
    MissingExtraError
        If h5py or filelock is absent.

    Examples
    --------
    >>> store = EmbeddingStore("calls.h5")  # doctest: +SKIP
    >>> for name, keys in store.names().items():  # doctest: +SKIP
    ...     store.load(keys[0]).values
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        need_h5py()
        self.path = Path(path)
        self.parts = self.path.with_name(self.path.name + ".parts")
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        # Published files never change, so that what each holds is read once.
        self._held: dict[tuple[Path, int, int], frozenset[str]] = {}

    def keys(self) -> tuple[str, ...]:
        """Keys of all entries."""
        return tuple(sorted(set().union(*(held for _, held in self._contents()))))

    def names(self) -> dict[str, tuple[str, ...]]:
        """Keys by the name of the input that they were asked for, in the order of asking.

        One recording under two names is one entry; one name has a key for each model, each set of
        parameters and each content that it stood for.
        """
        found: dict[str, tuple[str, ...]] = {}
        for file in self._files():
            for name, key in entries.read_names(file):
                known = found.get(name, ())
                found[name] = known if key in known else (*known, key)
        return found

    def __contains__(self, key: object) -> bool:
        """Whether an entry is there and its content is what was written."""
        # All copies are asked: a damaged one is replaced by a later one.
        return isinstance(key, str) and any(
            entries.check_entry(file, key) for file in self._files(key)
        )

    def load(self, key: str) -> Embedding:
        """Read an entry.

        Raises
        ------
        IntegrityError
            If it, or the file, is damaged.
        ModelError
            If there is none.
        """
        damaged: IntegrityError | None = None
        # Twice, as a part may be joined between finding and opening it.
        for file in chain(self._files(key), self._files(key)):
            try:
                return entries.read_entry(file, key)
            except IntegrityError as error:
                damaged = error
        raise damaged or ModelError(f"There is no embedding {key!r} in {str(self.path)!r}.")

    @contextlib.contextmanager
    def writing(self) -> Iterator[StoreWriter]:
        """Open for writing; at the end what was written is joined with the file.

        An error or an interrupt in the block leaves what was sealed for the next to find.
        """
        # Under the lock, as who joins removes the folder where it is empty.
        with locked(self._lock_path):
            self.parts.mkdir(exist_ok=True)
            writer = StoreWriter(self)
        try:
            yield writer
        finally:
            writer.close()
        self.join()

    def join(self) -> None:
        """Join the published parts with the file."""
        with locked(self._lock_path):
            parts = self._published()
            if parts:
                self._replace(parts)
            for part in parts:
                part.unlink()
            self._sweep()
            # Not empty while another process writes.
            with contextlib.suppress(OSError):
                self.parts.rmdir()

    def _replace(self, parts: list[Path]) -> None:
        fresh = self.parts / "joined.new"
        if self.path.exists():
            shutil.copyfile(self.path, fresh)
        else:
            fresh.unlink(missing_ok=True)
        with open_file(fresh, "a") as target:
            for part in parts:
                with contextlib.suppress(IntegrityError), open_file(part, "r") as source:
                    for key in entries.entry_keys(source):
                        entries.copy_entry(source, target, key)
                    known = set(entries.read_names(target))
                    pairs = dict.fromkeys(entries.read_names(source))
                    entries.add_names(target, [pair for pair in pairs if pair not in known])
        to_disk(fresh)
        fresh.replace(self.path)

    def _sweep(self) -> None:
        """Remove what killed writers left: their locks are free."""
        import filelock

        for lock in self.parts.glob("*.lock"):
            with contextlib.suppress(filelock.Timeout, OSError), locked(lock, timeout=0):
                lock.with_suffix(".tmp").unlink(missing_ok=True)
                lock.unlink(missing_ok=True)

    def _published(self) -> list[Path]:
        return sorted(self.parts.glob("*.h5"))

    def _contents(self) -> Iterator[tuple[Path, frozenset[str]]]:
        """The file, then its parts, each with its keys; a damaged part counts as absent."""
        # The parts are listed first: one that is joined meanwhile is in the file then.
        parts = self._published()
        if self.path.exists():
            yield self.path, self._keys_of(self.path)
        for part in parts:
            with contextlib.suppress(IntegrityError, FileNotFoundError):
                yield part, self._keys_of(part)

    def _keys_of(self, path: Path) -> frozenset[str]:
        status = path.stat()
        mark = (path, status.st_ino, status.st_mtime_ns)
        if mark not in self._held:
            with open_file(path, "r") as file:
                self._held[mark] = frozenset(entries.entry_keys(file))
        return self._held[mark]

    def _files(self, key: str | None = None) -> Iterator[h5py.File]:
        """Open, one after the other, the files that hold a key, or all."""
        for path, held in self._contents():
            if key is None or key in held:
                with contextlib.suppress(FileNotFoundError), open_file(path, "r") as file:
                    yield file


class StoreWriter:
    """One process's way into a store; made by :meth:`EmbeddingStore.writing`.

    Parameters
    ----------
    store : EmbeddingStore
        Where parts are published.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        # Names sort by time, so that a later part's entries win.
        self._stem = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._lock = lock_of(store.parts / f"{self._stem}.lock")
        self._lock.acquire()
        self._file: Any = None
        self._begun = 0.0
        self._count = 0
        self._known = {(n, key) for n, keys in store.names().items() for key in keys}

    @contextlib.contextmanager
    def entry(self, key: str, *, channels: int, dtype: Any) -> Iterator[entries.EntryWriter]:
        """Write an entry; an error in the block removes it."""
        file = self._part()
        try:
            yield entries.EntryWriter(file, key, channels=channels, dtype=dtype)
        except BaseException:
            entries.drop_entry(file, key)
            raise
        if time.monotonic() - self._begun >= PUBLISH_S:
            self.publish()

    def __contains__(self, key: object) -> bool:
        """Whether an entry was written and is not published yet."""
        return self._file is not None and key in entries.entry_keys(self._file)

    def name(self, name: str, key: str) -> None:
        """Note that an input of this name has this entry."""
        pair = (entries.storable(name), key)
        if pair not in self._known:
            self._known.add(pair)
            entries.add_names(self._part(), [pair])

    def publish(self) -> None:
        """Make what was written visible to all, for good."""
        if self._file is None:
            return
        scratch = self._scratch
        self._file.close()
        self._file = None
        to_disk(scratch)
        scratch.replace(self._store.parts / f"{self._stem}-{self._count:06d}.h5")
        self._count += 1

    def close(self) -> None:
        """Publish, and let go of the lock."""
        try:
            self.publish()
        finally:
            self._scratch.unlink(missing_ok=True)
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)

    @property
    def _scratch(self) -> Path:
        return self._store.parts / f"{self._stem}.tmp"

    def _part(self) -> Any:
        if self._file is None:
            self._file = open_file(self._scratch, "w")
            self._begun = time.monotonic()
        return self._file
