"""Length, chunking and physics of the resampler."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.audio.resample import StreamResampler, resample, resampled_length
from voiceguard.errors import ParameterError

RATES = st.sampled_from([4000, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000])


@given(n=st.integers(0, 10**12), source=st.integers(1, 10**6), target=st.integers(1, 10**6))
def test_length_is_the_nearest_whole_number(n, source, target):
    exact = Fraction(n * target, source)
    got = resampled_length(n, source_rate=source, target_rate=target)
    assert -Fraction(1, 2) < got - exact <= Fraction(1, 2)


@settings(deadline=None, max_examples=40)
@given(source=RATES, target=RATES, n=st.integers(0, 5000), channels=st.integers(1, 3))
def test_any_rates_give_the_stated_length(source, target, n, channels):
    noise = np.random.default_rng(n).uniform(-1, 1, (channels, n)).astype(np.float32)
    got = resample(noise, source_rate=source, target_rate=target)
    want = resampled_length(n, source_rate=source, target_rate=target)
    assert got.shape == (channels, want)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()


@settings(deadline=None, max_examples=40)
@given(
    source=RATES,
    target=RATES,
    cuts=st.lists(st.integers(0, 6000), max_size=8),
    channels=st.integers(1, 2),
)
def test_chunks_give_what_one_go_gives(source, target, cuts, channels):
    whole = np.random.default_rng(len(cuts)).uniform(-1, 1, (channels, 6000)).astype(np.float32)
    stream = StreamResampler(source_rate=source, target_rate=target, channels=channels)
    pieces = [stream.process(piece) for piece in np.split(whole, sorted(cuts), axis=1)]
    got = np.concatenate([*pieces, stream.flush()], axis=1)
    want = resample(whole, source_rate=source, target_rate=target)
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0.0) < 1e-5


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (8000, 16000), (44100, 16000)])
def test_a_tone_keeps_its_frequency_level_and_phase(source, target):
    def tone(rate: int) -> np.ndarray:
        return np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)

    got = resample(tone(source), source_rate=source, target_rate=target)
    middle = slice(target // 10, -target // 10)
    assert np.abs(got - tone(target))[middle].max() < 1e-3


def test_what_lies_above_the_new_band_is_gone():
    tone = np.sin(2 * np.pi * 10_000 * np.arange(48_000) / 48_000).astype(np.float32)
    got = resample(tone, source_rate=48_000, target_rate=16_000)[800:-800]
    # The HQ filter promises about 20 bits; -80 dB is asked.
    assert np.abs(got).max() < 1e-4


def test_channels_do_not_touch_each_other(rng):
    pair = np.stack((rng.uniform(-1, 1, 4000), np.zeros(4000))).astype(np.float32)
    got = resample(pair, source_rate=44_100, target_rate=16_000)
    assert not got[1].any()
    assert np.abs(got[0] - resample(pair[0], source_rate=44_100, target_rate=16_000)).max() < 1e-6


def test_equal_rates_give_a_copy(rng):
    sent = rng.uniform(-1, 1, 100).astype(np.float32)
    got = resample(sent, source_rate=16_000, target_rate=16_000)
    assert np.array_equal(got, sent)
    assert not np.shares_memory(got, sent)


def test_no_channels_give_no_channels():
    got = resample(np.zeros((0, 800), np.float32), source_rate=8000, target_rate=16_000)
    assert got.shape == (0, 1600)


def test_a_stream_of_nothing():
    for channels, shape in ((1, (0,)), (2, (2, 0))):
        stream = StreamResampler(source_rate=8000, target_rate=16_000, channels=channels)
        assert stream.flush().shape == shape


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "8000", None])
def test_rates_are_checked(bad):
    with pytest.raises(ParameterError, match="source_rate"):
        resample(np.zeros(10, np.float32), source_rate=bad, target_rate=16_000)
    with pytest.raises(ParameterError, match="target_rate"):
        StreamResampler(source_rate=8000, target_rate=bad)


def test_misuse_is_told():
    stream = StreamResampler(source_rate=8000, target_rate=16_000, channels=2)
    with pytest.raises(ParameterError, match=r"\(2, n\)"):
        stream.process(np.zeros(10, np.float32))
    with pytest.raises(ParameterError, match="shape"):
        stream.process(np.zeros((2, 2, 2), np.float32))
    stream.flush()
    with pytest.raises(ParameterError, match="has ended"):
        stream.process(np.zeros((2, 10), np.float32))
