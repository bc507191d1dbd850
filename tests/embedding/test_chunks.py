"""Chunks: every frame once, and from enough context to be that of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.embedding.chunks import Framing, plan_chunks
from voiceguard.errors import ParameterError


def sums(x: np.ndarray, framing: Framing, count: int) -> np.ndarray:
    """Frames of whole numbers: weighted sums over all that a frame may hear, zeros beyond."""
    padded = np.concatenate(
        [np.zeros(framing.before, int), x, np.zeros(framing.after + framing.hop, int)]
    )
    width = framing.before + framing.after
    weights = np.arange(1, width + 1)
    return np.array([padded[i * framing.hop :][:width] @ weights for i in range(count)])


@given(
    n=st.integers(1, 400),
    hop=st.integers(1, 9),
    before=st.integers(0, 40),
    after=st.integers(1, 40),
    per_chunk=st.integers(1, 30),
)
def test_chunks_give_the_frames_of_the_whole(n, hop, before, after, per_chunk):
    framing = Framing(hop=hop, before=before, after=after, centre=0.0)
    x = np.random.default_rng(n).integers(-99, 99, n)
    count = (n - 1) // hop + 1
    found = []
    for chunk in plan_chunks(n, count, framing, frames_per_chunk=per_chunk):
        assert 0 <= chunk.start < chunk.stop <= n
        assert chunk.start % hop == 0
        local = sums(x[chunk.start : chunk.stop], framing, chunk.skip + chunk.keep)
        found.extend(local[chunk.skip :])
    np.testing.assert_array_equal(found, sums(x, framing, count))


def test_a_chunk_is_no_longer_than_its_frames_and_context():
    framing = Framing(hop=10, before=25, after=40, centre=0.0)
    chunks = list(plan_chunks(100_000, 9_990, framing, frames_per_chunk=50))
    assert max(c.stop - c.start for c in chunks) <= 500 + 25 + 40 + 10
    assert sum(c.keep for c in chunks) == 9_990


def test_no_frames_no_chunks():
    framing = Framing(hop=10, before=0, after=40, centre=0.0)
    assert list(plan_chunks(39, 0, framing, frames_per_chunk=5)) == []


@pytest.mark.parametrize("field", ["hop", "before", "after"])
def test_a_framing_out_of_its_domain(field):
    good = {"hop": 1, "before": 0, "after": 1, "centre": 0.0}
    with pytest.raises(ParameterError, match=f"'{field}' parameter of Framing"):
        Framing(**{**good, field: -1})


def test_no_frame_a_chunk():
    framing = Framing(hop=1, before=0, after=1, centre=0.0)
    with pytest.raises(ParameterError, match="'frames_per_chunk'"):
        list(plan_chunks(10, 10, framing, frames_per_chunk=0))
