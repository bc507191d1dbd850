"""Nes2Net and Nes2Net-X: a Res2Net of Res2Nets that reads the encoder's frames at full width.

Liu et al., "Nes2Net: a lightweight nested architecture for foundation model driven speech
anti-spoofing", IEEE TIFS 2025 (arXiv 2504.05657), after Gao et al., "Res2Net", TPAMI 2021.
Attributes bear the names of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig, check_ints
from voiceguard.models.back_end import FrameBackEnd, frame_mean, real_frames
from voiceguard.models.graph import BONAFIDE_INDEX, ModelOutput

_KERNEL = 3


@dataclass(frozen=True)
class Nes2NetConfig(PlainConfig):
    """Sizes of a Nes2Net; the defaults are those of the published Nes2Net-X.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames.
    scales : tuple of int
        Groups that the frames are split into, and groups of each inner block; >= 2, `dim` must be a
        multiple of their product.
    dilation : int
        Distance between the taps of the convolutions over time.
    squeeze : int
        Divisor of the width inside the channel gates, at most ``dim // scales[0]``.
    weighted : bool
        Nes2Net-X: a group meets those before it side by side and their outcomes are summed with
        learned weights. False: Nes2Net, where it is added to the outcome before it.
    """

    dim: int = 1024
    scales: tuple[int, int] = (8, 8)
    dilation: int = 2
    squeeze: int = 1
    weighted: bool = True

    def __post_init__(self) -> None:
        check_int(self, dim=self.dim, dilation=self.dilation, squeeze=self.squeeze)
        check_ints(self, "scales", self.scales, length=2)
        outer, inner = self.scales
        if min(self.scales) < 2 or self.dim % (outer * inner):
            raise ParameterError(
                "The 'scales' parameter of Nes2NetConfig must hold two ints >= 2 whose product "
                f"divides 'dim'. Got {self.scales!r} for {self.dim} instead."
            )
        if self.squeeze > self.dim // outer:
            raise ParameterError(
                f"The 'squeeze' parameter of Nes2NetConfig must be at most {self.dim // outer}. "
                f"Got {self.squeeze!r} instead."
            )


class ChannelGate(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018): each channel scaled by what all say.

    Parameters
    ----------
    channels : int
        Channels of the map.
    squeeze : int
        Divisor of the width inside.
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        # The mean over time stands first in the published Sequential, hence the place that is held.
        self.se = nn.Sequential(
            nn.Identity(),
            nn.Conv1d(channels, channels // squeeze, 1),
            nn.ReLU(),
            nn.Conv1d(channels // squeeze, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, frames: Tensor, real: Tensor | None = None) -> Tensor:
        """(batch, channels, frames) to the same; `real` (batch, frames) says which frames count."""
        mean = frame_mean(frames.transpose(1, 2), real)
        scaled: Tensor = frames * self.se(mean.unsqueeze(2))
        return scaled


class Res2Block(nn.Module):
    """Split channels into groups, convolve them one after the other, join, gate, add the input.

    Parameters
    ----------
    channels : int
        Channels before and after.
    scale : int
        Groups; the last one passes as it is.
    dilation : int
        Distance between the taps.
    squeeze : int
        Of the channel gate.
    weighted : bool
        How a group meets the ones before, see :class:`Nes2NetConfig`.
    """

    def __init__(
        self, channels: int, *, scale: int, dilation: int, squeeze: int, weighted: bool
    ) -> None:
        super().__init__()
        self.width = channels // scale
        self.weighted = weighted
        self.conv1 = nn.Conv1d(channels, channels, 1)
        self.bn1 = nn.BatchNorm1d(channels)
        groups = range(scale - 1)
        if weighted:
            self.convs = nn.ModuleList(_side_by_side(self.width, dilation) for _ in groups)
            self.bns = nn.ModuleList(nn.BatchNorm2d(self.width) for _ in groups)
            self.weighted_sum = nn.ParameterList(
                nn.Parameter(torch.full((1, 1, 1, i + 2), 1 / (i + 2))) for i in groups
            )
        else:
            self.convs = nn.ModuleList(_in_line(self.width, dilation) for _ in groups)
            self.bns = nn.ModuleList(nn.BatchNorm1d(self.width) for _ in groups)
        self.conv3 = nn.Conv1d(channels, channels, 1)
        self.bn3 = nn.BatchNorm1d(channels)
        self.se = ChannelGate(channels, squeeze)

    def forward(self, frames: Tensor, real: Tensor | None = None) -> Tensor:
        """(batch, channels, frames) to the same; `real` (batch, frames) says which frames count."""
        parts = torch.split(self.bn1(F.relu(self.conv1(frames))), self.width, dim=1)
        joined = self._weighted(parts, real) if self.weighted else self._added(parts, real)
        out = self.bn3(F.relu(self.conv3(torch.cat([*joined, parts[-1]], dim=1))))
        gated: Tensor = self.se(out, real) + frames
        return gated

    def _weighted(self, parts: tuple[Tensor, ...], real: Tensor | None) -> list[Tensor]:
        """One more column a group (batch, width, frames, columns); of all, a weighted sum."""
        keep = None if real is None else real[:, None, :, None]
        columns = parts[-1].unsqueeze(3)
        sums = []
        layers = zip(self.convs, self.bns, self.weighted_sum, parts, strict=False)
        for convolution, norm, weights, part in layers:
            columns = _masked(torch.cat([columns, part.unsqueeze(3)], dim=3), keep)
            columns = norm(F.relu(convolution(columns)))
            sums.append((columns * weights).sum(dim=3))
        return sums

    def _added(self, parts: tuple[Tensor, ...], real: Tensor | None) -> list[Tensor]:
        keep = None if real is None else real[:, None]
        outcomes: list[Tensor] = []
        for convolution, norm, part in zip(self.convs, self.bns, parts, strict=False):
            group = part + outcomes[-1] if outcomes else part
            outcomes.append(norm(F.relu(convolution(_masked(group, keep)))))
        return outcomes


def _side_by_side(width: int, dilation: int) -> nn.Conv2d:
    """Convolution over time that treats all columns alike."""
    return nn.Conv2d(
        width, width, (_KERNEL, 1), dilation=(dilation, 1), padding=(_KERNEL // 2 * dilation, 0)
    )


def _in_line(width: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(width, width, _KERNEL, dilation=dilation, padding=_KERNEL // 2 * dilation)


def _masked(frames: Tensor, keep: Tensor | None) -> Tensor:
    """Zeros in the place of padding, as a convolution finds them behind a row's end."""
    return frames if keep is None else torch.where(keep, frames, 0.0)


