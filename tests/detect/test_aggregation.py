"""Aggregation: a short synthetic passage shows, agreement is kept, order does not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.detect.aggregation import aggregate_llr, aggregate_score
from voiceguard.errors import ParameterError

llrs = st.lists(st.floats(-700, 700), min_size=1, max_size=40)


@given(llrs)
def test_it_is_the_formula(values):
    """Against the definition in exact rational exponents, where floats can hold them."""
    values = [v / 10 for v in values]
    naive = -math.log(math.fsum(math.exp(-v) for v in values) / len(values))
    assert aggregate_llr(values, [1.0] * len(values)) == pytest.approx(naive, abs=1e-9)


@given(llrs, st.randoms())
def test_order_does_not_matter(values, random):
    pairs = [(v, random.uniform(0.1, 4.0)) for v in values]
    shuffled = random.sample(pairs, len(pairs))
    for aggregate in (aggregate_llr, aggregate_score):
        assert aggregate(*zip(*pairs, strict=True)) == aggregate(*zip(*shuffled, strict=True))


@given(llrs)
def test_it_lies_between_the_least_and_the_mean(values):
    together = aggregate_llr(values, [2.0] * len(values))
    assert min(values) - 1e-9 <= together <= np.mean(values) + 1e-9


@given(st.floats(-50, 50), st.lists(st.floats(0.5, 4.0), min_size=1, max_size=200))
def test_a_uniform_call_gives_its_own_mean(level, weights):
    assert aggregate_llr([level] * len(weights), weights) == pytest.approx(level, abs=1e-9)
    assert aggregate_score([level] * len(weights), weights) == pytest.approx(level, abs=1e-9)


def test_a_short_synthetic_passage_shows():
    """Four seconds of synthetic speech in two minutes: the plain mean would call it human."""
    call = [5.0] * 59 + [-8.0]
    assert np.mean(call) > 4.0
    assert aggregate_llr(call, [4.0] * 60) == pytest.approx(-8.0 + math.log(60), abs=0.01)


def test_a_window_with_little_speech_counts_little():
    assert aggregate_llr([4.0, -2.0], [4.0, 0.5]) > aggregate_llr([4.0, -2.0], [4.0, 4.0])
    assert aggregate_score([1.0, 0.0], [3.0, 1.0]) == pytest.approx(0.75)


@given(llrs, st.integers(2, 5))
def test_splitting_a_windows_weight_changes_nothing(values, parts):
    whole = aggregate_llr(values, [1.0] * len(values))
    split = aggregate_llr(values * parts, [1.0 / parts] * (len(values) * parts))
    assert split == pytest.approx(whole, abs=1e-6)


def test_no_speech_at_all_weighs_alike():
    assert aggregate_score([1.0, 3.0], [0.0, 0.0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("values", "weights"),
    [([], []), ([1.0], [1.0, 1.0]), ([1.0], [-1.0]), ([1.0], [math.nan]), ([[1.0]], [[1.0]])],
)
def test_bad_weights_are_refused(values, weights):
    with pytest.raises(ParameterError, match="'weights' parameter"):
        aggregate_llr(values, weights)
