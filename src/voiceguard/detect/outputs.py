"""What the detector gives back besides results: rows of many inputs, and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import VoiceguardError
from voiceguard.results import Result


@dataclass(frozen=True)
class Row:
    """One input of :meth:`Detector.score_many` and what became of it.

    Parameters
    ----------
    source : object
        The input, as it was given.
    result : Result or None
        The verdict, or None where there is an error.
    error : Exception or None
        What went wrong, or None.
    """

    source: Any
    result: Result | None
    error: Exception | None


@dataclass(frozen=True, eq=False)
class Embedding:
    """The network's view of each window.

    Parameters
    ----------
    vectors : np.ndarray [shape=(windows, d), dtype=float32]
        One vector a window.
    start_s, end_s : np.ndarray [shape=(windows,), dtype=float64]
        Where the windows lie, seconds from the start.
    channel : np.ndarray [shape=(windows,), dtype=int64]
        The channel that each window is of.
    """

    vectors: NDArray[np.float32]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    channel: NDArray[np.int64]


def lightened(error: Exception) -> Exception:
    """Drop the tracebacks of an expected error, through which kept rows would keep audio alive.

    Parameters
    ----------
    error : Exception
        Any; one that is none of voiceguard's own is left as it is, to be debugged.

    Returns
    -------
    Exception
        `error`.
    """
    link: BaseException | None = error if isinstance(error, VoiceguardError) else None
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
