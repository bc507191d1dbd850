"""Configurations of wav2vec 2.0, HuBERT and WavLM, and those of the published checkpoints.

Baevski et al., wav2vec 2.0, NeurIPS 2020; Conneau et al., XLSR, Interspeech 2021; Babu et al.,
XLS-R, Interspeech 2022; Hsu et al., HuBERT, TASLP 2021; Chen et al., WavLM, JSTSP 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from voiceguard.errors import ParameterError
from voiceguard.features._base import check_int

FAMILIES = ("wav2vec2", "hubert", "wavlm")
"""Networks of this kind; the first two compute the same."""


@dataclass(frozen=True)
class WaveConfig:
    """Shape of one network.

    Parameters
    ----------
    family : str
        One of :data:`FAMILIES`.
    group_norm : bool
        One norm over time in the first convolution ("base"), or a layer norm in each ("large").
    conv_dims, conv_kernels, conv_strides : tuple of int
        The convolutions on the waveform.
    conv_bias : bool
        Whether they have a bias.
    dim, depth, heads, feedforward : int
        Width of a frame, transformer blocks, attention heads, width inside a block.
    norm_first : bool
        Norm before attention and before the feed-forward part, and one after the last block.
    position_kernel, position_groups : int
        The convolution that tells positions.
    dropout, attention_dropout, activation_dropout, projection_dropout : float
        Shares that are dropped while training.
    buckets, max_distance : int
        WavLM's relative positions.
    normalize : bool
        Whether the network was trained on waveforms of mean 0 and variance 1.

    Raises
    ------
    ParameterError
        If a value is out of range or widths do not divide.
    """

    family: str = "wav2vec2"
    group_norm: bool = True
    conv_dims: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    dim: int = 768
    depth: int = 12
    heads: int = 12
    feedforward: int = 3072
    norm_first: bool = False
    position_kernel: int = 128
    position_groups: int = 16
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    projection_dropout: float = 0.1
    buckets: int = 320
    max_distance: int = 800
    normalize: bool = False

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ParameterError(
                f"The 'family' parameter of WaveConfig must be one of {FAMILIES}. "
                f"Got {self.family!r} instead."
            )
        self._check_convolutions()
        for name in ("dim", "depth", "heads", "feedforward", "position_kernel", "position_groups"):
            check_int(self, **{name: getattr(self, name)})
        check_int(self, minimum=4, buckets=self.buckets, max_distance=self.max_distance)
        if self.dim % self.heads or self.dim % self.position_groups:
            raise ParameterError(
                f"The 'dim' parameter of WaveConfig must be a multiple of heads ({self.heads}) and "
                f"of position_groups ({self.position_groups}). Got {self.dim} instead."
            )

    def _check_convolutions(self) -> None:
        for name in ("conv_dims", "conv_kernels", "conv_strides"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not 0 < len(values) == len(self.conv_dims):
                raise ParameterError(
                    f"The {name!r} parameter of WaveConfig must hold an int for each convolution. "
                    f"Got {values!r} instead."
                )
            for value in values:
                check_int(self, **{name: value})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> WaveConfig:
        """Read back :meth:`to_dict`; absent fields take their defaults.

        Raises
        ------
        ParameterError
            If a field is unknown or out of range.
        """
        unknown = set(plain) - {f.name for f in fields(cls)}
        if unknown:
            raise ParameterError(f"WaveConfig has no field {sorted(unknown)}.")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()
        }
        return cls(**values)

    @property
    def shape(self) -> dict[str, Any]:
        """What decides which weights fit; wav2vec 2.0 and HuBERT take the same."""
        free = ("dropout", "normalize", "family")
        plain = {k: v for k, v in self.to_dict().items() if not k.endswith(free)}
        return {**plain, "relative": self.family == "wavlm"}

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees."""
        field, hop = 1, 1
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            field, hop = field + (kernel - 1) * hop, hop * stride
        return field

    @property
    def frame_hop(self) -> int:
        """Samples from frame to frame."""
        hop = 1
        for stride in self.conv_strides:
            hop *= stride
        return hop


_BASE = WaveConfig()
_LARGE = replace(_BASE, dim=1024, depth=24, heads=16, feedforward=4096)
_STABLE = replace(_LARGE, group_norm=False, norm_first=True, conv_bias=True, normalize=True)
_XLS_R = replace(_STABLE, dropout=0.0, attention_dropout=0.0, projection_dropout=0.0)

WAVE_CONFIGS: Mapping[str, WaveConfig] = MappingProxyType(
    {
        "wav2vec2-base": _BASE,
        "wav2vec2-large": _LARGE,
        "wav2vec2-large-lv60": _STABLE,
        "xlsr-53": _STABLE,
        "xls-r-300m": _XLS_R,
        "xls-r-1b": replace(_XLS_R, dim=1280, depth=48, feedforward=5120),
        "hubert-base": replace(_BASE, family="hubert"),
        "hubert-large": replace(_STABLE, family="hubert", conv_bias=False),
        "wavlm-base": replace(_BASE, family="wavlm"),
        "wavlm-base-plus": replace(_BASE, family="wavlm"),
        "wavlm-large": replace(_STABLE, family="wavlm", conv_bias=False),
    }
)
"""Published networks by name."""
