"""Tempo, level, clipping and ends, by their physics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.training.perturb_wave import Clip, Gain, Level, Speed, TrimSilence

RATE = 16_000


def rng(seed=0):
    return np.random.default_rng(seed)


def tone(hz, seconds=1.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def loudest_hz(x):
    return np.argmax(np.abs(np.fft.rfft(x * np.hanning(len(x))))) * RATE / len(x)


def spoken(lead=4_800, trail=3_200, floor_db=-60.0):
    """Half a second of a tone between two stretches of a floor."""
    x = np.concatenate([np.zeros(lead), 0.5 * tone(300, 0.5), np.zeros(trail)])
    return (x + 10 ** (floor_db / 20) * rng(4).standard_normal(len(x))).astype(np.float32)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_changes_length_and_pitch_alike(factor):
    y = Speed((factor,))(tone(1_000), rng())
    assert len(y) == pytest.approx(RATE / factor, abs=2)
    assert loudest_hz(y) == pytest.approx(1_000 * factor, rel=0.005)
    assert np.sqrt(np.mean(y[500:-500] ** 2)) == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_speed_draws_all_its_factors():
    lengths = {len(Speed((0.5, 1.0, 2.0))(tone(100, 0.1), rng(seed))) for seed in range(20)}
    assert lengths == {3_200, 1_600, 800}


@settings(max_examples=30, deadline=None)
@given(db=st.floats(-60, 30), seed=st.integers(0, 99))
def test_gain_is_the_drawn_one(db, seed):
    y = Gain((db, db))(tone(50, 0.1), rng(seed))
    np.testing.assert_allclose(y, tone(50, 0.1) * 10 ** (db / 20), rtol=1e-5)


def test_levels_fill_their_range():
    peaks = [np.max(np.abs(Level((-20.0, -10.0))(tone(50, 0.1), rng(seed)))) for seed in range(99)]
    decibels = 20 * np.log10(peaks)
    assert -20.01 <= decibels.min() < -19 and -11 < decibels.max() <= -9.99


def test_clipping_flattens_the_peaks_alone():
    x = tone(50, 0.1)
    y = Clip((0.5, 0.5))(x, rng())
    assert np.max(np.abs(y)) == pytest.approx(0.5, rel=1e-3)
    np.testing.assert_array_equal(y[np.abs(x) < 0.49], x[np.abs(x) < 0.49])


@pytest.mark.parametrize(("ends", "length"), [("both", 8_000), ("leading", 11_200)])
def test_silence_at_the_ends_goes(ends, length):
    y = TrimSilence((40.0, 40.0), ends=ends)(spoken(), rng())
    assert len(y) == length
    np.testing.assert_array_equal(y[:8_000], spoken()[4_800:12_800])


def test_trailing_silence_alone_goes():
    y = TrimSilence((40.0, 40.0), ends="trailing")(spoken(), rng())
    np.testing.assert_array_equal(y, spoken()[:12_800])


def test_a_margin_of_the_silence_stays():
    y = TrimSilence((40.0, 40.0), margin_s=0.1)(spoken(), rng())
    np.testing.assert_array_equal(y, spoken()[3_200:14_400])


def test_a_margin_never_reaches_past_the_clip():
    y = TrimSilence((40.0, 40.0), margin_s=9.0)(spoken(), rng())
    np.testing.assert_array_equal(y, spoken())


def test_a_floor_above_the_threshold_stays():
    x = spoken(floor_db=-30.0)
    np.testing.assert_array_equal(TrimSilence((60.0, 60.0))(x, rng()), x)


def test_a_pause_within_speech_stays():
    x = np.concatenate([tone(300, 0.2), np.zeros(8_000, np.float32), tone(300, 0.2)])
    np.testing.assert_array_equal(TrimSilence()(x, rng()), x)


@settings(max_examples=50, deadline=None)
@given(
    length=st.integers(1, 2_000),
    threshold=st.floats(0.0, 120.0),
    seed=st.integers(0, 2**32),
    gate=st.booleans(),
)
def test_trimming_never_takes_everything_and_keeps_the_loudest(length, threshold, seed, gate):
    x = rng(seed).standard_normal(length).astype(np.float32)
    if gate:
        x[: length // 3] = 0.0
    y = TrimSilence((threshold, threshold))(x, rng())
    assert 1 <= len(y) <= length
    frames = [np.sum(x[i : i + 160].astype(float) ** 2) for i in range(0, length, 160)]
    loudest = x[160 * int(np.argmax(frames)) :][:160]
    places = np.lib.stride_tricks.sliding_window_view(y, len(loudest))
    assert np.any(np.all(places == loudest, axis=1))


def test_digital_silence_stays_whole():
    x = np.zeros(5_000, np.float32)
    np.testing.assert_array_equal(TrimSilence()(x, rng()), x)


@pytest.mark.parametrize("gain", [1e-3, 1.0, 30.0])
def test_trimming_does_not_hear_the_level(gain):
    assert len(TrimSilence()(spoken() * np.float32(gain), rng())) == 8_000
