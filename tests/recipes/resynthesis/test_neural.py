"""Copies by neural vocoders: in time, varied, refused where they must be.

The programs are not part of a test machine: a stand-in that delays its input takes FARGAN's place,
and the real ones are met where ``FARGAN_DEMO`` and ``LPCNET_LIBRARY`` say where they are.
"""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import RATE, R, voice

# Features carry the samples of their frame: 160 of 16 bits in 36 floats cannot, so that the
# stand-in keeps the sound beside them, and leaves out 50 ms as the program does, late by 15.
STAND_IN = """#!{python}
import sys
import numpy as np
mode, source, target = sys.argv[1:]
if mode == "-features":
    sound = np.fromfile(source, "i2")
    sound.tofile(target + ".sound")
    np.zeros((len(sound) // 160, 36), "f4").tofile(target)
else:
    sound = np.fromfile(source + ".sound", "i2")
    np.pad(sound, (240, 0))[800 : len(sound)].tofile(target)
"""


@pytest.fixture
def program(tmp_path):
    def written(text):
        path = tmp_path / "vocoder"
        path.write_text(text.format(python=sys.executable))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return written


class TestFARGANVocoder:
    def test_the_copy_is_in_time_with_the_clip_to_a_sample(self, program):
        x = voice(0)
        y = R.neural.FARGANVocoder(program(STAND_IN))(x, np.random.default_rng(0))
        assert y.shape == x.shape
        assert y.dtype == np.float32
        scale = R.neural._PEAK / np.abs(x).max()
        np.testing.assert_allclose(y, x * scale, atol=2 / 32768)

    def test_a_program_that_fails_is_quoted(self, program):
        broken = program("#!{python}\nimport sys\nsys.exit('no weights here')\n")
        with pytest.raises(R.package.UnsuitableClipError, match="gave 1: no weights here"):
            R.neural.FARGANVocoder(broken)(voice(), np.random.default_rng(0))

    def test_one_that_hangs_is_stopped(self, program, monkeypatch):
        monkeypatch.setattr(R.neural, "_TIMEOUT_S", 0.3)
        slow = program("#!{python}\nimport time\ntime.sleep(20)\n")
        with pytest.raises(R.package.UnsuitableClipError, match=r"took more than 0\.3 s"):
            R.neural.FARGANVocoder(slow)(voice(), np.random.default_rng(0))

    def test_the_script_gives_such_a_clip_to_the_fallback(self, program, methods):
        broken = R.neural.FARGANVocoder(program("#!{python}\nraise SystemExit(1)\n"))
        more = {**methods, "fargan": broken}
        made = R.package.resynthesise(voice(), "fargan", np.random.default_rng(0), more)
        assert made.method == R.package.FALLBACK

    @pytest.mark.parametrize("n", [0, 2000])
    def test_what_cannot_be_mirrored_is_refused(self, program, n):
        with pytest.raises(R.package.UnsuitableClipError, match="short"):
            R.neural.FARGANVocoder(program(STAND_IN))(voice()[:n] if n else 0 * voice(), None)


class TestDrawnFeatures:
    heard = np.random.default_rng(1).standard_normal((50, 36)).astype(np.float32)

    def test_every_kind_is_drawn_and_only_what_it_names_is_changed(self):
        kinds = set()
        for seed in range(60):
            given = R.neural.drawn_features(self.heard, np.random.default_rng(seed))
            assert np.all(given[:, 19:] == self.heard[:, 19:])
            cepstrum = bool(np.any(given[:, :18] != self.heard[:, :18]))
            pitch = bool(np.any(given[:, 18] != self.heard[:, 18]))
            kinds.add((cepstrum, pitch))
        assert kinds == {(False, False), (True, False), (True, True), (False, True)}

    def test_another_pitch_is_two_to_five_semitones_away_throughout(self):
        steps = []
        for seed in range(60):
            given = R.neural.drawn_features(self.heard, np.random.default_rng(seed))
            if np.all(given[:, :18] == self.heard[:, :18]):
                steps.append(12 * (given[:, 18] - self.heard[:, 18]))
        moved = [step for step in steps if np.any(step)]
        assert all(np.ptp(step) < 1e-3 and 1.99 < abs(step[0]) < 5.01 for step in moved)
        assert {np.sign(step[0]) for step in moved} == {-1, 1}


def real(name, kind):
    path = os.environ.get(name)
    if not path:
        pytest.skip(f"{name} names no file: see recipes/open_voices/README.md")
    return kind(Path(path))


@pytest.mark.parametrize("name", ["FARGAN_DEMO", "LPCNET_LIBRARY"])
class TestRealVocoders:
    def test_a_copy_is_in_time_like_its_human_and_changed(self, name):
        kind = {"FARGAN_DEMO": "FARGANVocoder", "LPCNET_LIBRARY": "LPCNetVocoder"}[name]
        vocoder = real(name, getattr(R.neural, kind))
        x = voice(0, 2.0)
        made = R.package.resynthesise(x, "it", np.random.default_rng(0), {"it": vocoder})
        assert made.method == "it"
        assert abs(R.measures.lag_ms(x, made.samples)) <= 10
        assert 0.3 < R.measures.spectral_distance_db(x, made.samples) < 14
        assert len(made.samples) == len(x) > RATE
