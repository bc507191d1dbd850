"""Light convolutional network on cepstra, the LFCC-LCNN baseline of ASVspoof 2021.

Wang and Yamagishi, "A comparative study on recent neural spoofing countermeasures for synthetic
speech detection", Interspeech 2021; the max-feature-map is that of Wu et al., "A light CNN for deep
face representation with noisy labels", IEEE TIFS 13, 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from voiceguard.errors import ParameterError
from voiceguard.features import build_front_end
from voiceguard.features._base import check_int
from voiceguard.models._config import PlainConfig
from voiceguard.models.graph import ModelOutput
from voiceguard.models.heads import build_head, check_head

# Four max-pools of two.
_STRIDE = 16


@dataclass(frozen=True)
class LCNNConfig(PlainConfig):
    """Sizes of an LCNN; the defaults are those of the 2021 baseline.

    Parameters
    ----------
    front_end : str
        Name of a front end, see :func:`voiceguard.features.build_front_end`; one channel, at least
        16 coefficients.
    front_end_options : mapping
        Its keyword arguments.
    width : int
        Channels of the map that the recurrent layers read; every other width is a multiple of
        it over two. The baseline has 32.
    dropout : float
        Dropout behind the convolutions, in [0, 1).
    embedding : int
        Width of a linear layer between the mean and the head; 0 for none, as in the baseline. The
        paper has 64 before the heads that compare directions.
    head : str
        Last layer, see :mod:`voiceguard.models.heads`: ``sigmoid`` is the baseline's, trained with
        binary cross entropy; the paper also tries ``am_softmax``, ``oc_softmax``, ``p2sgrad``.
    """

    front_end: str = "lfcc_lcnn2021"
    front_end_options: Mapping[str, Any] = field(default_factory=dict)
    width: int = 32
    dropout: float = 0.7
    embedding: int = 0
    head: str = "sigmoid"

    def __post_init__(self) -> None:
        check_int(self, width=self.width)
        check_int(self, minimum=0, embedding=self.embedding)
        check_head("LCNNConfig", self.head)
        if self.width % 2 or not 0 <= self.dropout < 1:
            raise ParameterError(
                "LCNNConfig must have an even 'width' and a 'dropout' in [0, 1). "
                f"Got {self.width!r}, {self.dropout!r} instead."
            )


class MaxFeatureMap(nn.Module):
    """Elementwise larger of the two halves of the channels.

    Parameters
    ----------
    channels : int
        Channels that come out, half of those that go in.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 2 * channels, ...) to (batch, channels, ...)."""
        return torch.maximum(*torch.split(image, self.channels, dim=1))


class BLSTM(nn.Module):
    """Bidirectional recurrent layer that keeps the width.

    Parameters
    ----------
    width : int
        Numbers a step, even: half of them come from each direction.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, steps: Tensor) -> Tensor:
        """(batch, time, width) to the same."""
        out: Tensor = self.lstm(steps)[0]
        return out


def _mapped(before: int, after: int, kernel: int) -> list[nn.Module]:
    """Convolution to twice `after` channels, and the larger half of them."""
    return [nn.Conv2d(before, 2 * after, kernel, padding=kernel // 2), MaxFeatureMap(after)]


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False)


def _convolutions(width: int) -> nn.Sequential:
    """Nine convolutions with max-feature-maps, four max-pools: time and frequency over 16."""
    middle, wide = width * 3 // 2, width * 2
    return nn.Sequential(
        *_mapped(1, width, 5),
        nn.MaxPool2d(2),
        *_mapped(width, width, 1),
        _norm(width),
        *_mapped(width, middle, 3),
        nn.MaxPool2d(2),
        _norm(middle),
        *_mapped(middle, middle, 1),
        _norm(middle),
        *_mapped(middle, wide, 3),
        nn.MaxPool2d(2),
        *_mapped(wide, wide, 1),
        _norm(wide),
        *_mapped(wide, width, 3),
        _norm(width),
        *_mapped(width, width, 1),
        _norm(width),
        *_mapped(width, width, 3),
        nn.MaxPool2d(2),
    )


class LCNN(nn.Module):
    """Convolutions with max-feature-maps, two recurrent layers, mean over time, one linear layer.

    As published the batch norms have no affine part.

    Parameters
    ----------
    config : LCNNConfig
        Sizes.

    Shape
    -----
    (batch, n) to logits (batch, 2) and embedding (batch, config.embedding), without that layer
    (batch, config.width * (coefficients // 16)); n of at least 16 frames.

    Raises
    ------
    ParameterError
        If the front end has several channels or fewer than 16 coefficients.
    """

    def __init__(self, config: LCNNConfig | None = None) -> None:
        super().__init__()
        config = config or LCNNConfig()
        self.config = config
        self.front_end = build_front_end(config.front_end, **config.front_end_options)
        if self.front_end.channels != 1 or self.front_end.coefficients < _STRIDE:
            raise ParameterError(
                f"The 'front_end' parameter of LCNNConfig must give one channel of {_STRIDE} "
                f"coefficients or more. Got {config.front_end!r} with {self.front_end.channels} of "
                f"{self.front_end.coefficients} instead."
            )
        width = config.width * (self.front_end.coefficients // _STRIDE)
        self.convolutions = _convolutions(config.width)
        self.drop = nn.Dropout(p=config.dropout)
        self.recurrent = nn.Sequential(BLSTM(width), BLSTM(width))
        self.embed = nn.Linear(width, config.embedding) if config.embedding else nn.Identity()
        self.head = build_head(config.head, config.embedding or width)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.head.dim

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
            If the waveform has the wrong shape or gives fewer than 16 frames.
        """
        features = self.front_end(waveform)
        if features.shape[-1] < _STRIDE:
            raise ParameterError(
                f"The 'waveform' parameter of LCNN must give at least {_STRIDE} frames. "
                f"Got {features.shape[-1]} from {waveform.shape[-1]} samples instead."
            )
        image = self.drop(self.convolutions(features.transpose(1, 2).unsqueeze(1)))
        steps = image.transpose(1, 2).flatten(2)
        pooled = (self.recurrent(steps) + steps).mean(dim=1)
        output: ModelOutput = self.head(self.embed(pooled))
        return output

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the head [shape=(batch,)]; with ``sigmoid`` the activation before it."""
        return self.head.score(output)
