"""Each trivial cue answers to what it is named for, and to nothing that breaks it."""

import numpy as np
import pytest

from voiceguard.training.corpus import Corpus


@pytest.fixture
def cues(scripts):
    return scripts["cues"]


@pytest.fixture
def value(cues):
    return lambda name, x: cues.cues(np.asarray(x, np.float32))[cues.CUES.index(name)]


@pytest.fixture
def sound():
    rng = np.random.default_rng(0)
    x = 0.1 * rng.standard_normal(16_000)
    x[:3_200] *= 1e-3
    x[-1_600:] *= 1e-3
    return x.astype(np.float32)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros(16_000),
        np.zeros(1),
        np.ones(320),
        np.full(5_000, -1.0),
        np.eye(1, 4_000)[0],
        1e-20 * np.ones(1_000),
        np.random.default_rng(0).standard_normal(319),
    ],
    ids=["silence", "one sample", "constant", "full scale", "impulse", "underflow", "short"],
)
def test_any_clip_gives_finite_cues(cues, x):
    found = cues.cues(x.astype(np.float32))
    assert found.shape == (len(cues.CUES),) == (13,)
    assert np.all(np.isfinite(found))


def test_level_and_peak_follow_the_gain_alone(cues, value, sound):
    shifted = {"level", "peak", "floor", "offset"}
    louder = cues.cues(2 * sound) - cues.cues(sound)
    for name, change in zip(cues.CUES, louder, strict=True):
        if name in ("level", "peak", "floor"):
            assert change == pytest.approx(20 * np.log10(2), abs=1e-3)
        elif name not in shifted:
            assert change == pytest.approx(0.0, abs=1e-3)
    assert value("level", np.full(1_000, 0.1)) == pytest.approx(-20.0, abs=1e-3)
    assert value("peak", sound / np.max(np.abs(sound))) == pytest.approx(0.0, abs=1e-5)


def test_ends_and_length_are_measured(value, sound):
    # 3,200 quiet samples are ten frames, 1,600 are five; the tail counts the last loud frame too.
    assert value("lead", sound) == 10
    assert value("tail", sound) == 6
    assert value("length", sound) == 16_000


def test_floor_and_range_see_the_quiet_frames(value, sound):
    assert value("range", sound) == pytest.approx(60.0, abs=1.5)
    assert value("floor", sound) == pytest.approx(-80.0, abs=1.5)


def test_zeros_clipping_and_offset_are_shares(value):
    x = np.sin(np.arange(8_000) / 3)
    x[:2_000] = 0
    assert value("zeros", x) == pytest.approx(0.25, abs=0.001)
    assert value("clipped", np.clip(3 * x, -1, 1)) > 0.5
    assert value("clipped", x) < 0.1
    assert value("offset", x + 0.1) == pytest.approx(0.1, abs=0.005)


def test_spectral_cues_see_a_telephone(value):
    wide = np.random.default_rng(1).standard_normal(32_000)
    spectrum = np.fft.rfft(wide)
    spectrum[8_000:] = 0
    narrow = np.fft.irfft(spectrum)
    # Bins are 50 Hz wide.
    assert value("rolloff", narrow) == pytest.approx(4_000 / 50, abs=2)
    assert value("rolloff", wide) > 155
    assert value("high_band", narrow) < -40 < -1 < value("high_band", wide)
    assert value("tilt", np.cumsum(wide)) > 10 > value("tilt", wide) > -10


def test_the_cue_model_finds_a_difference_in_level_and_scores_bona_fide_high(cues):
    rng = np.random.default_rng(2)
    labels = ["bonafide", "spoof"] * 30
    gains = np.array([6_000 if label == "bonafide" else 600 for label in labels])
    pcm = np.concatenate([gain * rng.standard_normal(1_000) for gain in gains]).clip(
        -32_767, 32_767
    )
    offsets = np.arange(61) * 1_000
    corpus = Corpus([{"label": label} for label in labels], pcm.astype(np.int16), offsets)
    tree = cues.fit_cue_model(corpus, np.arange(40))
    scores = tree.decision_function([cues.cues(corpus.clip(i)) for i in range(40, 60)])
    assert min(scores[::2]) > max(scores[1::2])
