"""Voice activity: chunking, the state machine, levels, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.audio.vad import FRAME, VadStream, speech_mask, speech_probabilities
from voiceguard.errors import ParameterError


def test_one_probability_a_frame(speech):
    for n in (0, 1, 511, 512, 513, 20_000):
        got = speech_probabilities(speech[0][:n])
        assert got.shape == (-(-n // FRAME),)
        assert got.dtype == np.float32
        assert ((got >= 0) & (got <= 1)).all()


@settings(deadline=None, max_examples=15)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=10))
def test_chunks_give_the_numbers_of_the_whole(cuts):
    t = np.arange(40_000) / 16_000
    rng = np.random.default_rng(3)
    voice = np.sin(2 * np.pi * 120 * t) * (1 + np.sin(2 * np.pi * 4 * t))
    whole = (0.1 * voice + 0.02 * rng.standard_normal(len(t))).astype(np.float32)
    stream = VadStream()
    pieces = [stream.process(piece) for piece in np.split(whole, sorted(cuts))]
    got = np.concatenate([*pieces, stream.flush()])
    want = speech_probabilities(whole)
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-5


def test_long_audio_is_cut_without_a_seam(speech):
    # More frames than one call of the network takes.
    long = np.concatenate(speech * 2)
    stream = VadStream()
    singly = [stream.process(long[i : i + FRAME]) for i in range(0, len(long), FRAME)]
    got = np.concatenate([*singly, stream.flush()])
    assert np.abs(got - speech_probabilities(long)).max() < 1e-5


def test_speech_is_found_and_its_absence_too(speech, rng):
    for clip in speech:
        assert speech_mask(speech_probabilities(clip)).mean() > 0.4
    for noise in (np.zeros(64_000), 0.01 * rng.standard_normal(64_000)):
        assert speech_mask(speech_probabilities(noise.astype(np.float32))).mean() < 0.05


def test_quiet_and_loud_speech_is_found_alike(speech):
    def share(clip: np.ndarray) -> float:
        return float(speech_mask(speech_probabilities(clip)).mean())

    for gain_db in (-30, -20, -10, 10, 20):
        gain = np.float32(10 ** (gain_db / 20))
        moved = [abs(share(gain * clip) - share(clip)) for clip in speech]
        assert np.median(moved) <= 0.1, (gain_db, moved)


def test_the_mask_has_two_thresholds():
    given_probabilities = np.array([0.4, 0.6, 0.4, 0.36, 0.2, 0.4, 0.5, 0.34], np.float32)
    want = [False, True, True, True, False, False, True, False]
    assert speech_mask(given_probabilities).tolist() == want
    assert speech_mask(np.zeros(0, np.float32)).shape == (0,)


@given(st.lists(st.floats(0, 1, width=32), max_size=40))
def test_the_mask_equals_a_state_machine(values):
    state, want = False, []
    for value in values:
        state = value >= 0.5 or (state and value >= np.float32(0.35))
        want.append(bool(state))
    got = speech_mask(np.array(values, np.float32), onset=0.5, offset=float(np.float32(0.35)))
    assert got.tolist() == want


def test_threads_get_the_same_numbers(speech):
    want = [speech_probabilities(clip) for clip in speech]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(speech_probabilities, speech * 4))
    for i, probabilities in enumerate(got):
        assert np.array_equal(probabilities, want[i % len(want)])


def test_misuse_is_told():
    with pytest.raises(ParameterError, match="shape"):
        speech_probabilities(np.zeros((1, 512), np.float32))
    with pytest.raises(ParameterError, match="offset <= onset"):
        speech_mask(np.zeros(3, np.float32), onset=0.3, offset=0.5)
