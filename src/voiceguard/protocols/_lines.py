"""Text files line by line, gzip seen through, with errors that name file and line."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from voiceguard.errors import ProtocolError

PathLike = str | os.PathLike[str]
_GZIP_MAGIC = b"\x1f\x8b"


def fault(path: PathLike, line: int, what: str) -> ProtocolError:
    """Build the error for one line of a file."""
    return ProtocolError(f"{os.fspath(path)}, line {line}: {what}")


def numbered_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end) of every line that is not blank.

    Raises
    ------
    ProtocolError
        If the file is absent, unreadable, no UTF-8 text or a broken gzip file.
    """
    number = 0
    try:
        with Path(path).open("rb") as stream:
            # Told by the content, and opened once, so that a pipe will do.
            compressed = stream.peek(2)[:2] == _GZIP_MAGIC
            lines = gzip.GzipFile(fileobj=stream) if compressed else stream
            for number, raw in enumerate(lines, start=1):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text and not text.isspace():
                    yield number, text
    except UnicodeDecodeError as error:
        raise fault(path, number, f"is no UTF-8 text ({error.reason}).") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise fault(path, number + 1, f"the gzip file is broken ({error}).") from error
    except OSError as error:
        raise ProtocolError(
            f"{os.fspath(path)} cannot be read: {error.strerror or error}."
        ) from error


@contextmanager
def replacing(path: PathLike) -> Iterator[TextIO]:
    """Open a text file for writing that takes its name only once it is whole.

    A name that ends in ``.gz`` is compressed.

    Raises
    ------
    ProtocolError
        If the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with _open_for_writing(partial, compressed=target.suffix == ".gz") as stream:
            yield stream
        partial.replace(target)
    except OSError as error:
        raise ProtocolError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _open_for_writing(path: Path, *, compressed: bool) -> TextIO:
    if compressed:
        return gzip.open(path, "wt", encoding="utf-8", newline="\n")
    return path.open("w", encoding="utf-8", newline="\n")
