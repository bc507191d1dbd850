"""Whisper's encoder on transformers' network.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023. Whisper
hears a window of fixed length, 30 s, filled up with silence, and attends to the silence too. So
does this encoder: an item gives what it gives alone, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from voiceguard.errors import MissingExtraError, ParameterError
from voiceguard.features._base import check_int
from voiceguard.features.ssl.contract import SSLEncoder, samples_of

_RATE = 16000
_FFT = 400
_HOP = 160
_FRAME = 2 * _HOP
_FLOOR = 1e-10
_RANGE = 8.0
_POSITIONS = "network.embed_positions.weight"


@dataclass(frozen=True)
class WhisperConfig:
    """Shape of the encoder.

    Parameters
    ----------
    dim, depth, heads, feedforward : int
        Width of a frame, blocks, attention heads, width inside a block.
    mels : int
        Mel bands: 80, or 128 from large-v3 on.
    positions : int
        Frames of 20 ms in a window.

    Raises
    ------
    ParameterError
        If a value is no int >= 1 or `dim` is no multiple of `heads`.
    """

    dim: int
    depth: int
    heads: int
    feedforward: int
    mels: int = 80
    positions: int = 1500

    def __post_init__(self) -> None:
        check_int(self, **asdict(self))
        if self.dim % self.heads:
            raise ParameterError(
                f"The 'dim' parameter of WhisperConfig must be a multiple of heads ({self.heads}). "
                f"Got {self.dim} instead."
            )


WHISPER_CONFIGS: Mapping[str, WhisperConfig] = MappingProxyType(
    {
        "whisper-tiny": WhisperConfig(384, 4, 6, 1536),
        "whisper-base": WhisperConfig(512, 6, 8, 2048),
        "whisper-small": WhisperConfig(768, 12, 12, 3072),
        "whisper-medium": WhisperConfig(1024, 24, 16, 4096),
        "whisper-large-v2": WhisperConfig(1280, 32, 20, 5120),
        "whisper-large-v3": WhisperConfig(1280, 32, 20, 5120, mels=128),
    }
)
"""Published sizes by name."""


class WhisperEncoder(SSLEncoder):
    """The encoder, with its log-mel spectrogram.

    Parameters
    ----------
    config : WhisperConfig
        Its shape.
    layers : sequence of int, optional
        Layers to give; all by default. The last one is given after the norm that closes it.
    gradient_checkpointing : bool
        See :class:`SSLEncoder`.
    context_s : float, optional
        Seconds of the window, a multiple of 0.02; by default as published, 30. Shorter ones cost
        less and give other numbers: fewer positions, less silence to attend to. What is saved of
        such an encoder holds no more positions, and can only be shortened further.

    Raises
    ------
    MissingExtraError
        If transformers is absent.
    ParameterError
        If `layers` or `context_s` does not fit.

    Shape
    -----
    (batch, samples), at most the window, to (batch, n_layers, ceil(samples / 320), dim).
    """

    architecture = "whisper"
    frame_hop = _FRAME
    receptive_field = _FFT + 4 * _HOP
    first_centre = 0.0
    min_samples = 1

    def __init__(
        self,
        config: WhisperConfig,
        *,
        layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
        context_s: float | None = None,
    ) -> None:
        super().__init__(config.depth, layers=layers, gradient_checkpointing=gradient_checkpointing)
        self.whisper_config = config
        self.dim = config.dim
        self._context = _context_frames(context_s, config.positions)
        self.max_samples = self._context * _FRAME
        self.log_mel = WhisperLogMel(config.mels)
        self.network = _build(config, self._context)
        self.network.layers = self.network.layers[: self.top]
        if self.top < self.depth:
            self.network.layer_norm = nn.Identity()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> WhisperEncoder:
        """Build from :attr:`config`; options given here, None aside, go before those in it."""
        plain = dict(config)
        given = {name: value for name, value in options.items() if value is not None}
        return cls(WhisperConfig(**plain.pop("network")), **{**plain, **given})

    @property
    def blocks(self) -> nn.ModuleList:
        """Transformer blocks."""
        found: nn.ModuleList = self.network.layers
        return found

    @property
    def config(self) -> dict[str, Any]:
        """Plain values."""
        return {"network": asdict(self.whisper_config), "context_s": self._context * _FRAME / _RATE}

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return max(0, -(-samples // _FRAME))

    def encode(self, waveform: Tensor, lengths: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """Frames of the layers up to the highest chosen one; see the contract."""
        samples = waveform.shape[1]
        padded = nn.functional.pad(waveform, (0, self._context * _FRAME - samples))
        mel = self.log_mel(padded).to(waveform.dtype)
        x = nn.functional.gelu(self.network.conv1(mel))
        x = nn.functional.gelu(self.network.conv2(x)).transpose(1, 2)
        x = x + self.network.embed_positions.weight
        found = {0: x}
        for number, block in enumerate(self.blocks, start=1):
            x = self._run(block, x, None)
            found[number] = x
        if self.top == self.depth:
            found[self.depth] = self.network.layer_norm(x)
        count = (samples_of(waveform, lengths) + _FRAME - 1) // _FRAME
        shown = self.frames(samples)
        return {layer: frames[:, :shown] for layer, frames in found.items()}, count

    def tensors_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those tensors of a whole network that this encoder keeps; positions up to its window.

        Raises
        ------
        ParameterError
            If the window is longer than the positions last: an encoder that was saved with a
            shorter one has lost the rest.
        """
        kept = super().tensors_from(state)
        positions = kept[_POSITIONS]
        if len(positions) < self._context:
            raise ParameterError(
                "The 'context_s' parameter of WhisperEncoder must be at most "
                f"{len(positions) * _FRAME / _RATE} s, for which these weights have positions. "
                f"Got {self._context * _FRAME / _RATE} instead."
            )
        return {**kept, _POSITIONS: positions[: self._context].clone()}

    def _trainable(self) -> Iterator[nn.Module]:
        yield from super()._trainable()
        yield self.network.layer_norm


