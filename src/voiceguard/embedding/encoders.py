"""Pretrained speech encoders as embedding models; needs the ``train`` extra.

A transformer hears all that it is given, so a frame of a chunk is not quite that of the whole
recording. Context on both sides keeps the difference small; a recording that fits into one chunk
with its context goes through whole, without any. Where a network wants waveforms of mean 0 and
variance 1, they are those of the whole channel and not of each chunk. What else a network takes
from all that it hears is the chunk's: the norm over time in the first convolution of the "base"
networks, Whisper's loudest band, the peak that DistillMOS divides by.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voiceguard.embedding.chunks import Framing, plan_chunks
from voiceguard.embedding.models import Samples
from voiceguard.embedding.values import Layer, Values
from voiceguard.errors import ParameterError

if TYPE_CHECKING:
    from voiceguard.features.ssl.contract import SSLEncoder

CHUNK_S = 16.0
"""Seconds whose frames are kept of a chunk, where nothing else is asked for."""

CONTEXT_S = 4.0
"""Seconds that an encoder hears on both sides of them."""


_NORM_EPS = 1e-5


class EncoderModel:
    """An encoder, chunk by chunk.

    Parameters
    ----------
    encoder : SSLEncoder
        The network, in evaluation mode from here on.
    name : str, optional
        By default its architecture.
    chunk_s, context_s : float, optional
        Seconds kept of a chunk, and heard on both sides of it; 16 and 4 by default, or two thirds
        and a sixth of what the encoder takes where that is less.
    device : str, optional
        Torch device to move it to; by default it stays where it is.

    Raises
    ------
    ParameterError
        If a chunk with its context is longer than the encoder takes.
    """

    def __init__(
        self,
        encoder: SSLEncoder,
        *,
        name: str | None = None,
        chunk_s: float | None = None,
        context_s: float | None = None,
        device: str | None = None,
    ) -> None:
        self.encoder = encoder.eval() if device is None else encoder.eval().to(device)
        self._network, self._normalize = _without_normalisation(self.encoder)
        self.name = name or encoder.architecture
        self.sample_rate = encoder.sample_rate
        self.dim = encoder.dim
        hop, rate = encoder.frame_hop, encoder.sample_rate
        chunk, context = _defaults(encoder)
        self._context = math.ceil((context_s or context) * rate / hop) * hop
        self._frames_per_chunk = max(round((chunk_s or chunk) * rate / hop), 1)
        self._check_length()

    @classmethod
    def named(
        cls,
        name: str | os.PathLike[str],
        *,
        layer: Layer = "all",
        chunk_s: float | None = None,
        context_s: float | None = None,
        device: str | None = None,
    ) -> EncoderModel:
        """Load an encoder by name or file, without the blocks above the layer that is wanted."""
        from voiceguard.features.ssl import load_encoder

        layers = None if layer == "all" else [-1 if layer is None else layer]
        encoder = load_encoder(name, layers=layers)
        return cls(
            encoder,
            name=Path(name).name,
            chunk_s=chunk_s,
            context_s=context_s,
            device=device,
        )

    @cached_property
    def sha256(self) -> str:
        """Hash of the encoder and of how recordings are cut for it."""
        return f"{self.encoder.fingerprint()}:{self._frames_per_chunk}:{self._context}"

    def resolve(self, layer: Layer) -> Layer:
        """Number of a layer as the encoder counts them, from 0; the highest for None."""
        given = self.encoder.layers
        if layer == "all":
            return layer
        if layer is None:
            return max(given)
        whole = isinstance(layer, int) and not isinstance(layer, bool)
        number = layer + self.encoder.depth + 1 if whole and layer < 0 else layer
        if not whole or number not in given:
            raise ParameterError(
                f"The 'layer' parameter of Embedder must be None, 'all' or one of {list(given)}, "
                f"the layers that {self.name} gives, or count them from the end. "
                f"Got {layer!r} instead."
            )
        return number

    def times(self, n_samples: int) -> NDArray[np.float64]:
        """Centres of the frames, seconds."""
        return self.encoder.frame_times(self.encoder.frames(n_samples))

    def blocks(self, channel: Samples, layer: Layer) -> Iterator[Values]:
        """Frames of a channel in runs of a chunk's length."""
        if self._normalize:
            channel = _normalised(channel)
        frames = self.encoder.frames(len(channel))
        whole = len(channel) <= self._longest
        kept = frames if whole else self._frames_per_chunk
        chunks = plan_chunks(len(channel), frames, self._framing, frames_per_chunk=max(kept, 1))
        for chunk in chunks:
            block = self._run(channel[chunk.start : chunk.stop], layer)
            yield block[chunk.skip : chunk.skip + chunk.keep]

    @property
    def _longest(self) -> int:
        """Samples that go through at once, as one chunk without seams."""
        if self.encoder.max_samples is not None:
            return self.encoder.max_samples
        return self._frames_per_chunk * self.encoder.frame_hop + 2 * self._context

    @property
    def _framing(self) -> Framing:
        encoder = self.encoder
        half = encoder.receptive_field / 2
        return Framing(
            hop=encoder.frame_hop,
            before=max(math.ceil(half - encoder.first_centre), 0) + self._context,
            after=max(math.ceil(half + encoder.first_centre), 1) + self._context,
            centre=encoder.first_centre,
        )

    def _check_length(self) -> None:
        framing, most = self._framing, self.encoder.max_samples
        # The start of a chunk is rounded down to a multiple of the hop.
        longest = self._frames_per_chunk * framing.hop + framing.before + framing.after
        if most is not None and longest > most:
            raise ParameterError(
                f"The 'chunk_s' parameter of Embedder, with the context on both sides, must stay "
                f"within the {most / self.sample_rate:g} s that {self.name} takes. "
                f"Got {longest / self.sample_rate:.3f} s instead."
            )

    def _run(self, samples: Samples, layer: Layer) -> Values:
        import torch

        home = self.encoder.home.device
        # A copy: torch warns of arrays that it may not write to.
        waveform = torch.tensor(samples[None], device=home)
        with torch.inference_mode():
            layers = self._network(waveform).layers[0]
        if layer == "all":
            everything: Values = layers.float().transpose(0, 1).cpu().numpy()
            return everything
        index = self.encoder.layers.index(self.resolve(layer))
        own_width = self.encoder.layer_dims[index]
        one: Values = layers[index, :, :own_width].float().cpu().numpy()
        return one


