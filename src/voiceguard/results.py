"""What a scoring call gives back: frozen values with a JSON form.

Conventions, everywhere the same: ``score`` and ``llr`` grow towards bona fide; ``llr`` is the
natural-log likelihood ratio ln p(x | bonafide) / p(x | spoof); ``p_spoof`` is the posterior
probability of spoof at the stated prior, p_spoof = 1 / (1 + exp(llr + ln((1 - prior) / prior))).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib import resources
from typing import Any

from voiceguard.errors import ParameterError


class Label(str, Enum):
    """The verdict on a stretch of audio."""

    BONAFIDE = "bonafide"
    SPOOF = "spoof"
    INCONCLUSIVE = "inconclusive"


class Reason(str, Enum):
    """Why a verdict was withheld, or what weakens it."""

    TOO_SHORT = "too_short"
    NO_SPEECH = "no_speech"
    SILENCE = "silence"
    LOW_SNR = "low_snr"
    CLIPPED = "clipped"
    MUSIC = "music"
    TONE = "tone"
    NARROWBAND = "narrowband"
    OUT_OF_DOMAIN = "out_of_domain"
    BORDERLINE = "borderline"
    UNCALIBRATED = "uncalibrated"


def posterior_spoof(llr: float, prior_spoof: float) -> float:
    """Posterior probability of spoof.

    Parameters
    ----------
    llr : float
        Log-likelihood ratio, natural log, higher = more bona fide.
    prior_spoof : float
        Prior probability of spoof, inside (0, 1).

    Returns
    -------
    float
        1 / (1 + exp(llr + ln((1 - prior_spoof) / prior_spoof))).

    Raises
    ------
    ParameterError
        If the prior is not inside (0, 1).
    """
    if not 0.0 < prior_spoof < 1.0:
        raise ParameterError(f"'prior_spoof' must lie inside (0, 1). Got {prior_spoof!r} instead.")
    log_odds = llr + math.log((1.0 - prior_spoof) / prior_spoof)
    if log_odds >= 0:
        tail = math.exp(-log_odds)
        return tail / (1.0 + tail)
    return 1.0 / (1.0 + math.exp(log_odds))


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with the error rates that it was set for.

    Parameters
    ----------
    name : str
        For example ``balanced``.
    threshold : float
        Spoof where the llr (the score, for an uncalibrated model) lies below it.
    miss_rate : float or None
        Share of synthetic speech that passes as bona fide, on `data`.
    false_alarm_rate : float or None
        Share of human speech that is called spoof, on `data`.
    data : str
        What the rates were measured on.
    margin : float
        Inconclusive where the value lies nearer to the threshold than this, >= 0; such speech
        counts in neither rate.
    """

    name: str
    threshold: float
    miss_rate: float | None
    false_alarm_rate: float | None
    data: str
    margin: float = 0.0


@dataclass(frozen=True)
class ModelInfo:
    """Which model spoke: its id, version and the SHA-256 of its graph."""

    id: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Quality:
    """Measurements on a stretch of one channel.

    Parameters
    ----------
    duration_s, speech_s : float
        Length and seconds of detected speech.
    level_dbfs : float
        RMS level, dB relative to full scale (a full-scale square wave is 0 dB).
    snr_db : float or None
        Speech level over the level between speech, dB; None where it cannot be estimated.
    clipped : float
        Share of samples in runs at the extreme value, in [0, 1].
    bandwidth_hz : float
        Frequency below which the long-term spectrum stays within reach of its peak.
    silence : float
        Share of the stretch that is digitally or practically silent, in [0, 1].
    tone : str or None
        ``dtmf``, ``call_progress`` or ``fax`` where such a tone fills much of the stretch.
    music : float
        Likelihood of music, in [0, 1]; a heuristic, not calibrated.
    """

    duration_s: float
    speech_s: float
    level_dbfs: float
    snr_db: float | None
    clipped: float
    bandwidth_hz: float
    silence: float
    tone: str | None
    music: float


@dataclass(frozen=True)
class Segment:
    """The verdict on one window of one channel.

    Parameters
    ----------
    start_s, end_s : float
        From the start of the input, seconds.
    state : Label
        bonafide, spoof, or inconclusive where the window was not judged.
    score, llr, p_spoof : float or None
        As in :class:`Result`, of this window alone.
    reasons : tuple of Reason
        Why it was not judged, or what weakens the verdict.
    quality : Quality or None
        What was measured on it.
    """

    start_s: float
    end_s: float
    state: Label
    score: float | None
    llr: float | None
    p_spoof: float | None
    reasons: tuple[Reason, ...] = ()
    quality: Quality | None = None


@dataclass(frozen=True)
class ChannelResult:
    """The verdict on one channel; channels are never mixed down.

    Parameters
    ----------
    index : int
        Position of the channel in the input, from 0.
    label, score, llr, p_spoof, reasons, speech_s, segments
        As in :class:`Result`, of this channel.
    quality : Quality
        What was measured on the whole channel.
    """

    index: int
    label: Label
    score: float | None
    llr: float | None
    p_spoof: float | None
    reasons: tuple[Reason, ...]
    speech_s: float
    segments: tuple[Segment, ...]
    quality: Quality


@dataclass(frozen=True)
class Result:
    """The verdict on one input.

    With one channel the fields are that channel's. With several they are those of the most
    suspicious judged channel: lowest llr (score, for an uncalibrated model) among the channels that
    could be judged; `channels` holds each. ``score``, ``llr`` and ``p_spoof`` are None where
    nothing could be judged, and the last two also where the model carries no calibration.

    Parameters
    ----------
    label : Label
        bonafide, spoof or inconclusive: the likelihood of *synthetic speech*, never of fraud.
    score : float or None
        The model's raw output, higher = more bona fide.
    llr : float or None
        Calibrated log-likelihood ratio, natural log.
    p_spoof : float or None
        Posterior probability of spoof at `prior_spoof`.
    prior_spoof : float
        The prior that `p_spoof` was computed for.
    reasons : tuple of Reason
        Why the verdict was withheld, or what weakens it.
    segments : tuple of Segment
        The windows of the channel that the fields describe, in time order.
    channels : tuple of ChannelResult
        One a channel.
    speech_s, duration_s : float
        Seconds of speech (in that channel) and of audio.
    sample_rate : int
        The input's own rate, Hz.
    model : ModelInfo
        Which model spoke.
    operating_point : OperatingPoint or None
        Where the line was drawn; None where the model has no threshold and none was given, and then
        the label is inconclusive.
    warnings : tuple of str
        What the caller should know (uncalibrated model, odd header ...).
    elapsed_s : float
        Wall time of the call.
    path : str or None
        The input's name, where it has one.
    """

    label: Label
    score: float | None
    llr: float | None
    p_spoof: float | None
    prior_spoof: float
    reasons: tuple[Reason, ...]
    segments: tuple[Segment, ...]
    channels: tuple[ChannelResult, ...]
    speech_s: float
    duration_s: float
    sample_rate: int
    model: ModelInfo
    operating_point: OperatingPoint | None
    warnings: tuple[str, ...] = ()
    elapsed_s: float = 0.0
    path: str | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, as ``result.schema.json`` describes them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def to_json(self, *, indent: int | None = None) -> str:
        """Give the JSON form; numbers are finite, so that any parser reads it."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


def result_schema() -> dict[str, Any]:
    """Read the checked-in JSON Schema (draft 2020-12) of :meth:`Result.to_dict`."""
    text = resources.files("voiceguard").joinpath("assets/result.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
