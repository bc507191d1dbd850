"""Pairs: the same stretch of a human and of its copy through one channel, and their loss."""

import math

import numpy as np
import pytest
import torch

from voiceguard.training.augment import ChannelConfig, ChannelSimulator
from voiceguard.training.corpus import Corpus


@pytest.fixture
def pairs(scripts):
    return scripts["pairs"]


@pytest.fixture
def corpus():
    """Six humans; of the first three a copy each, the human's sound upside down."""
    rng = np.random.default_rng(2)
    humans = [rng.integers(-9_000, 9_000, 4_000).astype(np.int16) for _ in range(6)]
    rows = [
        {"file": f"bonafide/h_{i}.ogg", "label": "bonafide", "system": "human", "derived_from": ""}
        for i in range(6)
    ]
    rows += [
        {"file": f"spoof/s_{i}.ogg", "label": "spoof", "system": "copy", "derived_from": f"{i}"}
        for i in range(3)
    ]
    clips = humans + [-x for x in humans[:3]]
    offsets = np.cumsum([0, *(len(x) for x in clips)])
    return Corpus(rows=rows, pcm=np.concatenate(clips), offsets=offsets)


def crops(pairs, corpus, share, rows=range(9)):
    rows = np.array(rows)
    return pairs.PairedCrops(
        corpus,
        rows,
        np.full(len(rows), 1 / len(rows)),
        partner=pairs.pairs_of(corpus.rows, rows),
        pair_share=share,
        length=1_000,
        per_epoch=40,
        simulator=ChannelSimulator(ChannelConfig(narrowband=0.0, wide_codec=0.0)),
        clean_share=0.5,
        seed=5,
    )


def test_a_copy_finds_its_human_among_the_training_clips(pairs, corpus):
    assert pairs.pairs_of(corpus.rows, range(9)) == {6: 0, 7: 1, 8: 2}
    assert pairs.pairs_of(corpus.rows, [1, 2, 6, 7]) == {7: 1}


def test_both_of_a_pair_are_the_same_stretch_through_the_same_channel(pairs, corpus):
    drawn = crops(pairs, corpus, 1.0)
    for number in range(20):
        copy, is_human, row = drawn[2 * number]
        human, _, partner = drawn[2 * number + 1]
        assert not is_human
        assert partner == row - 6
        # Upside down in, upside down out, but for noise and dither of the channel.
        correlation = np.corrcoef(copy, human)[0, 1]
        assert correlation < -0.5


def test_items_are_a_function_of_seed_epoch_and_place(pairs, corpus):
    one, two = crops(pairs, corpus, 0.5), crops(pairs, corpus, 0.5)
    for index in (0, 1, 7, 30):
        np.testing.assert_array_equal(one[index][0], two[index][0])
    two.epoch = 1
    assert any(not np.array_equal(one[i][0], two[i][0]) for i in range(6))


def test_the_share_of_pairs_is_as_asked(pairs, corpus):
    def paired(share):
        drawn = crops(pairs, corpus, share, rows=range(3, 6))
        drawn.copies, drawn.partner = np.array([6, 7, 8]), {6: 0, 7: 1, 8: 2}
        drawn.copy_weights, drawn.pair_share = np.full(3, 1 / 3), share
        return np.mean([drawn[i][2] in (6, 7, 8) for i in range(0, 400, 2)])

    assert paired(0.0) == 0.0
    assert paired(0.25) == pytest.approx(0.25, abs=0.1)


def test_without_copies_nothing_is_paired(pairs, corpus):
    drawn = crops(pairs, corpus, 1.0, rows=range(6))
    assert {drawn[i][2] for i in range(40)} <= set(range(6))


def test_the_loss_ranks_the_copy_below_its_human(pairs):
    partner = {6: 0, 7: 1}
    row = torch.tensor([3, 6, 0, 7, 2])
    score = torch.tensor([0.0, -1.0, 2.0, 5.0, 5.0], requires_grad=True)
    loss = pairs.pair_loss(score, row, partner)
    assert loss.item() == pytest.approx(math.log1p(math.exp(1.0 - 3.0)))
    loss.backward()
    assert score.grad[1] > 0 > score.grad[2]
    assert not score.grad[[0, 3, 4]].any()


def test_the_loss_of_no_pairs_is_zero_and_can_be_learned_from(pairs):
    score = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = pairs.pair_loss(score, torch.tensor([0, 6]), {6: 0})
    assert loss.item() == 0.0
    loss.backward()
