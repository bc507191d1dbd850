"""Item i of epoch e depends on (seed, e, i) alone, and its sound on no label."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from voiceguard.training.augment import ChannelConfig, ChannelSimulator
from voiceguard.training.data import Batch, CropDataset

pytest.importorskip("av", reason="PyAV carries most of the codecs")

LABELS = ("bonafide", "spoof", "bonafide", "spoof")


@pytest.fixture
def make_data(make_corpus, echoes):
    def make(labels=LABELS, weights=(0.25, 0.25, 0.25, 0.25), **options):
        options = {"length": 4_000, "per_epoch": 8, "seed": 5, **options}
        return CropDataset(
            make_corpus(labels),
            np.arange(len(labels)),
            np.array(weights),
            simulator=ChannelSimulator(ChannelConfig(), echoes),
            **options,
        )

    return make


def assert_same(first, second):
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1:] == second[1:]


def test_an_item_does_not_depend_on_what_was_drawn_before(make_data):
    forward, backward = make_data(), make_data()
    items = [forward[i] for i in range(8)]
    for i in reversed(range(8)):
        assert_same(backward[i], items[i])
        assert_same(backward[i], items[i])


def test_nor_on_numpy_s_or_torch_s_own_generators(make_data):
    data = make_data()
    expected = data[3]
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert_same(data[3], expected)


def test_a_copy_in_another_process_gives_the_same(make_data):
    data = make_data()
    data.epoch = 2
    assert_same(pickle.loads(pickle.dumps(data))[4], data[4])


def test_epochs_indices_and_seeds_all_differ(make_data):
    data, other = make_data(), make_data(seed=6)
    sounds = [data[i][0] for i in range(8)] + [other[i][0] for i in range(8)]
    data.epoch = 1
    sounds += [data[i][0] for i in range(8)]
    assert len({sound.tobytes() for sound in sounds}) == 24
    data.epoch = 0
    np.testing.assert_array_equal(data[0][0], sounds[0])


def test_length_type_and_count_are_as_asked(make_data):
    data = make_data(length=20_000, per_epoch=3)
    assert len(data) == 3
    for i in range(3):
        waveform, bonafide, row = data[i]
        assert waveform.shape == (20_000,)
        assert waveform.dtype == np.float32
        assert bonafide is (LABELS[row] == "bonafide")


def test_both_classes_pass_the_same_channel(make_data):
    """The same clips with all labels turned round give the very same sounds."""
    turned = tuple({"bonafide": "spoof", "spoof": "bonafide"}[label] for label in LABELS)
    data, mirrored = make_data(per_epoch=40), make_data(turned, per_epoch=40)
    for i in range(40):
        assert data[i][1] is not mirrored[i][1]
        np.testing.assert_array_equal(data[i][0], mirrored[i][0])


def test_rows_come_by_their_weight(make_data):
    data = make_data(weights=(0.7, 0.0, 0.3, 0.0), per_epoch=300, clean_share=1.0, length=100)
    rows = np.bincount([data[i][2] for i in range(300)], minlength=4)
    assert rows[1] == rows[3] == 0
    assert rows[0] / 300 == pytest.approx(0.7, abs=0.1)


def test_a_clean_crop_is_the_clip_itself(make_data):
    data = make_data(clean_share=1.0)
    waveform, _, row = data[1]
    clip = data.corpus.clip(row)
    starts = np.flatnonzero(clip[: len(clip) - 4_000 + 1] == waveform[0])
    assert any(np.array_equal(clip[s : s + 4_000], waveform) for s in starts)


def test_without_clean_crops_every_one_passes_the_channel(make_data):
    data = make_data(clean_share=0.0)
    for i in range(8):
        waveform, _, row = data[i]
        assert np.max(np.abs(waveform)) <= 1.0
        assert waveform[:400].tobytes() not in data.corpus.clip(row).tobytes()


def test_batches_line_up(make_data):
    data = make_data()
    batch = next(iter(DataLoader(data, batch_size=8, collate_fn=Batch.collate)))
    assert batch.waveform.shape == (8, 4_000)
    assert batch.waveform.dtype == batch.bonafide.dtype == torch.float32
    for i in range(8):
        waveform, bonafide, row = data[i]
        np.testing.assert_array_equal(batch.waveform[i].numpy(), waveform)
        assert batch.bonafide[i].item() == float(bonafide)
        assert batch.row[i].item() == row
    moved = batch.to("meta")
    assert {moved.waveform.device.type, moved.bonafide.device.type, moved.row.device.type} == {
        "meta"
    }
