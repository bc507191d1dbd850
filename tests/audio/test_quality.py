"""What the measurements say of known signals, of real speech, and of windows against wholes."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard import audio
from voiceguard.audio import quality
from voiceguard.audio.frames import measure
from voiceguard.audio.quality import assess, gate
from voiceguard.audio.resample import resample
from voiceguard.audio.telephony import g711_path
from voiceguard.errors import ParameterError
from voiceguard.results import Reason


def sine(level: float = 0.5, hz: float = 1000.0, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(16_000 * seconds)) / 16_000
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def test_level():
    assert assess(sine(1.0)).overall.level_dbfs == pytest.approx(-3.01, abs=0.01)
    assert assess(np.ones(16_000, np.float32)).overall.level_dbfs == pytest.approx(0.0, abs=0.01)
    assert assess(np.zeros(16_000, np.float32)).overall.level_dbfs == -120.0


@pytest.mark.parametrize("snr_db", [5, 10, 20, 30])
def test_snr_follows_the_noise_that_was_added(speech, rng, snr_db):
    errors = []
    for clip in speech:
        padded = np.concatenate((np.zeros(12_000), clip, np.zeros(12_000)))
        voice = measure(clip)
        power = voice.power[voice.speech].mean()
        noise = math.sqrt(power / 10 ** (snr_db / 10)) * rng.standard_normal(len(padded))
        errors.append(assess((padded + noise).astype(np.float32)).overall.snr_db - snr_db)
    # A clip's own noise lowers the ratio, a stricter idea of speech in noise raises it.
    assert abs(np.median(errors)) < 3.0, errors


def test_snr_is_unknown_without_speech(rng):
    assert assess(np.zeros(32_000, np.float32)).overall.snr_db is None
    assert assess(0.01 * rng.standard_normal(32_000).astype(np.float32)).overall.snr_db is None


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_clipping_shows_through_a_change_of_rate(speech, rate):
    clean, clipped = [], []
    for clip in speech:
        there = resample(clip, source_rate=16_000, target_rate=rate)
        edge = np.quantile(np.abs(there), 0.95)
        back = resample(there.clip(-edge, edge), source_rate=rate, target_rate=16_000)
        clean.append(assess(clip).overall.clipped)
        clipped.append(assess(back).overall.clipped)
    assert max(clean) < 0.02, clean
    assert np.median(clipped) > 0.03, clipped


def test_clipping_of_extremes():
    square = np.sign(sine(1.0, 300.0)).astype(np.float32)
    assert assess(square).overall.clipped > 0.95
    for dull in (np.zeros(8000), np.full(8000, 0.5), np.zeros(2)):
        assert assess(dull.astype(np.float32)).overall.clipped == 0.0


def test_bandwidth_tells_telephone_from_wideband(corpus_rows, rng):
    wide, narrow, dithered = [], [], []
    rows = [row for row in corpus_rows if float(row["orig_rate"] or 0) >= 16_000]
    for row in rows[:: len(rows) // 30]:
        clip = audio.read(row["path"]).samples[0]
        line = g711_path(clip)
        # Triangular dither of 16-bit storage, on a quiet copy.
        dither = (rng.random(len(line)) - rng.random(len(line))) / 32768
        quiet = np.rint((0.1 * line + dither) * 32768) / 32768
        wide.append(assess(clip).overall.bandwidth_hz)
        narrow.append(assess(line).overall.bandwidth_hz)
        dithered.append(assess(quiet.astype(np.float32)).overall.bandwidth_hz)
    assert np.mean(np.array(wide) > 5000) > 0.9, wide
    assert max(narrow) <= 4200, narrow
    assert max(dithered) <= 4200, dithered


def test_silence_share():
    half = np.concatenate((np.zeros(16_000, np.float32), sine()))
    assert assess(half).overall.silence == pytest.approx(0.5, abs=0.04)
    # A-law has no zero: its idle codes are +-8 of 32768, and still are silence.
    idle = np.where(np.arange(16_000) % 2, 8, -8).astype(np.float32) / 32768
    assert assess(idle).overall.silence == 1.0


def test_gain_changes_the_level_and_little_else(speech):
    moved = []
    for clip in speech:
        base, quiet = (assess(g * clip).overall for g in (np.float32(1.0), np.float32(0.5)))
        assert quiet.level_dbfs - base.level_dbfs == pytest.approx(-6.02, abs=0.01)
        assert quiet.clipped == pytest.approx(base.clipped, abs=1e-3)
        moved.append((abs(quiet.snr_db - base.snr_db), abs(quiet.speech_s - base.speech_s)))
    # The voice activity network hears a single clip otherwise at another level.
    assert (np.median(moved, axis=0) < (2.0, 0.15)).all(), moved


def test_a_window_over_everything_is_the_whole(speech):
    got = assess(speech[0], [(0, len(speech[0]))])
    assert astuple(got.windows[0]) == astuple(got.overall)


def test_windows_see_their_own_stretch(speech):
    clip = speech[0][:32_000]
    channel = np.concatenate((np.zeros(32_000, np.float32), clip))
    silent, spoken = assess(channel, [(0, 32_000), (32_000, 64_000)]).windows
    assert (silent.speech_s, silent.silence, silent.snr_db) == (0.0, 1.0, None)
    assert spoken.speech_s > 0.5
    assert spoken.level_dbfs == pytest.approx(assess(clip).overall.level_dbfs, abs=1e-3)


def test_blocks_leave_no_seam(speech, monkeypatch):
    long = np.concatenate(speech)
    spans = [(i, i + 64_000) for i in range(0, len(long) - 64_000, 32_000)]
    want = assess(long, spans)
    monkeypatch.setattr("voiceguard.audio.frames._BLOCK", 37)
    got = assess(long, spans)
    for a, b in zip((want.overall, *want.windows), (got.overall, *got.windows), strict=True):
        for x, y in zip(astuple(a), astuple(b), strict=True):
            assert x == y if isinstance(x, str) or x is None else x == pytest.approx(y, abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(0, 40_000),
    kind=st.sampled_from(["zeros", "noise", "offset", "loud", "denormal", "impulse"]),
    cuts=st.tuples(st.integers(0, 40_000), st.integers(0, 40_000)),
)
def test_measurements_are_finite_and_in_range(n, kind, cuts):
    rng = np.random.default_rng(n)
    impulse = np.zeros(n)
    impulse[: min(n, 1)] = 1.0
    channel = {
        "zeros": np.zeros(n),
        "noise": rng.standard_normal(n) * 0.1,
        "offset": np.full(n, 0.7),
        "loud": rng.standard_normal(n) * 32768.0,
        "denormal": np.full(n, 1e-40),
        "impulse": impulse,
    }[kind].astype(np.float32)
    start, stop = sorted(min(cut, n) for cut in cuts)
    got = assess(channel, [(start, stop)])
    for measured in (got.overall, *got.windows):
        assert measured.tone in (None, "dtmf", "call_progress", "fax")
        assert 0.0 <= measured.speech_s <= measured.duration_s
        for share in (measured.clipped, measured.silence, measured.music):
            assert 0.0 <= share <= 1.0
        for number in (measured.level_dbfs, measured.bandwidth_hz, measured.snr_db or 0.0):
            assert math.isfinite(number)
        assert isinstance(gate(measured, whole=False).blocked, bool)


def test_misuse_is_told():
    with pytest.raises(ParameterError, match="'channel'"):
        assess(np.zeros((1, 100), np.float32))
    for span in ((-1, 10), (5, 4), (0, 101)):
        with pytest.raises(ParameterError, match="'spans'"):
            assess(np.zeros(100, np.float32), [span])


@pytest.mark.parametrize("telephone", [False, True])
def test_real_clips_pass_the_gate(corpus_rows, telephone):
    rates = {}
    for label in ("bonafide", "spoof"):
        rows = [r for r in corpus_rows if r["label"] == label and float(r["duration_s"]) >= 2.0]
        verdicts = []
        for row in rows[:: len(rows) // 60][:60]:
            clip = audio.read(row["path"]).samples[0]
            clip = g711_path(clip) if telephone else clip
            verdicts.append(gate(assess(clip).overall, whole=True))
        rates[label] = 1.0 - np.mean([verdict.blocked for verdict in verdicts])
    assert min(rates.values()) >= 0.9, f"share of clips that pass the gate: {rates}"


def test_the_package_names_what_the_detector_uses():
    for name in ("assess", "gate", "reasons", "blocking", "GatePolicy", "DEFAULT_POLICY"):
        assert name in quality.__all__
        assert getattr(quality, name) is not None
    assert Reason.TOO_SHORT in quality.ALWAYS_BLOCKING
