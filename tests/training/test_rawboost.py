import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import ParameterError
from voiceguard.training.rawboost import (
    RawBoost,
    RawBoostConfig,
    coloured_noise,
    convolutive_noise,
    impulsive_noise,
)

RATE = 16_000


def generator(seed=0):
    return np.random.default_rng(seed)


def speechlike(samples=8000, seed=1, level=0.2):
    t = np.arange(samples) / RATE
    tones = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 10))
    noise = 0.1 * np.random.default_rng(seed).standard_normal(samples)
    return (level * (tones + noise) / 3).astype(np.float32)


def snr_db(clean, noisy):
    noise = noisy.astype(np.float64) - clean
    return 10 * np.log10(np.sum(clean.astype(np.float64) ** 2) / np.sum(noise**2))


def test_zero_is_the_identity_and_draws_nothing():
    rng = generator()
    x = speechlike()
    y = RawBoost(0)(x, rng)
    assert np.array_equal(y, x) and y is not x
    assert rng.random() == generator().random()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 8), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_same_seed_same_sound_same_length(algorithm, samples, seed):
    x = speechlike(samples, seed=seed)
    before = x.copy()
    y = RawBoost(algorithm)(x, generator(seed))
    assert y.dtype == np.float32 and y.shape == x.shape and np.isfinite(y).all()
    assert np.array_equal(y, RawBoost(algorithm)(x, generator(seed)))
    assert np.array_equal(x, before)


@pytest.mark.parametrize("algorithm", range(1, 9))
def test_another_seed_gives_another_sound(algorithm):
    x = speechlike()
    assert not np.array_equal(
        RawBoost(algorithm)(x, generator(0)), RawBoost(algorithm)(x, generator(1))
    )


@pytest.mark.parametrize("algorithm", range(9))
def test_silence_stays_silence(algorithm):
    assert not RawBoost(algorithm)(np.zeros(500, np.float32), generator()).any()


