"""The contract of every self-supervised encoder: waveform in, frames of each layer out.

Layers are numbered as the papers' probing studies number them: 0 is what the first transformer
block takes, k is what block k gives. An encoder gives the layers that it was asked for and builds
no block above the highest of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voiceguard.errors import ParameterError

Encoder = TypeVar("Encoder", bound="SSLEncoder")


@dataclass(frozen=True)
class SSLOutput:
    """What an encoder gives.

    Attributes
    ----------
    layers : Tensor [shape=(batch, n_layers, frames, dim)]
        Frames of each chosen layer, zero past an item's own frames.
    lengths : Tensor [shape=(batch,)]
        Frames of each item, int64.
    """

    layers: Tensor
    lengths: Tensor

    def mask(self) -> Tensor:
        """True at the frames of each item; bool [shape=(batch, frames)]."""
        return frame_mask(self.lengths, self.layers.shape[2])


def frame_mask(lengths: Tensor, width: int) -> Tensor:
    """True at the first `lengths` of `width` places; bool [shape=(batch, width)]."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def samples_of(waveform: Tensor, lengths: Tensor | None) -> Tensor:
    """Samples of each item, all of them where no lengths are given; int64 [shape=(batch,)]."""
    if lengths is not None:
        return lengths
    batch, samples = waveform.shape
    return torch.full((batch,), samples, dtype=torch.int64, device=waveform.device)


