"""The channel does what its physics says, from one seed, and never looks at a label."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import ParameterError
from voiceguard.training import augment
from voiceguard.training.augment import ChannelConfig, ChannelSimulator

pytest.importorskip("av", reason="PyAV carries most of the codecs")

RATE = 16_000
OFF = ChannelConfig(
    room=0, noise=0, colour=0, clip=0, dither=0, narrowband=0, wide_codec=0, second_codec=0
)
ALL = ChannelConfig(
    room=1, noise=1, colour=1, clip=1, dither=1, narrowband=0.5, wide_codec=1, second_codec=0.5,
    resample=1, babble=1, suppress=1, compress=1,
)  # fmt: skip


def decibels(power_ratio):
    return 10 * np.log10(power_ratio)


def peak(x):
    return float(np.max(np.abs(x)))


# The simulator


@pytest.mark.parametrize("seed", range(8))
def test_same_seed_same_sound(seed, harmonic_voice, echoes):
    simulator = ChannelSimulator(ALL, echoes)
    first, second = (simulator(harmonic_voice, np.random.default_rng(seed)) for _ in range(2))
    other = simulator(harmonic_voice, np.random.default_rng(seed + 100))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", ["silence", "impulse", "constant", "square", "noise", "faint"])
@pytest.mark.parametrize("length", [1_600, 1_601, 4_801])
@pytest.mark.parametrize("config", [ChannelConfig(), ALL, replace(ALL, narrowband=1)])
def test_any_clip_comes_out_finite_and_whole(kind, length, config, echoes):
    rng = np.random.default_rng(length)
    x = {
        "silence": np.zeros(length),
        "impulse": np.eye(1, length, length // 2)[0],
        "constant": np.full(length, 0.3),
        "square": np.sign(np.sin(np.arange(length) / 9)),
        "noise": rng.standard_normal(length),
        "faint": 1e-7 * rng.standard_normal(length),
    }[kind].astype(np.float32)
    y = ChannelSimulator(config, echoes)(x, rng)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.all(np.isfinite(y))
    assert peak(y) <= 1.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), gain_db=st.floats(-40.0, 0.0))
def test_the_peak_is_the_drawn_one(seed, gain_db):
    x = np.sin(np.arange(2_000) / 5).astype(np.float32)
    simulator = ChannelSimulator(replace(ChannelConfig(), gain_db=(gain_db, gain_db)))
    y = simulator(x, np.random.default_rng(seed))
    assert peak(y) == pytest.approx(10 ** (gain_db / 20), rel=1e-4)


def test_drawn_peaks_fill_their_range(harmonic_voice):
    simulator = ChannelSimulator(replace(OFF, gain_db=(-30.0, -10.0)))
    rng = np.random.default_rng(0)
    levels = [20 * np.log10(peak(simulator(harmonic_voice, rng))) for _ in range(200)]
    assert -30.01 <= min(levels) < -28
    assert -12 < max(levels) <= -9.99
    assert np.mean(levels) == pytest.approx(-20, abs=2)


def test_with_everything_off_only_the_gain_is_left(harmonic_voice):
    y = ChannelSimulator(OFF)(harmonic_voice, np.random.default_rng(1))
    scale = peak(y) / peak(harmonic_voice)
    np.testing.assert_allclose(y, scale * harmonic_voice, atol=1e-6)


def test_without_rooms_there_is_no_room(harmonic_voice):
    y = ChannelSimulator(replace(OFF, room=1))(harmonic_voice, np.random.default_rng(1))
    np.testing.assert_allclose(y / peak(y), harmonic_voice / peak(harmonic_voice), atol=1e-6)


def test_the_input_is_left_alone(harmonic_voice, echoes):
    kept = harmonic_voice.copy()
    for seed in range(5):
        ChannelSimulator(ALL, echoes)(harmonic_voice, np.random.default_rng(seed))
    np.testing.assert_array_equal(harmonic_voice, kept)


def test_the_simulator_is_told_no_label():
    assert list(inspect.signature(ChannelSimulator.__call__).parameters) == ["self", "x", "rng"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_parts_come_as_often_as_asked(share, harmonic_voice, monkeypatch):
    calls = []
    monkeypatch.setattr(augment, "narrowband", lambda x, rng, second: calls.append(second) or x)
    simulator = ChannelSimulator(replace(OFF, narrowband=share, second_codec=0.25))
    rng = np.random.default_rng(2)
    for _ in range(400):
        simulator(harmonic_voice[:1_600], rng)
    assert len(calls) / 400 == pytest.approx(share, abs=0.08)
    if calls:
        assert np.mean(calls) == pytest.approx(0.25, abs=0.12)


@pytest.mark.parametrize(
    "name",
    [
        "room",
        "noise",
        "colour",
        "clip",
        "dither",
        "narrowband",
        "wide_codec",
        "second_codec",
        "resample",
        "babble",
        "suppress",
        "compress",
    ],
)
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(name, value):
    with pytest.raises(ParameterError, match=f"'{name}'"):
        ChannelConfig(**{name: value})


# The crop


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 40_000), length=st.integers(1, 40_000), seed=st.integers(0, 2**32))
def test_crop_is_a_stretch_of_the_clip_or_its_repetition(n, length, seed):
    x = np.arange(n, dtype=np.float32)
    y = augment.crop(x, length, np.random.default_rng(seed))
    assert y.shape == (length,)
    steps = np.diff(y)
    wraps = np.flatnonzero(steps != 1)
    trim = min(1_600, n // 8)
    if n - 2 * trim >= length:
        assert len(wraps) == 0
    if len(wraps):
        period = wraps[0] + 1
        assert n - 2 * trim <= period <= n
        np.testing.assert_array_equal(y, np.resize(y[:period], length))


def test_crop_reaches_every_part_but_trims_the_ends():
    x = np.arange(48_000, dtype=np.float32)
    rng = np.random.default_rng(0)
    starts = np.array([augment.crop(x, 16_000, rng)[0] for _ in range(500)])
    assert starts.min() < 2_000
    assert starts.max() > 30_000
    assert len(np.unique(starts)) > 400
    whole = np.array([augment.crop(x, 60_000, rng)[0] for _ in range(500)])
    assert 0 <= whole.min() < 50
    assert 1_500 < whole.max() <= 1_600


# Its parts


@settings(max_examples=60, deadline=None)
@given(
    snr_db=st.floats(-5.0, 45.0), seed=st.integers(0, 2**32), length=st.sampled_from([4_000, 4_001])
)
def test_noise_has_the_asked_level(snr_db, seed, length):
    x = np.sin(np.arange(length) / 7).astype(np.float32)
    noise = augment.add_noise(x, snr_db, np.random.default_rng(seed)).astype(np.float64) - x
    assert decibels(np.mean(x**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.1)


def test_noise_falls_between_white_and_brown():
    """Slopes of power from 500 Hz to 5 kHz: none rises, the steepest falls by about f^-2."""
    x = np.ones(32_000, np.float32)
    slopes = []
    for seed in range(40):
        noise = augment.add_noise(x, 0.0, np.random.default_rng(seed)) - x
        power = np.abs(np.fft.rfft(noise)) ** 2
        low, high = power[1_000:1_100].mean(), power[10_000:11_000].mean()
        slopes.append(np.log(high / low) / np.log(10_500 / 1_050))
    assert max(slopes) < 0.3
    assert -2.3 < min(slopes) < -1.4


def test_reverberation_is_convolution(harmonic_voice, echoes):
    impulse = np.zeros(4_000, np.float32)
    impulse[100] = 1.0
    wet = augment.reverberate(impulse, echoes[1])
    np.testing.assert_allclose(wet[100:2_100], echoes[1], atol=1e-6)
    np.testing.assert_allclose(wet[:100], 0.0, atol=1e-6)
    short = harmonic_voice[:500]
    direct = np.convolve(short, echoes[0])[:500]
    np.testing.assert_allclose(augment.reverberate(short, echoes[0]), direct, atol=1e-5)


def test_colour_turns_no_phase_and_is_smooth():
    impulse = np.zeros(4_096, np.float32)
    impulse[0] = 1.0
    for seed in range(20):
        response = np.fft.rfft(augment.colour(impulse, np.random.default_rng(seed)))
        assert np.max(np.abs(response.imag)) < 1e-5
        assert np.all(response.real > 0)
        gain_db = 20 * np.log10(response.real)
        assert np.max(np.abs(gain_db)) < 20
        assert np.max(np.abs(np.diff(gain_db))) < 1.0


def test_clip_cuts_at_its_share_of_the_peak(harmonic_voice):
    y = augment.clip(harmonic_voice, 0.4)
    limit = 0.4 * peak(harmonic_voice)
    assert peak(y) == pytest.approx(limit)
    below = np.abs(harmonic_voice) < limit
    np.testing.assert_array_equal(y[below], harmonic_voice[below])
    assert np.all(np.sign(y) == np.sign(harmonic_voice))


def test_dither_is_white_and_follows_the_peak(harmonic_voice):
    for scale in (1.0, 0.01):
        x = scale * harmonic_voice
        floor = augment.dither(x, -50.0, np.random.default_rng(4)) - x
        assert 20 * np.log10(np.std(floor) / peak(x)) == pytest.approx(-50.0, abs=0.2)
        power = np.abs(np.fft.rfft(floor)) ** 2
        assert abs(decibels(power[1:8_000].mean() / power[8_000:].mean())) < 0.3


@given(peak_dbfs=st.floats(-60.0, 0.0), scale=st.floats(1e-4, 1e4))
def test_to_peak_scales_to_the_level(peak_dbfs, scale):
    x = (scale * np.sin(np.arange(100))).astype(np.float32)
    y = augment.to_peak(x, peak_dbfs)
    assert peak(y) == pytest.approx(10 ** (peak_dbfs / 20), rel=1e-5)
    np.testing.assert_allclose(y / peak(y), x / peak(x), atol=1e-5)


def test_to_peak_leaves_silence_silent():
    assert not augment.to_peak(np.zeros(10, np.float32), -3.0).any()
    assert augment.to_peak(np.zeros(0, np.float32), -3.0).shape == (0,)


@pytest.mark.parametrize("seed", range(24))
def test_another_rate_moves_the_end_of_the_band_and_nothing_below(seed):
    rng = np.random.default_rng(seed)
    x = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    y = augment.resampled(x, rng)
    assert y.shape == x.shape and y.dtype == np.float32
    frequency = np.fft.rfftfreq(RATE, 1 / RATE)
    ratio = np.abs(np.fft.rfft(y)[1:]) / np.abs(np.fft.rfft(x)[1:])
    low, top = frequency[1:] < 3_000, frequency[1:] > 7_900
    assert np.median(ratio[low]) == pytest.approx(1.0, abs=0.06)
    assert np.median(ratio[top]) < 0.95, "every way through another rate has an edge"


def test_the_ends_of_the_band_are_many():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    top = np.fft.rfftfreq(RATE, 1 / RATE) > 7_000

    def power(x):
        return float(np.square(np.abs(np.fft.rfft(x)[top])).sum())

    found = [power(augment.resampled(noise, np.random.default_rng(seed))) for seed in range(40)]
    shares = np.array(found) / power(noise)
    assert shares.min() < 0.01 and 0.5 < shares.max() < 1.0
    assert len(np.unique(shares.round(4))) > 10


def test_no_draw_is_spent_where_nothing_is_resampled(harmonic_voice):
    """Passes that were drawn before resampling came are drawn as they were."""
    on, off = ChannelSimulator(replace(OFF, resample=1.0)), ChannelSimulator(OFF)
    spent = np.random.default_rng(5)
    plain = off(harmonic_voice, spent)
    again = ChannelSimulator(replace(OFF, resample=0.0))(harmonic_voice, np.random.default_rng(5))
    np.testing.assert_array_equal(plain, again)
    assert not np.allclose(on(harmonic_voice, np.random.default_rng(5)), plain)


@pytest.mark.parametrize("part", ["suppress", "compress"])
def test_no_draw_is_spent_where_nothing_is_cleaned(part, harmonic_voice):
    plain, off = (
        ChannelSimulator(config)(harmonic_voice, np.random.default_rng(5))
        for config in (OFF, replace(OFF, **{part: 0.0}))
    )
    np.testing.assert_array_equal(plain, off)
    on = ChannelSimulator(replace(OFF, **{part: 1.0}))
    assert not np.allclose(on(harmonic_voice, np.random.default_rng(5)), plain)


def test_noise_suppression_comes_behind_the_noise(harmonic_voice, monkeypatch):
    """A handset suppresses what its microphone heard, at whatever level that was."""
    heard = []
    monkeypatch.setattr(augment, "suppress_noise", lambda x, rng: heard.append(x) or x)
    config = replace(OFF, noise=1.0, suppress=1.0, snr_db=(10.0, 10.0))
    ChannelSimulator(config)(0.01 * harmonic_voice, np.random.default_rng(5))
    assert peak(heard[0]) == pytest.approx(10 ** (-1 / 20), rel=1e-4)
    scale = np.dot(heard[0], harmonic_voice) / np.dot(harmonic_voice, harmonic_voice)
    noise = heard[0] - scale * harmonic_voice
    assert decibels(np.sum(np.square(scale * harmonic_voice)) / np.sum(noise**2)) == pytest.approx(
        10.0, abs=0.5
    )


def test_no_draw_is_spent_where_nobody_talks_behind(harmonic_voice):
    quiet, asked = ChannelSimulator(OFF), ChannelSimulator(replace(OFF, babble=1.0))
    np.testing.assert_array_equal(
        quiet(harmonic_voice, np.random.default_rng(5)),
        asked(harmonic_voice, np.random.default_rng(5)),
        "babble without voices is none",
    )
    voices = ChannelSimulator(OFF, voices=lambda rng: pytest.fail("nobody was asked for"))
    np.testing.assert_array_equal(
        voices(harmonic_voice, np.random.default_rng(5)),
        quiet(harmonic_voice, np.random.default_rng(5)),
    )


@pytest.mark.parametrize("seed", range(6))
def test_others_talk_behind_at_the_drawn_ratio(seed):
    """The clip is a tone, each person another: all powers can be told apart."""
    t = np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * f * t).astype(np.float32) for f in range(1_000, 4_000, 500)]
    asked = []

    def voices(rng):
        asked.append(int(rng.integers(len(tones))))
        return 0.01 * (1 + asked[-1]) * tones[asked[-1]]

    config = replace(OFF, babble=1.0, snr_db=(12.0, 12.0))
    clip = 0.3 * np.sin(2 * np.pi * 300 * t).astype(np.float32)
    y = ChannelSimulator(config, voices=voices)(clip, np.random.default_rng(seed))
    assert 2 <= len(asked) <= 7
    spectrum = np.square(np.abs(np.fft.rfft(y * np.hanning(RATE))))

    def power(hz):
        return spectrum[hz - 5 : hz + 6].sum()

    behind = np.array([power(f) for f in range(1_000, 4_000, 500)])
    heard = np.flatnonzero(behind > 1e-6 * power(300))
    assert set(heard) == set(asked), "each at a power of one, however loud the recording"
    if len(set(asked)) == len(asked):
        assert decibels(power(300) / behind.sum()) == pytest.approx(12.0, abs=0.3)
        assert np.ptp(decibels(behind[heard])) < 0.5


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("length", [16_000, 16_001, 1_603])
def test_narrowband_empties_the_upper_half(seed, length):
    rng = np.random.default_rng(seed)
    x = (0.2 * rng.standard_normal(length)).astype(np.float32)
    y = augment.narrowband(x, rng, second=bool(seed % 2))
    assert y.shape == x.shape
    spectrum = np.abs(np.fft.rfft(y * np.hanning(length))) ** 2
    hz = np.fft.rfftfreq(length, 1 / RATE)
    assert decibels(spectrum[hz > 4_250].sum() / spectrum[hz < 4_000].sum()) < -40


def test_narrowband_keeps_the_voice(voice):
    """Whatever was drawn, some of the 400 Hz to 3 kHz band is the input's, delayed."""
    spectrum = np.fft.rfft(voice)
    hz = np.fft.rfftfreq(len(voice), 1 / RATE)
    spectrum[(hz < 400) | (hz > 3_000)] = 0
    x = np.fft.irfft(spectrum, len(voice))
    for seed in range(10):
        y = augment.narrowband(voice, np.random.default_rng(seed))
        cross = np.fft.irfft(np.fft.rfft(y, 2 * len(x)) * np.conj(np.fft.rfft(x, 2 * len(x))))
        kept = np.fft.rfft(y)
        kept[(hz < 400) | (hz > 3_000)] = 0
        y = np.fft.irfft(kept, len(x))
        assert cross[:1_200].max() / np.sqrt((x @ x) * (y @ y)) > 0.5
