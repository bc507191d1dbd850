"""DistillMOS, a small speech-quality network that learned from XLS-R, as an encoder.

Stahl and Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech
Quality Assessment", ICASSP 2025: six convolutions on a compressed complex spectrogram, then seven
small transformer blocks; 4 million parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from voiceguard.features.ssl.contract import OneShapeEncoder, samples_of
from voiceguard.features.ssl.reading import as_float32, check_fit

_WINDOW = 320
_HOP = 160
_FRAME = 2 * _HOP
_POWER = 0.3
_TINY = 1e-12
_CHANNELS = (2, 64, 64, 128, 256, 256, 256)
_CONV_DIM = 1024
_DIM = 200
_HEADS = 8
_DEPTH = 7
_POSITIONS = 384
_SLOPE = 0.1
_LAST = len(_CHANNELS) - 2


class DistillMOSEncoder(OneShapeEncoder):
    """The convolutions' frames as layer 0, the transformer's as layers 1 to 7.

    Layer 0 is 1,024 wide, the others 200. Each waveform is divided by its peak. The transformer
    hears 7.68 s filled up with silence, as published, and takes no more; layer 0 alone takes any
    length.

    Parameters
    ----------
    layers : sequence of int, optional
        Layers to give; all by default. Where 0 is among them the others are filled up with zeros.
    gradient_checkpointing : bool
        See :class:`SSLEncoder`.

    Raises
    ------
    ParameterError
        If `layers` does not fit.

    Shape
    -----
    (batch, samples) to (batch, n_layers, ceil(samples / 320), 1024 or 200).
    """

    architecture = "distillmos"
    frame_hop = _FRAME
    first_centre = _HOP / 2
    # Each convolution sees a frame to each side.
    receptive_field = _WINDOW + 2 * _HOP * (_LAST + 1)
    min_samples = 1

    def __init__(
        self,
        *,
        layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(_DEPTH, layers=layers, gradient_checkpointing=gradient_checkpointing)
        self.dim = max(self.layer_dims)
        self.max_samples = _POSITIONS * _FRAME if self.top else None
        self.convolutions = nn.ModuleList(map(_convolution, range(_LAST + 1)))
        with torch.device("cpu"):
            window = torch.hann_window(_WINDOW)
        self.register_buffer("window", window, persistent=False)
        self.transformer = _Transformer(self.top) if self.top else None

    @property
    def blocks(self) -> nn.ModuleList:
        """Transformer blocks; where only layer 0 is heard, the convolutions."""
        return self.convolutions if self.transformer is None else self.transformer.blocks

    @property
    def layer_dims(self) -> tuple[int, ...]:
        """Width of each chosen layer."""
        return tuple(_DIM if layer else _CONV_DIM for layer in self.layers)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return max(0, (samples + _FRAME - 1) // _FRAME)

    def encode(self, waveform: Tensor, lengths: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """Frames of the layers up to the highest chosen one; see the contract."""
        samples = waveform.shape[1]
        shown = self.frames(samples)
        # Past its end an item hears silence; the padding of the convolutions stays out of reach.
        width = self.max_samples or shown * _FRAME + self.receptive_field
        peak = waveform.abs().amax(dim=1, keepdim=True) + 1e-8
        x = self._convolved(nn.functional.pad(waveform / peak, (0, width - samples)))
        found = {0: x}
        if self.transformer is not None:
            x = self.transformer.enter(x)
            for number, block in enumerate(self.transformer.blocks, start=1):
                x = self._run(block, x)
                found[number] = x
        count = (samples_of(waveform, lengths) + _FRAME - 1) // _FRAME
        return {layer: frames[:, :shown] for layer, frames in found.items()}, count

    def _convolved(self, waveform: Tensor) -> Tensor:
        """(batch, n) to (batch, n / 320, 1024)."""
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            spectrogram = _compressed(waveform.float(), self.get_buffer("window").float())
        x = spectrogram.to(waveform.dtype)
        for convolution in self.convolutions:
            x = nn.functional.leaky_relu(convolution(x), _SLOPE)
        return x.flatten(1, 2).transpose(1, 2)


class _Transformer(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(_CONV_DIM) for _ in range(2))
        self.projection = nn.Linear(_CONV_DIM, _DIM)
        self.positions = nn.Parameter(_positions(), requires_grad=False)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                _DIM, _HEADS, dim_feedforward=2 * _DIM, dropout=0.0, batch_first=True
            )
            for _ in range(depth)
        )

    def enter(self, x: Tensor) -> Tensor:
        """What the first block takes; the statistics of the norms stay as they were learned."""
        x = x.transpose(1, 2)
        for norm in self.norms:
            # Never the statistics of a batch: an item would hear its neighbours.
            x = norm.eval()(x)
        entered: Tensor = self.projection(x.transpose(1, 2)) + self.positions
        return entered


def _positions() -> Tensor:
    place = torch.arange(_POSITIONS)[:, None]
    rate = torch.exp(torch.arange(0, _DIM, 2) * (-math.log(2 * _POSITIONS) / _DIM))
    return torch.stack([torch.sin(place * rate), torch.cos(place * rate)], -1).flatten(1)[None]


def _convolution(index: int) -> nn.Conv2d:
    """Halves the frequencies from the second on, and the frames in the last."""
    stride = (2 if index else 1, 2 if index == _LAST else 1)
    return nn.Conv2d(_CHANNELS[index], _CHANNELS[index + 1], 3, stride=stride, padding=(0, 1))


def _compressed(waveform: Tensor, window: Tensor) -> Tensor:
    """Complex spectrogram, magnitudes to the power of 0.3: (batch, 2, 161, n / 160)."""
    edge = (_WINDOW - _HOP) // 2
    padded = nn.functional.pad(waveform, (edge, edge), mode="reflect")
    spectrum = torch.stft(padded, _WINDOW, _HOP, window=window, center=False, return_complex=True)
    x = torch.view_as_real(spectrum).permute(0, 3, 1, 2)
    # Not a plain root of the sum: its slope at silence is infinite.
    magnitude = x.square().sum(1, keepdim=True).clamp(min=_TINY**2).sqrt()
    return x * magnitude ** (_POWER - 1.0)


_NAMES = tuple(
    (re.compile(f"^{pattern}$"), replacement)
    for pattern, replacement in (
        (
            r"transformer_pool_attn\.transformer\.transformer_encoder\.layers\.(.+)",
            r"transformer.blocks.\1",
        ),
        (r"transformer_pool_attn\.transformer\.linear_proj\.(.+)", r"transformer.projection.\1"),
        (r"transformer_pool_attn\.transformer\.position_encoding\.pe", r"transformer.positions"),
        (r"transformer_pool_attn\.norm_input\.(.+)", r"transformer.norms.0.\1"),
        (r"transformer_pool_attn\.transformer\.norm\.(.+)", r"transformer.norms.1.\1"),
    )
)
_JUDGE = ("transformer_pool_attn.norm_trans.", "transformer_pool_attn.pool.")


def recognises(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has the published names."""
    return "cnn.cnn.0.weight" in state


def from_state(
    state: Mapping[str, Tensor],
    *,
    name: str,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> DistillMOSEncoder:
    """Encoder from the published state dict; the part that gives the quality is left out.

    Parameters
    ----------
    state : mapping of str to Tensor
    name : str
        File that it came from, for messages.
    layers, **options
        See :class:`DistillMOSEncoder`.

    Raises
    ------
    BundleError
        If a tensor is missing, unexpected or of another shape.
    """
    kept = {_rename(k): v for k, v in state.items() if not k.startswith(_JUDGE)}
    renamed = as_float32(kept)
    with torch.device("meta"):
        expected = DistillMOSEncoder().state_dict()
        encoder = DistillMOSEncoder(layers=layers, **options)
    check_fit(expected, renamed, name=name)
    encoder.load_state_dict(encoder.tensors_from(renamed), assign=True)
    return encoder.eval()


def _rename(key: str) -> str:
    # Odd places of the published sequence are activations.
    if found := re.match(r"^cnn\.cnn\.(\d+)\.(weight|bias)$", key):
        return f"convolutions.{int(found[1]) // 2}.{found[2]}"
    for pattern, replacement in _NAMES:
        renamed, count = pattern.subn(replacement, key)
        if count:
            return renamed
    return key
