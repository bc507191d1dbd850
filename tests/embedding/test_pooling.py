"""Pooling: the textbook formulas, in any cut into blocks, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.embedding.pooling import AttentiveWeights, pool_blocks, pool_name
from voiceguard.errors import ParameterError

RNG = np.random.default_rng(3)
WEIGHTS = AttentiveWeights(RNG.normal(size=(4, 5)), RNG.normal(size=4), RNG.normal(size=4))
POOLS = ("mean", "mean+std", "attentive", WEIGHTS)


def attended(h: np.ndarray, logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return (weights / weights.sum()) @ h


def expected(h: np.ndarray, pool: object) -> np.ndarray:
    """The formulas of the module's docstring, all frames at once."""
    h = h.astype(np.float64)
    if pool == "mean":
        return h.mean(0)
    if pool == "mean+std":
        return np.concatenate([h.mean(0), h.std(0)])
    if pool == "attentive":
        m = h.mean(0)
        cosine = [(m @ row) / (np.linalg.norm(m) * np.linalg.norm(row)) for row in h]
        return attended(h, np.array(cosine) / 0.1)
    logits = [WEIGHTS.context @ np.tanh(WEIGHTS.projection @ row + WEIGHTS.bias) for row in h]
    return attended(h, np.array(logits))


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), seed=st.integers(0, 9))
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_blocks_do_not_matter(pool, cuts, seed):
    h = np.random.default_rng(seed).normal(1.0, 3.0, (60, 5)).astype(np.float32)
    pooled = pool_blocks(np.split(h, sorted(cuts)), pool)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, expected(h, pool), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_layers_are_pooled_each_for_itself(pool):
    h = np.random.default_rng(1).normal(size=(20, 3, 5)).astype(np.float32)
    pooled = pool_blocks([h[:7], h[7:]], pool)
    alone = np.stack([pool_blocks([h[:, k]], pool) for k in range(3)])
    np.testing.assert_allclose(pooled, alone, rtol=1e-6, atol=1e-7)


def test_a_large_offset_does_not_drown_the_deviation():
    h = np.random.default_rng(0).normal(0, 1, (1000, 2)) + 1e5
    h = h.astype(np.float32)
    pooled = pool_blocks(np.array_split(h, 9), "mean+std")
    np.testing.assert_allclose(pooled[2:], h.astype(np.float64).std(0), rtol=1e-6)


def test_attention_prefers_the_common_frame_whatever_the_scale():
    h = np.tile([[1.0, 0.0]], (10, 1))
    h[3] = [0.0, 1.0]
    pooled = pool_blocks([h], "attentive")
    assert pooled[1] < 0.1 * h.mean(0)[1]
    np.testing.assert_allclose(pool_blocks([1000 * h], "attentive"), 1000 * pooled, rtol=1e-6)


def test_silent_frames_weigh_and_do_not_divide_by_zero():
    assert np.isfinite(pool_blocks([np.zeros((4, 3))], "attentive")).all()


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_memory_does_not_grow_with_the_frames(pool):
    tracemalloc.start()
    try:
        pool_blocks((np.full((20_000, 5), i, np.float32) for i in range(60)), pool)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12e6, "60 blocks of 0.4 MB in float32 would be 24 MB"


def test_names_tell_weights_apart():
    other = AttentiveWeights(WEIGHTS.projection * 2, WEIGHTS.bias, WEIGHTS.context)
    assert pool_name(None) is None
    assert pool_name("mean") == "mean"
    assert pool_name(WEIGHTS) != pool_name(other)
    assert pool_name(WEIGHTS).startswith("attentive:")


@pytest.mark.parametrize("pool", ["max", 3, ["mean"]])
def test_an_unknown_pooling(pool):
    with pytest.raises(ParameterError, match="'pool' parameter of Embedder"):
        pool_name(pool)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_no_frame_at_all(pool):
    with pytest.raises(ParameterError, match="at least one frame"):
        pool_blocks([np.zeros((0, 5))], pool)


def test_weights_that_do_not_fit():
    with pytest.raises(ParameterError, match="must have the shapes"):
        AttentiveWeights(np.zeros((4, 5)), np.zeros(5), np.zeros(4))
    with pytest.raises(ParameterError, match=r"frames of 5 values. Got 6"):
        pool_blocks([np.zeros((3, 6))], WEIGHTS)
