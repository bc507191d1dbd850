"""Mixing with the human, and how far from him a re-synthesis is found to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import RATE, R, voice


class TestMixing:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(4000, 6 * RATE), st.integers(0, 2**31))
    def test_passages_are_in_order_and_no_long_stretch_stays_human(self, length, seed):
        spans = R.mixing.passages(length, np.random.default_rng(seed))
        edges = [0, *(edge for span in spans for edge in span), length]
        assert edges == sorted(edges)
        assert all(RATE // 4 <= stop - start <= 2 * RATE for start, stop in spans)
        human = [b - a for a, b in zip(edges[::2], edges[1::2], strict=True)]
        assert max(human) <= R.mixing.MAX_HUMAN_S * RATE
        assert spans

    def test_outside_its_passages_a_clip_is_human_to_the_bit(self):
        x, y = voice(0, 4.0), voice(1, 4.0)
        z, words = R.mixing.replace_passages(x, y, np.random.default_rng(3))
        outside = np.ones(len(x), dtype=bool)
        for passage in words.split()[1:-1]:
            start, stop = (float(edge) for edge in passage.split("-"))
            outside[int((start - 0.01) * RATE) : int((stop + 0.01) * RATE)] = False
            inner = slice(int((start + 0.05) * RATE), int((stop - 0.05) * RATE))
            assert R.measures.likeness_db(y[inner], R.mixing.matched(z[inner], y[inner])) > 40
        assert outside.any()
        np.testing.assert_array_equal(z[outside], x[outside])

    def test_a_band_is_replaced_and_the_rest_is_human(self):
        x, y = (np.random.default_rng(k).standard_normal(RATE).astype(np.float32) for k in (1, 2))
        seen = 0
        for seed in range(30):
            z, words = R.mixing.blend(x, y, np.random.default_rng(seed))
            if not words.endswith("Hz"):
                continue
            low, high = (float(edge) for edge in words.removesuffix(" Hz").split("-"))
            # The telephone band holds at least 1 kHz of it.
            assert min(high, 3400) - max(low, 300) >= 1000
            spectra = [np.fft.rfft(v * np.hanning(RATE)) for v in (x, z, R.mixing.matched(y, x))]
            inside = slice(int(low + 300), int(high - 300))
            outside = np.r_[: max(int(low) - 300, 0), min(int(high) + 300, 8000) : 8000]
            human, mixed, synthetic = spectra
            assert np.linalg.norm((mixed - synthetic)[inside]) < 0.1 * np.linalg.norm(
                synthetic[inside]
            )
            assert np.linalg.norm((mixed - human)[outside]) <= 0.1 * np.linalg.norm(human[outside])
            seen += 1
        assert seen >= 5


class TestMeasures:
    @pytest.mark.parametrize(("level_db", "silent"), [(-75.0, True), (-73.0, False)])
    def test_silence_ends_at_74_decibels_below_full_scale(self, level_db, silent):
        x = np.full(RATE, 10 ** (level_db / 20), dtype=np.float32)
        assert R.measures.is_silent(x) is silent
        assert R.measures.is_silent(-x) is silent

    def test_nothing_done_is_no_distance(self):
        x = voice()
        assert R.measures.spectral_distance_db(x, x) == 0
        assert R.measures.lag_ms(x, x) == 0
        assert R.measures.floor_db(x, x) == 0

    @pytest.mark.parametrize("gain_db", [-6.0, 3.0])
    def test_a_gain_is_read_in_decibels(self, gain_db):
        x = voice()
        y = x * np.float32(10 ** (gain_db / 20))
        assert R.measures.level_db(x, y) == pytest.approx(gain_db, abs=1e-3)
        assert R.measures.spectral_distance_db(x, y) == pytest.approx(abs(gain_db), rel=0.15)

    @pytest.mark.parametrize("shift", [-12, -3, 4, 20])
    def test_a_shift_is_found(self, shift):
        x = voice()
        assert R.measures.lag_ms(x, np.roll(x, shift * RATE // 1000)) == shift

    def test_likeness_is_the_ratio_to_the_difference(self):
        rng = np.random.default_rng(0)
        x, noise = rng.standard_normal((2, RATE))
        assert R.measures.likeness_db(x, x + 0.1 * noise) == pytest.approx(20, abs=0.3)
