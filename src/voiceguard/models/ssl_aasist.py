"""AASIST on the frames of a self-supervised encoder.

Tak et al., "Automatic speaker verification spoofing and deepfake detection using wav2vec 2.0 and
data augmentation", Odyssey 2022 (arXiv 2202.12233): XLS-R 300M, its last layer, and this back end.
Attributes bear the names of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig, check_ints
from voiceguard.models.aasist import ResidualBlock
from voiceguard.models.back_end import FrameBackEnd
from voiceguard.models.graph import BONAFIDE_INDEX, GraphBackEnd, GraphConfig, ModelOutput

# The first pool takes three neighbours together, over coefficients and over time.
_POOL = 3


@dataclass(frozen=True)
class SSLAASISTConfig(PlainConfig):
    """Sizes of an SSL-AASIST back end; the defaults are the published ones.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames.
    projection : int
        Width that they are projected to, at least 3.
    widths : tuple of int
        Channels of the first two and of the last four residual blocks.
    graph : GraphConfig
        Sizes of the graphs.
    pre_activation : bool
        Whether a block's first convolution sees the block's input through ``bn1`` and SELU. The
        published code computes both and then convolves the raw input, as AASIST does, so published
        weights need False.
    """

    dim: int = 1024
    projection: int = 128
    widths: tuple[int, int] = (32, 64)
    graph: GraphConfig = field(default_factory=lambda: GraphConfig(pool_ratios=(0.5, 0.5, 0.5)))
    pre_activation: bool = False

    def __post_init__(self) -> None:
        check_int(self, dim=self.dim)
        check_int(self, minimum=_POOL, projection=self.projection)
        check_ints(self, "widths", self.widths, length=2)
        if not isinstance(self.pre_activation, bool):
            raise ParameterError(
                "The 'pre_activation' parameter of SSLAASISTConfig must be True or False. "
                f"Got {self.pre_activation!r} instead."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**super().to_dict(), "graph": self.graph.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SSLAASISTConfig:
        """Read back :meth:`to_dict`; absent fields take their defaults.

        Raises
        ------
        ParameterError
            If a field is unknown or out of range.
        """
        values = dict(plain)
        if "graph" in values:
            values["graph"] = GraphConfig.from_dict(values["graph"])
        return super().from_dict(values)


class FrameBlock(ResidualBlock):
    """AASIST's residual block without its max-pool over time.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    first : bool
        Whether this block stands first, and so owns no ``bn1``.
    pre_activation : bool
        Whether the first convolution sees the input through ``bn1`` and SELU.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, first: bool, pre_activation: bool
    ) -> None:
        super().__init__(in_channels, out_channels, first=first)
        self.pool = nn.MaxPool2d(1)
        self.pre_activation = pre_activation and not first
        if self.pre_activation:
            self.bn1.requires_grad_(True)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, freq, time) to (batch, out_channels, freq, time)."""
        if not self.pre_activation:
            return super().forward(image)
        shortcut = image if self.conv_downsample is None else self.conv_downsample(image)
        out = self.conv1(self.act(self.bn1(image)))
        out = self.conv2(self.act(self.bn2(out)))
        summed: Tensor = out + shortcut
        return summed


def _encoder(first: int, second: int, *, pre_activation: bool) -> nn.Sequential:
    """Six blocks, each wrapped in a Sequential of its own as the published names have it."""
    pairs = [(1, first), (first, first), (first, second), *[(second, second)] * 3]
    blocks = [
        FrameBlock(a, b, first=i == 0, pre_activation=pre_activation)
        for i, (a, b) in enumerate(pairs)
    ]
    return nn.Sequential(*(nn.Sequential(block) for block in blocks))


class SSLAASIST(GraphBackEnd, FrameBackEnd):
    """Frames of one layer to logits: projection, residual encoder, attention pooling, graphs.

    447,242 parameters as published. Nodes of the graphs are as many as there are frames, so rows of
    different length are run apart, in groups of equal length.

    Parameters
    ----------
    config : SSLAASISTConfig
        Sizes.

    Shape
    -----
    (batch, frames, dim) to logits (batch, 2) and embedding (batch, 160), frames >= 3; the published
    weights expect 201 frames, of 64,600 samples, of the encoder's last layer behind its final layer
    norm.
    """

    min_frames: ClassVar[int] = _POOL
    config: SSLAASISTConfig

    def __init__(self, config: SSLAASISTConfig | None = None) -> None:
        config = config or SSLAASISTConfig()
        channels = config.widths[1]
        super().__init__(
            channels=channels,
            frequency_nodes=config.projection // _POOL,
            config=config.graph,
            rank_by="gate",
        )
        self.config = config
        self.LL = nn.Linear(config.dim, config.projection)
        self.first_bn = nn.BatchNorm2d(1)
        self.first_bn1 = nn.BatchNorm2d(channels)
        self.encoder = _encoder(*config.widths, pre_activation=config.pre_activation)
        self.attention = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1),
            nn.SELU(),
            nn.BatchNorm2d(2 * channels),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        if lengths is None:
            return self.back_end(self.feature_map(features))
        rows = [torch.nonzero(lengths == n).squeeze(1) for n in torch.unique(lengths)]
        outputs = [
            self.back_end(self.feature_map(features[of, : int(lengths[of[0]])])) for of in rows
        ]
        order = torch.argsort(torch.cat(rows)).to(features.device)
        return ModelOutput(*(torch.cat(parts)[order] for parts in zip(*outputs, strict=True)))

    def feature_map(self, features: Tensor) -> Tensor:
        """(batch, frames, dim) to (batch, channels, projection // 3, frames // 3)."""
        image = self.LL(features).transpose(1, 2).unsqueeze(1)
        image = F.selu(self.first_bn(F.max_pool2d(image, _POOL)))
        encoded: Tensor = F.selu(self.first_bn1(self.encoder(image)))
        return encoded

    def read_out(self, feature_map: Tensor) -> Tensor:
        """Attention pooling and the graphs: (batch, c, f, t) to (batch, 5 * gat_dims[1])."""
        weights = self.attention(feature_map)
        spectral = (feature_map * torch.softmax(weights, dim=3)).sum(dim=3)
        temporal = (feature_map * torch.softmax(weights, dim=2)).sum(dim=2)
        return self.join_graphs(spectral.transpose(1, 2) + self.pos_S, temporal.transpose(1, 2))

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the published models, the bona fide logit [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX]
