"""AASIST and AASIST-L, compatible with the published weights.

Jung et al., "AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention
Networks", ICASSP 2022 (arXiv 2110.01200).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features.sinc import SincFilterbank
from voiceguard.models.graph import BONAFIDE_INDEX, GraphBackEnd, GraphConfig, ModelOutput

WINDOW_SAMPLES = 64600
"""Samples at 16 kHz that the published models were trained and evaluated on."""

_SINC_FILTERS = 70
_SINC_TAPS = 129
_FREQUENCY_NODES = _SINC_FILTERS // 3
# First max-pool and six blocks divide time by three each.
_MIN_SAMPLES = 3**7 + _SINC_TAPS - 1


@dataclass(frozen=True)
class AASISTConfig:
    """Sizes of an AASIST model.

    Parameters
    ----------
    widths : tuple of int
        Channels of the first two and of the last four residual blocks.
    graph : GraphConfig
        Sizes of the graph back end.
    """

    widths: tuple[int, int] = (32, 64)
    graph: GraphConfig = field(default_factory=GraphConfig)

    AASIST: ClassVar[AASISTConfig]
    AASIST_L: ClassVar[AASISTConfig]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {"widths": list(self.widths), "graph": self.graph.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> AASISTConfig:
        """Read back :meth:`to_dict`.

        Raises
        ------
        ParameterError
            If a field is missing, unknown or out of range.
        """
        if set(plain) != {f.name for f in fields(cls)}:
            raise ParameterError(
                f"AASISTConfig must have the fields 'widths' and 'graph'. Got {sorted(plain)}."
            )
        first, second = plain["widths"]
        return cls(widths=(first, second), graph=GraphConfig.from_dict(plain["graph"]))


AASISTConfig.AASIST = AASISTConfig()
AASISTConfig.AASIST_L = AASISTConfig(
    widths=(32, 24), graph=GraphConfig(gat_dims=(24, 32), pool_ratios=(0.4, 0.5, 0.7))
)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut, then a max-pool of three over time.

    Every block but the first owns a ``bn1`` that takes no part: in the published implementation
    its output is thrown away, and the weights were trained that way. It is kept, frozen, so that
    state dicts load strictly.

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
            self.bn1 = nn.BatchNorm2d(in_channels).requires_grad_(False)
        self.conv1 = nn.Conv2d(in_channels, out_channels, (2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, (2, 3), padding=(0, 1))
        self.conv_downsample = (
            nn.Conv2d(in_channels, out_channels, (1, 3), padding=(0, 1))
            if in_channels != out_channels
            else None
        )
        self.act = nn.SELU()
        self.pool = nn.MaxPool2d((1, 3))

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, freq, time) to (batch, out_channels, freq, time // 3)."""
        shortcut = image if self.conv_downsample is None else self.conv_downsample(image)
        out = self.conv2(self.act(self.bn2(self.conv1(image))))
        pooled: Tensor = self.pool(out + shortcut)
        return pooled


def _encoder(first: int, second: int) -> nn.Sequential:
    """Six blocks, each wrapped in a Sequential of its own as the published names have it."""
    pairs = [(1, first), (first, first), (first, second), *[(second, second)] * 3]
    blocks = [ResidualBlock(a, b, first=i == 0) for i, (a, b) in enumerate(pairs)]
    return nn.Sequential(*(nn.Sequential(block) for block in blocks))


class AASIST(GraphBackEnd):
    """Raw waveform to logits: sinc filters, residual encoder, graph back end.

    Parameters
    ----------
    config : AASISTConfig
        ``AASISTConfig.AASIST`` (297,866 parameters) or ``AASISTConfig.AASIST_L`` (85,306).
    max_mask : int
        In training, zero a random run of 0 to `max_mask` - 1 neighbouring sinc filters.

    Shape
    -----
    (batch, n) to logits (batch, 2) and embedding (batch, 160), n >= 2315; the published weights
    expect n = 64,600.
    """

    def __init__(self, config: AASISTConfig = AASISTConfig.AASIST, *, max_mask: int = 20) -> None:
        super().__init__(
            channels=config.widths[1],
            frequency_nodes=_FREQUENCY_NODES,
            config=config.graph,
            rank_by="gate",
        )
        self.config = config
        self.front_end = SincFilterbank(filters=_SINC_FILTERS, taps=_SINC_TAPS, max_mask=max_mask)
        self.first_bn = nn.BatchNorm2d(1)
        self.encoder = _encoder(*config.widths)

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
            If the waveform has the wrong shape or is shorter than 2,315 samples.
        """
        if waveform.shape[-1] < _MIN_SAMPLES:
            raise ParameterError(
                f"The 'waveform' parameter of AASIST must hold at least {_MIN_SAMPLES} samples. "
                f"Got {waveform.shape[-1]} instead."
            )
        image = self.front_end(waveform).abs().unsqueeze(1)
        image = F.selu(self.first_bn(F.max_pool2d(image, 3)))
        return self.back_end(self.encoder(image))

    def score(self, output: ModelOutput) -> Tensor:
        """Score of the published models, the bona fide logit [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX]
