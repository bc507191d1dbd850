"""Where the windows of a channel lie, and cutting them out batch by batch.

Windows start at multiples of the hop; one more is aligned to the end where a tail would be lost. A
channel shorter than a window is one window, repeated from its start until the graph's length is
reached, as the published AASIST does with short clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import ParameterError

Spans = tuple[tuple[int, int], ...]
"""Windows as (start, stop) in samples, in time order."""


def plan(n_samples: int, *, window: int, hop: int) -> Spans:
    """Lay windows over a channel.

    Parameters
    ----------
    n_samples : int
        Length of the channel, samples, >= 0.
    window, hop : int
        Length of a window and step between windows, samples; 1 <= hop <= window.

    Returns
    -------
    tuple of (int, int)
        Start and stop of each window. Together they cover every sample; none for no samples.

    Raises
    ------
    ParameterError
        If a number is out of its domain.

    Examples
    --------
    >>> plan(10, window=4, hop=2)
    ((0, 4), (2, 6), (4, 8), (6, 10))
    >>> plan(9, window=4, hop=4)
    ((0, 4), (4, 8), (5, 9))
    >>> plan(3, window=4, hop=2)
    ((0, 3),)
    """
    if n_samples < 0:
        raise _out_of_domain("n_samples", ">= 0", n_samples)
    if window < 1:
        raise _out_of_domain("window", ">= 1", window)
    if not 1 <= hop <= window:
        raise _out_of_domain("hop", f"in [1, {window}]", hop)
    if n_samples <= window:
        return ((0, n_samples),) if n_samples else ()
    last = n_samples - window
    starts = [*range(0, last, hop), last]
    return tuple((start, start + window) for start in starts)


def cut(
    channel: NDArray[np.float32], spans: Sequence[tuple[int, int]], *, window: int, batch: int = 8
) -> Iterator[NDArray[np.float32]]:
    """Cut windows out of a channel, a batch at a time.

    Parameters
    ----------
    channel : np.ndarray [shape=(n,), dtype=float32]
        The audio.
    spans : sequence of (int, int)
        Start and stop of each window, samples; a shorter one is repeated from its own start.
    window : int
        Length of a row, samples.
    batch : int
        Most rows at once.

    Yields
    ------
    np.ndarray [shape=(at most batch, window), dtype=float32]
        Copies, in the order of the spans. Never more than one batch is held.

    Raises
    ------
    ParameterError
        If the batch is not positive, or a span is empty, longer than a window or outside.
    """
    if batch < 1:
        raise _out_of_domain("batch", ">= 1", batch, of="cut")
    for first in range(0, len(spans), batch):
        rows = [_row(channel, span, window) for span in spans[first : first + batch]]
        yield np.stack(rows)


def _row(channel: NDArray[np.float32], span: tuple[int, int], window: int) -> NDArray[np.float32]:
    start, stop = span
    if not (0 <= start < stop <= len(channel) and stop - start <= window):
        raise ParameterError(
            f"The 'spans' parameter of cut must hold stretches of 1 to {window} samples inside "
            f"[0, {len(channel)}]. Got {span!r} instead."
        )
    piece = channel[start:stop]
    return piece if len(piece) == window else np.resize(piece, window)


def _out_of_domain(name: str, expected: str, got: object, *, of: str = "plan") -> ParameterError:
    return ParameterError(
        f"The {name!r} parameter of {of} must be an int {expected}. Got {got!r} instead."
    )
