"""Cutting a long recording so that no seam shows in its frames.

A chunk is a run of frames, and the stretch of audio that the model is fed to compute them: the
frames' own samples and context on both sides. It starts at a multiple of the hop, so that its
frames fall on those of the whole. Frames that only served as context are dropped. Where the context
covers what a frame depends on, the result is that of the whole recording, but for the order of
additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voiceguard.errors import ParameterError


@dataclass(frozen=True)
class Framing:
    """How a model turns samples into frames.

    Frame i depends on samples from i * hop - before to i * hop + after; what lies beyond the ends
    of the recording is the model's business.

    Parameters
    ----------
    hop : int
        Samples from frame to frame, >= 1.
    before : int
        Samples that a frame hears before i * hop, >= 0.
    after : int
        Samples that a frame hears from i * hop on, >= 1.
    centre : float
        Where the frame's centre lies, samples after i * hop.

    Raises
    ------
    ParameterError
        If a number is out of its domain.
    """

    hop: int
    before: int
    after: int
    centre: float

    def __post_init__(self) -> None:
        for name, least in (("hop", 1), ("before", 0), ("after", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ParameterError(
                    f"The {name!r} parameter of Framing must be an int >= {least}. "
                    f"Got {value!r} instead."
                )


@dataclass(frozen=True)
class Chunk:
    """A run of frames and the audio to compute it from.

    Parameters
    ----------
    start, stop : int
        Samples to feed.
    skip : int
        Frames of the output to drop at its start: they were context.
    keep : int
        Frames to keep after them.
    """

    start: int
    stop: int
    skip: int
    keep: int


def plan_chunks(
    n_samples: int, n_frames: int, framing: Framing, *, frames_per_chunk: int
) -> Iterator[Chunk]:
    """Cut a recording into chunks.

    Parameters
    ----------
    n_samples : int
        Length of the recording.
    n_frames : int
        Frames that the model makes of it as a whole.
    framing : Framing
        The model's; a larger ``before`` and ``after`` give more context.
    frames_per_chunk : int
        Frames kept of a chunk, >= 1; the last may have fewer.

    Yields
    ------
    Chunk
        In time order; their kept frames are those of the whole, each once.

    Raises
    ------
    ParameterError
        If `frames_per_chunk` is not positive.

    Examples
    --------
    >>> framing = Framing(hop=10, before=5, after=20, centre=10)
    >>> [(c.start, c.stop) for c in plan_chunks(100, 9, framing, frames_per_chunk=4)]
    [(0, 50), (30, 90), (70, 100)]
    """
    if frames_per_chunk < 1:
        raise ParameterError(
            "The 'frames_per_chunk' parameter of plan_chunks must be an int >= 1. "
            f"Got {frames_per_chunk!r} instead."
        )
    hop = framing.hop
    for first in range(0, n_frames, frames_per_chunk):
        last = min(first + frames_per_chunk, n_frames)
        start = max(first * hop - framing.before, 0) // hop * hop
        stop = min((last - 1) * hop + framing.after, n_samples)
        # The end of the recording is a model's to treat: pad, drop, repeat.
        stop = n_samples if last == n_frames else stop
        yield Chunk(start=start, stop=stop, skip=first - start // hop, keep=last - first)
