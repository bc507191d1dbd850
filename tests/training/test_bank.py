"""A bank that a test wrote: rows, passes, draws; refusals of unfinished ones."""

from collections import Counter

import numpy as np
import pytest

from voiceguard.errors import ProtocolError
from voiceguard.training.bank import BankDataset, open_bank

CLIPS, SAMPLES = 5, 40


def write_pass(folder, number, clips=CLIPS, done=None):
    folder.mkdir(parents=True)
    crops = 1_000 * (number * clips + np.arange(clips))[:, None] + np.arange(SAMPLES)
    np.save(folder / "crops.npy", crops.astype(np.int16))
    np.save(folder / "pooled.npy", np.full((clips, 6), number, np.float16))
    np.save(folder / "frames.npy", np.full((clips, 3, 4), number, np.float16))
    (folder / "done.txt").write_text(str(clips if done is None else done))


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("clean", "telephone")):
        write_pass(tmp_path / name, number)
    return tmp_path


def test_rows_count_through_the_passes_in_the_given_order(folder):
    bank = open_bank(folder, ["clean", "telephone"])
    for row in range(2 * CLIPS):
        assert bank.crop(row)[0] == pytest.approx(1_000 * row / 32_767)
    turned = open_bank(folder, ["telephone", "clean"])
    np.testing.assert_array_equal(turned.crop(0), bank.crop(CLIPS))
    assert bank.crop(0).dtype == np.float32
    assert [part[0, 0] for part in bank.pooled] == [0, 1]


def test_a_missing_an_unfinished_and_a_foreign_pass_are_refused(folder):
    with pytest.raises(ProtocolError, match=r"channel.*bank\.py"):
        open_bank(folder, ["clean", "channel"])
    write_pass(folder / "half", 2, done=3)
    with pytest.raises(ProtocolError, match="3 of 5 clips"):
        open_bank(folder, ["half"])
    write_pass(folder / "other", 2, clips=4)
    with pytest.raises(ProtocolError, match="'other' has 4 clips, 'clean' has 5"):
        open_bank(folder, ["clean", "other"])


@pytest.fixture
def dataset(folder):
    return BankDataset(
        open_bank(folder, ["clean", "telephone"]),
        np.array([True, False, True, False, True]),
        np.array([0, 1, 4]),
        np.array([0.5, 0.25, 0.25]),
        per_epoch=2_000,
        seed=3,
    )


def test_items_are_of_the_chosen_clips_with_their_labels_and_crops(dataset):
    assert len(dataset) == 2_000
    for index in range(60):
        crop, bonafide, row = dataset[index]
        clip = row % CLIPS
        assert clip in (0, 1, 4)
        assert bonafide == (clip != 1)
        np.testing.assert_array_equal(crop, dataset.bank.crop(row))


def test_clips_come_by_their_weights_and_passes_alike(dataset):
    rows = [dataset[index][2] for index in range(2_000)]
    clips, passes = Counter(r % CLIPS for r in rows), Counter(r // CLIPS for r in rows)
    # Five standard deviations of a binomial count of 2,000.
    assert clips[0] == pytest.approx(1_000, abs=112)
    assert clips[1] == pytest.approx(500, abs=97)
    assert passes[0] == pytest.approx(1_000, abs=112)


def test_an_item_is_a_function_of_seed_epoch_and_index(dataset):
    first = [dataset[index][2] for index in range(50)]
    assert [dataset[index][2] for index in reversed(range(50))] == first[::-1]
    dataset.epoch = 1
    assert [dataset[index][2] for index in range(50)] != first


def test_a_bank_may_hold_windows_alone(tmp_path):
    write_pass(tmp_path / "first", 0)
    for name in ("pooled", "frames"):
        (tmp_path / "first" / f"{name}.npy").unlink()
    bank = open_bank(tmp_path, ["first"])
    assert (bank.n_clips, bank.pooled, bank.frames) == (CLIPS, (), ())


def test_a_stretch_lies_inside_its_crop_and_moves(folder):
    dataset = BankDataset(
        open_bank(folder, ["clean"]),
        np.ones(CLIPS, bool),
        np.arange(CLIPS),
        np.full(CLIPS, 1 / CLIPS),
        per_epoch=100,
        length=20,
    )
    starts = set()
    for index in range(100):
        crop, _, row = dataset[index]
        place = np.round((crop - dataset.bank.crop(row)[0]) * 32_767).astype(int)
        assert len(place) == 20
        np.testing.assert_array_equal(np.diff(place), 1)
        assert 0 <= place[0] <= SAMPLES - 20
        starts.add(place[0])
    assert len(starts) > 5
