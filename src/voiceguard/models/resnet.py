"""LFCC-ResNet18 with a one-class head.

Zhang, Jiang and Duan, "One-class learning towards synthetic voice spoofing detection", IEEE Signal
Processing Letters 28, 2021. The residual blocks are those of He et al., "Identity mappings in deep
residual networks", ECCV 2016, the pooling over time that of Monteiro, Alam and Falk, "Generalized
end-to-end detection of spoofing attacks to automatic speaker recognizers", Computer Speech and
Language 63, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features import build_front_end
from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig, check_ints
from voiceguard.models.graph import ModelOutput
from voiceguard.models.heads import build_head, check_head

_MIN_COEFFICIENTS = 7


@dataclass(frozen=True)
class ResNet18Config(PlainConfig):
    """Sizes of a ResNet18; the defaults are the published ones.

    Parameters
    ----------
    front_end : str
        Name of a front end, see :func:`voiceguard.features.build_front_end`; one channel.
    front_end_options : mapping
        Its keyword arguments.
    stem : int
        Channels of the first convolution.
    widths : tuple of int
        Channels of the four stages of two blocks each.
    pooled : int
        Channels that are pooled over time.
    embedding : int
        Width of the embedding.
    head : str
        Last layer, see :mod:`voiceguard.models.heads`; the paper compares ``linear``,
        ``am_softmax`` and ``oc_softmax``.
    """

    front_end: str = "lfcc_asvspoof2019"
    front_end_options: Mapping[str, Any] = field(default_factory=dict)
    stem: int = 16
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    pooled: int = 256
    embedding: int = 256
    head: str = "oc_softmax"

    def __post_init__(self) -> None:
        check_int(self, stem=self.stem, pooled=self.pooled, embedding=self.embedding)
        check_ints(self, "widths", self.widths, length=4)
        check_head("ResNet18Config", self.head)


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv twice, plus the input or a projection of it.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    stride : int
        Step over frequency and time.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            if stride != 1 or in_channels != out_channels
            else None
        )

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, f, t) to (batch, out_channels, ceil(f / s), ceil(t / s))."""
        activated = F.relu(self.bn1(image))
        shortcut = image if self.shortcut is None else self.shortcut(activated)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated)))) + shortcut
        return out


class AttentiveStatistics(nn.Module):
    """Attention over time, then sum and standard deviation of the weighted frames.

    The weights are softmax(tanh(w' x)). As published the deviation is that of the frames times
    their weights; the noise that the authors add against a zero deviation is here its variance.

    Parameters
    ----------
    width : int
        Numbers a frame.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(1, width)))

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, time, width) to (batch, 2 * width), time >= 2."""
        attention = torch.softmax(torch.tanh(frames @ self.weight.T), dim=1)
        weighted = frames * attention
        deviation = torch.sqrt(weighted.float().var(dim=1) + 1e-10)
        return torch.cat([weighted.sum(dim=1), deviation.to(weighted.dtype)], dim=1)


def _stages(stem: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Two blocks a stage; every stage but the first halves frequency and time."""
    blocks = []
    before = stem
    for i, width in enumerate(widths):
        blocks.append(PreActivationBlock(before, width, stride=1 if i == 0 else 2))
        blocks.append(PreActivationBlock(width, width, stride=1))
        before = width
    return nn.Sequential(*blocks)


def _height(coefficients: int) -> int:
    """Rows that are left of the feature's coefficients: stem, then three halvings."""
    rows = (coefficients + 2 - 9) // 3 + 1
    for _ in range(3):
        rows = -(-rows // 2)
    return rows


class ResNet18(nn.Module):
    """Residual network over a cepstrogram, attentive statistics over time, a head.

    Parameters
    ----------
    config : ResNet18Config
        Sizes.

    Shape
    -----
    (batch, n) to logits (batch, 2) and embedding (batch, config.embedding), n of at least 9 frames;
    the paper takes 750 frames (7.5 s).

    Raises
    ------
    ParameterError
        If the front end has several channels or fewer than 7 coefficients.
    """

    def __init__(self, config: ResNet18Config | None = None) -> None:
        super().__init__()
        config = config or ResNet18Config()
        self.config = config
        self.front_end = build_front_end(config.front_end, **config.front_end_options)
        coefficients = self.front_end.coefficients
        if self.front_end.channels != 1 or coefficients < _MIN_COEFFICIENTS:
            raise ParameterError(
                "The 'front_end' parameter of ResNet18Config must give one channel of "
                f"{_MIN_COEFFICIENTS} coefficients or more. Got {config.front_end!r} with "
                f"{self.front_end.channels} of {coefficients} instead."
            )
        self.conv1 = nn.Conv2d(1, config.stem, (9, 3), stride=(3, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem)
        self.stages = _stages(config.stem, config.widths)
        tall = (_height(coefficients), 3)
        self.conv5 = nn.Conv2d(config.widths[-1], config.pooled, tall, padding=(0, 1), bias=False)
        self.bn5 = nn.BatchNorm2d(config.pooled)
        self.attention = AttentiveStatistics(config.pooled)
        self.fc = nn.Linear(2 * config.pooled, config.embedding)
        self.head = build_head(config.head, config.embedding)
        self._initialise()

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.embedding

    def forward(self, waveform: Tensor) -> ModelOutput:
        """Run the model.

        Parameters
        ----------
        waveform : Tensor [shape=(batch, n)]
            16 kHz, full scale 1.

        Returns
        -------
        ModelOutput

        Raises
        ------
        ParameterError
            If the waveform has the wrong shape or gives fewer than 9 frames.
        """
        features = self.front_end(waveform)
        if features.shape[-1] < 9:
            raise ParameterError(
                "The 'waveform' parameter of ResNet18 must give at least 9 frames. "
                f"Got {features.shape[-1]} from {waveform.shape[-1]} samples instead."
            )
        image = self.stages(F.relu(self.bn1(self.conv1(features.unsqueeze(1)))))
        frames = F.relu(self.bn5(self.conv5(image))).squeeze(2)
        output: ModelOutput = self.head(self.fc(self.attention(frames.transpose(1, 2))))
        return output

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the head [shape=(batch,)]; with ``oc_softmax`` the cosine to the centre."""
        return self.head.score(output)

    def _initialise(self) -> None:
        """He's initialisation, as published."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight)