class Nes2Net(FrameBackEnd):
    """Frames of one layer to logits: nested blocks, mean over time, one linear layer.

    512,039 parameters as Nes2Net-X, 511,794 as Nes2Net.

    Parameters
    ----------
    config : Nes2NetConfig
        Sizes.

    Shape
    -----
    (batch, frames, dim), of the encoder's last layer as published, to logits (batch, 2) and
    embedding (batch, dim).
    """

    published_prefix: ClassVar[str] = "Nested_Res2Net_TDNN."
    config: Nes2NetConfig

    def __init__(self, config: Nes2NetConfig | None = None) -> None:
        super().__init__()
        config = config or Nes2NetConfig()
        self.config = config
        outer, inner = config.scales
        self.width = config.dim // outer
        self.Build_in_Res2Nets = nn.ModuleList(
            Res2Block(
                self.width,
                scale=inner,
                dilation=config.dilation,
                squeeze=config.squeeze,
                weighted=config.weighted,
            )
            for _ in range(outer - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(self.width) for _ in range(outer - 1))
        self.bn = nn.BatchNorm1d(config.dim)
        self.fc = nn.Linear(config.dim, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.dim

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        real = real_frames(features, lengths)
        parts = torch.split(features.transpose(1, 2), self.width, dim=1)
        outcomes: list[Tensor] = []
        for block, norm, part in zip(self.Build_in_Res2Nets, self.bns, parts, strict=False):
            group = part + outcomes[-1] if outcomes else part
            outcomes.append(norm(F.relu(block(group, real))))
        joined = F.relu(self.bn(torch.cat([*outcomes, parts[-1]], dim=1)))
        embedding = frame_mean(joined.transpose(1, 2), real)
        return ModelOutput(self.fc(embedding), embedding)

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the published models, the bona fide logit [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX]
