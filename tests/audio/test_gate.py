"""Which measurement gives which reason, and which withhold a verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from voiceguard.audio.gate import ALWAYS_BLOCKING, GatePolicy, blocking, gate, reasons
from voiceguard.errors import ParameterError
from voiceguard.results import Quality, Reason

GOOD = Quality(
    duration_s=4.0,
    speech_s=3.0,
    level_dbfs=-24.0,
    snr_db=30.0,
    clipped=0.005,
    bandwidth_hz=8000.0,
    silence=0.1,
    tone=None,
    music=0.0,
)


def test_good_speech_has_no_reasons():
    for whole in (True, False):
        assert gate(GOOD, whole=whole) == ((), False)


@pytest.mark.parametrize(
    ("change", "reason", "blocked"),
    [
        ({"speech_s": 0.4}, Reason.TOO_SHORT, True),
        ({"speech_s": 0.0}, Reason.NO_SPEECH, True),
        ({"speech_s": 0.0, "silence": 1.0}, Reason.SILENCE, True),
        ({"speech_s": 0.0, "tone": "dtmf"}, Reason.TONE, True),
        ({"music": 0.9}, Reason.MUSIC, True),
        ({"snr_db": 8.0}, Reason.LOW_SNR, False),
        ({"snr_db": -1.0}, Reason.LOW_SNR, True),
        ({"clipped": 0.1}, Reason.CLIPPED, False),
        ({"clipped": 0.5}, Reason.CLIPPED, True),
        ({"bandwidth_hz": 4000.0}, Reason.NARROWBAND, False),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_one_flaw_one_reason(change, reason, blocked, whole):
    verdict = gate(replace(GOOD, **change), whole=whole)
    assert reason in verdict.reasons
    assert verdict.blocked is blocked


@pytest.mark.parametrize("speech_s", [0.0, 0.01, 0.49, 0.999])
@pytest.mark.parametrize("silence", [0.0, 1.0])
@pytest.mark.parametrize("duration_s", [0.999, 4.0])
def test_too_little_speech_always_blocks(speech_s, silence, duration_s):
    flawed = replace(GOOD, speech_s=speech_s, silence=silence, duration_s=duration_s)
    assert blocking(reasons(flawed, whole=True))
    assert gate(flawed, whole=True).blocked


def test_a_window_needs_less_than_a_whole():
    short = replace(GOOD, speech_s=0.7)
    assert gate(short, whole=True).blocked
    assert not gate(short, whole=False).blocked


def test_nothing_at_all():
    nothing = replace(GOOD, duration_s=0.0, speech_s=0.0, silence=1.0, snr_db=None)
    found = reasons(nothing, whole=True)
    assert found == (Reason.TOO_SHORT, Reason.NO_SPEECH, Reason.SILENCE)


def test_a_tone_beside_enough_speech_does_not_block():
    assert gate(replace(GOOD, tone="call_progress"), whole=True) == ((), False)


def test_the_policy_moves_the_line():
    strict = GatePolicy(min_speech_s=3.5, min_snr_db=40.0)
    assert gate(GOOD, strict, whole=True) == ((Reason.TOO_SHORT, Reason.LOW_SNR), True)
    assert not gate(replace(GOOD, speech_s=0.2), GatePolicy(min_speech_s=0.1), whole=True).blocked


def test_blocking_looks_at_codes_alone():
    for reason in Reason:
        assert blocking((reason,)) is (reason in ALWAYS_BLOCKING)
    assert not blocking(())


@pytest.mark.parametrize(
    "bad",
    [
        {"min_speech_s": -1.0},
        {"max_music": float("nan")},
        {"block_snr_db": 20.0},
        {"block_clipped": 0.001},
    ],
)
def test_policies_are_checked(bad):
    with pytest.raises(ParameterError, match="GatePolicy"):
        GatePolicy(**bad)


def test_an_open_gate_withholds_nothing():
    worst = Quality(
        duration_s=0.0,
        speech_s=0.0,
        level_dbfs=-120.0,
        snr_db=-30.0,
        clipped=1.0,
        bandwidth_hz=0.0,
        silence=1.0,
        tone="fax",
        music=1.0,
    )
    for whole in (True, False):
        assert gate(worst, whole=whole).blocked
        assert gate(worst, GatePolicy.open(), whole=whole) == ((), False)
