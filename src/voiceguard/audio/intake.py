"""The one place where decoded blocks are checked, made finite, resampled and joined."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from voiceguard.audio.resample import StreamResampler, resampled_length
from voiceguard.audio.values import Audio, Limits, Samples
from voiceguard.errors import AudioFormatError

CLAMP = 32768.0
"""Largest magnitude that is handed on: int16's range stored as float just fits."""

LOUD = 2.0
"""Magnitude from which float samples are called out of scale."""


class Intake:
    """Collects the blocks of one input under its limits.

    Parameters
    ----------
    label : str
        The input's name in messages.
    codec : str
        Container and coding.
    source_rate, channels : int
        What the decoder says it gives.
    sample_rate : int or None
        The rate to hand on; None keeps the source's.
    limits : Limits
        The bounds.
    started : float
        ``time.monotonic()`` at the start of the call.

    Raises
    ------
    AudioLimitError
        If the rate or the number of channels is out of bounds.
    """

    def __init__(
        self,
        *,
        label: str,
        codec: str,
        source_rate: int,
        channels: int,
        sample_rate: int | None,
        limits: Limits,
        started: float,
    ) -> None:
        limits.check_rate(label, source_rate)
        limits.check_channels(label, channels)
        self.label = label
        self.codec = codec
        self.source_rate = source_rate
        self.channels = channels
        self.sample_rate = source_rate if sample_rate is None else sample_rate
        self.frames = 0
        self.warnings: list[str] = []
        self._limits = limits
        self._started = started
        self._blocks: deque[Samples] = deque()
        self._given = 0
        self._bad = 0
        self._clamped = 0
        self._peak = 0.0
        self._resampler = StreamResampler(
            source_rate=source_rate, target_rate=self.sample_rate, channels=channels
        )

    def expect(self, frames: int) -> None:
        """Refuse a claimed length that is out of bounds, before it is decoded."""
        self._limits.check_duration(self.label, frames / self.source_rate)
        given = resampled_length(frames, source_rate=self.source_rate, target_rate=self.sample_rate)
        self._limits.check_decoded(self.label, 4 * self.channels * given)

    def add(self, block: Samples) -> None:
        """Take the next decoded block [shape=(channels, n), dtype=float32]; it may be altered."""
        self.frames += block.shape[1]
        self.expect(self.frames)
        self._limits.check_decode_time(self.label, time.monotonic() - self._started)
        self._keep(self._resampler.process(self._tamed(block)))

    def finish(self, name: str | None) -> Audio:
        """Join what came.

        Raises
        ------
        AudioFormatError
            If no sample at all is a finite number.
        """
        if self._bad and self._bad == self.frames * self.channels:
            raise AudioFormatError(
                f"{self.label} holds {self._bad} samples, and none is a finite number. "
                "Expected audio; the recording or the float conversion before it went wrong."
            )
        self._keep(self._resampler.flush())
        self._judge_scale()
        return Audio(
            samples=self._joined(),
            sample_rate=self.sample_rate,
            source_rate=self.source_rate,
            name=name,
            codec=self.codec,
            warnings=tuple(self.warnings),
        )

    def _tamed(self, block: Samples) -> Samples:
        finite = np.isfinite(block)
        if not finite.all():
            self._bad += int(block.size - np.count_nonzero(finite))
            block = np.where(finite, block, np.float32(0.0))
        peak = float(np.abs(block).max(initial=0.0))
        self._peak = max(self._peak, peak)
        if peak > CLAMP:
            self._clamped += int(np.count_nonzero(np.abs(block) > CLAMP))
            block = block.clip(-CLAMP, CLAMP)
        return block

    def _judge_scale(self) -> None:
        if self._bad:
            self.warnings.append(f"{self._bad} samples were NaN or infinite and were set to 0.")
        if self._clamped:
            self.warnings.append(
                f"{self._clamped} samples lay beyond +-{CLAMP:.0f} and were clamped to it."
            )
        if self._peak > LOUD:
            self.warnings.append(
                f"Float samples peak at {self._peak:.4g} where full scale is 1.0: is this integer "
                "audio stored as float? Divide by the integer's full scale (32768 for int16)."
            )
        if self.frames == 0:
            self.warnings.append("The input holds no samples.")

    def _keep(self, block: Samples) -> None:
        fresh = block.reshape(self.channels, -1)
        if fresh.shape[1]:
            self._blocks.append(fresh)
            self._given += fresh.shape[1]

    def _joined(self) -> Samples:
        if len(self._blocks) == 1:
            return np.ascontiguousarray(self._blocks.popleft())
        # Each block is let go once copied, so that the peak is one copy and not two.
        whole = np.empty((self.channels, self._given), np.float32)
        at = 0
        while self._blocks:
            block = self._blocks.popleft()
            whole[:, at : at + block.shape[1]] = block
            at += block.shape[1]
        return whole
