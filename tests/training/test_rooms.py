import sys

import numpy as np
import pytest

from voiceguard.errors import MissingExtraError, ParameterError
from voiceguard.training.rooms import room_bank


@pytest.fixture(scope="module")
def bank():
    pytest.importorskip("pyroomacoustics", reason="pyroomacoustics simulates the rooms")
    return room_bank(3, seed=11)


def test_shape_and_unit_energy(bank):
    assert bank.shape == (3, 8_000)
    assert bank.dtype == np.float32
    np.testing.assert_allclose(np.sum(bank.astype(np.float64) ** 2, axis=1), 1.0, rtol=1e-5)


def test_direct_sound_comes_first_and_is_the_strongest(bank):
    assert np.all(np.argmax(np.abs(bank), axis=1) == 0)
    assert np.all(bank[:, 0] > 0)


def test_sound_dies_away(bank):
    early, late = bank[:, :1_600], bank[:, 6_400:]
    assert np.all(np.sum(late**2, axis=1) < 0.01 * np.sum(early**2, axis=1))
    assert np.all(np.sum(bank[:, 1:] ** 2, axis=1) > 0.001)


def test_same_seed_same_rooms_and_the_rooms_differ(bank):
    np.testing.assert_array_equal(room_bank(2, seed=11), bank[:2])
    assert not np.array_equal(room_bank(1, seed=12)[0], bank[0])
    assert not np.array_equal(bank[0], bank[1])


def decay_s(response):
    """Reverberation time by Schroeder's integral, from 5 to 25 dB below."""
    left = np.cumsum(np.square(response.astype(np.float64))[::-1])[::-1]
    level = 10 * np.log10(left / left[0] + 1e-12)
    return 3.0 * (np.argmax(level < -25) - np.argmax(level < -5)) / 16_000


def test_halls_ring_as_long_as_asked_and_longer_than_rooms(bank):
    short, long = (room_bank(6, seed=3, reverberation_s=(t, t)) for t in (0.3, 0.9))
    assert short.shape == (6, 8_000) and long.shape == (6, 14_400)
    np.testing.assert_allclose(np.sum(long.astype(np.float64) ** 2, axis=1), 1.0, rtol=1e-5)
    assert np.all(np.argmax(np.abs(long), axis=1) == 0)
    dry, wet = (np.array([decay_s(one) for one in halls]) for halls in (short, long))
    # Sabine's formula against an image model of uneven boxes: near, not equal.
    assert 0.5 < np.median(wet) / 0.9 < 1.3 and 0.5 < np.median(dry) / 0.3 < 1.3
    assert np.all(wet > 1.5 * max(decay_s(one) for one in bank))
    np.testing.assert_array_equal(room_bank(2, seed=3, reverberation_s=(0.3, 0.3)), short[:2])


def test_no_hall_is_too_large_for_a_short_time():
    pytest.importorskip("pyroomacoustics", reason="pyroomacoustics simulates the rooms")
    assert np.isfinite(room_bank(12, seed=5, reverberation_s=(0.02, 0.05))).all()


@pytest.mark.parametrize("times", [(0.0, 1.0), (0.5, 0.2), (0.5, 4.0), (float("nan"), 1.0)])
def test_times_that_are_none_are_refused(times):
    with pytest.raises(ParameterError, match="'reverberation_s'"):
        room_bank(1, seed=0, reverberation_s=times)


def test_without_the_simulator_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        room_bank(1, seed=0)
