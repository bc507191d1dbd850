"""What every front end shares: the contract, its checks, and the mel scale."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voiceguard.errors import ParameterError

MelOrHz = TypeVar("MelOrHz", float, "NDArray[np.float64]")


def hz_to_mel(hz: MelOrHz) -> MelOrHz:
    """Mel of a frequency in Hz, 2595 log10(1 + f / 700) (the formula of HTK)."""
    mel: MelOrHz = 2595.0 * np.log10(1.0 + hz / 700.0)
    return mel


def mel_to_hz(mel: MelOrHz) -> MelOrHz:
    """Inverse of :func:`hz_to_mel`."""
    hz: MelOrHz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return hz


def check_int(owner: object, *, minimum: int = 1, **values: int) -> None:
    """Refuse values that are no int or lie below `minimum`.

    Raises
    ------
    ParameterError
        Naming the parameter and the class of `owner`.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ParameterError(
                f"The {name!r} parameter of {type(owner).__name__} must be an int >= {minimum}. "
                f"Got {value!r} instead."
            )


class FrontEnd(nn.Module):
    """Waveform to features.

    A subclass sets :attr:`coefficients`, and :attr:`channels` where it gives an image of several
    channels, and writes :meth:`frames` and :meth:`transform`. Parameters of the analysis are
    buffers outside the state dict: they are rebuilt from the configuration. All of it runs in
    float32, under autocast too: low-level bins would drown in the rounding of a shorter type.

    Shape
    -----
    (batch, n) to (batch, coefficients, frames), or (batch, channels, coefficients, frames) where
    ``channels`` > 1.
    """

    #: Height of the output.
    coefficients: int
    #: Channels of the output.
    channels: int = 1
    #: Whether it is made of torch operations alone: passes gradients and goes into a graph.
    exportable: bool = True

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give; 0 where they are too few."""
        raise NotImplementedError

    def transform(self, waveform: Tensor) -> Tensor:
        """Features of a waveform that :meth:`forward` has checked."""
        raise NotImplementedError

    def forward(self, waveform: Tensor) -> Tensor:
        """Check and transform.

        Parameters
        ----------
        waveform : Tensor [shape=(batch, n)]
            Floating point, full scale 1.

        Returns
        -------
        Tensor
            See the class's shape.

        Raises
        ------
        ParameterError
            If the waveform is not two-dimensional and floating, or too short for one frame.
        """
        name = type(self).__name__
        if waveform.ndim != 2 or not waveform.is_floating_point():
            raise ParameterError(
                f"The 'waveform' parameter of {name} must be a floating tensor of shape "
                f"(batch, n). Got shape {tuple(waveform.shape)}, {waveform.dtype} instead."
            )
        if self.frames(waveform.shape[1]) < 1:
            raise ParameterError(
                f"The 'waveform' parameter of {name} must be long enough for one frame. "
                f"Got {waveform.shape[1]} samples instead."
            )
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            return self.transform(waveform.float())
