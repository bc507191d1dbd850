"""RawGAT-ST: one graph of frequencies, one of instants, and one of their product.

Tak et al., "End-to-end spectro-temporal graph attention networks for speaker verification
anti-spoofing and speech deepfake detection", ASVspoof workshop 2021 (arXiv 2107.12710), fused by
elementwise multiplication, the best of its three variants. The residual blocks are AASIST's, with
the same dead batch norms, which count in the published 437,034 parameters. The authors' files hold
besides, in every block but the first, a convolution ``conv_1`` that is never called and does not
count; it is left out here.
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
from voiceguard.models.aasist import ResidualBlock
from voiceguard.models.graph import BONAFIDE_INDEX, GraphAttention, GraphPool, ModelOutput

_SINC_FILTERS = 70
_SINC_TAPS = 129
_FREQUENCY_NODES = _SINC_FILTERS // 3
# First max-pool and six blocks divide time by three each.
_TIME_STRIDE = 3**7
_MIN_SAMPLES = _TIME_STRIDE + _SINC_TAPS - 1


@dataclass(frozen=True)
class RawGATSTConfig(PlainConfig):
    """Sizes of a RawGAT-ST; the defaults are the published ones (437,034 parameters).

    Parameters
    ----------
    window_samples : int
        Samples at 16 kHz. The model takes this length only: linear layers run across the nodes, and
        how many instants there are follows from the length.
    widths : tuple of int
        Channels of the first two and of the last four residual blocks.
    gat_dims : tuple of int
        Width of the nodes of the single graphs and of the fused one.
    fused_nodes : int
        Nodes that both graphs are projected to before they are multiplied.
    pool_ratios : tuple of float
        Share of nodes that a pool keeps, in (0, 1]: spectral, temporal, fused.
    max_mask : int
        In training, zero a random run of 0 to `max_mask` - 1 neighbouring sinc filters.
    """

    window_samples: int = 64600
    widths: tuple[int, int] = (32, 64)
    gat_dims: tuple[int, int] = (32, 16)
    fused_nodes: int = 12
    pool_ratios: tuple[float, float, float] = (0.64, 0.81, 0.64)
    max_mask: int = 14

    def __post_init__(self) -> None:
        check_int(self, minimum=_MIN_SAMPLES, window_samples=self.window_samples)
        check_int(self, fused_nodes=self.fused_nodes)
        check_int(self, minimum=0, max_mask=self.max_mask)
        check_ints(self, "widths", self.widths, length=2)
        check_ints(self, "gat_dims", self.gat_dims, length=2)
        if len(self.pool_ratios) != 3 or not all(0 < ratio <= 1 for ratio in self.pool_ratios):
            raise ParameterError(
                "The 'pool_ratios' parameter of RawGATSTConfig must hold 3 values in (0, 1]. "
                f"Got {self.pool_ratios!r} instead."
            )

    @property
    def temporal_nodes(self) -> int:
        """Instants of the feature map."""
        return (self.window_samples - _SINC_TAPS + 1) // _TIME_STRIDE


def _encoder(first: int, second: int) -> nn.Sequential:
    pairs = [(1, first), (first, first), (first, second), *[(second, second)] * 3]
    blocks = [ResidualBlock(a, b, first=i == 0) for i, (a, b) in enumerate(pairs)]
    return nn.Sequential(*(nn.Sequential(block) for block in blocks))


class RawGATST(nn.Module):
    """Raw waveform to logits: sinc filters, two residual encoders, three graphs.

    Parameters
    ----------
    config : RawGATSTConfig
        Sizes.

    Shape
    -----
    (batch, config.window_samples) to logits (batch, 2) and embedding (batch, kept fused nodes), 7
    with the published sizes.
    """

    def __init__(self, config: RawGATSTConfig | None = None) -> None:
        super().__init__()
        config = config or RawGATSTConfig()
        self.config = config
        (inner, outer), channels = config.gat_dims, config.widths[1]
        ratio_s, ratio_t, ratio_st = config.pool_ratios
        self.front_end = SincFilterbank(
            filters=_SINC_FILTERS, taps=_SINC_TAPS, max_mask=config.max_mask
        )
        self.first_bn = nn.BatchNorm2d(1)
        self.encoder1 = _encoder(*config.widths)
        self.encoder2 = _encoder(*config.widths)
        self.GAT_layer_spectral = GraphAttention(channels, inner, temperature=1.0)
        self.pool1 = _pool(inner, ratio_s)
        self.GAT_layer_temp = GraphAttention(channels, inner, temperature=1.0)
        self.pool2 = _pool(inner, ratio_t)
        self.GAT_layer_spectro_temp = GraphAttention(inner, outer, temperature=1.0)
        self.pool3 = _pool(outer, ratio_st)
        self.proj_spectral = nn.Linear(_kept(_FREQUENCY_NODES, ratio_s), config.fused_nodes)
        self.proj_temp = nn.Linear(_kept(config.temporal_nodes, ratio_t), config.fused_nodes)
        self.proj_spectro_temp = nn.Linear(outer, 1)
        self.output_layer = nn.Linear(_kept(config.fused_nodes, ratio_st), 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        width: int = self.output_layer.in_features
        return width

    def forward(self, waveform: Tensor) -> ModelOutput:
        """Run the model.

        Parameters
        ----------
        waveform : Tensor [shape=(batch, config.window_samples)]
            16 kHz, full scale 1, not normalised.

        Returns
        -------
        ModelOutput

        Raises
        ------
        ParameterError
            If the waveform has another shape.
        """
        if waveform.shape[-1] != self.config.window_samples:
            raise ParameterError(
                "The 'waveform' parameter of RawGATST must hold "
                f"{self.config.window_samples} samples, the length that it was built for. "
                f"Got {waveform.shape[-1]} instead."
            )
        image = self.front_end(waveform).abs().unsqueeze(1)
        image = F.selu(self.first_bn(F.max_pool2d(image, 3)))
        spectral = self.encoder1(image).abs().amax(dim=3).transpose(1, 2)
        temporal = self.encoder2(image).abs().amax(dim=2).transpose(1, 2)
        embedding = self._graphs(spectral, temporal)
        return ModelOutput(self.output_layer(embedding), embedding)

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the published model, the bona fide logit [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX]

    def _graphs(self, spectral: Tensor, temporal: Tensor) -> Tensor:
        """Nodes of both kinds (batch, nodes, channels) to the embedding."""
        spectral = self.pool1(self.GAT_layer_spectral(spectral)).transpose(1, 2)
        temporal = self.pool2(self.GAT_layer_temp(temporal)).transpose(1, 2)
        fused = torch.mul(self.proj_spectral(spectral), self.proj_temp(temporal)).transpose(1, 2)
        nodes = self.pool3(self.GAT_layer_spectro_temp(fused))
        embedding: Tensor = self.proj_spectro_temp(nodes).squeeze(2)
        return embedding


def _pool(width: int, ratio: float) -> GraphPool:
    return GraphPool(width, ratio=ratio, rank_by="gate")


def _kept(nodes: int, ratio: float) -> int:
    return max(int(nodes * ratio), 1)