def _defaults(encoder: SSLEncoder) -> tuple[float, float]:
    """Seconds of a chunk and of its context that an encoder takes."""
    if encoder.max_samples is None:
        return CHUNK_S, CONTEXT_S
    room = encoder.max_samples - encoder.receptive_field - 4 * encoder.frame_hop
    seconds = room / encoder.sample_rate
    return min(CHUNK_S, seconds * 2 / 3), min(CONTEXT_S, seconds / 6)


def _without_normalisation(encoder: SSLEncoder) -> tuple[SSLEncoder, bool]:
    """Give the network without its own normalisation, and whether it had one."""
    if not getattr(encoder, "normalize", False):
        return encoder, False
    # Shares the weights; the caller's encoder stays as it is.
    network: Any = copy.copy(encoder)
    network.normalize = False
    return network, True


def _normalised(channel: Samples) -> Samples:
    """Mean 0 and variance 1, as the encoders' own: 1e-5 is added to the variance."""
    mean = channel.mean(dtype=np.float64)
    scale = 1.0 / math.sqrt(channel.var(dtype=np.float64) + _NORM_EPS)
    return ((channel - np.float32(mean)) * np.float32(scale)).astype(np.float32, copy=False)


def is_encoder(value: Any) -> bool:
    """Whether an object is an encoder; False where torch is absent."""
    try:
        from voiceguard.features.ssl.contract import SSLEncoder
    except ImportError:
        return False
    return isinstance(value, SSLEncoder)
