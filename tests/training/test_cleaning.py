"""What suppresses noise takes noise and leaves voices, in time; what gates turns pauses down."""

import sys

import numpy as np
import pytest

from voiceguard.errors import MissingExtraError
from voiceguard.training import cleaning

pytest.importorskip("webrtc_noise_gain", reason="WebRTC's suppressor")

RATE = 16_000
WIENER = {"subtraction": 2.0, "floor_db": -20.0, "smoothing_s": 0.05, "quantile": 0.2}


def decibels(x, reference=1.0):
    return 10 * np.log10((np.mean(np.square(x)) + 1e-20) / (np.mean(np.square(reference)) + 1e-20))


@pytest.fixture
def words():
    """Four seconds of a voice with harmonics, 0.25 s on and 0.25 s off, [shape=(64000,)]."""
    t = np.arange(4 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 150 * k * t + k) / k for k in range(1, 20))
    return (0.1 * voice * (np.floor(4 * t) % 2)).astype(np.float32)


@pytest.fixture
def hiss():
    return (0.005 * np.random.default_rng(3).standard_normal(4 * RATE)).astype(np.float32)


@pytest.fixture
def on():
    """Samples well inside words, after the first second."""
    phase = (np.arange(4 * RATE) / RATE * 4) % 2
    return (phase > 1.3) & (phase < 1.8) & (np.arange(4 * RATE) > RATE)


@pytest.fixture
def off():
    """Samples well inside pauses, after the first second."""
    phase = (np.arange(4 * RATE) / RATE * 4) % 2
    return (phase > 0.6) & (phase < 0.9) & (np.arange(4 * RATE) > RATE)


def suppressors():
    return {
        **{f"webrtc {level}": lambda x, k=level: cleaning.webrtc(x, level=k) for level in (1, 4)},
        "wiener": lambda x: cleaning.wiener(x, **WIENER),
    }


@pytest.mark.parametrize("name", suppressors())
def test_the_floor_between_words_sinks_and_words_stay(name, words, hiss, on, off):
    noisy = words + hiss
    y = suppressors()[name](noisy)
    assert y.shape == noisy.shape and y.dtype == np.float32
    assert decibels(y[off], noisy[off]) < -4.0
    assert decibels(y[on], words[on]) == pytest.approx(0.0, abs=2.0)


def test_webrtc_takes_more_at_a_higher_level(hiss):
    left = [decibels(cleaning.webrtc(hiss, level=level)[RATE:], hiss[RATE:]) for level in (1, 2, 3)]
    assert left[0] > left[1] + 3.0 > left[2] + 6.0


@pytest.mark.parametrize("name", suppressors())
def test_what_comes_out_is_in_time(name, words):
    """The lag of the highest correlation of envelopes, which a filter's phase does not move."""
    y = suppressors()[name](words)
    envelopes = [np.convolve(np.abs(x), np.ones(400) / 400, "same") for x in (words, y)]
    a, b = (e[RATE:] - e[RATE:].mean() for e in envelopes)
    lags = range(-200, 201, 8)
    agreement = [np.dot(a, np.roll(b, -lag)) for lag in lags]
    assert abs(lags[int(np.argmax(agreement))]) <= 40


@pytest.mark.parametrize("floor_db", [-10.0, -30.0])
def test_noise_alone_is_left_at_the_floor(floor_db, hiss):
    """Where no frame has more power than the noise taken off, each has the least gain."""
    y = cleaning.wiener(hiss, subtraction=50.0, floor_db=floor_db, smoothing_s=0.1, quantile=0.3)
    assert decibels(y, hiss) == pytest.approx(floor_db, abs=0.5)


def test_nothing_to_take_off_is_the_clip_itself(words):
    """No noise in the quietest frames: every gain is one where there is sound."""
    y = cleaning.wiener(words, **{**WIENER, "smoothing_s": 0.01})
    np.testing.assert_allclose(y, words, atol=2e-3)


@pytest.mark.parametrize("n", [1, 100, 512, 1_601, 64_160])
@pytest.mark.parametrize("name", [*suppressors(), "compress", "gate"])
def test_any_length_comes_back_whole(name, n):
    rng = np.random.default_rng(n)
    x = (0.1 * rng.standard_normal(n)).astype(np.float32)
    kept = x.copy()
    for clip in (x, np.zeros_like(x)):
        if name in ("compress", "gate"):
            y = getattr(cleaning, name)(clip, rng)
        else:
            y = suppressors()[name](clip)
        assert y.shape == (n,) and y.dtype == np.float32 and np.all(np.isfinite(y))
    assert not np.any(np.abs(y) > 1e-4), "silence stays silence"
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("seed", range(8))
def test_same_seed_same_sound(seed, words, hiss):
    for change in (cleaning.suppress_noise, cleaning.compress, cleaning.gate):
        first, again = (change(words + hiss, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("seed", range(8))
def test_a_compressor_brings_loud_and_soft_together(seed):
    """A tone at full and at a tenth of its level: their distance shrinks, and neither grows."""
    t = np.arange(10 * RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * t).astype(np.float32)
    x = tone * np.where(t < 1.5, 0.5, 0.05).astype(np.float32)
    y = cleaning.compress(x, np.random.default_rng(seed))
    loud, soft = slice(RATE, 3 * RATE // 2), slice(9 * RATE, None)
    before = decibels(x[loud], x[soft])
    after = decibels(y[loud], y[soft])
    assert before == pytest.approx(20.0, abs=0.1)
    assert after < before - 1.0
    assert np.all(np.abs(y) <= np.abs(x) + 1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_a_gate_turns_pauses_down_more_than_words(seed, words, on, off):
    """A floor 50 dB below the words sinks, by 60 dB at most; nothing grows.

    A high threshold cuts into the words too.
    """
    floor = np.random.default_rng(9).standard_normal(len(words)).astype(np.float32)
    x = words + np.float32(np.std(words[on]) * 10 ** (-50 / 20)) * floor
    y = cleaning.gate(x, np.random.default_rng(seed))
    pause, word = decibels(y[off], x[off]), decibels(y[on], x[on])
    assert -62.0 < pause < word - 1.0
    assert np.all(np.abs(y) <= np.abs(x) + 1e-7)


def test_without_the_package_it_is_named(monkeypatch, words):
    monkeypatch.setitem(sys.modules, "webrtc_noise_gain", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        cleaning.webrtc(words, level=2)
