"""Arrays: shapes, types, scales, and that nothing is guessed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard import audio
from voiceguard.audio import Limits
from voiceguard.errors import AudioFormatError, AudioLimitError, ParameterError

DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "uint8"]


@settings(deadline=None, max_examples=80)
@given(
    rate=st.sampled_from([4000, 8000, 11025, 16000, 44100, 48000, 192000]),
    n=st.integers(0, 2000),
    channels=st.integers(1, 8),
    dtype=st.sampled_from(DTYPES),
    gain=st.sampled_from([0.0, 1e-30, 1e-6, 0.1, 1.0, 30.0]),
    order=st.sampled_from("CF"),
)
def test_whatever_comes_in_what_goes_on_is_sound(rate, n, channels, dtype, gain, order):
    values = np.random.default_rng(n).uniform(-1, 1, (channels, n)) * gain
    if dtype.startswith("float"):
        sent = values.astype(dtype)
    else:
        info = np.iinfo(dtype)
        middle, half = (128, 127) if dtype == "uint8" else (0, info.max)
        sent = np.clip(np.rint(values * half + middle), info.min, info.max).astype(dtype)
    got = audio.read((np.asarray(sent, order=order), rate))
    assert got.samples.shape == (channels, (2 * n * 16_000 + rate) // (2 * rate))
    assert got.samples.dtype == np.float32
    assert got.samples.flags.c_contiguous
    assert np.isfinite(got.samples).all()
    assert got.codec == f"array/{dtype}"


@pytest.mark.parametrize(
    ("dtype", "values", "want"),
    [
        ("int8", [-128, 0, 64], [-1.0, 0.0, 0.5]),
        ("uint8", [0, 128, 192], [-1.0, 0.0, 0.5]),
        ("int16", [-32768, 0, 16384], [-1.0, 0.0, 0.5]),
        (">i2", [-32768, 0, 16384], [-1.0, 0.0, 0.5]),
        ("int32", [-(2**31), 0, 2**30], [-1.0, 0.0, 0.5]),
        ("float16", [-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
        ("float64", [-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
    ],
)
def test_full_scale_of_each_type(dtype, values, want):
    got = audio.read((np.array(values, dtype), 16_000))
    assert got.samples.tolist() == [want]


def test_lists_and_array_likes_are_taken():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.array([0.5, -0.5], np.float32)

    assert audio.read(([0.5, -0.5], 16_000)).samples.tolist() == [[0.5, -0.5]]
    assert audio.read((Tensor(), 16_000)).samples.tolist() == [[0.5, -0.5]]
    got = audio.read({"array": Tensor(), "sampling_rate": 16_000, "path": "a/b.wav"})
    assert got.samples.tolist() == [[0.5, -0.5]]
    assert got.name == "a/b.wav"


def test_the_result_is_a_copy():
    sent = np.full((1, 100), 0.5, np.float32)
    got = audio.read((sent, 16_000))
    sent[:] = 0.0
    assert (got.samples == 0.5).all()


@pytest.mark.parametrize("bare", [np.zeros(100), [0.0, 0.1]])
def test_a_bare_array_is_refused(bare):
    with pytest.raises(AudioFormatError, match=r"rate is never guessed.*\(array, sample_rate\)"):
        audio.read(bare)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "object", "int64", "uint16", "U3"])
def test_types_without_a_known_scale_are_refused(dtype):
    with pytest.raises(AudioFormatError, match="dtype"):
        audio.read((np.zeros(10).astype(dtype), 16_000))


def test_samples_by_channels_is_refused_with_a_hint():
    with pytest.raises(AudioFormatError, match=r"pass array\.T"):
        audio.read((np.zeros((16_000, 2), np.float32), 16_000))
    assert audio.read((np.zeros((2, 2), np.float32), 16_000)).n_channels == 2


@pytest.mark.parametrize("shape", [(), (0, 10), (1, 2, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(AudioFormatError, match="shape"):
        audio.read((np.zeros(shape, np.float32), 16_000))


def test_a_ragged_list_is_refused():
    with pytest.raises(AudioFormatError, match="array"):
        audio.read(([[0.0], [0.0, 1.0]], 16_000))


@pytest.mark.parametrize("rate", [0, -8000, 8000.5, float("nan"), float("inf"), "8000", None, True])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(AudioFormatError, match="sample rate"):
        audio.read((np.zeros(10, np.float32), rate))


@pytest.mark.parametrize("rate", [8000, 8000.0, np.int32(8000), np.float64(8000)])
def test_whole_rates_of_any_type_are_taken(rate):
    assert audio.read((np.zeros(800, np.float32), rate)).source_rate == 8000


@pytest.mark.parametrize("bad", [0, 3999, 192_001, 16_000.0, True, "16000"])
def test_the_target_rate_is_checked(bad):
    with pytest.raises(ParameterError, match="'sample_rate'"):
        audio.read((np.zeros(10, np.float32), 16_000), sample_rate=bad)


@pytest.mark.parametrize(
    ("array", "rate", "limits", "named"),
    [
        (np.zeros(10), 3_999, Limits(), "min_rate_hz"),
        (np.zeros(10), 192_001, Limits(), "max_rate_hz"),
        (np.zeros((9, 100)), 16_000, Limits(), "max_channels"),
        (np.zeros(16_001), 16_000, Limits(max_duration_s=1.0), "max_duration_s"),
        (np.zeros(16_001), 16_000, Limits(max_decoded_bytes=64_000), "max_decoded_bytes"),
    ],
)
def test_limits_hold_and_say_how_to_move_them(array, rate, limits, named):
    with pytest.raises(AudioLimitError, match=rf"limits=Limits\({named}=\.\.\.\)"):
        audio.read((array, rate), limits=limits)


def test_exactly_the_limit_is_taken():
    limits = Limits(max_duration_s=1.0, max_channels=1, max_decoded_bytes=64_000)
    got = audio.read((np.zeros(16_000, np.float32), 16_000), limits=limits)
    assert got.duration_s == 1.0


@pytest.mark.parametrize("field", ["max_duration_s", "min_rate_hz", "max_channels", "max_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "9"])
def test_limits_are_checked_themselves(field, value):
    with pytest.raises(ParameterError, match=field):
        Limits(**{field: value})


def test_limits_must_not_cross():
    with pytest.raises(ParameterError, match="min_rate_hz"):
        Limits(min_rate_hz=9_000, max_rate_hz=8_000)


def test_integers_stored_as_float_are_announced():
    loud = np.array([0.0, 12_000.0, -20_000.0], np.float32)
    got = audio.read((loud, 16_000))
    assert any("32768 for int16" in warning for warning in got.warnings)
    assert audio.read((loud / 32768, 16_000)).warnings == ()


def test_numbers_that_are_none_are_replaced_and_counted():
    sent = np.array([0.1, np.nan, np.inf, 0.2], np.float64)
    got = audio.read((sent, 16_000))
    assert got.samples.tolist() == np.array([[0.1, 0.0, 0.0, 0.2]], np.float32).tolist()
    assert any("2 samples" in warning for warning in got.warnings)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_but_such_numbers_is_refused(value):
    with pytest.raises(AudioFormatError, match="none is a finite number"):
        audio.read((np.full(100, value, np.float32), 8000))


@pytest.mark.parametrize("huge", [1e30, 1e300])
def test_absurd_values_are_clamped(huge):
    got = audio.read((np.array([huge, -huge, 0.5]), 16_000))
    assert np.abs(got.samples).max() <= 32768.0
    assert got.warnings


def test_denormals_pass():
    got = audio.read((np.full(100, 1e-40, np.float32), 8000))
    assert np.abs(got.samples).max() < 1e-38
    assert got.warnings == ()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ((np.zeros(3), 16_000, 1), "3 elements"),
        ((16_000, np.zeros(3)), "in that order"),
        ({"array": np.zeros(3)}, "sampling_rate"),
        ({"rate": 8000}, "keys"),
        (17, "Got int"),
        (None, "Got NoneType"),
    ],
)
def test_other_sources_are_refused(source, said):
    with pytest.raises(AudioFormatError, match=said):
        audio.read(source)
