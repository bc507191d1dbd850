"""Multi-head factorised attentive pooling.

Peng et al., "An attention-based backend allowing efficient fine-tuning of transformer models for
speaker verification", SLT 2022 (arXiv 2210.01273); with WavLM it leads the single systems on
ASVspoof 5 (Peng et al., Wedefense, 2025). Attributes bear the names of the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig
from voiceguard.models.back_end import FrameBackEnd, real_frames
from voiceguard.models.graph import ModelOutput


@dataclass(frozen=True)
class MHFAConfig(PlainConfig):
    """Sizes of an MHFA back end; the defaults are those of the ASVspoof 5 system on WavLM base.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames.
    layers : int
        Layers, the input of the first transformer layer among them.
    heads : int
        Attention heads.
    compression : int
        Width of keys and values.
    embedding : int
        Width of the embedding.
    """

    dim: int = 768
    layers: int = 13
    heads: int = 32
    compression: int = 128
    embedding: int = 256

    def __post_init__(self) -> None:
        check_int(self, dim=self.dim, layers=self.layers, heads=self.heads)
        check_int(self, compression=self.compression, embedding=self.embedding)


class MHFA(FrameBackEnd):
    """Frames of all layers to logits; keys and values mix the layers each in their own way.

    Keys say when each head listens, values what it hears: every head averages the values over time
    with its own weights. 1,250,364 parameters with the last layer.

    Parameters
    ----------
    config : MHFAConfig
        Sizes.

    Shape
    -----
    (batch, layers, frames, dim) to logits (batch, 2) and embedding (batch, embedding).
    """

    takes_layers: bool = True
    config: MHFAConfig

    def __init__(self, config: MHFAConfig | None = None) -> None:
        super().__init__()
        config = config or MHFAConfig()
        self.config = config
        self.weights_k = nn.Parameter(torch.ones(config.layers))
        self.weights_v = nn.Parameter(torch.ones(config.layers))
        self.cmp_linear_k = nn.Linear(config.dim, config.compression)
        self.cmp_linear_v = nn.Linear(config.dim, config.compression)
        self.att_head = nn.Linear(config.compression, config.heads)
        self.pooling_fc = nn.Linear(config.heads * config.compression, config.embedding)
        self.out_layer = nn.Linear(config.embedding, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.embedding

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        keys = self.cmp_linear_k(_mix(features, self.weights_k))
        values = self.cmp_linear_v(_mix(features, self.weights_v))
        logits = self.att_head(keys)
        real = real_frames(features, lengths)
        if real is not None:
            logits = logits.masked_fill(~real.unsqueeze(2), -torch.inf)
            values = torch.where(real.unsqueeze(2), values, 0.0)
        pooled = torch.softmax(logits, dim=1).transpose(1, 2) @ values
        embedding = self.pooling_fc(pooled.flatten(1))
        return ModelOutput(self.out_layer(embedding), embedding)


def _mix(features: Tensor, weights: Tensor) -> Tensor:
    """Convex sum of the layers: (batch, layers, frames, dim) to (batch, frames, dim)."""
    return torch.einsum("blfd,l->bfd", features, torch.softmax(weights, dim=0))
