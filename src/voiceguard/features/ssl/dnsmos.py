"""The first convolutions of DNSMOS P.808, which rates what noise suppression left, as an encoder.

Reddy, Gopal and Cutler, "DNSMOS: a non-intrusive perceptual objective speech quality metric to
evaluate noise suppressors", ICASSP 2021. Two convolutions on a log-mel spectrogram, ten thousand
parameters, out of a network that learned from listeners' ratings; higher layers, tried as features
for telling engines from people, are worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from voiceguard.errors import BundleError
from voiceguard.features.spectrum import PowerSpectrum
from voiceguard.features.ssl.contract import OneShapeEncoder, frame_mask, samples_of
from voiceguard.features.ssl.reading import check_fit, checked_state, onnx_weights

_RATE = 16000
_FRAME = 321
_HOP = 160
_MELS = 120
_CHANNELS = (1, 32, 32)
_CONVOLUTIONS = len(_CHANNELS) - 1
_POOL = 2
_STEP: int = _POOL**_CONVOLUTIONS
_TINY = 1e-10
_RANGE_DB = 80.0
_CENTRE_DB = 40.0
_FIRST = 5
"""Number of the first convolution in the published graph."""


class DNSMOSEncoder(OneShapeEncoder):
    """Frames of the second convolution: 30 bands of 32 channels, every 40 ms.

    There is one layer, 0. The spectrogram is told from its loudest band on, so that the level is
    not heard; what lies 80 dB below is not either.

    Parameters
    ----------
    layers : sequence of int, optional
        Only ``[0]``.
    gradient_checkpointing : bool
        See :class:`SSLEncoder`.

    Raises
    ------
    ParameterError
        If `layers` names another one.

    Shape
    -----
    (batch, samples) to (batch, 1, (samples + 159) // 160 // 4, 960), low frequencies first.
    """

    architecture = "dnsmos"
    dim = _MELS // _STEP * _CHANNELS[-1]
    frame_hop = _STEP * _HOP
    first_centre = (_STEP - 1) * _HOP / 2
    # Four frames, one more to each side of every pair by the second convolution, one by the first.
    receptive_field = _FRAME + _HOP * (_STEP - 1 + 2 * (1 + _POOL))
    min_samples = _HOP * (_STEP - 1) + 1

    def __init__(
        self,
        *,
        layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(0, layers=layers, gradient_checkpointing=gradient_checkpointing)
        from librosa.filters import mel

        with torch.device("cpu"):
            self.power = PowerSpectrum(n_fft=_FRAME, frame=_FRAME, hop=_HOP, padding="zeros")
            bands = torch.from_numpy(mel(sr=_RATE, n_fft=_FRAME, n_mels=_MELS))
        self.register_buffer("bands", bands, persistent=False)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(_CHANNELS[index], _CHANNELS[index + 1], 3, padding=1)
            for index in range(_CONVOLUTIONS)
        )

    @property
    def blocks(self) -> nn.ModuleList:
        """The convolutions."""
        return self.convolutions

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return (samples + _HOP - 1) // _HOP // _STEP

    def encode(self, waveform: Tensor, lengths: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """Frames of the second convolution; see the contract."""
        decibels = 10.0 * (self.get_buffer("bands") @ self.power(waveform)).clamp(min=_TINY).log10()
        count = (samples_of(waveform, lengths) + _HOP - 1) // _HOP
        if lengths is not None:
            # The loudest band is the item's own.
            outside = ~frame_mask(count, decibels.shape[2])[:, None]
            decibels = decibels.masked_fill(outside, -torch.inf)
        x = decibels - decibels.amax(dim=(1, 2), keepdim=True)
        x = ((x.clamp(min=-_RANGE_DB) + _CENTRE_DB) / _CENTRE_DB).transpose(1, 2).unsqueeze(1)
        for convolution in self.convolutions:
            if lengths is not None:
                # Past its end an item hears what it hears alone: the zeros of the padding.
                inside = frame_mask(count, x.shape[2])
                x = x.masked_fill(~inside[:, None, :, None], 0.0)
            x = nn.functional.max_pool2d(self._run(convolution, x).relu(), _POOL)
            count = count // _POOL
        return {0: x.permute(0, 2, 3, 1).flatten(2)}, count


def read_onnx(file: Path) -> DNSMOSEncoder:
    """The encoder out of the published graph, ``model_v8.onnx`` of the package speechmos.

    Raises
    ------
    MissingExtraError
        If onnx is absent.
    ModelError
        If the file is absent.
    BundleError
        If it is damaged or something else.
    """
    found = onnx_weights(file)
    names = {
        f"convolutions.{index}.{ours}": f"conv2d_{_FIRST + index}/{theirs}:0"
        for index in range(_CONVOLUTIONS)
        for ours, theirs in (("weight", "kernel"), ("bias", "bias"))
    }
    state = {ours: found[theirs] for ours, theirs in names.items() if theirs in found}
    if not state:
        raise BundleError(
            f"Weights file {file.name!r} must be the graph of DNSMOS P.808. It has none of its "
            "convolutions."
        )
    encoder = DNSMOSEncoder()
    check_fit(encoder.state_dict(), checked_state(state, file.name), name=file.name)
    encoder.load_state_dict(state)
    return encoder.eval()
