"""wav2vec 2.0, HuBERT and WavLM on torchaudio's networks.

Two things are done here because torchaudio's own forward pass does not: padding is kept out of the
"base" networks' norm over time and out of WavLM's attention, and the frames before the first block
and after the last norm are given too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from voiceguard.features.ssl.contract import SSLEncoder, frame_mask, samples_of
from voiceguard.features.ssl.wave_config import WaveConfig

_NORM_EPS = 1e-5


class WaveEncoder(SSLEncoder):
    """A network of the wav2vec 2.0 family.

    The weights are random until some are loaded.

    Parameters
    ----------
    config : WaveConfig
        Its shape.
    layers : sequence of int, optional
        Layers to give; all by default.
    gradient_checkpointing : bool
        See :class:`SSLEncoder`.
    normalize : bool, optional
        Bring each waveform to mean 0 and variance 1; by default as the network was trained. The
        published SSL-AASIST systems do not, whatever the network saw.
    final_norm : bool
        Give the last layer of a ``norm_first`` network after the norm that closes it, as
        transformers and fairseq do for the final output. fairseq's list of layers, which SLS
        mixes, leaves it out.

    Raises
    ------
    ParameterError
        If `layers` does not fit.

    Shape
    -----
    (batch, samples) to (batch, n_layers, 1 + (samples - 400) // 320, dim) with the published
    convolutions.
    """

    def __init__(
        self,
        config: WaveConfig,
        *,
        layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
        normalize: bool | None = None,
        final_norm: bool = True,
    ) -> None:
        super().__init__(config.depth, layers=layers, gradient_checkpointing=gradient_checkpointing)
        self.wave_config = config
        self.architecture = config.family
        self.normalize = config.normalize if normalize is None else normalize
        self.final_norm = final_norm
        self.dim = config.dim
        self.frame_hop = config.frame_hop
        self.receptive_field = self.min_samples = config.receptive_field
        self.first_centre = self.receptive_field / 2
        self.network = _build(config)
        self._drop_unused()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> WaveEncoder:
        """Build from :attr:`config`; options given here go before those in it."""
        plain = dict(config)
        return cls(WaveConfig.from_dict(plain.pop("network")), **{**plain, **options})

    @property
    def blocks(self) -> nn.ModuleList:
        """Transformer blocks."""
        found: nn.ModuleList = self.network.encoder.transformer.layers
        return found

    @property
    def config(self) -> dict[str, Any]:
        """Plain values: the network's shape and the options that change what it gives."""
        options = {"normalize": self.normalize, "final_norm": self.final_norm}
        return {"network": self.wave_config.to_dict(), **options}

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give; 0 where they are too few."""
        return max(0, 1 + (samples - self.receptive_field) // self.frame_hop)

    def encode(self, waveform: Tensor, lengths: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """Frames of the layers up to the highest chosen one; see the contract."""
        if self.normalize:
            waveform = _normalised(waveform, lengths)
        features, n_frames = self._convolved(waveform, lengths)
        x: Tensor = self.network.encoder.feature_projection(features)
        mask = None
        if lengths is not None:
            mask = frame_mask(n_frames, x.shape[1])
            x = x * mask[..., None]
        return self._transformed(x, mask), n_frames

    def _transformed(self, x: Tensor, mask: Tensor | None) -> dict[int, Tensor]:
        transformer = self.network.encoder.transformer
        x = x + transformer.pos_conv_embed(x)
        if not self.wave_config.norm_first:
            x = transformer.layer_norm(x)
        x = transformer.dropout(x)
        found, bias = {0: x}, None
        attend = _attention(mask, x.dtype, wavlm=self.wave_config.family == "wavlm")
        for number, block in enumerate(self.blocks, start=1):
            x, bias = self._run(block, x, position_bias=bias, **attend)
            found[number] = x
        if self._closing_norm:
            found[self.depth] = transformer.layer_norm(x)
        return found

    def _convolved(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Frames of the convolutions, and how many each item has."""
        x = waveform[:, None]
        count = samples_of(waveform, lengths)
        for layer in self.network.feature_extractor.conv_layers:
            x = layer.conv(x)
            count = (count - layer.kernel_size) // layer.stride + 1
            norm = layer.layer_norm
            if isinstance(norm, nn.GroupNorm) and lengths is not None:
                x = _norm_over_time(x, count, norm)
            elif norm is not None:
                x = norm(x)
            x = nn.functional.gelu(x)
        return x.transpose(1, 2), count

    @property
    def _closing_norm(self) -> bool:
        return self.final_norm and self.wave_config.norm_first and self.top == self.depth

    def _drop_unused(self) -> None:
        transformer = self.network.encoder.transformer
        transformer.layers = transformer.layers[: self.top]
        if self.wave_config.norm_first and not self._closing_norm:
            transformer.layer_norm = nn.Identity()

    def _trainable(self) -> Iterator[nn.Module]:
        yield from super()._trainable()
        if self.wave_config.norm_first:
            yield self.network.encoder.transformer.layer_norm


def _build(config: WaveConfig) -> Any:
    from torchaudio.models import wav2vec2_model, wavlm_model

    convolutions = zip(config.conv_dims, config.conv_kernels, config.conv_strides, strict=True)
    wavlm = {"encoder_num_buckets": config.buckets, "encoder_max_distance": config.max_distance}
    build = wavlm_model if config.family == "wavlm" else wav2vec2_model
    return build(
        extractor_mode="group_norm" if config.group_norm else "layer_norm",
        extractor_conv_layer_config=list(convolutions),
        extractor_conv_bias=config.conv_bias,
        encoder_embed_dim=config.dim,
        encoder_projection_dropout=config.projection_dropout,
        encoder_pos_conv_kernel=config.position_kernel,
        encoder_pos_conv_groups=config.position_groups,
        encoder_num_layers=config.depth,
        encoder_num_heads=config.heads,
        encoder_attention_dropout=config.attention_dropout,
        encoder_ff_interm_features=config.feedforward,
        encoder_ff_interm_dropout=config.activation_dropout,
        encoder_dropout=config.dropout,
        encoder_layer_norm_first=config.norm_first,
        encoder_layer_drop=0.0,
        aux_num_out=None,
        **(wavlm if config.family == "wavlm" else {}),
    )


def _attention(mask: Tensor | None, dtype: torch.dtype, *, wavlm: bool) -> dict[str, Tensor]:
    """Arguments that keep a block from attending to padding."""
    if mask is None:
        return {}
    if wavlm:
        shut = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return {"key_padding_mask": shut.masked_fill(~mask, -torch.inf)}
    batch, width = mask.shape
    return {"attention_mask": mask[:, None, None].expand(batch, 1, width, width)}


def _normalised(waveform: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean 0, variance 1 over each item's own samples; the rest stays zero."""
    if lengths is None:
        return nn.functional.layer_norm(waveform, waveform.shape[-1:], eps=_NORM_EPS)
    mask = frame_mask(lengths, waveform.shape[1])
    mean = waveform.sum(-1, keepdim=True) / lengths[:, None]
    centred = (waveform - mean) * mask
    variance = centred.square().sum(-1, keepdim=True) / lengths[:, None]
    return centred * torch.rsqrt(variance + _NORM_EPS)


def _norm_over_time(x: Tensor, count: Tensor, norm: nn.GroupNorm) -> Tensor:
    """The norm of each channel over the first `count` frames of x [shape=(batch, channels, n)]."""
    mask, whole = frame_mask(count, x.shape[-1])[:, None], count[:, None, None]
    mean = (x * mask).sum(-1, keepdim=True) / whole
    centred = (x - mean) * mask
    variance = centred.square().sum(-1, keepdim=True) / whole
    scaled = centred * torch.rsqrt(variance + norm.eps)
    return scaled * norm.weight[:, None] + norm.bias[:, None]
