"""benchmarks/reproduce.py: a run that was stopped goes on, and the figures are right."""

import argparse

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

pytest.importorskip("torch", reason="the recipe's modules need the train extra")


@pytest.fixture(scope="module")
def reproduce(benchmark_scripts):
    with benchmark_scripts("reproduce") as bench:
        yield bench.reproduce


class Scorer:
    """Scores a clip by its length; fails at the call after `good` ones."""

    def __init__(self, good):
        self.good, self.calls = good, []

    def __call__(self, clip):
        if len(self.calls) == self.good:
            raise KeyboardInterrupt
        self.calls.append(len(clip))
        return len(clip) / 3, False, False


@pytest.fixture
def trials(reproduce):
    clips = [np.zeros(n, np.float32) for n in (5, 6, 7, 8)]
    rows = [{"id": f"clip {i}"} for i in range(4)]
    return reproduce.Trials(rows, clips, np.array([True, False] * 2), np.array(list("abcd")))


def test_stopped_run_goes_on(reproduce, trials, tmp_path, monkeypatch):
    path = tmp_path / "scores" / "set_clean_system.txt"
    for scorer in (Scorer(2), Scorer(4)):
        monkeypatch.setattr(reproduce, "detector_scorer", lambda _, chosen=scorer: chosen)
        if scorer.good == 2:
            with pytest.raises(KeyboardInterrupt):
                reproduce.score(trials, "clean", "bundle", 7, path)
            # As if the machine had died while the next line was written.
            path.write_text(path.read_text() + "clip 2 1.2")
    values = reproduce.score(trials, "clean", "bundle", 7, path)
    assert scorer.calls == [7, 7]
    assert np.array_equal(values, np.array([5, 6, 7, 7]) / 3)
    assert len(path.read_text().splitlines()) == 4


def test_complete_file_is_only_read(reproduce, trials, tmp_path, monkeypatch):
    path = tmp_path / "scores.txt"
    path.write_text("".join(f"clip {i} {i}.5\n" for i in range(4)))
    scorer = Scorer(0)
    monkeypatch.setattr(reproduce, "detector_scorer", lambda _: scorer)
    values = reproduce.score(trials, "g711", "bundle", 7, path)
    assert values.tolist() == [0.5, 1.5, 2.5, 3.5]


def test_area_counts_ties_half(reproduce):
    rng = np.random.default_rng(0)
    b, s = rng.integers(2, 9, 40).astype(float), rng.integers(0, 7, 60).astype(float)
    expected = roc_auc_score([1] * 40 + [0] * 60, np.concatenate([b, s]))
    assert reproduce.area_under_roc(b, s) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("calibrated", [True, False])
def test_every_figure_is_there(reproduce, trials, calibrated):
    found = reproduce.all_figures(trials, np.array([2.0, -1.0, 3.0, -2.0]), calibrated=calibrated)
    names = {"eer", "eer_low", "eer_high", "min_dcf", "min_cllr", "auc"}
    assert set(found) == names | ({"act_dcf", "cllr"} if calibrated else set())
    assert found["eer"] == 0.0
    assert found["auc"] == 1.0


def test_protocol_becomes_trials_without_reading_audio(reproduce, tmp_path):
    protocol = tmp_path / "ASVspoof2019.LA.cm.eval.trl.txt"
    protocol.write_text("LA_0001 LA_E_1 - - bonafide\nLA_0002 LA_E_2 - A07 spoof\n")
    args = argparse.Namespace(protocol=protocol, audio=tmp_path / "flac", format=None, subset=None)
    trials = reproduce.corpus_trials(args)
    assert trials.bonafide.tolist() == [True, False]
    assert trials.groups.tolist() == ["LA_0001", "LA_0002"]
    assert trials.clips.paths == [tmp_path / "flac" / f"LA_E_{i}.flac" for i in (1, 2)]


def test_figure_on_record(reproduce):
    assert reproduce.recorded_eer("wild-dev", "clean", "aasist") == 0.406
    assert reproduce.recorded_eer("wild-dev", "g711", "nobody") is None
    assert 0.1 < reproduce.recorded_eer("wild-dev", "clean", "vg-base") < 0.5