class WhisperLogMel(nn.Module):
    """Whisper's log-mel spectrogram.

    25 ms Hann frames every 10 ms, Slaney's mel bands, base-10 logarithm, cut 8 below the maximum of
    the window.

    Parameters
    ----------
    mels : int
        Bands.

    Shape
    -----
    (batch, n) to (batch, mels, n // 160); float32 under autocast too.
    """

    def __init__(self, mels: int) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        # Analysis, not weights: real numbers even where a network is built without any.
        with torch.device("cpu"):
            bands = melscale_fbanks(
                _FFT // 2 + 1, 0.0, _RATE / 2, mels, _RATE, norm="slaney", mel_scale="slaney"
            )
            window = torch.hann_window(_FFT)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("window", window, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Spectrogram of a batch of windows."""
        bands, window = self.get_buffer("bands"), self.get_buffer("window")
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform.float(), _FFT, _HOP, window=window.float(), return_complex=True
            )
            power = spectrum[..., :-1].abs().square()
            log = (bands.float().T @ power).clamp(min=_FLOOR).log10()
            log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - _RANGE)
            return (log + 4.0) / 4.0


def _context_frames(context_s: float | None, positions: int) -> int:
    if context_s is None:
        return positions
    frames = round(context_s * _RATE / _FRAME)
    if not 1 <= frames <= positions or abs(frames * _FRAME / _RATE - context_s) > 1e-9:
        raise ParameterError(
            "The 'context_s' parameter of WhisperEncoder must be a multiple of 0.02 s, at most "
            f"{positions * _FRAME / _RATE} s. Got {context_s!r} instead."
        )
    return frames


def _build(config: WhisperConfig, context: int) -> Any:
    try:
        published = import_module("transformers.models.whisper.configuration_whisper")
        networks = import_module("transformers.models.whisper.modeling_whisper")
    except ImportError as error:
        raise MissingExtraError("Whisper's encoder", "train") from error
    shape = published.WhisperConfig(
        d_model=config.dim,
        encoder_layers=config.depth,
        encoder_attention_heads=config.heads,
        encoder_ffn_dim=config.feedforward,
        num_mel_bins=config.mels,
        max_source_positions=context,
        attn_implementation="sdpa",
    )
    return networks.WhisperEncoder(shape)
