"""Where the windows of a channel lie, and cutting them out batch by batch.

Windows start at multiples of the hop; one more is aligned to the end where a tail would be lost. A
channel shorter than a window is one window, repeated from its start until the graph's length is
reached, as the published AASIST does with short clips. Digital silence at the ends, which a
recorder, an editor or a codec put there, is left out: it says nothing about the voice, but
synthetic clips have more of it, and a network that heard many learns that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import ParameterError

Spans = tuple[tuple[int, int], ...]
"""Windows as (start, stop) in samples, in time order."""

FAINTEST = 1.5 / 32_768
"""Digital silence stays below it: zeros, and the last bit of sixteen."""
LEAST_SILENCE = 1_600
"""Samples of it at an end, from which on it is left out (0.1 s)."""
_BLOCK = 1 << 16


def lay(channel: NDArray[np.float32], *, window: int, hop: int) -> Spans:
    """Lay windows over what sounds in a channel: as :func:`plan`, without silent ends.

    Parameters
    ----------
    channel : np.ndarray [shape=(n,), dtype=float32]
        The audio.
    window, hop : int
        As for :func:`plan`.

    Returns
    -------
    tuple of (int, int)
        Start and stop of each window, in samples of the channel. A channel that is silent all along
        is covered as a whole.

    Raises
    ------
    ParameterError
        As :func:`plan`.

    Examples
    --------
    >>> padded = np.concatenate([np.zeros(2_000), 0.1 * np.ones(9), np.zeros(50)])
    >>> lay(padded.astype(np.float32), window=100, hop=50)
    ((2000, 2059),)
    """
    start, end = _silence(channel), _silence(channel[::-1])
    if start == len(channel):
        start = end = 0
    spans = plan(len(channel) - start - end, window=window, hop=hop)
    return tuple((first + start, last + start) for first, last in spans)


def _silence(channel: NDArray[np.float32]) -> int:
    """Samples of digital silence that a channel begins with; 0 where they are few."""
    silent = 0
    # From the end inwards, block by block: most of an hour is never looked at.
    for first in range(0, len(channel), _BLOCK):
        loud = np.abs(channel[first : first + _BLOCK]) > FAINTEST
        if loud.any():
            silent = first + int(loud.argmax())
            break
        silent = first + len(loud)
    return silent if silent >= LEAST_SILENCE else 0


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
