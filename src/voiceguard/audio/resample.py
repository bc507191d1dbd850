"""Change of sample rate with soxr (HQ), in one go or in chunks that give the same samples.

Length: `n` samples at rate `a` become floor(n * b / a + 1/2) samples at rate `b`, exactly, in
integer arithmetic. Filter: the SoX resampler's "HQ" recipe, linear phase, delay compensated, so
that a sound stands at the same time before and after.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from voiceguard.audio.values import Samples
from voiceguard.errors import ParameterError

_QUALITY = "HQ"


def resampled_length(n: int, *, source_rate: int, target_rate: int) -> int:
    """Count what `n` samples become: n * target_rate / source_rate, halves rounded up."""
    return (2 * n * target_rate + source_rate) // (2 * source_rate)


def resample(samples: Samples, *, source_rate: int, target_rate: int) -> Samples:
    """Resample in one go.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,) or (channels, n), dtype=float32]
        The audio; channels are treated alike and kept apart.
    source_rate, target_rate : int
        Rates, Hz.

    Returns
    -------
    np.ndarray [shape=(m,) or (channels, m), dtype=float32]
        With m = floor(n * target_rate / source_rate + 1/2). A new array, also for equal rates.

    Raises
    ------
    ParameterError
        If a rate is no positive integer, or `samples` has another number of dimensions.
    """
    channels = 1 if np.ndim(samples) == 1 else int(np.shape(samples)[0])
    stream = StreamResampler(
        source_rate=source_rate, target_rate=target_rate, channels=max(channels, 1)
    )
    if channels == 0:
        length = resampled_length(
            np.shape(samples)[1], source_rate=source_rate, target_rate=target_rate
        )
        return np.zeros((0, length), np.float32)
    return stream.process(samples, last=True)


class StreamResampler:
    """Resample audio that arrives in chunks.

    The pieces, joined after the last, equal :func:`resample` of the whole within 1e-5 and in
    length, however the audio was cut. A stream is used by one thread, once.

    Parameters
    ----------
    source_rate, target_rate : int
        Rates, Hz.
    channels : int
        Number of channels.

    Raises
    ------
    ParameterError
        If a rate or the number of channels is no positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> stream = StreamResampler(source_rate=8000, target_rate=16000)
    >>> chunks = [stream.process(np.zeros(160, np.float32)) for _ in range(50)]
    >>> sum(len(c) for c in chunks) + len(stream.flush())
    16000
    """

    def __init__(self, *, source_rate: int, target_rate: int, channels: int = 1) -> None:
        for name, value in (
            ("source_rate", source_rate), ("target_rate", target_rate), ("channels", channels),
        ):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ParameterError(
                    f"The {name!r} parameter of StreamResampler must be an int >= 1. "
                    f"Got {value!r} instead."
                )
        self.source_rate = int(source_rate)
        self.target_rate = int(target_rate)
        self.channels = int(channels)
        self._taken = 0
        self._given = 0
        self._flat = self.channels == 1
        self._done = False
        self._engine = self._new_engine()

    def _new_engine(self) -> Any:
        if self.source_rate == self.target_rate:
            return None
        import soxr

        return soxr.ResampleStream(
            self.source_rate, self.target_rate, self.channels, dtype="float32", quality=_QUALITY
        )

    def process(self, chunk: Samples, *, last: bool = False) -> Samples:
        """Take a chunk and give what can be given by now.

        Parameters
        ----------
        chunk : np.ndarray [shape=(n,) or (channels, n), dtype=float32]
            The next samples, `n` >= 0.
        last : bool
            Whether this is the end of the audio.

        Returns
        -------
        np.ndarray [shape=(m,) or (channels, m), dtype=float32]
            The shape follows the chunk's.

        Raises
        ------
        ParameterError
            If the chunk's shape does not fit, or the stream has ended.
        """
        chunk = np.asarray(chunk, np.float32)
        if self._done:
            raise ParameterError("This StreamResampler has ended; make a new one for new audio.")
        if chunk.ndim not in (1, 2) or (1 if chunk.ndim == 1 else len(chunk)) != self.channels:
            raise ParameterError(
                "The 'chunk' parameter of StreamResampler.process must have shape (n,) or "
                f"({self.channels}, n). Got shape {chunk.shape} instead."
            )
        self._flat = chunk.ndim == 1
        self._done = last
        self._taken += chunk.shape[-1]
        fresh = self._convert(chunk.reshape(self.channels, -1), last)
        if last:
            fresh = self._fit(fresh)
        self._given += fresh.shape[1]
        return fresh[0] if self._flat else fresh

    def flush(self) -> Samples:
        """Give what is left. The shape follows the last chunk's."""
        return self.process(
            np.zeros((0,) if self._flat else (self.channels, 0), np.float32), last=True
        )

    def _convert(self, chunk: Samples, last: bool) -> Samples:
        if self._engine is None:
            return np.array(chunk, order="C")
        if self.channels == 1:
            out = self._engine.resample_chunk(np.ascontiguousarray(chunk[0]), last=last)
            return np.asarray(out, np.float32)[None]
        out = self._engine.resample_chunk(np.ascontiguousarray(chunk.T), last=last)
        return np.ascontiguousarray(out.T, np.float32)

    def _fit(self, tail: Samples) -> Samples:
        """Cut or pad the tail so that the stated length comes out."""
        want = self._given_in_all() - self._given
        if tail.shape[1] >= want:
            return np.ascontiguousarray(tail[:, :want])
        return np.pad(tail, ((0, 0), (0, want - tail.shape[1])))

    def _given_in_all(self) -> int:
        return resampled_length(
            self._taken, source_rate=self.source_rate, target_rate=self.target_rate
        )
