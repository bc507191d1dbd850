"""From scored windows to the verdict: pure functions, no model and no audio in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from voiceguard.audio.gate import Verdict
from voiceguard.detect.aggregation import aggregate_llr, aggregate_score
from voiceguard.detect.calibration import Calibration
from voiceguard.detect.manifest import Manifest
from voiceguard.errors import ParameterError
from voiceguard.results import (
    ChannelResult,
    Label,
    OperatingPoint,
    Quality,
    Reason,
    Segment,
    posterior_spoof,
)

BAYES = OperatingPoint("bayes", 0.0, None, None, "equal priors and costs; no rates were measured")
"""Where a calibrated model without operating points draws the line."""

BORDERLINE_NATS = 0.5
"""A channel whose llr lies nearer to the threshold than this carries the reason ``borderline``."""


@dataclass(frozen=True)
class Window:
    """A window on its way to a verdict.

    Parameters
    ----------
    start_s, end_s : float
        From the start of the input, seconds.
    quality : Quality
        What was measured on it.
    gate : Verdict
        What the gate says of it.
    score : float or None
        The model's output; None where the window was not run.
    """

    start_s: float
    end_s: float
    quality: Quality
    gate: Verdict
    score: float | None = None


@dataclass(frozen=True)
class Rule:
    """How scores become labels in one call.

    Parameters
    ----------
    calibration : Calibration or None
        Map from score to llr; None for an uncalibrated model.
    point : OperatingPoint or None
        Where the line is drawn, on the llr, or on the score for an uncalibrated model.
    prior_spoof : float
        Prior probability of spoof, inside (0, 1).

    Raises
    ------
    ParameterError
        If the prior is out of its domain.
    """

    calibration: Calibration | None
    point: OperatingPoint | None
    prior_spoof: float = 0.5

    def __post_init__(self) -> None:
        number = isinstance(self.prior_spoof, (int, float))
        if not number or not 0.0 < self.prior_spoof < 1.0:
            raise ParameterError(
                "The 'prior_spoof' parameter of score must be a float inside (0, 1). "
                f"Got {self.prior_spoof!r} instead."
            )

    def llr(self, score: float) -> float | None:
        """Log-likelihood ratio of a window's score, or None without a calibration."""
        return None if self.calibration is None else float(self.calibration.apply(score))

    def p_spoof(self, llr: float | None) -> float | None:
        """Posterior probability of spoof, or None without an llr."""
        return None if llr is None else posterior_spoof(llr, self.prior_spoof)

    def label(self, score: float, llr: float | None) -> Label:
        """Side of the line on which a judged stretch lies; neither within the point's margin."""
        if self.point is None:
            return Label.INCONCLUSIVE
        value = score if llr is None else llr
        if abs(value - self.point.threshold) < self.point.margin:
            return Label.INCONCLUSIVE
        return Label.SPOOF if value < self.point.threshold else Label.BONAFIDE

    def doubts(self, score: float, llr: float | None) -> tuple[Reason, ...]:
        """Give the reasons that the rule itself adds to a judged stretch."""
        if self.point is None:
            return (Reason.UNCALIBRATED,)
        # Half a nat says nothing of a score that is no llr; a margin of the point's own does.
        value, least = (score, 0.0) if llr is None else (llr, BORDERLINE_NATS)
        near = abs(value - self.point.threshold) < max(least, self.point.margin)
        return (Reason.BORDERLINE,) if near else ()


def choose_rule(manifest: Manifest, point: str | OperatingPoint | None, prior_spoof: float) -> Rule:
    """Settle how one call turns scores into labels.

    Parameters
    ----------
    manifest : Manifest
        The model's description.
    point : str or OperatingPoint or None
        What the caller asks for; None for the model's default.
    prior_spoof : float
        Prior probability of spoof.

    Returns
    -------
    Rule
        With the point :data:`BAYES` for a calibrated model that has none.

    Raises
    ------
    ParameterError
        If the model knows no such point, or the prior is out of its domain.
    """
    chosen = manifest.default_operating_point if point is None else point
    if isinstance(chosen, str):
        chosen = _named(manifest, chosen)
    if chosen is None and manifest.calibration is not None:
        chosen = BAYES
    return Rule(manifest.calibration, chosen, prior_spoof)


