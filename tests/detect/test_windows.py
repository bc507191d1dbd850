"""Windows: every sample heard, in order, inside the channel, whatever the lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.detect.windows import FAINTEST, LEAST_SILENCE, cut, lay, plan
from voiceguard.errors import ParameterError


@st.composite
def layouts(draw):
    window = draw(st.integers(1, 300))
    return draw(st.integers(0, 2_000)), window, draw(st.integers(1, window))


@given(layouts())
def test_every_sample_is_covered_in_order_and_in_bounds(layout):
    n, window, hop = layout
    spans = plan(n, window=window, hop=hop)
    heard = np.zeros(n, bool)
    for start, stop in spans:
        assert 0 <= start < stop <= n
        assert stop - start == min(window, n)
        heard[start:stop] = True
    assert heard.all()
    starts = [start for start, _ in spans]
    assert starts == sorted(set(starts)), "in order, none twice"
    assert all(start % hop == 0 for start in starts[:-1])
    assert not spans or spans[-1][1] == n, "the last one is aligned to the end"


@given(
    st.integers(1, 5_000),
    st.integers(LEAST_SILENCE, 200_000),
    st.integers(LEAST_SILENCE, 200_000),
    st.sampled_from([0.0, 1 / 32_768, -1 / 32_768]),
)
def test_digital_silence_at_the_ends_moves_the_windows_and_changes_nothing(n, ahead, behind, faint):
    voice = np.full(n, 0.1, np.float32)
    channel = np.concatenate(
        [np.full(ahead, faint, np.float32), voice, np.full(behind, faint, np.float32)]
    )
    bare = plan(n, window=700, hop=350)
    spans = lay(channel, window=700, hop=350)
    assert spans == tuple((start + ahead, stop + ahead) for start, stop in bare)
    assert lay(voice, window=700, hop=350) == bare


@pytest.mark.parametrize("level", [0.0, 2.0 * FAINTEST])
def test_a_short_silence_and_a_floor_stay(level):
    pad = np.full(LEAST_SILENCE - 1 if level == 0 else 9_000, level, np.float32)
    channel = np.concatenate([pad, np.ones(500, np.float32), pad])
    whole = plan(len(channel), window=700, hop=350)
    assert lay(channel, window=700, hop=350) == whole


def test_silence_between_two_passages_stays():
    channel = np.concatenate([np.ones(500), np.zeros(20_000), np.ones(500)]).astype(np.float32)
    assert lay(channel, window=700, hop=350)[-1] == (20_300, 21_000)


@pytest.mark.parametrize("n", [0, 10, 5_000])
def test_a_silent_channel_is_covered_as_a_whole(n):
    assert lay(np.zeros(n, np.float32), window=700, hop=350) == plan(n, window=700, hop=350)


def test_no_more_windows_than_needed():
    assert len(plan(3_600 * 16_000, window=64_000, hop=32_000)) == 1_799
    assert plan(64_000, window=64_000, hop=32_000) == ((0, 64_000),)
    assert plan(0, window=4, hop=2) == ()


@given(layouts(), st.integers(1, 9))
def test_cutting_gives_the_samples_of_each_span(layout, batch):
    n, window, hop = layout
    channel = np.arange(n, dtype=np.float32)
    spans = plan(n, window=window, hop=hop)
    batches = list(cut(channel, spans, window=window, batch=batch))
    assert all(len(part) == batch for part in batches[:-1])
    rows = [row for part in batches for row in part]
    assert len(rows) == len(spans)
    for row, (start, stop) in zip(rows, spans, strict=True):
        expected = [start + i % (stop - start) for i in range(window)]
        assert row.tolist() == expected
        assert row.dtype == np.float32


def test_rows_are_copies():
    channel = np.zeros(8, np.float32)
    next(cut(channel, ((0, 8),), window=8))[:] = 1.0
    assert not channel.any()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((-1, 4, 2), "n_samples"), ((9, 0, 1), "window"), ((9, 4, 0), "hop"), ((9, 4, 5), "hop")],
)
def test_bad_layouts_are_refused(arguments, name):
    n, window, hop = arguments
    with pytest.raises(ParameterError, match=f"'{name}' parameter of plan"):
        plan(n, window=window, hop=hop)


@pytest.mark.parametrize("span", [(0, 0), (-1, 2), (2, 11), (0, 5)])
def test_bad_spans_are_refused(span):
    with pytest.raises(ParameterError, match="'spans' parameter of cut"):
        next(cut(np.zeros(10, np.float32), (span,), window=4))


def test_a_bad_batch_is_refused():
    with pytest.raises(ParameterError, match="'batch' parameter of cut"):
        next(cut(np.zeros(10, np.float32), ((0, 4),), window=4, batch=0))
