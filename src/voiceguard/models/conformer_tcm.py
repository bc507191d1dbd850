"""Conformer with temporal-channel modelling.

Truong et al., "Temporal-channel modeling in multi-head self-attention for synthetic speech
detection", Interspeech 2024 (arXiv 2406.17376), on the conformer of Rosello et al., "A conformer-
based classifier for variable-length utterance processing in anti-spoofing", Interspeech 2023, and
Gulati et al., "Conformer", Interspeech 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig
from voiceguard.models.back_end import FrameBackEnd, frame_mean, real_frames
from voiceguard.models.graph import BONAFIDE_INDEX, ModelOutput


@dataclass(frozen=True)
class ConformerTCMConfig(PlainConfig):
    """Sizes of a Conformer-TCM; the defaults are the published ones.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames.
    width : int
        Width of the conformer, a multiple of twice `heads`.
    heads : int
        Attention heads.
    blocks : int
        Conformer blocks.
    kernel : int
        Taps of the depth-wise convolution, odd.
    """

    dim: int = 1024
    width: int = 144
    heads: int = 4
    blocks: int = 4
    kernel: int = 31

    def __post_init__(self) -> None:
        check_int(self, dim=self.dim, width=self.width, heads=self.heads)
        check_int(self, blocks=self.blocks, kernel=self.kernel)
        if self.width % (2 * self.heads) or not self.kernel % 2:
            raise ParameterError(
                "ConformerTCMConfig must have a 'width' that is a multiple of twice 'heads' and an "
                f"odd 'kernel'. Got {self.width!r}, {self.heads!r}, {self.kernel!r} instead."
            )


class FeedForward(nn.Sequential):
    """Layer norm and two linear layers, the inner one four times as wide.

    Parameters
    ----------
    width : int
        Numbers a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, width),
        )


class HeadTokenAttention(nn.Module):
    """Self-attention with one more token a head, made of that head's channels.

    The head tokens let channels meet as the others let instants meet; they are averaged into the
    class token, as the frames are, and do not leave the layer.

    Parameters
    ----------
    width : int
        Numbers a token.
    heads : int
        Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.head_proj = nn.Linear(width // heads, width)
        self.head_norm = nn.LayerNorm(width // heads)
        self.head_position = nn.Parameter(torch.zeros(1, heads, width))

    def forward(self, tokens: Tensor, real: Tensor | None = None) -> Tensor:
        """(batch, 1 + frames, width) to the same, the class token first.

        `real` (batch, 1 + frames) says which tokens count.
        """
        tokens = self.norm(tokens)
        count = tokens.shape[1]
        mixed = self._attend(torch.cat([tokens, self._head_tokens(tokens, real)], dim=1), real)
        cls, frames, heads = torch.split(mixed, [1, count - 1, self.heads], dim=1)
        seen = frame_mean(frames, None if real is None else real[:, 1:])
        cls = cls + heads.mean(dim=1, keepdim=True) + seen.unsqueeze(1)
        return torch.cat([cls, frames], dim=1)

    def _head_tokens(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """Mean of every head's channels over time, as tokens (batch, heads, width)."""
        size = tokens.shape[2] // self.heads
        means = frame_mean(tokens, real).reshape(-1, self.heads, size)
        spread = self.head_proj(means).reshape(-1, self.heads, self.heads, size)
        out: Tensor = F.gelu(self.head_norm(spread)).flatten(2) + self.head_position
        return out

    def _attend(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """Attention of all tokens to all that count; head tokens always do."""
        parts = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        allowed = None
        if real is not None:
            allowed = F.pad(real, (0, self.heads), value=True)[:, None, None]
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=allowed)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Convolution(nn.Module):
    """The conformer's convolution module, its inner width doubled.

    Parameters
    ----------
    width : int
        Numbers a token.
    kernel : int
        Taps of the depth-wise convolution, odd.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        inner = 2 * width
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Conv1d(width, 2 * inner, 1)
        self.depthwise = nn.Conv1d(inner, inner, kernel, padding=kernel // 2, groups=inner)
        self.bn = nn.BatchNorm1d(inner)
        self.project = nn.Conv1d(inner, width, 1)

    def forward(self, tokens: Tensor, real: Tensor | None = None) -> Tensor:
        """(batch, tokens, width) to the same; `real` (batch, tokens) says which tokens count."""
        out = F.glu(self.expand(self.norm(tokens).transpose(1, 2)), dim=1)
        if real is not None:
            out = torch.where(real.unsqueeze(1), out, 0.0)
        projected: Tensor = self.project(F.silu(self.bn(self.depthwise(out))))
        return projected.transpose(1, 2)


class ConformerBlock(nn.Module):
    """Half a feed-forward step, attention, convolution, half a feed-forward step, layer norm.

    Parameters
    ----------
    width, heads, kernel : int
        As in :class:`ConformerTCMConfig`.
    """

    def __init__(self, width: int, heads: int, kernel: int) -> None:
        super().__init__()
        self.before = FeedForward(width)
        self.attention = HeadTokenAttention(width, heads)
        self.convolution = Convolution(width, kernel)
        self.after = FeedForward(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, real: Tensor | None = None) -> Tensor:
        """(batch, tokens, width) to the same; `real` (batch, tokens) says which tokens count."""
        tokens = tokens + 0.5 * self.before(tokens)
        tokens = tokens + self.attention(tokens, real)
        tokens = tokens + self.convolution(tokens, real)
        tokens = tokens + 0.5 * self.after(tokens)
        out: Tensor = self.norm(tokens)
        return out


def positions(count: int, width: int) -> Tensor:
    """Sinusoidal positions (count, width): sine and cosine by turns (Vaswani et al., 2017)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(count).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class ConformerTCM(FrameBackEnd):
    """Frames of one layer to logits: projection, class token, conformer blocks.

    2,382,628 parameters as published. Attributes do not bear the published names.

    Parameters
    ----------
    config : ConformerTCMConfig
        Sizes.

    Shape
    -----
    (batch, frames, dim), of the encoder's last layer as published, to logits (batch, 2) and
    embedding (batch, width).
    """

    config: ConformerTCMConfig

    def __init__(self, config: ConformerTCMConfig | None = None) -> None:
        super().__init__()
        config = config or ConformerTCMConfig()
        self.config = config
        self.proj = nn.Linear(config.dim, config.width)
        self.bn = nn.BatchNorm2d(1)
        self.class_token = nn.Parameter(torch.rand(1, 1, config.width))
        self.blocks = nn.ModuleList(
            ConformerBlock(config.width, config.heads, config.kernel) for _ in range(config.blocks)
        )
        self.out_layer = nn.Linear(config.width, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.width

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        frames = F.selu(self.bn(self.proj(features).unsqueeze(1)).squeeze(1))
        frames = frames + positions(*frames.shape[1:]).to(frames)
        # Padding and no expansion, whose batch an exporter may bake into the graph.
        count = frames.shape[1]
        tokens = F.pad(frames, (0, 0, 1, 0)) + F.pad(self.class_token, (0, 0, 0, count))
        real = real_frames(features, lengths)
        if real is not None:
            real = F.pad(real, (1, 0), value=True)
        for block in self.blocks:
            tokens = block(tokens, real)
        embedding = tokens[:, 0]
        return ModelOutput(self.out_layer(embedding), embedding)

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the published model, the bona fide logit [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX]
