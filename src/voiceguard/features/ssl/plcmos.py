"""The convolutions of PLCMOS, which rates how packet loss was concealed, as an encoder.

Diener et al., "PLCMOS: a data-driven non-intrusive metric for the evaluation of packet loss
concealment algorithms", Interspeech 2023. Listeners rated what concealment makes up where packets
are missing, much of it by generative networks; three dilated convolutions on a log-power
spectrogram, 93 thousand parameters, learned to hear that. The recurrent layers above are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from voiceguard.errors import BundleError
from voiceguard.features.spectrum import PowerSpectrum
from voiceguard.features.ssl.contract import OneShapeEncoder, samples_of
from voiceguard.features.ssl.reading import check_fit, checked_state, onnx_weights

_FRAME = 512
_HOP = 256
_DILATION = 2
_CHANNELS = (1, 32, 64, 128)
_DEPTH = len(_CHANNELS) - 1
_TAPS = 3
_LOST = (_TAPS - 1) * _DILATION
"""Frames that a convolution takes to hear its neighbours."""
_POOL = 4
_SLOPE = 0.1
_SCALE = 20.0
_FLOOR = 1e-9
_BINS = tuple((_FRAME // 2 + 1) // _POOL**layer for layer in range(_DEPTH + 1))
_PUBLISHED = "in_blocks.0.conv"


class PLCMOSEncoder(OneShapeEncoder):
    """The log-power spectrogram as layer 0, what the convolutions give as layers 1 to 3.

    Frames near an end, which in the published network hear what it is padded with, are left out;
    each frame given is one of its own. The level is heard: bring waveforms to one peak. What lies
    below the last of 16 bits is not.

    Parameters
    ----------
    layers : sequence of int, optional
        Layers to give; all by default. Of a lower layer those frames that the highest one is
        centred on.
    gradient_checkpointing : bool
        See :class:`SSLEncoder`.

    Raises
    ------
    ParameterError
        If `layers` does not fit.

    Shape
    -----
    (batch, samples) to (batch, n_layers, samples // 256 - 1 - 4 * highest layer, widest layer); the
    layers are 257, 2048, 1024 and 512 wide, low frequencies first.
    """

    architecture = "plcmos"
    frame_hop = _HOP

    def __init__(
        self,
        *,
        layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(_DEPTH, layers=layers, gradient_checkpointing=gradient_checkpointing)
        self.dim = max(self.layer_dims)
        self.receptive_field = self.min_samples = _FRAME + _HOP * _LOST * self.top
        self.first_centre = self.receptive_field / 2
        with torch.device("cpu"):
            self.power = PowerSpectrum(n_fft=_FRAME, frame=_FRAME, hop=_HOP, window="hamming")
        self.convolutions = nn.ModuleList(
            nn.Conv2d(
                _CHANNELS[index],
                _CHANNELS[index + 1],
                _TAPS,
                padding=(0, 1),
                dilation=(_DILATION, 1),
            )
            for index in range(self.top)
        )

    @property
    def blocks(self) -> nn.ModuleList:
        """The convolutions."""
        return self.convolutions

    @property
    def layer_dims(self) -> tuple[int, ...]:
        """Width of each chosen layer."""
        return tuple(_BINS[layer] * _CHANNELS[layer] for layer in self.layers)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return max(0, samples // _HOP - 1 - _LOST * self.top)

    def encode(self, waveform: Tensor, lengths: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """Frames of the layers up to the highest chosen one; see the contract."""
        samples = waveform.shape[1]
        power: Tensor = self.power(waveform).transpose(1, 2)
        x = (power.clamp(min=_FLOOR).log() / _SCALE).unsqueeze(1)
        maps = [x]
        for convolution in self.convolutions:
            x = nn.functional.leaky_relu(self._run(convolution, x), _SLOPE)
            x = nn.functional.max_pool2d(x, (1, _POOL))
            maps.append(x)
        shown = self.frames(samples)
        found = {
            layer: _frames(heard, first=_LOST // 2 * (self.top - layer), shown=shown)
            for layer, heard in enumerate(maps)
        }
        count = samples_of(waveform, lengths) // _HOP - 1 - _LOST * self.top
        return found, count


def _frames(heard: Tensor, *, first: int, shown: int) -> Tensor:
    """A map (batch, channels, frames, bands) as frames, from `first` on."""
    return heard[:, :, first : first + shown].permute(0, 2, 3, 1).flatten(2)


def read_onnx(file: Path) -> PLCMOSEncoder:
    """The encoder out of the published graph, ``plcmos_v2.onnx`` of the package speechmos.

    Raises
    ------
    MissingExtraError
        If onnx is absent.
    ModelError
        If the file is absent.
    BundleError
        If it is damaged or something else.
    """
    state = {}
    for name, tensor in onnx_weights(file).items():
        if name.startswith(_PUBLISHED) and "project" not in name:
            number, part = name.removeprefix(_PUBLISHED).split(".", 1)
            state[f"convolutions.{int(number) - 1}.{part}"] = tensor
    if not state:
        raise BundleError(
            f"Weights file {file.name!r} must be the graph of PLCMOS. It has none of its parts."
        )
    encoder = PLCMOSEncoder()
    check_fit(encoder.state_dict(), checked_state(state, file.name), name=file.name)
    encoder.load_state_dict(state)
    return encoder.eval()
