"""A file from the network: streamed, counted, hashed on the way and cut off past a limit.

What came is compared with the record by whoever asked for it.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from voiceguard.errors import ModelError

_BLOCK = 1 << 16
_TIMEOUT_S = 30.0

Opener = Callable[[str], Any]
"""Opens a URL: gives a context manager whose value has ``read(n)``."""


@dataclass(frozen=True)
class Received:
    """What came.

    Parameters
    ----------
    size : int
        Bytes; above the limit where there was more.
    sha256 : str
        SHA-256 of what was written, lower case hex.
    """

    size: int
    sha256: str


def download(
    url: str,
    file: Path,
    *,
    limit: int,
    expected: int,
    name: str,
    otherwise: str,
    progress: Callable[[int, int], None] | None = None,
    opener: Opener | None = None,
) -> Received:
    """Write what a URL gives to a file, and no more than a block past a limit.

    Parameters
    ----------
    url : str
    file : Path
        Where to write it.
    limit : int
        Bytes after which nothing more is read.
    expected : int
        Bytes of the file on record, for `progress`.
    name : str
        What is fetched, for messages.
    otherwise : str
        What to do with a file that was fetched in another way, after "and".
    progress : callable, optional
        Called with the bytes received so far and the bytes expected.
    opener : callable, optional
        By default ``urllib.request.urlopen`` with a timeout.

    Returns
    -------
    Received

    Raises
    ------
    ModelError
        If the URL cannot be read or the file not be written.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with (opener or _open)(url) as stream, file.open("wb") as out:
            while size <= limit and (block := stream.read(_BLOCK)):
                size += len(block)
                digest.update(block)
                out.write(block)
                if progress is not None:
                    progress(size, expected)
    except (OSError, HTTPException, ValueError) as error:
        raise ModelError(
            f"{name!r} could not be fetched from {url}: {error}. Check the connection, or fetch "
            f"the file otherwise and {otherwise}"
        ) from error
    return Received(size, digest.hexdigest())


def _open(url: str) -> Any:
    return urllib.request.urlopen(url, timeout=_TIMEOUT_S)
