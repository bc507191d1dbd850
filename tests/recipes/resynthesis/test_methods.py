"""Every method: in time with its human, changed, alike in envelope, and the same again."""

import sys

import numpy as np
import pytest

from voiceguard.errors import VoiceguardError

from .conftest import RATE, R, voice

# Log-spectral distance of a re-synthesis to the made-up voice in dB, at most.
FARTHEST_DB = {
    "world": 6.0, "griffinlim": 3.0, "mel": 5.0, "lpc": 7.0, "harmonic": 9.0, "phase": 5.0,
    "codewords": 8.0, "blend": 7.0, "partial": 8.0,
}  # fmt: skip
WITH_PITCH = {"world", "lpc", "harmonic", "blend", "partial"}


@pytest.fixture(params=sorted(FARTHEST_DB))
def name(request):
    if request.param in WITH_PITCH:
        pytest.importorskip("pyworld", reason="pyworld is absent: pip install pyworld")
    return request.param


def made(name, methods, x, seed):
    return R.package.resynthesise(x, name, np.random.default_rng(seed), methods)


class TestEveryMethod:
    def test_all_methods_of_the_recipe_are_tested(self):
        assert set(FARTHEST_DB) == set(R.script.NAMES)

    def test_it_is_changed_sound_in_time_with_its_human_and_like_it(self, name, methods):
        for seed in range(2):
            x = voice(seed)
            y = made(name, methods, x, [1, seed])
            assert y.method == name
            assert y.samples.shape == x.shape
            assert y.samples.dtype == np.float32
            assert np.all(np.isfinite(y.samples))
            assert R.measures.level_db(x, y.samples) == pytest.approx(0.0, abs=0.01)
            assert R.measures.likeness_db(x, y.samples) < R.package.MOST_LIKE_DB
            assert abs(R.measures.lag_ms(x, y.samples)) <= 5
            assert 0.3 < R.measures.spectral_distance_db(x, y.samples) < FARTHEST_DB[name]

    def test_the_same_generator_gives_the_same_and_another_one_does_not(self, name, methods):
        x = voice(3)
        first, again, other = (made(name, methods, x, seed).samples for seed in (5, 5, 6))
        np.testing.assert_array_equal(first, again)
        assert R.measures.level_db(x, first - other) > -30

    @pytest.mark.parametrize("n", [8000, 8191])
    def test_odd_lengths_come_back_as_they_are(self, name, methods, n):
        x = voice(1)[:n]
        # Nor is the human written into.
        x.setflags(write=False)
        assert len(made(name, methods, x, n).samples) == n


class TestWhatCannotBeDone:
    def test_an_unvoiced_clip_goes_to_the_fallback(self, methods):
        pytest.importorskip("pyworld")
        hiss = 0.1 * np.random.default_rng(2).standard_normal(RATE).astype(np.float32)
        for name in ("world", "harmonic"):
            assert made(name, methods, hiss, 1).method == R.package.FALLBACK
        with pytest.raises(R.package.UnsuitableClipError, match="voiced"):
            R.pitch.track_pitch(hiss)

    @pytest.mark.parametrize("level", [0.0, 1.9e-4])
    def test_silence_is_refused(self, methods, level):
        hum = level * np.sqrt(2) * np.sin(np.arange(RATE)).astype(np.float32)
        with pytest.raises(R.package.UnsuitableClipError, match="silent"):
            made("phase", methods, hum, 1)

    @pytest.mark.parametrize("bad", ["copy", "nan", "short", "silence"])
    def test_what_is_no_resynthesis_goes_to_the_fallback(self, methods, bad):
        x = voice(0, 0.6)
        outcome = {"copy": x, "nan": x * np.nan, "short": -x[1:], "silence": 0 * x}[bad]
        broken = {**methods, "bad": lambda x, rng: outcome}
        assert made("bad", broken, x, 1).method == R.package.FALLBACK

    def test_a_mixture_that_changes_nothing_gives_way_to_what_it_mixes(self, methods, monkeypatch):
        monkeypatch.setitem(R.package.MIXTURES, "blend", lambda x, y, rng: (x, "nothing"))
        only = {name: methods[name] for name in ("griffinlim", "phase")}
        assert made("blend", only, voice(0, 0.6), 1).method in only

    def test_pyworld_that_is_absent_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyworld", None)
        with pytest.raises(VoiceguardError, match="pip install pyworld"):
            R.package.METHODS["world"](voice(), np.random.default_rng(0))
