"""Verdicts on made-up windows: labels, reasons, and which channel speaks for the input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.audio.gate import Verdict
from voiceguard.detect.calibration import Calibration
from voiceguard.detect.verdict import (
    BAYES,
    Rule,
    Window,
    choose_rule,
    judge_channel,
    most_suspicious,
)
from voiceguard.errors import ParameterError
from voiceguard.results import Label, OperatingPoint, Quality, Reason

POINT = OperatingPoint("balanced", 1.0, None, None, "made up")
OPEN = Verdict((), False)
RULE = Rule(Calibration(2.0, -1.0), POINT)


def quality(speech_s: float = 4.0) -> Quality:
    return Quality(4.0, speech_s, -20.0, 30.0, 0.0, 8000.0, 0.0, None, 0.0)


def window(score: float | None, gate: Verdict = OPEN, speech_s: float = 4.0) -> Window:
    return Window(0.0, 4.0, quality(speech_s), gate, score)


def judge(scores, rule=RULE, gate=OPEN):
    return judge_channel(0, [window(score) for score in scores], quality(), gate, rule)


@given(st.floats(-20, 20))
def test_one_window_is_its_channel(score):
    channel = judge([score])
    (segment,) = channel.segments
    assert channel.llr == pytest.approx(2.0 * score - 1.0)
    assert segment.state == channel.label
    assert segment.llr == pytest.approx(channel.llr)
    assert channel.p_spoof == pytest.approx(1.0 / (1.0 + math.exp(channel.llr)), abs=1e-12)
    assert (channel.label is Label.SPOOF) == (channel.llr < POINT.threshold)


def test_on_the_line_is_bona_fide():
    assert judge([1.0]).label is Label.BONAFIDE


def test_near_the_line_is_borderline():
    assert Reason.BORDERLINE in judge([1.1]).reasons
    assert Reason.BORDERLINE not in judge([1.3]).reasons


def test_within_the_margin_there_is_no_label_but_all_numbers():
    rule = Rule(Calibration(2.0, -1.0), replace(POINT, margin=0.8))
    channel = judge([1.39], rule=rule)
    assert channel.label is Label.INCONCLUSIVE
    assert channel.segments[0].state is Label.INCONCLUSIVE
    assert Reason.BORDERLINE in channel.reasons
    assert channel.llr == pytest.approx(1.78)
    assert judge([1.41], rule=rule).label is Label.BONAFIDE
    assert judge([0.59], rule=rule).label is Label.SPOOF


def test_a_score_within_the_margin_has_a_reason_too():
    rule = Rule(None, replace(POINT, margin=0.8))
    channel = judge([1.5], rule=rule)
    assert channel.label is Label.INCONCLUSIVE
    assert Reason.BORDERLINE in channel.reasons
    assert Reason.BORDERLINE not in judge([1.1], rule=Rule(None, POINT)).reasons


def test_a_short_passage_turns_the_label_and_is_found():
    channel = judge([6.0] * 30 + [-5.0] + [6.0] * 29)
    assert channel.label is Label.SPOOF
    assert [i for i, s in enumerate(channel.segments) if s.state is Label.SPOOF] == [30]
    assert channel.score == pytest.approx((59 * 6.0 - 5.0) / 60)


def test_a_closed_gate_withholds_everything():
    gate = Verdict((Reason.TOO_SHORT, Reason.NARROWBAND), True)
    channel = judge([None, None], gate=gate)
    assert channel.label is Label.INCONCLUSIVE
    assert channel.reasons == gate.reasons
    assert (channel.score, channel.llr, channel.p_spoof) == (None, None, None)
    assert all(s.state is Label.INCONCLUSIVE and s.reasons for s in channel.segments)


def test_closed_windows_are_left_out():
    closed = window(None, Verdict((Reason.MUSIC,), True))
    channel = judge_channel(0, [window(3.0), closed], quality(), OPEN, RULE)
    assert channel.llr == pytest.approx(5.0)
    assert channel.segments[1].state is Label.INCONCLUSIVE
    assert channel.segments[1].reasons == (Reason.MUSIC,)
    assert channel.segments[1].llr is None


def test_enough_speech_in_whole_but_in_no_window():
    short = window(None, Verdict((Reason.TOO_SHORT,), True), speech_s=0.3)
    channel = judge_channel(0, [short] * 8, quality(2.4), OPEN, RULE)
    assert channel.label is Label.INCONCLUSIVE
    assert channel.reasons == (Reason.TOO_SHORT,)


def test_no_verdict_is_ever_without_a_reason():
    assert judge_channel(0, [], quality(), OPEN, RULE).reasons == (Reason.TOO_SHORT,)


def test_what_weakens_is_kept():
    channel = judge([3.0], gate=Verdict((Reason.NARROWBAND,), False))
    assert channel.label is Label.BONAFIDE
    assert channel.reasons == (Reason.NARROWBAND,)


def test_without_calibration_there_is_a_score_and_no_more():
    channel = judge([3.0, 1.0], rule=Rule(None, None))
    assert channel.score == pytest.approx(2.0)
    assert (channel.llr, channel.p_spoof) == (None, None)
    assert channel.label is Label.INCONCLUSIVE
    assert channel.reasons == (Reason.UNCALIBRATED,)
    assert channel.segments[0].state is Label.INCONCLUSIVE


def test_without_calibration_a_threshold_on_the_score_decides():
    rule = Rule(None, POINT)
    assert judge([0.9], rule=rule).label is Label.SPOOF
    assert judge([1.1], rule=rule).label is Label.BONAFIDE
    assert judge([1.1], rule=rule).p_spoof is None


def test_the_most_suspicious_channel_speaks():
    human, spoof, silent = judge([5.0]), judge([-5.0]), judge([None], gate=Verdict((), True))
    assert most_suspicious([silent, human, spoof]) is spoof
    assert most_suspicious([silent, human]) is human
    raw = [judge([score], rule=Rule(None, None)) for score in (2.0, -1.0)]
    assert most_suspicious(raw) is raw[1]


def test_of_unjudged_channels_the_one_with_most_speech_speaks():
    channels = [
        judge_channel(i, [], quality(speech), Verdict((Reason.TOO_SHORT,), True), RULE)
        for i, speech in enumerate((0.0, 0.4, 0.2))
    ]
    assert most_suspicious(channels).index == 1


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan, "half", None])
def test_a_bad_prior_is_refused(prior):
    with pytest.raises(ParameterError, match="'prior_spoof' parameter of score"):
        Rule(None, None, prior)


def test_a_calibrated_model_without_points_uses_bayes(manifest):
    from dataclasses import replace

    rule = choose_rule(replace(manifest, calibration=Calibration(1.0, 0.0)), None, 0.5)
    assert rule.point is BAYES
    assert choose_rule(manifest, None, 0.5).point is None
