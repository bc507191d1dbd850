"""Sensitive layer selection: every layer weighted by what its own mean says.

Zhang, Wen and Hu, "Audio deepfake detection with self-supervised XLS-R and SLS classifier", ACM
Multimedia 2024. Attributes bear the names of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig
from voiceguard.models.back_end import FrameBackEnd
from voiceguard.models.graph import BONAFIDE_INDEX, ModelOutput

_POOL = 3


@dataclass(frozen=True)
class SLSConfig(PlainConfig):
    """Sizes of an SLS classifier; the defaults are the published ones.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames, at least 3.
    layers : int
        Layers of the encoder.
    frames : int
        Frames that the first linear layer is made for, at least 3: 201 of 64,600 samples.
    hidden : int
        Width of the embedding.
    """

    dim: int = 1024
    layers: int = 24
    frames: int = 201
    hidden: int = 1024

    def __post_init__(self) -> None:
        check_int(self, layers=self.layers, hidden=self.hidden)
        check_int(self, minimum=_POOL, dim=self.dim, frames=self.frames)


class SLS(FrameBackEnd):
    """Frames of all layers to logits: gated sum of the layers, max-pool, two linear layers.

    23,399,429 parameters as published, nearly all of them in the linear layer that reads the whole
    pooled map; so the number of frames is fixed. A row with fewer is repeated from its start, as a
    waveform that is too short is, and one with more is cut.

    Parameters
    ----------
    config : SLSConfig
        Sizes.

    Shape
    -----
    (batch, layers, frames, dim), the output of every transformer layer, to logits (batch, 2) and
    embedding (batch, hidden). The logits end in a SELU, as published, and so lie above -1.76.
    """

    takes_layers: bool = True
    config: SLSConfig

    def __init__(self, config: SLSConfig | None = None) -> None:
        super().__init__()
        config = config or SLSConfig()
        self.config = config
        self.first_bn = nn.BatchNorm2d(1)
        self.fc0 = nn.Linear(config.dim, 1)
        pooled = (config.frames // _POOL) * (config.dim // _POOL)
        self.fc1 = nn.Linear(pooled, config.hidden)
        self.fc3 = nn.Linear(config.hidden, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.hidden

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        features = self._fill(features, lengths)
        gates = torch.sigmoid(self.fc0(features.mean(dim=2))).unsqueeze(3)
        image = (features * gates).sum(dim=1).unsqueeze(1)
        image = F.max_pool2d(F.selu(self.first_bn(image)), _POOL)
        embedding = F.selu(self.fc1(image.flatten(1)))
        return ModelOutput(F.selu(self.fc3(embedding)), embedding)

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the published model, the log-softmax of bona fide [shape=(batch,)]."""
        return torch.log_softmax(output.logits, dim=1)[:, BONAFIDE_INDEX]

    def _fill(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Exactly `frames` frames of every row, repeated from its start or cut."""
        wanted = torch.arange(self.config.frames, device=features.device)
        if lengths is None:
            return features[:, :, wanted % features.shape[2]]
        index = wanted % lengths.to(features.device).unsqueeze(1)
        rows = torch.arange(len(features), device=features.device).unsqueeze(1)
        return features.transpose(1, 2)[rows, index].transpose(1, 2)
