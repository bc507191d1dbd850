"""Crops and batches are functions of seed, epoch and place; windows are as published."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.errors import AudioNotFoundError, ParameterError, ProtocolError
from voiceguard.protocols import Trial
from voiceguard.training.clip_cache import open_cache
from voiceguard.training.trials import (
    EpochBatches,
    Files,
    Perturbed,
    TrainingCrops,
    Windows,
    first_window,
    random_window,
)

TRIALS = [
    Trial("a", label="bonafide"),
    Trial("b", label="spoof"),
    Trial("c", label="spoof"),
    Trial("d", label="bonafide"),
]


class Ramps:
    """Clips whose samples tell their place: clip i starts at 1000 i."""

    lengths = (50, 200, 7, 100)

    def __len__(self):
        return len(self.lengths)

    def clip(self, index):
        return (1_000 * index + np.arange(self.lengths[index])).astype(np.float32)


def crops(**options):
    return TrainingCrops(TRIALS, Ramps(), length=60, **options)


# Windows


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_first_window_is_the_clip_tiled_and_cut(n, length):
    x = np.arange(n, dtype=np.float32)
    np.testing.assert_array_equal(first_window(x, length), np.arange(length) % n)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_a_random_window_is_a_stretch_or_the_clip_tiled(n, length, seed):
    x = np.arange(n, dtype=np.float32)
    window = random_window(x, length, np.random.default_rng(seed))
    if n <= length:
        np.testing.assert_array_equal(window, np.arange(length) % n)
    else:
        np.testing.assert_array_equal(window, window[0] + np.arange(length))
        assert window[-1] < n


def test_random_windows_start_anywhere_alike():
    rng = np.random.default_rng(0)
    x = np.arange(14, dtype=np.float32)
    starts = np.array([random_window(x, 10, rng)[0] for _ in range(5_000)])
    counts = np.bincount(starts.astype(int), minlength=5)
    assert len(counts) == 5
    # Standard deviation of each count is 28.
    np.testing.assert_allclose(counts, 1_000, atol=120)


def test_an_empty_clip_is_refused():
    with pytest.raises(ParameterError, match="empty"):
        first_window(np.zeros(0, np.float32), 5)


def test_evaluation_takes_the_first_window_of_each_trial_in_order():
    windows = Windows(TRIALS, Ramps(), length=60)
    for index, (window, bonafide, place) in enumerate(windows[i] for i in range(4)):
        np.testing.assert_array_equal(window, first_window(Ramps().clip(index), 60))
        assert bonafide == (TRIALS[index].label == "bonafide")
        assert place == index


# Crops


def test_a_crop_follows_from_seed_epoch_and_place_alone():
    def drawn(order, seed=1, epoch=2):
        dataset = crops(seed=seed, perturb=lambda x, rng: x + np.float32(rng.random()))
        dataset.epoch = epoch
        return {index: dataset[index][0].tolist() for index in order}

    assert drawn([0, 1, 2, 3]) == drawn([3, 1, 0, 2])
    assert drawn([1]) != drawn([1], seed=2)
    assert drawn([1]) != drawn([1], epoch=3)


def test_the_perturbation_sees_the_whole_clip_before_the_cut():
    seen = []

    def perturb(x, rng):
        seen.append(len(x))
        return x[:3]

    crop, bonafide, place = crops(perturb=perturb)[1]
    assert seen == [200]
    np.testing.assert_array_equal(crop, 1_000 + np.arange(60) % 3)
    assert (bonafide, place) == (False, 1)
    assert crop.flags.c_contiguous


def test_a_perturbed_clip_is_the_same_whenever_it_is_asked_for():
    clips = Perturbed(Ramps(), lambda x, rng: x + rng.random(dtype=np.float32), seed=5)
    assert len(clips) == 4
    first = [clips.clip(i) for i in range(4)]
    for i in (3, 0, 2, 1):
        np.testing.assert_array_equal(clips.clip(i), first[i])
    shifts = [clip[0] - 1_000 * i for i, clip in enumerate(first)]
    assert len(set(shifts)) == 4
    other = Perturbed(Ramps(), lambda x, rng: x + rng.random(dtype=np.float32), seed=6)
    assert other.clip(0)[0] != first[0][0]


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([*TRIALS[:3], Trial("x")], "'x' has no label"),
        ([TRIALS[1]] * 4, "one class only"),
    ],
)
def test_training_needs_labels_of_both_classes(trials, said):
    with pytest.raises(ProtocolError, match=said):
        TrainingCrops(trials, Ramps(), length=60)


@pytest.mark.parametrize("made", [TrainingCrops, Windows])
def test_as_many_clips_as_trials_are_needed(made):
    with pytest.raises(ParameterError, match="a clip a trial, 3"):
        made(TRIALS[:3], Ramps(), length=60)


# Batches


def test_an_epoch_holds_each_trial_at_most_once_and_epochs_differ():
    batches = EpochBatches(23, batch_size=4, seed=5)
    first = list(batches)
    flat = list(chain.from_iterable(first))
    assert [len(batch) for batch in first] == [4] * 5 == [4] * len(batches)
    assert len(set(flat)) == 20
    assert first == list(batches)
    batches.epoch = 2
    assert first != list(batches)


@given(st.integers(0, 5))
def test_a_resumed_epoch_goes_on_with_the_same_batches(start):
    batches = EpochBatches(23, batch_size=4, seed=5)
    whole = list(batches)
    batches.start = start
    assert list(batches) == whole[start:]
    assert len(batches) == len(whole) - start


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_processes_share_the_batches_of_one(size, count, accumulate):
    options = {"accumulate": accumulate, "seed": 1}
    whole = EpochBatches(60, batch_size=size * count, **options)
    parts = [
        list(EpochBatches(60, batch_size=size, process=i, processes=count, **options))
        for i in range(count)
    ]
    assert [[*chain(*shares)] for shares in zip(*parts, strict=True)] == list(whole)


def test_accumulated_batches_fill_their_last_step():
    batches = EpochBatches(50, batch_size=4, accumulate=5)
    assert (batches.steps, len(batches)) == (2, 10)


def test_fewer_trials_than_a_step_are_refused():
    with pytest.raises(ParameterError, match=r"takes 24 trials.*Got 23"):
        EpochBatches(23, batch_size=4, accumulate=3, processes=2)


# Files and their cache


@pytest.fixture
def files(tmp_path):
    import soundfile

    rng = np.random.default_rng(0)
    for trial, length in zip(TRIALS, (900, 1_600, 5, 3_000), strict=True):
        pcm = rng.integers(-32_768, 32_768, length).astype(np.int16)
        soundfile.write(tmp_path / f"{trial.utterance}.flac", pcm, 16_000, subtype="PCM_16")
    return Files(TRIALS, tmp_path)


def test_the_cache_gives_the_files_to_the_last_bit(files, tmp_path):
    told = []
    cached = open_cache(files, tmp_path / "cache", on_progress=lambda *at: told.append(at))
    assert len(cached) == len(files)
    for index in range(len(files)):
        np.testing.assert_array_equal(cached.clip(index), files.clip(index))
        assert cached.clip(index).dtype == np.float32
    assert told == [(i, 4) for i in range(1, 5)]


def test_the_cache_is_made_once_and_anew_for_other_files(files, tmp_path):
    told = []
    options = {"on_progress": lambda *at: told.append(at)}
    open_cache(files, tmp_path / "cache", **options)
    open_cache(files, tmp_path / "cache", **options)
    assert len(told) == 4
    fewer = Files(TRIALS[:2], tmp_path)
    cached = open_cache(fewer, tmp_path / "cache", **options)
    assert (len(told), len(cached)) == (6, 2)
    np.testing.assert_array_equal(cached.clip(1), fewer.clip(1))


def test_a_cache_of_a_missing_file_is_never_vouched_for(files, tmp_path):
    open_cache(files, tmp_path / "cache")
    files.paths[2].unlink()
    for _ in range(2):
        with pytest.raises(AudioNotFoundError):
            open_cache(files, tmp_path / "cache")


def test_a_trial_may_name_its_own_file(tmp_path):
    files = Files([Trial("x", path="sub/y.wav"), Trial("z")], tmp_path, suffix=".ogg")
    assert files.paths == [tmp_path / "sub/y.wav", tmp_path / "z.ogg"]
