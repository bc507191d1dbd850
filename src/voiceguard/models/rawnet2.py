"""RawNet2 for anti-spoofing, the raw-waveform baseline of ASVspoof 2021.

Tak et al., "End-to-end anti-spoofing with RawNet2", ICASSP 2021 (arXiv 2011.01108), after Jung et
al., "Improved RawNet with feature map scaling for text-independent speaker verification using raw
waveforms", Interspeech 2020. Attributes bear the names of the baseline's state dict.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int
from voiceguard.features.sinc import SincFilterbank
from voiceguard.models._config import PlainConfig, check_ints
from voiceguard.models.graph import BONAFIDE_INDEX, SPOOF_INDEX, ModelOutput

_BLOCKS = 6


@dataclass(frozen=True)
class RawNet2Config(PlainConfig):
    """Sizes of a RawNet2; the defaults are the published ones (17.6 million parameters).

    Parameters
    ----------
    taps : int
        Length of a sinc filter, odd; the paper's 1024 is made odd.
    widths : tuple of int
        Sinc filters, which are also the channels of the first two residual blocks, and channels of
        the last four.
    gru : int
        Units of each recurrent layer.
    gru_layers : int
        Recurrent layers.
    embedding : int
        Width of the embedding.
    """

    taps: int = 1025
    widths: tuple[int, int] = (20, 128)
    gru: int = 1024
    gru_layers: int = 3
    embedding: int = 1024

    def __post_init__(self) -> None:
        check_int(self, taps=self.taps, gru=self.gru, gru_layers=self.gru_layers)
        check_int(self, embedding=self.embedding)
        check_ints(self, "widths", self.widths, length=2)


class ScaledResidualBlock(nn.Module):
    """Two convolutions around a shortcut, then a max-pool of three over time.

    Every block but the first owns a ``bn1`` that takes no part: the published implementation throws
    its output away. It is kept, frozen, so that state dicts load strictly.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    first : bool
        Whether this block stands first, and so owns no ``bn1``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, first: bool) -> None:
        super().__init__()
        if not first:
            self.bn1 = nn.BatchNorm1d(in_channels).requires_grad_(False)
        self.conv1 = nn.Conv1d(in_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm1d(out_channels)
        self.conv2 = nn.Conv1d(out_channels, out_channels, 3, padding=1)
        self.conv_downsample = (
            nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else None
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, in_channels, time) to (batch, out_channels, time // 3)."""
        shortcut = frames if self.conv_downsample is None else self.conv_downsample(frames)
        out = F.leaky_relu(self.bn2(self.conv1(frames)), negative_slope=0.3)
        return F.max_pool1d(self.conv2(out) + shortcut, 3)


def scale_feature_maps(frames: Tensor, gate: nn.Module) -> Tensor:
    """Filter-wise scaling: with s = sigmoid(gate(mean over time)), frames * s + s.

    Parameters
    ----------
    frames : Tensor [shape=(batch, channels, time)]
    gate : Module
        (batch, channels) to (batch, channels).

    Returns
    -------
    Tensor
        Same shape.
    """
    scale = torch.sigmoid(gate(frames.mean(dim=2))).unsqueeze(2)
    return frames * scale + scale


class RawNet2(nn.Module):
    """Sinc filters, residual blocks with filter-wise scaling, recurrent layers, two linear layers.

    Parameters
    ----------
    config : RawNet2Config
        Sizes.

    Shape
    -----
    (batch, n) to logits (batch, 2) and embedding (batch, config.embedding); the published model
    was trained on n = 64,600 samples of 16 kHz.
    """

    def __init__(self, config: RawNet2Config | None = None) -> None:
        super().__init__()
        config = config or RawNet2Config()
        first, second = config.widths
        self.config = config
        self.front_end = SincFilterbank(filters=first, taps=config.taps)
        self.first_bn = nn.BatchNorm1d(first)
        pairs = [(first, first)] * 2 + [(first, second)] + [(second, second)] * 3
        for i, (before, after) in enumerate(pairs):
            block = ScaledResidualBlock(before, after, first=i == 0)
            # Each part is wrapped as the published names have it.
            self.add_module(f"block{i}", nn.Sequential(block))
            self.add_module(f"fc_attention{i}", nn.Sequential(nn.Linear(after, after)))
        self.bn_before_gru = nn.BatchNorm1d(second)
        self.gru = nn.GRU(second, config.gru, config.gru_layers, batch_first=True)
        self.fc1_gru = nn.Linear(config.gru, config.embedding)
        self.fc2_gru = nn.Linear(config.embedding, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.embedding

    @property
    def min_samples(self) -> int:
        """Shortest waveform: one step is left after seven divisions of time by three."""
        return int(3 ** (_BLOCKS + 1)) + self.config.taps - 1

    def forward(self, waveform: Tensor) -> ModelOutput:
        """Run the model.

        Parameters
        ----------
        waveform : Tensor [shape=(batch, n)]
            16 kHz, full scale 1, not normalised.

        Returns
        -------
        ModelOutput

        Raises
        ------
        ParameterError
            If the waveform has the wrong shape or is shorter than :attr:`min_samples`.
        """
        if waveform.shape[-1] < self.min_samples:
            raise ParameterError(
                f"The 'waveform' parameter of RawNet2 must hold at least {self.min_samples} "
                f"samples. Got {waveform.shape[-1]} instead."
            )
        frames = F.max_pool1d(self.front_end(waveform).abs(), 3)
        frames = F.selu(self.first_bn(frames))
        for i in range(_BLOCKS):
            frames = self.get_submodule(f"block{i}")(frames)
            frames = scale_feature_maps(frames, self.get_submodule(f"fc_attention{i}"))
        embedding = self.fc1_gru(self._last_state(F.selu(self.bn_before_gru(frames))))
        return ModelOutput(self.fc2_gru(embedding), embedding)

    def score(self, output: ModelOutput) -> Tensor:
        """Log-odds of bona fide as trained, logit 1 - logit 0 [shape=(batch,)].

        The baseline's score files hold the log-softmax of logit 1 instead, which is
        -softplus(-score) and orders trials alike; in training the baseline took the log-softmax
        twice, which changes nothing because log-softmax is idempotent.
        """
        return output.logits[:, BONAFIDE_INDEX] - output.logits[:, SPOOF_INDEX]

    def _last_state(self, frames: Tensor) -> Tensor:
        """Recurrent output at the last step, (batch, channels, time) to (batch, gru)."""
        states, _ = self.gru(frames.transpose(1, 2))
        last: Tensor = states[:, -1]
        return last
