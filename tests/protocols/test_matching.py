"""Scores beside trials: what matches, and every way in which it does not."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard import protocols
from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols import MismatchError, Trial

TRIALS = [
    Trial("u1", "s1", "bonafide", codec="alaw"),
    Trial("u2", "s1", "spoof", "A01", "alaw"),
    Trial("u3", "s2", "spoof", "A02"),
]


def test_scores_follow_the_protocol():
    found = protocols.match({"u3": 3.0, "u1": 1.0, "u2": 2.0}, TRIALS)
    assert found.bonafide == (TRIALS[0],)
    assert found.spoof == tuple(TRIALS[1:])
    assert found.bonafide_scores.tolist() == [1.0]
    assert found.spoof_scores.tolist() == [2.0, 3.0]
    assert found.groups("attack") == (["-"], ["A01", "A02"])
    assert found.groups("codec") == (["alaw"], ["alaw", "-"])
    assert found.groups("vocoder") is None


def test_mismatch_lists_both_sides():
    with pytest.raises(MismatchError, match=r"1 trials .* \(u3\), 1 scores .* \(x\)") as caught:
        protocols.match({"u1": 1.0, "u2": 2.0, "x": 0.0}, TRIALS)
    assert (caught.value.missing, caught.value.extra) == (("u3",), ("x",))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.missing, copy.extra, str(copy)) == (("u3",), ("x",), str(caught.value))


@given(st.sets(st.integers(0, 15)), st.sets(st.integers(0, 15), min_size=1))
def test_any_mismatch_is_found(scored, named):
    scores = {str(i): float(i) for i in scored}
    trials = [Trial(str(i), label="spoof") for i in sorted(named)]
    if scored == named:
        assert protocols.match(scores, trials).spoof_scores.tolist() == sorted(named)
        return
    with pytest.raises(MismatchError) as caught:
        protocols.match(scores, trials)
    assert set(caught.value.missing) == {str(i) for i in named - scored}
    assert set(caught.value.extra) == {str(i) for i in scored - named}


def test_partial_leaves_trials_out_and_lists_them():
    found = protocols.match({"u1": 1.0, "u2": 2.0}, TRIALS, partial=True)
    assert found.missing == ("u3",)
    assert found.spoof_scores.tolist() == [2.0]
    with pytest.raises(MismatchError):
        protocols.match({"u1": 1.0, "x": 2.0}, TRIALS, partial=True)


def test_scores_of_other_subsets_are_no_mismatch():
    trials = [trial._replace(subset="eval") for trial in TRIALS[:2]]
    trials.append(TRIALS[2]._replace(subset="progress"))
    scores = {"u1": 1.0, "u2": 2.0, "u3": 3.0}
    assert protocols.match(scores, trials, subset="eval").spoof_scores.tolist() == [2.0]
    del scores["u3"]
    assert protocols.match(scores, trials, subset="eval").missing == ()
    with pytest.raises(MismatchError):
        protocols.match(scores, trials, subset="all")
    with pytest.raises(ProtocolError, match=r"has subsets. Name one"):
        protocols.match(scores, trials)


def test_stems_match_paths():
    scores = {"out/u1.wav": 1.0, "out/u2.flac": 2.0, "u3": 3.0}
    assert protocols.match(scores, TRIALS, key="stem").spoof_scores.tolist() == [2.0, 3.0]
    with pytest.raises(MismatchError):
        protocols.match(scores, TRIALS)
    with pytest.raises(ProtocolError, match=r"'a/u1.wav' and 'b/u1.wav' share one name"):
        protocols.match({"a/u1.wav": 1.0, "b/u1.wav": 2.0}, TRIALS, key="stem")


def test_dots_in_ids_are_no_suffix():
    found = protocols.match({"clip.v2": 1.0}, [Trial("clip.v2", label="spoof")], key="stem")
    assert found.spoof_scores.tolist() == [1.0]


def test_unusable_protocols_are_refused():
    with pytest.raises(ProtocolError, match="two trials named 'u1'"):
        protocols.match({"u1": 1.0}, [TRIALS[0], TRIALS[0]])
    with pytest.raises(ProtocolError, match="'u1' has no label"):
        protocols.match({"u1": 1.0}, [Trial("u1")])
    with pytest.raises(ParameterError, match="'key' parameter of match"):
        protocols.match({"u1": 1.0}, TRIALS, key="name")