@pytest.mark.parametrize("algorithm", [1, 2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_peak_is_held_where_published(algorithm, seed):
    assert np.abs(RawBoost(algorithm)(speechlike(level=3.0), generator(seed))).max() <= 1.0


SERIES = {
    4: (convolutive_noise, impulsive_noise, coloured_noise),
    5: (convolutive_noise, impulsive_noise),
    6: (convolutive_noise, coloured_noise),
    7: (impulsive_noise, coloured_noise),
}


@pytest.mark.parametrize("algorithm", SERIES)
def test_series_is_one_after_the_other(algorithm):
    x, rng = speechlike(), generator(3)
    y = x
    for step in SERIES[algorithm]:
        y = step(y, rng)
    assert np.array_equal(RawBoost(algorithm)(x, generator(3)), y)


@pytest.mark.parametrize(("algorithm", "step"), [(1, convolutive_noise), (2, impulsive_noise)])
def test_single_algorithms_are_their_functions(algorithm, step):
    x = speechlike()
    assert np.array_equal(RawBoost(algorithm)(x, generator()), step(x, generator()))


@pytest.mark.parametrize("level", [0.1, 2.5])
def test_parallel_is_the_sum_scaled_only_beyond_full_scale(level):
    x, rng = speechlike(level=level), generator(4)
    total = convolutive_noise(x, rng).astype(np.float64) + impulsive_noise(x, rng)
    peak = np.abs(total).max()
    assert (peak > 1) == (level > 1)
    expected = total / peak if peak > 1 else total
    np.testing.assert_allclose(RawBoost(8)(x, generator(4)), expected, atol=1e-6)


# Algorithm 1


def narrow(**options):
    """One notch at 2 kHz, 1 kHz wide, the same in every draw."""
    return RawBoostConfig(
        bands=1, centre_hz=(2000.0, 2000.0), width_hz=(1000.0, 1000.0), taps=(199, 199), **options
    )


def impulse_response(config, samples=4096, seed=0):
    x = np.zeros(samples, np.float32)
    x[samples // 2] = 0.5
    return convolutive_noise(x, generator(seed), config=config) / 0.5


def test_notch_lies_where_it_was_drawn():
    response = np.abs(np.fft.rfft(impulse_response(narrow(orders=1))))
    hz = np.fft.rfftfreq(4096, 1 / RATE)
    gain_db = 20 * np.log10(response + 1e-9)
    assert gain_db[np.abs(hz - 2000) < 200].max() < -30
    assert np.abs(gain_db[(np.abs(hz - 2000) > 900) & (hz > 100)]).max() < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_largest_gain_is_the_drawn_one(seed):
    config = RawBoostConfig(orders=1, gain_db=(-6.0, -6.0))
    # Taking the mean off clears the bin at 0 Hz and no other.
    response = np.abs(np.fft.rfft(impulse_response(config, seed=seed)))
    assert 20 * np.log10(response.max()) == pytest.approx(-6.0, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_filter_does_not_delay(seed):
    response = impulse_response(RawBoostConfig(orders=1), seed=seed).astype(np.float64)
    around = response[1:] - response.mean()
    np.testing.assert_allclose(around, around[::-1], atol=1e-5)


def test_first_power_alone_is_linear():
    config = RawBoostConfig(orders=1)
    x = speechlike(level=0.1)
    one = convolutive_noise(x, generator(), config=config)
    np.testing.assert_allclose(
        convolutive_noise(3 * x, generator(), config=config), 3 * one, atol=1e-6
    )


def harmonics_db(orders, *, bias_db=(5.0, 5.0)):
    """Level of the first five harmonics of 400 Hz, relative to the first."""
    x = (0.9 * np.cos(2 * np.pi * 400 * np.arange(RATE) / RATE)).astype(np.float32)
    y = convolutive_noise(x, generator(), config=narrow(orders=orders, bias_db=bias_db))
    level = np.abs(np.fft.rfft(y[2000:-2000] * np.hanning(RATE - 4000)))
    bins = [round(400 * k * (RATE - 4000) / RATE) for k in range(1, 6)]
    return 20 * np.log10(level[bins] / level[bins[0]] + 1e-9)


def test_powers_bring_harmonics_up_to_their_order():
    assert harmonics_db(1)[1:].max() < -80
    third = harmonics_db(3)
    assert third[1:3].min() > -40
    assert third[3:].max() < -80


def test_bias_weakens_the_powers():
    x = speechlike()
    linear = convolutive_noise(x, generator(), config=RawBoostConfig(orders=1))
    faint = convolutive_noise(x, generator(), config=RawBoostConfig(bias_db=(200.0, 200.0)))
    np.testing.assert_allclose(faint, linear, atol=1e-6)
    assert harmonics_db(2, bias_db=(25.0, 25.0))[1] == pytest.approx(
        harmonics_db(2, bias_db=(5.0, 5.0))[1] - 20.0, abs=0.5
    )


def test_mean_is_taken_off():
    assert abs(convolutive_noise(speechlike() + np.float32(0.2), generator()).mean()) < 1e-6


# Algorithm 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 100), st.floats(0, 4))
def test_impulses_are_few_and_bounded(seed, percent, gain):
    x = speechlike(1000, level=0.05)
    config = RawBoostConfig(impulsive_percent=percent, impulsive_gain=gain)
    change = np.abs(impulsive_noise(x, generator(seed), config=config) - x)
    assert np.count_nonzero(change) <= len(x) * percent / 100
    assert (change <= gain * np.abs(x) + 1e-6).all()


def test_share_of_impulses_is_uniform_up_to_its_limit():
    x = speechlike(2000, level=0.1)
    shares = [np.mean(impulsive_noise(x, generator(seed)) != x) for seed in range(300)]
    # Uniform over 0 to 10 %: mean 5 % with a standard error of 0.17 %.
    assert np.mean(shares) == pytest.approx(0.05, abs=0.007)
    assert max(shares) == pytest.approx(0.1, abs=0.005)


# Algorithm 3


@pytest.mark.parametrize("wanted", [10.0, 25.0, 40.0])
def test_snr_is_the_drawn_one(wanted):
    x = speechlike()
    config = RawBoostConfig(snr_db=(wanted, wanted))
    assert snr_db(x, coloured_noise(x, generator(), config=config)) == pytest.approx(
        wanted, abs=0.01
    )


def test_snr_fills_the_published_range():
    x = speechlike(2000)
    drawn = [snr_db(x, coloured_noise(x, generator(seed))) for seed in range(60)]
    assert min(drawn) >= 10 - 0.01 and max(drawn) <= 40 + 0.01
    # Uniform over 30 dB: mean 25 with a standard error of 1.1.
    assert np.mean(drawn) == pytest.approx(25.0, abs=4.0)
    assert max(drawn) - min(drawn) > 25


def test_noise_has_the_colour_of_its_filter_and_not_of_the_signal():
    x = speechlike(32000)
    noise = coloured_noise(x, generator(), config=narrow(snr_db=(10.0, 10.0))) - x
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / RATE)
    inside = power[np.abs(hz - 2000) < 200].mean()
    outside = power[(hz > 4000) & (hz < 7000)].mean()
    assert inside < outside / 1000
    assert abs(np.corrcoef(noise, x)[0, 1]) < 0.05


# Refusals


@pytest.mark.parametrize("algorithm", [-1, 9, "5", None, True, 1.0])
def test_unknown_algorithm_is_refused(algorithm):
    with pytest.raises(ParameterError, match="0 to 8"):
        RawBoost(algorithm)


@pytest.mark.parametrize("algorithm", range(9))
@pytest.mark.parametrize(
    "x", [np.zeros((2, 9), np.float32), np.zeros(0, np.float32), np.zeros(9, np.int16), [0.1]]
)
def test_what_is_no_waveform_is_refused(algorithm, x):
    with pytest.raises(ParameterError, match="'x'"):
        RawBoost(algorithm)(x, generator())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orders", 0),
        ("bands", 0),
        ("centre_hz", (0.0, 100.0)),
        ("centre_hz", (20.0, 9000.0)),
        ("width_hz", (1000.0, 100.0)),
        ("taps", (100, 10)),
        ("gain_db", (1.0, 0.0)),
        ("snr_db", (40.0, 10.0)),
        ("impulsive_percent", 101.0),
        ("impulsive_gain", -1.0),
    ],
)
def test_config_out_of_range_is_refused(name, value):
    with pytest.raises(ParameterError, match=f"'{name}'"):
        RawBoostConfig(**{name: value})
