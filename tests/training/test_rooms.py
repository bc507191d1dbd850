import sys

import numpy as np
import pytest

from voiceguard.errors import MissingExtraError
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


def test_without_the_simulator_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        room_bank(1, seed=0)
