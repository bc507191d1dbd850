"""How fast an encoder's outputs move: their modulation spectra over half a second, and a probe.

The spectrum of a band's envelope says how speech is paced, from syllables (2 to 8 Hz) to the
roughness of its excitation (above 30 Hz); it outlives telephones, which change what the bands hold
and not how it moves (Houtgast and Steeneken, "A review of the MTF concept in room acoustics and its
use for estimating speech intelligibility", JASA 77(3), 1985). Wu et al., "Synthetic speech
detection using temporal modulation feature", ICASSP 2013, told synthetic speech by it; here it is
taken of bands and cepstra alike (:mod:`voiceguard.features.ssl.cepstra`), and a linear map judges
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int
from voiceguard.features.spectrum import PowerSpectrum
from voiceguard.models._config import PlainConfig
from voiceguard.models.back_end import FrameBackEnd, frame_mean, real_frames
from voiceguard.models.graph import ModelOutput
from voiceguard.models.probe import LinearProbe

FLOOR = 1e-3
"""Added to the power at a modulation frequency before its log."""


@dataclass(frozen=True)
class ModulationConfig(PlainConfig):
    """Sizes of a ModulationProbe.

    Parameters
    ----------
    dim : int
        Width of the encoder's frames.
    segment : int
        Frames under the window of the modulation spectrum, a multiple of 4; windows lie a quarter
        of it apart.
    """

    dim: int = 60
    segment: int = 128

    def __post_init__(self) -> None:
        check_int(self, dim=self.dim, segment=self.segment)
        if self.segment % 4:
            raise ParameterError(
                "The 'segment' parameter of ModulationConfig must be a multiple of 4. "
                f"Got {self.segment} instead."
            )

    @property
    def pooled_dim(self) -> int:
        """Modulation frequencies of all dimensions."""
        return self.dim * (self.segment // 2 + 1)


class ModulationSpectrum(nn.Module):
    """Log power of each dimension of some frames at each modulation frequency.

    Power is the mean over Hann windows of `segment` frames that overlap by three quarters, of what
    deviates from the mean over all real frames.

    Parameters
    ----------
    segment : int
        Frames under a window, a multiple of 4. Frequency k is k / `segment` of the frames' rate.

    Shape
    -----
    (batch, frames, dim) to (batch, dim * (segment / 2 + 1)), the frequencies of a dimension side by
    side. Fewer real frames than a window are filled up by their mean.
    """

    def __init__(self, segment: int) -> None:
        super().__init__()
        self.segment = segment
        with torch.device("cpu"):
            self.power = PowerSpectrum(n_fft=segment, frame=segment, hop=segment // 4)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Spectra of (batch, frames, dim)."""
        if features.dtype in (torch.bfloat16, torch.float16):
            features = features.float()
        real = real_frames(features, lengths)
        moved = features - frame_mean(features, real).unsqueeze(1)
        if real is not None:
            moved = torch.where(real.unsqueeze(2), moved, 0.0)
        moved = moved.transpose(1, 2)
        missing = self.segment - int(features.shape[1])
        if missing > 0:
            moved = F.pad(moved, (0, missing))
        # Numbers, not traced sizes: a graph's window is fixed.
        dim, whole = int(moved.shape[1]), int(moved.shape[2])
        shape = (-1, dim, self.power.bins, self.power.frames(whole))
        power = self.power(moved.reshape(-1, whole)).reshape(shape)
        if lengths is None:
            mean = power.mean(dim=3)
        else:
            last = lengths.to(power.device).clamp(min=self.segment) - self.segment
            starts = torch.arange(power.shape[3], device=power.device) * self.power.hop
            inside = starts <= last[:, None]
            mean = torch.where(inside[:, None, None], power, 0.0).sum(dim=3)
            mean = mean / inside.sum(dim=1)[:, None, None]
        return torch.log(mean + FLOOR).flatten(1)


class ModulationProbe(FrameBackEnd):
    """Frames to logits: their modulation spectrum and a linear map.

    Parameters
    ----------
    config : ModulationConfig
        Sizes.

    Shape
    -----
    (batch, frames, dim) to logits (batch, 2) and embedding (batch, dim), the standardised spectra's
    mean over frequencies.
    """

    config: ModulationConfig

    def __init__(self, config: ModulationConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModulationConfig()
        self.spectrum = ModulationSpectrum(config.segment)
        self.bn = nn.BatchNorm1d(config.pooled_dim, affine=False)
        self.out_layer = nn.Linear(config.pooled_dim, 2)

    @classmethod
    def from_probe(cls, probe: LinearProbe, config: ModulationConfig) -> ModulationProbe:
        """The map of a probe that was fitted on modulation spectra of such frames.

        Raises
        ------
        ParameterError
            If the probe was fitted on another number of features.
        """
        back_end = cls(config).eval()
        probe.move_into(back_end.bn, back_end.out_layer)
        return back_end

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return self.config.dim

    def _run(self, features: Tensor, lengths: Tensor | None) -> ModelOutput:
        standard = self.bn(self.spectrum(features, lengths))
        embedding = standard.reshape(-1, self.config.dim, self.config.segment // 2 + 1).mean(2)
        return ModelOutput(self.out_layer(standard), embedding)
