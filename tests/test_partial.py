"""benchmarks/partial.py: thresholds, slots and figures by hand; a stopped run goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the recipe's modules need the train extra")

from voiceguard import Detector
from voiceguard.audio.gate import GatePolicy

RATE = 16_000


@pytest.fixture(scope="module")
def partial(benchmark_scripts):
    with benchmark_scripts("partial") as bench:
        yield bench.partial


def call(kind="spliced", values=(3.0, 3.0, -2.0, 3.0), fakes=((4.0, 6.0),), **fields):
    """Facts of a made-up call: windows of two seconds, one after the other."""
    return {
        "kind": kind,
        "passage_s": 2.0,
        "fakes": fakes,
        "host": "ann",
        "donor": "it",
        "duration_s": 2.0 * len(values),
        "value": min(v for v in values if v is not None),
        "windows": [[2.0 * i, 2.0 * i + 2, v] for i, v in enumerate(values)],
        **fields,
    }


def test_one_percent_of_a_hundred_controls_is_one(partial):
    controls = np.random.default_rng(0).permutation(100).astype(float)
    assert partial.threshold_at(controls, 0.01) == 1.0
    assert partial.threshold_at(controls, 0.05) == 5.0
    # Fewer than a hundred controls allow none.
    assert partial.threshold_at(controls[controls >= 10], 0.01) == 10.0
    fakes = [-3.0, 0.5, 1.0, 4.0]
    assert float(partial.detection(controls, fakes, rate=0.01)) == 0.5
    assert float(partial.detection(controls, fakes, rate=0.05)) == 1.0


@settings(max_examples=60)
@given(
    controls=st.lists(st.integers(-5, 5), min_size=2, max_size=60),
    rate=st.sampled_from([0.01, 0.05, 0.25]),
)
def test_no_threshold_flags_more_than_was_allowed(partial, controls, rate):
    controls = np.array(controls, float)
    line = partial.threshold_at(controls, rate)
    assert np.mean(controls < line) <= rate
    assert np.mean(controls <= line) > rate


def test_a_call_without_a_verdict_counts_as_the_most_human(partial):
    calls = [call(), call(values=(5.0, 4.0)), call(value=None, values=(None, -9.0))]
    for name in partial.CALL_SCORES:
        values = partial.call_values(calls, name)
        assert np.argmax(values) == 2
    assert partial.call_values(calls, "mean of windows")[:2].tolist() == [1.75, 4.5]
    assert partial.call_values(calls, "most synthetic pair")[:2].tolist() == [0.5, 4.5]
    assert partial.lowest_pair(np.array([7.0])) == 7.0
    assert partial.contrast(np.array([3.0, 3.0, -2.0, 3.0, 3.0])) == 0.5 - 3.0
    assert partial.contrast(np.full(4, -6.0)) == 0.0


def test_slots_carry_the_truth_and_the_windows_over_them(partial):
    values, fake = partial.slots(call())
    assert len(values) == len(fake) == 16
    assert np.flatnonzero(fake).tolist() == [8, 9, 10, 11]
    assert np.array_equal(values == -2.0, fake)
    # Where a slot is synthetic by less than half, it is human; a border in its middle is synthetic.
    _, fake = partial.slots(call(fakes=((4.26, 5.75),)))
    assert np.flatnonzero(fake).tolist() == [9, 10, 11]
    overlapping = call(windows=[[0.0, 4.0, 1.0], [2.0, 6.0, -3.0], [4.0, 8.0, None]])
    assert partial.slots(overlapping)[0].tolist() == [1.0] * 4 + [-1.0] * 4 + [-3.0] * 4
    assert partial.slots(overlapping, np.max)[0].tolist() == [1.0] * 8 + [-3.0] * 4


def test_localisation_of_a_perfect_and_a_blind_detector(partial):
    perfect = partial.localisation([call()] * 3)
    assert perfect["segment EER, mean"] == perfect["segment EER, highest"] == 0.0
    assert (perfect["pointed at"], perfect["by chance"]) == (1.0, 0.25)
    wrong = partial.localisation([call(values=(-2.0, 3.0, 3.0, 3.0))])
    assert wrong["pointed at"] == 0.0
    rng = np.random.default_rng(1)
    blind = [call(values=rng.normal(size=4).tolist()) for _ in range(150)]
    found = partial.localisation(blind)
    assert found["segment EER, mean"] == pytest.approx(0.5, abs=0.1)
    assert found["pointed at"] == pytest.approx(0.25, abs=0.13)


@pytest.fixture
def calls(partial, monkeypatch):
    """Forty controls between 0 and 4; fakes one below for each second of passage."""
    monkeypatch.setattr(partial, "RESAMPLES", 20)
    rng = np.random.default_rng(2)

    def values(shift):
        return [float(v) for v in rng.uniform(0, 4, 6) - shift]

    found = []
    for i in range(40):
        host = f"host {i % 7}"
        found.append(call("control", values(0.0), (), host=host))
        for length in partial.splice.PASSAGES_S:
            fake = call("spliced", values(length), ((2.0, 2 + length),), host=host)
            found.append({**fake, "passage_s": length})
        for kind in ("reversed", "message"):
            found.append(call(kind, values(9.0), ((1.0, 12.0),), host=host))
    return found


def test_figures_rise_with_the_passage(partial, calls):
    found = partial.figures(calls)
    assert (found["controls"], found["hosts"], found["withheld"]) == (40, 7, 0.0)
    for name, parts in found["detection"].items():
        assert [row["part"] for row in parts[:4]] == ["1 s", "2 s", "4 s", "8 s"]
        strict, mild = ([row[name][0] for row in parts] for name in ("at 1 %", "at 5 %"))
        assert all(a <= b for a, b in zip(strict, mild, strict=True))
        # The made-up fakes lower every window alike, which leaves no contrast.
        if name != "pair against the median":
            assert strict[0] < strict[2] <= strict[3] == 1.0
    for row in found["detection"][partial.SHIPPED]:
        value, low, high = row["at 5 %"]
        assert low <= value <= high


def test_tables_and_plot(partial, calls, tmp_path):
    found = dict.fromkeys(partial.CHANNEL_TITLES, partial.figures(calls))
    for show in (partial.detection_table, partial.score_table, partial.localisation_table):
        title, blank, *lines = show(found, markdown=True).rstrip().splitlines()
        assert title
        assert not blank
        assert len({line.count("|") for line in lines}) == 1
        assert lines[1] == "|" + " --- |" * (lines[0].count("|") - 1)
        assert "|" not in show(found, markdown=False)
    partial.plot(found, partial.example_of(calls), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    partial.write_json(tmp_path / "all.json", found)
    assert json.loads((tmp_path / "all.json").read_text()) == json.loads(json.dumps(found))


def test_the_plan_has_three_controls_a_call_over_all_lengths(partial):
    planned = list(partial.plan(8))
    assert len(planned) == len(set(planned)) == 8 * 9
    controls = [(index, length) for kind, index, length in planned if kind == "control"]
    # Own and other people's passages of every length.
    assert {(index % 2, length) for index, length in controls} == {
        (parity, length) for parity in (0, 1) for length in partial.splice.PASSAGES_S
    }


def test_shorter_and_denser_windows_of_the_same_graph(partial, detector, voice):
    x = np.concatenate([voice(2.0, 1.0), voice(2.0, -1.0)])
    detector = replace(detector, policy=GatePolicy.open())
    dense = partial.with_windows(detector, 0.5, 0.25)
    result = dense.score((x, RATE))
    assert [s.start_s for s in result.segments] == [0.25 * i for i in range(15)]
    assert {round(s.end_s - s.start_s, 6) for s in result.segments} == {0.5}
    # Half a second twice is a second of the same mean.
    llrs = np.array([s.llr for s in result.segments])
    assert llrs[[0, 2, 4, 6]] == pytest.approx([1.0] * 4, abs=0.05)
    assert llrs[[8, 10, 12, 14]] == pytest.approx([-1.0] * 4, abs=0.05)
    same = partial.with_windows(detector, None, None)
    assert same.score((x, RATE)).llr == detector.score((x, RATE)).llr


@pytest.fixture
def made(partial, voice, monkeypatch):
    """Stand-in makers: the call of an index has the llr of its index; what was made is noted."""
    names = []

    def make(kind):
        def one(maker, index, passage_s):
            names.append(f"{kind} {index} {passage_s:g}")
            x = voice(1.5, float(index))
            return partial.splice.Call("made up", kind, x, (), passage_s, "ann", "it")

        return one

    kinds = dict.fromkeys(partial.splice.MAKERS)
    monkeypatch.setattr(partial.splice, "MAKERS", {kind: make(kind) for kind in kinds})
    return names


def test_a_stopped_run_goes_on(partial, made, detector: Detector, tmp_path):
    path = tmp_path / "scores" / "calls.jsonl"
    whole = partial.score(detector, None, 1, "clean", path)
    assert len(made) == len(whole) == 9
    assert [row["value"] for row in whole[:3]] == pytest.approx([0.0, 1.0, 2.0], abs=0.05)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]) + lines[5][:20])
    made.clear()
    assert json.dumps(partial.score(detector, None, 1, "clean", path)) == json.dumps(whole)
    assert len(made) == 4
    assert path.read_text() == "".join(lines)