def judge_channel(
    index: int, windows: Sequence[Window], quality: Quality, gate: Verdict, rule: Rule
) -> ChannelResult:
    """Verdict on a channel.

    Parameters
    ----------
    index : int
        Position of the channel in the input.
    windows : sequence of Window
        Its windows in time order; those with a score are judged.
    quality : Quality
        What was measured on the whole channel.
    gate : Verdict
        What the gate says of the whole channel.
    rule : Rule
        How scores become labels.

    Returns
    -------
    ChannelResult
        Inconclusive, with reasons, where the gate withholds a verdict or no window was judged.
    """
    segments = tuple(
        _segment(window, gate.reasons if gate.blocked else (), rule) for window in windows
    )
    blank = ChannelResult(
        index=index,
        label=Label.INCONCLUSIVE,
        score=None,
        llr=None,
        p_spoof=None,
        reasons=gate.reasons,
        speech_s=quality.speech_s,
        segments=segments,
        quality=quality,
    )
    judged = [(w.score, w.quality.speech_s) for w in windows if w.score is not None]
    if not judged:
        return replace(blank, reasons=_why_unjudged(windows, gate))
    scores, speech = zip(*judged, strict=True)
    score, llr = aggregate_score(scores, speech), None
    if rule.calibration is not None:
        llr = aggregate_llr(rule.calibration.apply(scores), speech)
    return replace(
        blank,
        label=rule.label(score, llr),
        score=score,
        llr=llr,
        p_spoof=rule.p_spoof(llr),
        reasons=_merged(gate.reasons, rule.doubts(score, llr)),
    )


def most_suspicious(channels: Sequence[ChannelResult]) -> ChannelResult:
    """Pick the channel whose fields the result carries.

    Parameters
    ----------
    channels : sequence of ChannelResult
        At least one.

    Returns
    -------
    ChannelResult
        Of the judged ones that with the lowest llr (score, for an uncalibrated model); where none
        was judged, that with the most speech. The first of equals.
    """
    judged = [channel for channel in channels if channel.score is not None]
    if not judged:
        return max(channels, key=lambda channel: channel.speech_s)
    return min(judged, key=_value)


def _named(manifest: Manifest, name: str) -> OperatingPoint:
    known = {point.name: point for point in manifest.operating_points}
    if name not in known:
        names = ", ".join(map(repr, known)) or "none, as it has no thresholds"
        raise ParameterError(
            "The 'operating_point' parameter of score must be one that the model "
            f"{manifest.id!r} knows ({names}) or an OperatingPoint. Got {name!r} instead."
        )
    return known[name]


def _value(channel: ChannelResult) -> float:
    value = channel.score if channel.llr is None else channel.llr
    return float("inf") if value is None else value


def _segment(window: Window, withheld: tuple[Reason, ...], rule: Rule) -> Segment:
    if window.score is None:
        return Segment(
            window.start_s,
            window.end_s,
            Label.INCONCLUSIVE,
            score=None,
            llr=None,
            p_spoof=None,
            reasons=_merged(window.gate.reasons, withheld),
            quality=window.quality,
        )
    llr = rule.llr(window.score)
    return Segment(
        window.start_s,
        window.end_s,
        rule.label(window.score, llr),
        score=window.score,
        llr=llr,
        p_spoof=rule.p_spoof(llr),
        reasons=_merged(window.gate.reasons, rule.doubts(window.score, llr)),
        quality=window.quality,
    )


def _why_unjudged(windows: Sequence[Window], gate: Verdict) -> tuple[Reason, ...]:
    """Reasons of a channel without a judged window; never none."""
    if gate.blocked:
        return gate.reasons
    inside = [reason for window in windows if window.gate.blocked for reason in window.gate.reasons]
    return _merged(gate.reasons, tuple(inside)) or (Reason.TOO_SHORT,)


def _merged(*groups: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Reasons once each, in the order of their first mention."""
    return tuple(dict.fromkeys(reason for group in groups for reason in group))
