"""Spectral front ends as embedding models; needs the ``train`` extra.

Their frames depend on a bounded stretch of audio, so a chunk with that much context gives the
frames of the whole recording, but for the order in which float32 numbers are added. For the
constant-Q transform the bound is the longest filter and the resamplers before it, and those do not
resample a chunk to the last digit as they do the whole: magnitudes agree within 1e-4 of the
recording's largest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voiceguard._version import __version__
from voiceguard.embedding.chunks import Framing, plan_chunks
from voiceguard.embedding.models import SPECTRAL, Samples
from voiceguard.embedding.values import Layer, Values, only_output
from voiceguard.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from voiceguard.features._base import FrontEnd
    from voiceguard.features.constant_q import CQT
    from voiceguard.features.lfcc import LFCC
    from voiceguard.features.spectrum import PowerSpectrum

_CHUNK_S = 30.0
_DEFAULT_RATE = 16_000
# Half the length of the low-pass of librosa's default resampler, in samples of its input.
_RESAMPLER_REACH = 512
_DELTA_REACH = {"regression": 3, "difference": 1}


class SpectralModel:
    """A front end, chunk by chunk.

    Parameters
    ----------
    front_end : FrontEnd
        One of this package's with one channel; one that does not say its sample rate is taken to
        be for 16 kHz.
    name : str, optional
        By default that of the class.
    chunk_s : float, optional
        Seconds of audio whose frames are computed at once, context not counted; by default 30, or
        four times the context where that is more.
    device : str, optional
        Torch device to move it to; by default it stays where it is.

    Raises
    ------
    ParameterError
        If the reach of its frames is not known here.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        *,
        name: str | None = None,
        chunk_s: float | None = None,
        device: str | None = None,
    ) -> None:
        self.front_end = front_end.eval() if device is None else front_end.eval().to(device)
        self.name = name or type(front_end).__name__
        self.framing = framing_of(front_end)
        self.sample_rate = _rate_of(front_end)
        self.dim = front_end.coefficients
        default = max(_CHUNK_S, 4 * self.framing.before / self.sample_rate)
        frames = (chunk_s or default) * self.sample_rate / self.framing.hop
        self.frames_per_chunk = max(round(frames), 1)

    @classmethod
    def named(
        cls, name: str, *, chunk_s: float | None = None, device: str | None = None
    ) -> SpectralModel:
        """Build a front end by a name in :data:`~voiceguard.embedding.models.SPECTRAL`."""
        from voiceguard.features import build_front_end

        front_end = build_front_end(SPECTRAL[name])
        return cls(front_end, name=name, chunk_s=chunk_s, device=device)

    @cached_property
    def sha256(self) -> str:
        """Hash of the class, its settings and buffers, and voiceguard's version."""
        kind, digest = type(self.front_end), hashlib.sha256()
        settings = {k: v for k, v in vars(self.front_end).items() if not k.startswith("_")}
        settings.pop("training", None)
        parts = (kind.__module__, kind.__qualname__, __version__, sorted(settings.items()))
        digest.update(repr(parts).encode())
        for key, buffer in sorted(self.front_end.named_buffers()):
            digest.update(key.encode() + buffer.cpu().numpy().tobytes())
        return digest.hexdigest()

    def resolve(self, layer: Layer) -> None:
        """Refuse a layer: there is one output."""
        only_output(self.name, layer)

    def times(self, n_samples: int) -> NDArray[np.float64]:
        """Centres of the frames, seconds."""
        frames = np.arange(self.front_end.frames(n_samples))
        return (frames * self.framing.hop + self.framing.centre) / self.sample_rate

    def blocks(self, channel: Samples, layer: Layer) -> Iterator[Values]:
        """Frames of a channel in runs of a chunk's length."""
        frames = self.front_end.frames(len(channel))
        for chunk in plan_chunks(
            len(channel), frames, self.framing, frames_per_chunk=self.frames_per_chunk
        ):
            block = self._run(channel[chunk.start : chunk.stop])
            yield block[chunk.skip : chunk.skip + chunk.keep]

    def _run(self, samples: Samples) -> Values:
        import torch

        home = next(self.front_end.buffers(), torch.empty(0)).device
        # A copy: torch warns of arrays that it may not write to.
        waveform = torch.tensor(samples[None], device=home)
        with torch.inference_mode():
            frames: Values = self.front_end(waveform)[0].T.cpu().numpy()
        return np.ascontiguousarray(frames)


def is_front_end(value: Any) -> bool:
    """Whether an object is a front end; False where torch is absent."""
    try:
        from voiceguard.features._base import FrontEnd
    except ImportError:
        return False
    return isinstance(value, FrontEnd)


def framing_of(front_end: FrontEnd) -> Framing:
    """Give the stretch of audio that a front end's frames depend on.

    Raises
    ------
    ParameterError
        If it is not known for this class.
    """
    try:
        from voiceguard.features.constant_q import CQT
        from voiceguard.features.lfcc import LFCC
        from voiceguard.features.mel import LogMel
        from voiceguard.features.sinc import SincEnvelope
        from voiceguard.features.spectrum import LogSpectrogram
    except ImportError as error:
        raise MissingExtraError("a spectral front end", "train") from error
    if isinstance(front_end, LFCC):
        return _lfcc(front_end)
    if isinstance(front_end, (LogMel, LogSpectrogram)):
        return _short_time(front_end.spectrum)
    if isinstance(front_end, SincEnvelope):
        length = front_end.hop + front_end.bank.taps - 1
        return Framing(hop=front_end.hop, before=0, after=length, centre=length / 2)
    if isinstance(front_end, CQT):
        return _constant_q(front_end)
    raise ParameterError(
        "The 'model' parameter of Embedder must be a front end whose frames depend on a known "
        f"stretch of audio: one of {sorted(SPECTRAL)}. Got {type(front_end).__name__} instead."
    )


def _short_time(spectrum: PowerSpectrum, *, reach: int = 0, before: int = 0) -> Framing:
    """Framing of a short-time transform, widened by `reach` frames and `before` samples."""
    half = 0 if spectrum.padding == "none" else spectrum.frame // 2
    return Framing(
        hop=spectrum.hop,
        before=half + before + reach * spectrum.hop,
        after=spectrum.frame - half + reach * spectrum.hop,
        centre=spectrum.frame / 2 - half,
    )


def _lfcc(front_end: LFCC) -> Framing:
    config = front_end.config
    reach = 2 * _DELTA_REACH[config.deltas]
    return _short_time(front_end.spectrum, reach=reach, before=1 if config.pre_emphasis else 0)


def _constant_q(front_end: CQT) -> Framing:
    """The longest filter; its transform is a power of two long, at most twice as much."""
    from voiceguard.features.constant_q import CQCC

    quality = 1.0 / (2.0 ** (1.0 / front_end.bins_per_octave) - 1.0)
    longest = math.ceil(2 * quality * front_end.sample_rate / front_end.f_min)
    octaves = math.ceil(front_end.bins / front_end.bins_per_octave)
    reach = 2 * _DELTA_REACH["regression"] if isinstance(front_end, CQCC) else 0
    side = longest // 2 + _RESAMPLER_REACH * 2**octaves // 4 + reach * front_end.hop
    return Framing(hop=front_end.hop, before=side, after=side + 1, centre=0.0)


def _rate_of(front_end: FrontEnd) -> int:
    holder = getattr(front_end, "config", front_end)
    return int(getattr(holder, "sample_rate", _DEFAULT_RATE))
