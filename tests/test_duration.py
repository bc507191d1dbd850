"""benchmarks/duration.py: seconds of speech are counted, aggregations do what they say."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the recipe's modules need the train extra")

from voiceguard.audio.vad import FRAME, speech_mask, speech_probabilities

RATE = 16_000


@pytest.fixture(scope="module")
def duration(benchmark_scripts):
    with benchmark_scripts("duration") as bench:
        yield bench.duration


def test_a_cut_holds_the_speech_that_it_is_named_after(duration, voice):
    x = np.concatenate([np.zeros(RATE, np.float32), voice(3.0), np.zeros(RATE, np.float32)])
    found = duration.cuts(np.concatenate([x, voice(3.0)]))
    assert set(found) <= {1, 2, 4}
    assert {1, 2} <= set(found)
    for seconds, cut in found.items():
        heard = speech_mask(speech_probabilities(cut)).sum() * FRAME / RATE
        assert seconds <= heard < seconds + FRAME / RATE
        assert np.array_equal(cut, x[: len(cut)]) or len(cut) > len(x)
    assert duration.cuts(np.zeros(RATE, np.float32)) == {}


llrs = st.lists(st.floats(-8, 8), min_size=1, max_size=9)


@settings(max_examples=40)
@given(values=llrs, seed=st.integers(0, 99))
def test_aggregations_lie_between_the_windows_and_ignore_their_order(duration, values, seed):
    values = np.array(values)
    order = np.random.default_rng(seed).permutation(len(values))
    for combine in duration.AGGREGATIONS.values():
        found = combine(values, np.ones(len(values)))
        assert values.min() - 1e-9 <= found <= values.max() + 1e-9
        assert combine(values[order], np.ones(len(values))) == pytest.approx(found, abs=1e-9)
        assert combine(np.full(5, values[0]), np.ones(5)) == pytest.approx(values[0], abs=1e-9)


def test_aggregations_by_hand(duration):
    values, speech = np.array([-6.0, 1.0, 2.0, 3.0, 10.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    found = {name: combine(values, speech) for name, combine in duration.AGGREGATIONS.items()}
    assert found["mean"] == pytest.approx(0.0, abs=1e-4)
    assert (found["median"], found["lowest"], found["highest"]) == (2.0, -6.0, 10.0)
    assert found["trimmed mean"] == 2.0
    assert found["softmax-weighted"] == pytest.approx(-5.99, abs=0.02)
    assert found[duration.SHIPPED] == pytest.approx(-6.0 + np.log(4), abs=1e-2)


def made_up(duration, *, spread):
    """Voices whose windows scatter less the longer they speak; half of them stop at 8 s."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        human = number % 2 == 0
        lengths = duration.LENGTHS_S if number % 4 < 2 else duration.LENGTHS_S[:4]
        windows = {
            str(s): [
                [float(v), 1.0]
                for v in rng.normal(2.0 if human else -2.0, spread / s**0.5, max(1, s // 2))
            ]
            for s in lengths
        }
        audio = {str(s): 1.3 * s for s in lengths}
        label = "bonafide" if human else "spoof"
        rows.append({"label": label, "voice": str(number), "audio_s": audio, "windows": windows})
    return rows


def test_figures_count_voices_and_fall_with_speech(duration, monkeypatch):
    monkeypatch.setattr(duration, "RESAMPLES", 20)
    found = duration.figures(made_up(duration, spread=6.0))
    assert [row["seconds"] for row in found] == list(duration.LENGTHS_S)
    assert [row["voices"] for row in found] == [[30, 30]] * 4 + [[15, 15]] * 2
    assert found[0]["eer"][0] > 0.2
    assert found[-1]["eer"] == [0.0, 0.0, 0.0]
    assert found[0]["audio_s"] == pytest.approx(1.3)
    assert [row["same voices"] is None for row in found] == [False] * 5 + [True]
    # From 16 s on all voices are the same voices.
    assert found[4]["same voices"] == found[4]["eer"]
    # One window leaves nothing to choose.
    assert len(set(found[1]["by aggregation"].values())) == 1


def test_a_length_that_one_class_lacks_is_left_out(duration):
    rows = [row for row in made_up(duration, spread=1.0) if row["label"] == "spoof"]
    assert duration.figures(rows) == []


def test_tables_and_plot(duration, tmp_path, monkeypatch):
    monkeypatch.setattr(duration, "RESAMPLES", 5)
    figures = duration.figures(made_up(duration, spread=6.0))
    found = dict.fromkeys(duration.CHANNEL_TITLES, figures)
    for show in (duration.length_table, duration.aggregation_table):
        title, _, *lines = show(found, markdown=True).rstrip().splitlines()
        assert title
        assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(duration.AGGREGATIONS)
    duration.plot(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on(duration, detector, voice, tmp_path, monkeypatch):
    joined = [(f"bonafide {i} 0", {"label": "bonafide", "voice": str(i)}, i) for i in range(3)]
    drawn = []

    def recordings(held, draws, seed):
        for name, facts, score in joined:
            drawn.append(name)
            yield name, facts, voice(2.5, float(score))

    monkeypatch.setattr(duration, "recordings", recordings)
    held, path = SimpleNamespace(detector=detector), tmp_path / "scores" / "cuts.jsonl"
    whole = duration.score(held, 1, 0, "clean", path)
    first = [row["windows"]["1"][0][0] for row in whole]
    assert first == pytest.approx([0.0, 1.0, 2.0], abs=0.1)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:15])
    assert json.dumps(duration.score(held, 1, 0, "clean", path)) == json.dumps(whole)
    assert path.read_text() == "".join(lines)
