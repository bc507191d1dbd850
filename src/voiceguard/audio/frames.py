"""Per-frame measures of a channel, computed once and in blocks, for all windows to draw on.

Frame i stands for samples [512 i, 512 (i + 1)) at 16 kHz, as in :mod:`voiceguard.audio.vad`; its
spectrum is taken under a Hann window of 1,024 samples around the same centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voiceguard.audio import music, tones
from voiceguard.audio.vad import FRAME, SAMPLE_RATE, speech_mask, speech_probabilities
from voiceguard.audio.values import Samples

SPECTRUM = 2 * FRAME
"""Samples under the window of a spectrum."""

BIN_HZ = SAMPLE_RATE / SPECTRUM
"""Distance of two bins, Hz."""

BAND_HZ = 200.0
"""Width of a band, Hz."""

N_BANDS = 40
"""Bands from 0 Hz to 8 kHz."""

_SILENT_DBFS = -70.0
_SILENT_POWER = 10.0 ** (_SILENT_DBFS / 10.0)
_BLOCK = 1024


@dataclass(frozen=True)
class Frames:
    """Measures of each frame.

    Parameters
    ----------
    power : np.ndarray [shape=(n,), dtype=float32]
        Mean square without the constant part; full scale 1.0.
    bands : np.ndarray [shape=(n, 40), dtype=float32]
        Power in bands of 200 Hz, up to a constant.
    speech : np.ndarray [shape=(n,), dtype=bool]
        Speech, by the voice activity network; tones are taken out.
    tone : np.ndarray [shape=(n,), dtype=int8]
        A :class:`voiceguard.audio.tones.Tone`.
    steady : np.ndarray [shape=(n,), dtype=float32]
        Share of energy in peaks that stand still.
    """

    power: Samples
    bands: Samples
    speech: NDArray[np.bool_]
    tone: NDArray[np.int8]
    steady: Samples

    @property
    def loud(self) -> NDArray[np.bool_]:
        """Frames above -70 dBFS; A-law's idle code lies just below."""
        loud: NDArray[np.bool_] = self.power > _SILENT_POWER
        return loud

    def span(self, start: int, stop: int) -> Frames:
        """Give the frames whose centres lie in [start, stop), in samples."""
        first = max(0, -(-(start - FRAME // 2) // FRAME))
        last = max(first, -(-(stop - FRAME // 2) // FRAME))
        cut = slice(first, last)
        return Frames(
            self.power[cut], self.bands[cut], self.speech[cut], self.tone[cut], self.steady[cut]
        )


def measure(channel: Samples) -> Frames:
    """Measure all frames of a channel.

    Parameters
    ----------
    channel : np.ndarray [shape=(n,), dtype=float32]
        One channel at 16 kHz.

    Returns
    -------
    Frames
        Of ceil(n / 512) frames. Memory: the result's some 200 bytes a frame and one block.
    """
    n_frames = -(-len(channel) // FRAME)
    blocks = [_measure_block(channel, i, min(i + _BLOCK, n_frames)) for i in _starts(n_frames)]
    power, bands, steady, code, hz, db = (
        np.concatenate(parts) for parts in zip(*blocks, strict=True)
    )
    tone = tones.steady(tones.ToneCandidates(code, hz, db))
    silent = power <= _SILENT_POWER
    tone[silent] = tones.Tone.NONE
    speech = speech_mask(speech_probabilities(channel)) & (tone == tones.Tone.NONE)
    return Frames(power, bands, speech, tone, steady)


def _starts(n_frames: int) -> range:
    # An empty channel still gives one (empty) block, so that there is something to join.
    return range(0, max(n_frames, 1), _BLOCK)


def _measure_block(channel: Samples, first: int, last: int) -> tuple[NDArray[np.generic], ...]:
    lead = music.LEAD_FRAMES
    samples = _stretch(channel, (first - lead) * FRAME - FRAME // 2, last * FRAME + FRAME // 2)
    windows = np.lib.stride_tricks.sliding_window_view(samples, SPECTRUM)[::FRAME]
    spectrum = np.fft.rfft(windows * _HANN, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    now = power[lead:]
    found = tones.candidates(now, bin_hz=BIN_HZ)
    inner = windows[lead:, FRAME // 2 : -FRAME // 2]
    bands = np.add.reduceat(now[:, :-1], _BAND_STARTS, axis=1)
    return inner.var(axis=1), bands, music.steady_share(power), found.code, found.hz, found.db


def _stretch(channel: Samples, start: int, stop: int) -> Samples:
    """Cut samples [start, stop), with zeros outside of the channel."""
    before, after = max(0, -start), max(0, stop - max(len(channel), start))
    inside = channel[max(0, start) : max(0, stop)]
    return np.pad(inside, (before, after)) if before or after else inside


_HANN = np.hanning(SPECTRUM + 1)[:-1].astype(np.float32)
_BAND_STARTS = np.searchsorted(np.arange(SPECTRUM // 2) * BIN_HZ, np.arange(N_BANDS) * BAND_HZ)
