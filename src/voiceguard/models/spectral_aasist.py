"""The graph back end of AASIST on a spectral front end, small enough to ship.

The residual encoder is that of He et al., "Deep residual learning for image recognition", CVPR
2016, with strides in place of AASIST's pools; the graphs are those of Jung et al., ICASSP 2022.
Published AASIST spends 9.5 GMAC on 4 s of audio because its first layers run at the sample rate; a
spectrogram at 100 frames a second needs a twenty-fifth of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features import build_front_end
from voiceguard.models.graph import GraphBackEnd, GraphConfig, ModelOutput


@dataclass(frozen=True)
class BlockConfig:
    """One residual block.

    Parameters
    ----------
    channels : int
        Output channels.
    stride : tuple of int
        Step over frequency and over time.
    """

    channels: int
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        if self.channels < 1 or len(self.stride) != 2 or min(self.stride) < 1:
            raise ParameterError(
                "BlockConfig must have channels >= 1 and two strides >= 1. "
                f"Got channels={self.channels!r}, stride={self.stride!r} instead."
            )


_DEFAULT_BLOCKS = (
    BlockConfig(32, (2, 2)),
    BlockConfig(48, (2, 1)),
    BlockConfig(80, (2, 2)),
    BlockConfig(128, (1, 1)),
)


@dataclass(frozen=True)
class SpectralAASISTConfig:
    """Sizes of a spectral AASIST.

    Parameters
    ----------
    front_end : str
        Name of a front end, see :func:`voiceguard.features.build_front_end`.
    front_end_options : mapping
        Its keyword arguments.
    stem : int
        Channels of the first convolution, 5 x 5 with stride 2 both ways.
    blocks : tuple of BlockConfig
        The residual blocks.
    graph : GraphConfig
        Sizes of the graph back end.
    statistics : int
        Width of a second read-out beside the graphs, from the map's mean and deviation over time;
        0 for the graphs alone. It learns faster than the graphs and lifts the encoder early on.
    """

    front_end: str = "compressed"
    front_end_options: Mapping[str, Any] = field(default_factory=dict)
    stem: int = 16
    blocks: tuple[BlockConfig, ...] = _DEFAULT_BLOCKS
    graph: GraphConfig = field(default_factory=lambda: GraphConfig(pool_ratios=(0.5, 0.5, 0.5)))
    statistics: int = 0

    def __post_init__(self) -> None:
        if self.stem < 1 or not self.blocks or self.statistics < 0:
            raise ParameterError(
                "SpectralAASISTConfig must have stem >= 1, at least one block and statistics >= 0. "
                f"Got stem={self.stem!r}, {len(self.blocks)} blocks, "
                f"statistics={self.statistics!r} instead."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "front_end": self.front_end,
            "front_end_options": dict(self.front_end_options),
            "stem": self.stem,
            "blocks": [{"channels": b.channels, "stride": list(b.stride)} for b in self.blocks],
            "graph": self.graph.to_dict(),
            "statistics": self.statistics,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SpectralAASISTConfig:
        """Read back :meth:`to_dict`; absent fields take their defaults.

        Raises
        ------
        ParameterError
            If a field is unknown or out of range.
        """
        unknown = set(plain) - {f.name for f in fields(cls)}
        if unknown:
            raise ParameterError(f"SpectralAASISTConfig has no field {sorted(unknown)}.")
        values = dict(plain)
        if "blocks" in values:
            values["blocks"] = tuple(
                BlockConfig(b["channels"], (b["stride"][0], b["stride"][1]))
                for b in values["blocks"]
            )
        if "graph" in values:
            values["graph"] = GraphConfig.from_dict(values["graph"])
        return cls(**values)


class StridedBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus shortcut, ReLU; every batch norm folds into its convolution.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    stride : tuple of int
        Step over frequency and over time.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != (1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, f, t) to (batch, out_channels, ceil(f / sf), ceil(t / st))."""
        out = F.relu(self.bn1(self.conv1(image)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(image))


class StatisticsBranch(nn.Module):
    """Mean and standard deviation over time of each channel and frequency, projected.

    The pooling of x-vectors (Snyder et al., ICASSP 2018).

    Parameters
    ----------
    size : int
        Channels times frequencies of the map.
    width : int
        Numbers that come out.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2 * size)
        self.drop = nn.Dropout(p=0.3)
        self.proj = nn.Linear(2 * size, width)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(batch, c, f, t) to (batch, width)."""
        mean = feature_map.mean(dim=3, keepdim=True)
        variance = (feature_map - mean).square().mean(dim=3)
        pooled = torch.cat([mean.flatten(1), torch.sqrt(variance + 1e-4).flatten(1)], dim=1)
        out: Tensor = self.proj(self.drop(self.bn(pooled)))
        return out


class SpectralAASIST(GraphBackEnd):
    """Exchangeable front end, strided residual encoder, graph back end.

    Takes any length of at least one frame; the learned positions depend on frequency only, so a
    model trained on short crops runs on longer windows.

    Parameters
    ----------
    config : SpectralAASISTConfig
        Sizes; the default costs 0.4 GMAC for 64,160 samples (4.01 s).

    Shape
    -----
    (batch, n) to logits (batch, 2) and embedding (batch, 5 * graph.gat_dims[1] + statistics)
    """

    def __init__(self, config: SpectralAASISTConfig | None = None) -> None:
        config = config or SpectralAASISTConfig()
        front_end = build_front_end(config.front_end, **config.front_end_options)
        strides = [2, *(block.stride[0] for block in config.blocks)]
        super().__init__(
            channels=config.blocks[-1].channels,
            frequency_nodes=_height(front_end.coefficients, strides),
            config=config.graph,
        )
        self.config = config
        self.front_end = front_end
        self.statistics: StatisticsBranch | None = None
        if config.statistics:
            size = config.blocks[-1].channels * self.pos_S.shape[1]
            self.statistics = StatisticsBranch(size, config.statistics)
            self.out_layer = nn.Linear(self.out_layer.in_features + config.statistics, 2)
        self.input_bn = nn.BatchNorm2d(front_end.channels)
        self.stem = nn.Sequential(
            nn.Conv2d(front_end.channels, config.stem, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.ReLU(),
        )
        widths = [config.stem, *(block.channels for block in config.blocks)]
        self.encoder = nn.Sequential(
            *(
                StridedBlock(width, block.channels, stride=block.stride)
                for width, block in zip(widths, config.blocks, strict=False)
            )
        )

    def feature_map(self, waveform: Tensor) -> Tensor:
        """Front end and encoder: (batch, n) to (batch, channels, frequency_nodes, time)."""
        # A spectrum in bfloat16 would drown what lies 40 dB below the loudest.
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            features = self.front_end(waveform)
        if features.ndim == 3:
            features = features.unsqueeze(1)
        encoded: Tensor = self.encoder(self.stem(self.input_bn(features)))
        return encoded

    def forward(self, waveform: Tensor) -> ModelOutput:
        """Run the model.

        Parameters
        ----------
        waveform : Tensor [shape=(batch, n)]
            At the front end's sample rate, full scale 1.

        Returns
        -------
        ModelOutput

        Raises
        ------
        ParameterError
            If the waveform has the wrong shape or is too short for one frame.
        """
        return self.back_end(self.feature_map(waveform))

    def read_out(self, feature_map: Tensor) -> Tensor:
        """Run the graphs and put the numbers of the statistics branch behind theirs."""
        graphs = super().read_out(feature_map)
        if self.statistics is None:
            return graphs
        return torch.cat([graphs, self.statistics(feature_map)], dim=1)


def _height(bins: int, strides: list[int]) -> int:
    for stride in strides:
        bins = -(-bins // stride)
    return bins
