"""The quality gate: which measurements weaken a verdict, and which withhold it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from voiceguard.errors import ParameterError
from voiceguard.results import Quality, Reason

ALWAYS_BLOCKING = frozenset(
    {Reason.TOO_SHORT, Reason.NO_SPEECH, Reason.SILENCE, Reason.TONE, Reason.MUSIC}
)
"""Reasons that withhold a verdict whenever they are given."""


@dataclass(frozen=True)
class GatePolicy:
    """Thresholds of the gate.

    Parameters
    ----------
    min_speech_s : float
        Least speech in a channel as a whole, seconds.
    min_window_speech_s : float
        Least speech in a window, seconds.
    max_silence : float
        Share of silence from which a stretch without enough speech is called silent.
    min_snr_db : float
        Signal-to-noise ratio below which ``low_snr`` is noted, dB.
    block_snr_db : float
        The ratio below which it also blocks, dB.
    max_clipped : float
        Share of clipped samples above which ``clipped`` is noted.
    block_clipped : float
        The share above which it also blocks.
    max_music : float
        Likelihood of music from which ``music`` is given, and blocks.
    narrowband_hz : float
        Bandwidth up to which ``narrowband`` is noted; it never blocks.

    Raises
    ------
    ParameterError
        If a threshold is negative (the SNRs may be), or a blocking threshold is milder than its
        noting one.
    """

    min_speech_s: float = 1.0
    min_window_speech_s: float = 0.5
    max_silence: float = 0.95
    min_snr_db: float = 10.0
    block_snr_db: float = 0.0
    max_clipped: float = 0.02
    block_clipped: float = 0.25
    max_music: float = 0.8
    narrowband_hz: float = 4200.0

    def __post_init__(self) -> None:
        for threshold in fields(self):
            value = getattr(self, threshold.name)
            if not threshold.name.endswith("_db") and not value >= 0:
                raise ParameterError(
                    f"The {threshold.name!r} parameter of GatePolicy must be >= 0. "
                    f"Got {value!r} instead."
                )
        if self.block_snr_db > self.min_snr_db or self.block_clipped < self.max_clipped:
            raise ParameterError(
                "The blocking thresholds of GatePolicy must not be milder than the noting ones. "
                f"Got SNR {self.block_snr_db!r} over {self.min_snr_db!r} dB, clipped "
                f"{self.block_clipped!r} under {self.max_clipped!r}."
            )

    @classmethod
    def open(cls) -> GatePolicy:
        """A gate that withholds nothing, for experiments that need a score of every clip."""
        return cls(
            min_speech_s=0.0,
            min_window_speech_s=0.0,
            min_snr_db=-math.inf,
            block_snr_db=-math.inf,
            max_clipped=1.0,
            block_clipped=1.0,
            max_music=math.inf,
        )


DEFAULT_POLICY = GatePolicy()
"""The gate where none is given."""


class Verdict(NamedTuple):
    """What the gate says: the reasons, and whether the verdict on the voice is withheld."""

    reasons: tuple[Reason, ...]
    blocked: bool


def gate(quality: Quality, policy: GatePolicy = DEFAULT_POLICY, *, whole: bool) -> Verdict:
    """Judge a stretch.

    Parameters
    ----------
    quality : Quality
        Its measurements.
    policy : GatePolicy
        The thresholds.
    whole : bool
        Whether the stretch is a whole channel (else a window of one).

    Returns
    -------
    Verdict
        Too little speech always blocks; silence, a tone and music are then named as its likely
        cause. Low SNR and clipping block beyond their blocking thresholds only.
    """
    found = reasons(quality, policy, whole=whole)
    return Verdict(found, blocking(found) or _extreme(quality, policy))


def reasons(
    quality: Quality, policy: GatePolicy = DEFAULT_POLICY, *, whole: bool
) -> tuple[Reason, ...]:
    """Name what weakens or withholds a verdict, in the order of :class:`Reason`.

    Parameters
    ----------
    quality, policy, whole
        As in :func:`gate`.

    Returns
    -------
    tuple of Reason
    """
    least = policy.min_speech_s if whole else policy.min_window_speech_s
    starved = quality.speech_s < least
    tests = {
        Reason.TOO_SHORT: (starved and quality.speech_s > 0.0) or quality.duration_s < least,
        Reason.NO_SPEECH: starved and quality.speech_s == 0.0,
        Reason.SILENCE: starved and quality.silence >= policy.max_silence,
        Reason.LOW_SNR: quality.snr_db is not None and quality.snr_db < policy.min_snr_db,
        Reason.CLIPPED: quality.clipped > policy.max_clipped,
        Reason.MUSIC: quality.music >= policy.max_music,
        Reason.TONE: starved and quality.tone is not None,
        Reason.NARROWBAND: 0.0 < quality.bandwidth_hz <= policy.narrowband_hz,
    }
    return tuple(reason for reason, holds in tests.items() if holds)


def blocking(found: tuple[Reason, ...]) -> bool:
    """Whether one of the reasons withholds a verdict whatever its degree.

    Low SNR and clipping are a matter of degree, which :func:`gate` knows and the code does not.
    """
    return not ALWAYS_BLOCKING.isdisjoint(found)


def _extreme(quality: Quality, policy: GatePolicy) -> bool:
    noisy = quality.snr_db is not None and quality.snr_db < policy.block_snr_db
    return noisy or quality.clipped > policy.block_clipped