class SSLEncoder(nn.Module):
    """Waveform to the hidden frames of a pretrained network.

    A padded batch gives each item what it gives alone: what lies past an item's length is never
    heard. A subclass sets the attributes below and :attr:`blocks`, and writes :meth:`frames` and
    :meth:`encode`.

    Parameters
    ----------
    depth : int
        Blocks of the published network; its layers are 0 to `depth`.
    layers : sequence of int, optional
        Layers to give, in this order; negative ones count from the end. All by default.
    gradient_checkpointing : bool
        Compute each block once more in the backward pass rather than keep what it computed.

    Raises
    ------
    ParameterError
        If `layers` is empty, repeats a layer, or names one that the network lacks.
    """

    #: Name of the architecture, as :func:`voiceguard.features.ssl.load_encoder` knows it.
    architecture: str
    #: Hz of the waveform.
    sample_rate: int = 16000
    #: Width of a frame; narrower layers are filled with zeros on the right.
    dim: int
    #: Samples from one frame to the next.
    frame_hop: int
    #: Samples that the convolutions before the first block see in one frame.
    receptive_field: int
    #: Sample at the centre of the first frame; below 0 it lies in the padding.
    first_centre: float
    #: Fewest samples that give a frame.
    min_samples: int
    #: Most samples that are taken, or None for no limit; cut longer ones into chunks.
    max_samples: int | None = None

    def __init__(
        self,
        depth: int,
        *,
        layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.layers = _chosen(layers, depth)
        self.gradient_checkpointing = gradient_checkpointing
        #: Where the weights came from, as far as the loader knows: file, licence, hash.
        self.provenance: dict[str, str] = {}
        self._frozen_blocks: int | None = None

    @property
    def blocks(self) -> nn.ModuleList:
        """Transformer blocks, those above the highest chosen layer left out."""
        raise NotImplementedError

    @property
    def n_layers(self) -> int:
        """Layers in the output."""
        return len(self.layers)

    @property
    def top(self) -> int:
        """Highest chosen layer."""
        return max(self.layers)

    @property
    def layer_dims(self) -> tuple[int, ...]:
        """Width of each chosen layer before it is filled up to :attr:`dim`."""
        return (self.dim,) * self.n_layers

    @property
    def home(self) -> Tensor:
        """A tensor of the network, which tells where it is and its precision."""
        return next(chain(self.parameters(), self.buffers()))

    @property
    def frame_hop_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.frame_hop / self.sample_rate

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which the network can be built again, without `layers`."""
        raise NotImplementedError

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give; 0 where they are too few."""
        raise NotImplementedError

    def encode(self, waveform: Tensor, lengths: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """Frames of the chosen layers, of a waveform that :meth:`forward` has checked.

        Parameters
        ----------
        waveform : Tensor [shape=(batch, samples)]
        lengths : Tensor [shape=(batch,)], optional
            Samples of each item; None where all are whole.

        Returns
        -------
        dict of int to Tensor [shape=(batch, frames, layer's width)]
            At least the chosen layers.
        Tensor [shape=(batch,)]
            Frames of each item, int64.
        """
        raise NotImplementedError

    def frame_times(self, n_frames: int) -> NDArray[np.float64]:
        """Centre of each frame in seconds from the start of the waveform."""
        return (self.first_centre + self.frame_hop * np.arange(n_frames)) / self.sample_rate

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> SSLOutput:
        """Encode a batch.

        Parameters
        ----------
        waveform : Tensor [shape=(batch, samples)]
            Floating point, full scale 1, at :attr:`sample_rate`.
        lengths : Tensor [shape=(batch,)], optional
            Samples of each item, integers; all of them by default.

        Returns
        -------
        SSLOutput

        Raises
        ------
        ParameterError
            If a shape, a type or a length does not fit.
        """
        self._check(waveform, lengths)
        waveform = waveform.to(self.home.dtype)
        if lengths is not None:
            lengths = lengths.to(device=waveform.device, dtype=torch.int64)
            # Filled, not multiplied: padding may hold anything, NaN too.
            waveform = waveform.masked_fill(~frame_mask(lengths, waveform.shape[1]), 0.0)
        found, n_frames = self.encode(waveform, lengths)
        wanted = [_widened(found[layer], self.dim) for layer in self.layers]
        stacked = torch.stack(wanted, dim=1)
        if lengths is not None:
            outside = ~frame_mask(n_frames, stacked.shape[2])
            stacked = stacked.masked_fill(outside[:, None, :, None], 0.0)
        return SSLOutput(stacked, n_frames)

    def tensors_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those tensors of a whole network's state dict that this encoder keeps."""
        return {key: state[key] for key in self.state_dict()}

    def freeze(self: Encoder, *, blocks: int | None = None) -> Encoder:
        """Stop training the network, or its lower part; what is frozen also leaves out dropout.

        Parameters
        ----------
        blocks : int, optional
            Blocks to freeze from below, with all that lies under them; 0 freezes only what lies
            under the first block. By default everything is frozen.

        Returns
        -------
        SSLEncoder
            This encoder.

        Raises
        ------
        ParameterError
            If it has fewer blocks.
        """
        if blocks is not None and not 0 <= blocks <= len(self.blocks):
            raise ParameterError(
                f"The 'blocks' parameter of freeze must lie in [0, {len(self.blocks)}], the "
                f"blocks that this encoder has. Got {blocks!r} instead."
            )
        self.requires_grad_(False)
        self._frozen_blocks = len(self.blocks) if blocks is None else blocks
        for part in () if blocks is None else self._trainable():
            part.requires_grad_(True)
        return self.train(self.training)

    def train(self: Encoder, mode: bool = True) -> Encoder:
        """Set training mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        if mode and self._frozen_blocks is not None:
            for child in self.children():
                child.eval()
            if any(p.requires_grad for p in self.parameters()):
                for part in self._trainable():
                    part.train(True)
        return self

    def fingerprint(self) -> str:
        """SHA-256 of architecture, configuration, chosen layers and weights, in hex.

        The same for the same outputs wherever the weights were read from; it reads every weight,
        about a second a gigabyte.
        """
        plain = {"architecture": self.architecture, "config": self.config, "layers": self.layers}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
            flat = tensor.detach().cpu().contiguous().flatten()
            digest.update(memoryview(flat.view(torch.uint8).numpy()))
        return digest.hexdigest()

    def _trainable(self) -> Iterator[nn.Module]:
        """Blocks above the frozen ones; a subclass adds its final norm."""
        yield from self.blocks[self._frozen_blocks or 0 :]

    def _run(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Call a block, by a checkpoint where one is asked for and gradients flow."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            from torch.utils.checkpoint import checkpoint

            return checkpoint(block, *args, use_reentrant=False, **kwargs)
        return block(*args, **kwargs)

    def _check(self, waveform: Tensor, lengths: Tensor | None) -> None:
        name = type(self).__name__
        if waveform.ndim != 2 or not waveform.is_floating_point() or not len(waveform):
            raise ParameterError(
                f"The 'waveform' parameter of {name} must be a floating tensor of shape "
                f"(batch, samples). Got shape {tuple(waveform.shape)}, {waveform.dtype} instead."
            )
        width = waveform.shape[1]
        shortest = longest = width
        if lengths is not None:
            if lengths.shape != waveform.shape[:1] or lengths.is_floating_point():
                raise ParameterError(
                    f"The 'lengths' parameter of {name} must hold one whole number of samples for "
                    f"each of {len(waveform)} items. Got shape {tuple(lengths.shape)}, "
                    f"{lengths.dtype} instead."
                )
            shortest, longest = int(lengths.min()), int(lengths.max())
        most = width if self.max_samples is None else min(width, self.max_samples)
        if shortest < self.min_samples or longest > most:
            raise ParameterError(
                f"{name} takes {self.min_samples} to {self.max_samples or 'any number of'} samples "
                f"an item, no more than the batch is wide ({width}). Got {shortest} to {longest} "
                "instead. Pad shorter ones, cut longer ones into chunks."
            )


class OneShapeEncoder(SSLEncoder):
    """An encoder that was published in one shape: there is nothing to choose but its layers."""

    @property
    def config(self) -> dict[str, Any]:
        """Empty: there is one shape."""
        return {}

    @classmethod
    def from_config(cls: type[Encoder], config: Mapping[str, Any], **options: Any) -> Encoder:
        """Build from :attr:`config`; options given here go before those in it."""
        return cls(**{**config, **options})


def _chosen(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(depth + 1))
    whole = all(isinstance(k, int) and not isinstance(k, bool) for k in layers)
    chosen = tuple(k + depth + 1 if k < 0 else k for k in layers) if whole else ()
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= k <= depth for k in chosen):
        raise ParameterError(
            f"The 'layers' parameter must name layers of 0 to {depth}, each once. "
            f"Got {layers!r} instead."
        )
    return chosen


def _widened(frames: Tensor, dim: int) -> Tensor:
    return torch.nn.functional.pad(frames, (0, dim - frames.shape[-1]))
