"""Pipelines from YAML: pure functions of clip and generator, and every mistake is named."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import ParameterError
from voiceguard.training.perturb import OneOf, Pipeline, Step, build_pipeline, perturbations
from voiceguard.training.rawboost import RawBoost

pytest.importorskip("av", reason="PyAV carries most of the codecs")

EVERYTHING = [
    {"name": "trim_silence", "threshold_db": [20, 40]},
    {"name": "speed", "factors": [0.8, 1.25]},
    {"name": "rawboost", "probability": 0.8, "algorithm": 4, "snr_db": [10, 30]},
    {"name": "band_limit"},
    {
        "name": "one_of",
        "weights": [1, 1, 2],
        "choices": [
            {"name": "codec", "codecs": ["alaw", ["gsm", "ulaw"], "opus"]},
            {"name": "telephone"},
            {"name": "sequence", "steps": [{"name": "clip"}, {"name": "gain", "db": 3}]},
        ],
    },
    {"name": "noise", "snr_db": 20},
    {"name": "level"},
]
CHEAP = ("rawboost", "band_limit", "clip", "gain", "level", "noise", "speed", "trim_silence")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(4))
def test_same_seed_same_sound(seed, harmonic_voice):
    before = harmonic_voice.copy()
    pipeline = build_pipeline(EVERYTHING)
    first, second = (pipeline(harmonic_voice, rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(harmonic_voice, before)
    assert first.dtype == np.float32
    assert not np.array_equal(first[:2000], pipeline(harmonic_voice, rng(seed + 50))[:2000])


def test_a_worker_that_gets_a_copy_hears_the_same(harmonic_voice):
    pipeline = build_pipeline(EVERYTHING)
    copy = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(pipeline(harmonic_voice, rng()), copy(harmonic_voice, rng()))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(CHEAP),
    length=st.integers(1, 3_000),
    kind=st.sampled_from(["silence", "noise", "faint", "impulse", "constant"]),
)
def test_any_length_comes_out_finite_and_not_empty(name, length, kind):
    x = {
        "silence": np.zeros(length),
        "noise": rng(length).standard_normal(length),
        "faint": 1e-9 * rng(length).standard_normal(length),
        "impulse": np.eye(1, length, length // 2)[0],
        "constant": np.full(length, 0.5),
    }[kind].astype(np.float32)
    y = build_pipeline([{"name": name}])(x, rng(1))
    assert y.ndim == 1 and len(y) >= 1
    assert y.dtype == np.float32
    assert np.all(np.isfinite(y))


@pytest.mark.parametrize("name", ["codec", "telephone"])
@pytest.mark.parametrize("length", [1, 2, 7, 161, 1_000])
def test_codecs_take_any_length_and_keep_it(name, length):
    pipeline = build_pipeline([{"name": name}])
    for seed, x in enumerate((np.zeros(length), rng(3).standard_normal(length))):
        y = pipeline(x.astype(np.float32), rng(seed))
        assert y.shape == (length,)
        assert np.all(np.isfinite(y))


def test_an_empty_clip_stays_empty():
    assert build_pipeline(EVERYTHING)(np.zeros(0, np.float32), rng()).shape == (0,)


def test_without_steps_a_copy_comes_back(harmonic_voice):
    y = build_pipeline([])(harmonic_voice, rng())
    np.testing.assert_array_equal(y, harmonic_voice)
    assert not np.shares_memory(y, harmonic_voice)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_a_step_happens_as_often_as_it_says(probability, share):
    pipeline = build_pipeline([{"name": "gain", "db": 6, "probability": probability}])
    x, generator = np.ones(1, np.float32), rng()
    louder = np.mean([pipeline(x, generator)[0] > 1.5 for _ in range(2_000)])
    assert louder == pytest.approx(share, abs=0.04 if 0 < share < 1 else 0)


def test_weights_say_how_often_a_choice_is_taken():
    pipeline = build_pipeline(
        [
            {
                "name": "one_of",
                "weights": [3, 1, 0],
                "choices": [{"name": "gain", "db": db} for db in (0, 20, 40)],
            }
        ]
    )
    generator = rng()
    heard = [round(float(pipeline(np.ones(1, np.float32), generator)[0])) for _ in range(2_000)]
    assert set(heard) == {1, 10}
    assert np.mean(np.array(heard) == 1) == pytest.approx(0.75, abs=0.04)


def test_choices_keep_their_own_probability():
    pipeline = build_pipeline(
        [{"name": "one_of", "choices": [{"name": "gain", "db": 20, "probability": 0.0}]}]
    )
    assert pipeline(np.ones(1, np.float32), rng())[0] == 1.0


def test_rawboost_is_the_existing_one(harmonic_voice):
    generator = rng(7)
    generator.random()
    expected = RawBoost(5)(harmonic_voice, generator)
    y = build_pipeline([{"name": "rawboost", "algorithm": 5}])(harmonic_voice, rng(7))
    np.testing.assert_array_equal(y, expected)


def test_whether_a_step_happens_does_not_shift_what_follows(harmonic_voice):
    def heard(probability):
        first = {"name": "sequence", "steps": [], "probability": probability}
        return build_pipeline([first, {"name": "noise"}])(harmonic_voice, rng(2))

    np.testing.assert_array_equal(heard(0.0), heard(1.0))
    assert not np.array_equal(heard(0.0), harmonic_voice)


def test_every_name_says_its_options():
    known = perturbations()
    assert set(known) == {
        *("rawboost", "codec", "noise", "room", "speed", "band_limit", "gain", "level"),
        *("trim_silence", "telephone", "clip", "one_of", "sequence"),
    }
    assert known["trim_silence"] == ("threshold_db", "margin_s", "ends")
    assert "snr_db" in known["rawboost"] and "sample_rate" not in known["rawboost"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "reverb"}, "one of .*'room'.*Got 'reverb'"),
        ({"probability": 0.5}, "Got None"),
        ("noise", "Got 'noise'"),
        ({"name": "noise", "snr": 3}, r"\['files', 'snr_db', 'source', 'talkers'\]. Got snr "),
        ({"name": "noise", "probability": 1.5}, "'probability' parameter of noise"),
        ({"name": "noise", "probability": True}, "'probability'"),
        ({"name": "noise", "probability": float("nan")}, "'probability'"),
        ({"name": "noise", "snr_db": [30, 10]}, "'snr_db' parameter of noise .*ascending"),
        ({"name": "noise", "snr_db": "loud"}, "'snr_db'"),
        ({"name": "noise", "snr_db": [1, 2, 3]}, "'snr_db'"),
        ({"name": "noise", "source": "traffic"}, "one of .*babble"),
        ({"name": "noise", "source": "files"}, "'files'"),
        ({"name": "noise", "files": ["a.wav"]}, "'files' .*left out"),
        ({"name": "noise", "source": "babble", "files": "no/such/folder"}, "no/such/folder"),
        ({"name": "noise", "source": "babble", "files": ["a"], "talkers": [1.5, 2]}, "'talkers'"),
        ({"name": "rawboost", "algorithm": 9}, "0 to 8"),
        ({"name": "rawboost", "algorithm": 5, "sample_rate": 8000}, "sample_rate"),
        ({"name": "rawboost", "snr_db": "a"}, "rawboost does not take"),
        ({"name": "rawboost", "taps": [100, 10]}, "'taps'"),
        ({"name": "codec", "codecs": ["ulaw", ["gsm", "evs"]]}, "'codecs' .*'amr_nb'"),
        ({"name": "codec", "codecs": []}, "'codecs'"),
        ({"name": "codec", "codecs": "ulaw"}, "'codecs'"),
        ({"name": "speed", "factors": [0]}, "'factors'"),
        ({"name": "speed", "factors": 1.1}, "'factors'"),
        ({"name": "band_limit", "low_hz": 4000}, "'low_hz' .*below high_hz"),
        ({"name": "band_limit", "high_hz": 9000}, "'high_hz'"),
        ({"name": "gain", "db": float("inf")}, "'db'"),
        ({"name": "level", "peak_dbfs": 3}, "'peak_dbfs'"),
        ({"name": "clip", "ratio": 0}, "'ratio'"),
        ({"name": "trim_silence", "ends": "middle"}, "'ends' .*leading"),
        ({"name": "trim_silence", "margin_s": -1}, "'margin_s'"),
        ({"name": "telephone", "path": "isdn"}, "'path'"),
        ({"name": "telephone", "second_codec": 2}, "'second_codec'"),
        ({"name": "room", "rooms": 0}, "'rooms'"),
        ({"name": "one_of"}, "one_of does not take"),
        ({"name": "one_of", "choices": []}, "'choices'"),
        ({"name": "one_of", "choices": [{"name": "clip"}], "weights": [1, 2]}, "'weights'"),
        ({"name": "one_of", "choices": [{"name": "clip"}], "weights": [0]}, "'weights'"),
        ({"name": "one_of", "choices": {"name": "clip"}}, "list of mappings"),
        ({"name": "sequence", "steps": [{"name": "hum"}]}, "Got 'hum'"),
    ],
)
def test_a_mistake_is_named_with_what_is_known(spec, said):
    with pytest.raises(ParameterError, match=said):
        build_pipeline([spec])


@pytest.mark.parametrize("specs", [{"name": "noise"}, "noise", None, 3])
def test_specs_are_a_list(specs):
    with pytest.raises(ParameterError, match="list of mappings"):
        build_pipeline(specs)


@pytest.mark.parametrize(
    "x", [np.zeros((1, 9), np.float32), np.zeros(9, np.int16), [0.0, 1.0], np.float32(1)]
)
def test_a_clip_is_a_floating_vector(x):
    with pytest.raises(ParameterError, match="'x' parameter of Pipeline"):
        build_pipeline(EVERYTHING)(x, rng())


def test_the_typed_way_is_the_same_as_the_yaml(harmonic_voice):
    typed = Pipeline((Step("one_of", 1.0, OneOf((RawBoost(2), RawBoost(3)), (1.0, 2.0))),))
    plain = build_pipeline(
        [
            {
                "name": "one_of",
                "weights": [1, 2],
                "choices": [
                    {"name": "rawboost", "algorithm": 2},
                    {"name": "rawboost", "algorithm": 3},
                ],
            }
        ]
    )
    assert typed(harmonic_voice, rng()).shape == plain(harmonic_voice, rng()).shape
