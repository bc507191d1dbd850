"""Bands and cepstra every 4 ms as an encoder: what a modulation spectrum is taken of.

Nothing in it was learned. It keeps the contract of the pretrained encoders, so that a probe on how
its frames move (:mod:`voiceguard.models.modulation`) is exported, stored and summed as theirs are.
Modulation features have told synthetic speech from human speech since Wu et al., "Synthetic speech
detection using temporal modulation feature", ICASSP 2013.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voiceguard.features.spectrum import PowerSpectrum
from voiceguard.features.ssl.contract import OneShapeEncoder, samples_of

_RATE = 16_000
_FRAME = 256
_HOP = 64
_BANDS = 20
_LOWEST_HZ = 100.0
_CEPSTRA = 16
_LINES = slice(2, 128)
"""Bins of the spectrum, 125 Hz to 7.9 kHz, under the cepstra on a linear frequency scale."""
_LINEAR_CEPSTRA = 24
_FLOOR = 1e-7


class CepstralEncoder(OneShapeEncoder):
    """Log energies of 20 mel bands, their first 16 cepstra, and 24 of the linear spectrum.

    A frame of 16 ms each 4 ms: fast enough to follow how speech is modulated, up to 125 Hz. There
    is one layer, 0.

    Parameters
    ----------
    layers : sequence of int, optional
        Only ``[0]``.
    gradient_checkpointing : bool
        See :class:`SSLEncoder`; there is no block to compute again.

    Raises
    ------
    ParameterError
        If `layers` names another one.

    Shape
    -----
    (batch, samples) to (batch, 1, (samples - 256) // 64 + 1, 60).
    """

    architecture = "cepstra"
    dim = _BANDS + _CEPSTRA + _LINEAR_CEPSTRA
    frame_hop = _HOP
    first_centre = (_FRAME - 1) / 2
    receptive_field = _FRAME
    min_samples = _FRAME

    bank: Tensor
    mel_cosines: Tensor
    linear_cosines: Tensor

    def __init__(
        self,
        *,
        layers: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(0, layers=layers, gradient_checkpointing=gradient_checkpointing)
        from torchaudio.functional import create_dct, melscale_fbanks

        with torch.device("cpu"):
            self.power = PowerSpectrum(n_fft=_FRAME, frame=_FRAME, hop=_HOP)
            bank = melscale_fbanks(self.power.bins, _LOWEST_HZ, _RATE / 2, _BANDS, _RATE)
            mel_cosines = create_dct(_CEPSTRA, _BANDS, "ortho")
            linear_cosines = create_dct(_LINEAR_CEPSTRA, _LINES.stop - _LINES.start, "ortho")
        self.register_buffer("bank", bank)
        self.register_buffer("mel_cosines", mel_cosines)
        self.register_buffer("linear_cosines", linear_cosines)

    @property
    def blocks(self) -> nn.ModuleList:
        """None."""
        return nn.ModuleList()

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return self.power.frames(samples)

    def encode(self, waveform: Tensor, lengths: Tensor | None) -> tuple[dict[int, Tensor], Tensor]:
        """Bands and cepstra; see the contract."""
        power = self.power(waveform).transpose(1, 2)
        bands = torch.log(power @ self.bank + _FLOOR)
        lines = torch.log(power[:, :, _LINES] + _FLOOR)
        parts = (bands, bands @ self.mel_cosines, lines @ self.linear_cosines)
        count = (samples_of(waveform, lengths) - _FRAME) // _HOP + 1
        return {0: torch.cat(parts, dim=2)}, count
