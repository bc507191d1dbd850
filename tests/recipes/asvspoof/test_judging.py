"""What the ASVspoof recipes do with trained systems: prepare, judge, export."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def judged(bench, runs):
    """What is done with trained systems."""
    la, model = ("--data_folder", "asvspoof2019_la"), ("--model", "straight")
    steps = {
        **{
            f"prepare {name}": bench.call("preparing", name, "--data_folder", name, "--no_counts")
            for name in ("asvspoof2019_la", "asvspoof5", "in_the_wild")
        },
        "counts": bench.call("preparing", "asvspoof2019_la", *la),
        "2021 prepare": bench.call(
            "preparing", "asvspoof2021", "--part", "LA", "--data_folder", "asvspoof2021_la",
            "--no_counts", "--decode",
        ),
        "eval": bench.call("evaluating", "asvspoof2019_la", *model, *la),
        "gmm": bench.call("evaluating", "asvspoof2019_la", "--model", "lfcc_gmm", *la),
        "by telephone": bench.call(
            "evaluating", "asvspoof2019_la", *model, *la, "--perturb", "[{name: telephone}]"
        ),
        "torn list": bench.call("evaluating", "asvspoof2019_la", *model, *la, "--perturb", "[{"),
        "five": bench.call(
            "evaluating", "asvspoof5", "--model", "five", "--data_folder", "asvspoof5"
        ),
        "LA": bench.call(
            "evaluating", "asvspoof2021", *model, "--data_folder", "asvspoof2021_la",
            "--part", "LA", "--subset", "eval",
        ),
        "DF": bench.call(
            "evaluating", "asvspoof2021", *model, "--data_folder", "asvspoof2021_df",
            "--part", "DF", "--subset", "progress", "--out", "df",
        ),
        "no subset": bench.call(
            "evaluating", "asvspoof2021", *model, "--data_folder", "asvspoof2021_la",
            "--part", "LA",
        ),
        "wild": bench.call("evaluating", "in_the_wild", *model, "--data_folder", "in_the_wild"),
        "no model": bench.call("evaluating", "in_the_wild", "--model", "x", "--data_folder", "x"),
        "export": ["exporting", [[*model, "--out", "toy-bundle", "--licence", "MIT",
                                  "--uncalibrated"]]],
        "export gmm": ["exporting", [["--model", "lfcc_gmm", "--out", "g", "--licence", "MIT"]]],
    }  # fmt: skip
    return bench.run(steps)


def test_the_score_file_is_the_official_one(bench, judged):
    assert judged["eval"][0] == 0, judged["eval"][1]
    from voiceguard.protocols import iter_scores, read_trials

    protocol = "asvspoof2019_la/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.eval.trl.txt"
    trials = list(read_trials(bench / protocol, "asvspoof2019-la"))
    rows = list(iter_scores(bench / "straight" / "asvspoof2019_la.eval.scores.txt", "asvspoof2019"))
    assert [row.utterance for row in rows] == [trial.utterance for trial in trials]
    assert [row.label for row in rows] == [trial.label for trial in trials]
    assert [row.attack for row in rows] == [trial.attack for trial in trials]


def test_the_table_is_that_of_the_scores(bench, judged):
    from voiceguard.metrics import eer
    from voiceguard.protocols import iter_scores

    path = bench / "straight" / "asvspoof2019_la.eval.scores.txt"
    rows = list(iter_scores(path, "asvspoof2019"))
    scores = {
        label: np.array([row.score for row in rows if row.label == label])
        for label in ("bonafide", "spoof")
    }
    report = json.loads(path.with_suffix(".json").read_text())
    expected = eer(scores["bonafide"], scores["spoof"]).value
    assert report["metrics"]["eer"] == pytest.approx(expected)
    assert "EER (%)" in judged["eval"][1]
    assert "min t-DCF is left out" in judged["eval"][1]
    assert {row["group"] for row in report["by"]["attack"]} >= {row.attack for row in rows} - {None}


def test_perturbed_clips_are_scored_beside_the_others(bench, judged):
    from voiceguard.protocols import read_scores

    assert judged["by telephone"][0] == 0, judged["by telephone"][1]
    found = [
        read_scores(bench / "straight" / f"asvspoof2019_la.eval{end}.scores.txt", "asvspoof2019")
        for end in ("", ".perturbed")
    ]
    assert found[0].keys() == found[1].keys()
    assert found[0] != found[1]
    code, said = judged["torn list"]
    assert (code, "--perturb must be a YAML list" in said) == (2, True)


@pytest.mark.parametrize("name", ["gmm", "five", "LA", "DF", "wild"])
def test_other_systems_and_corpora_are_judged(judged, name):
    assert judged[name][0] == 0, judged[name][1]
    assert "EER (%)" in judged[name][1]


def test_a_subset_is_scored_alone_and_named(bench, judged):
    from voiceguard.protocols import read_scores, read_trials

    scored = read_scores(bench / "straight" / "asvspoof2021.LA.eval.scores.txt", "asvspoof2021")
    keys = bench / "asvspoof2021_la/keys/LA/CM/trial_metadata.txt"
    trials = read_trials(keys, "asvspoof2021-la", subset="eval")
    assert set(scored) == {trial.utterance for trial in trials}
    assert (bench / "df" / "asvspoof2021.DF.progress.scores.txt").is_file()
    code, said = judged["no subset"]
    assert (code, "Name the subset" in said) == (2, True)


def test_a_model_that_is_not_there_is_named(judged):
    code, said = judged["no model"]
    assert (code, "x holds neither model.safetensors nor" in said) == (2, True)


@pytest.mark.parametrize("name", ["asvspoof2019_la", "asvspoof5", "in_the_wild", "2021"])
def test_prepare_finds_a_whole_corpus(judged, name):
    code, said = judged["2021 prepare" if name == "2021" else f"prepare {name}"]
    assert code == 0, said
    assert "amiss" not in said


def test_prepare_expects_the_published_counts(judged):
    code, said = judged["counts"]
    assert code == 1
    assert "published counts are" in said


def test_the_bundle_scores_as_the_network_did(bench, judged):
    assert judged["export"][0] == 0, judged["export"][1]
    import onnxruntime

    from voiceguard.audio import read
    from voiceguard.protocols import read_scores

    graph = onnxruntime.InferenceSession(str(bench / "toy-bundle" / "model.onnx"))
    scored = read_scores(bench / "straight" / "asvspoof2019_la.eval.scores.txt", "asvspoof2019")
    for name, expected in list(scored.items())[:4]:
        audio = bench / f"asvspoof2019_la/ASVspoof2019_LA_eval/flac/{name}.flac"
        window = np.resize(read(audio).samples[0], 8_000)[None]
        [score] = graph.run(["score"], {"waveform": window})
        assert score[0] == pytest.approx(expected, abs=1e-4)
    manifest = json.loads((bench / "toy-bundle" / "bundle.json").read_text())
    assert (manifest["window_samples"], manifest["calibration"]) == (8_000, None)


def test_a_mixture_has_no_graph_and_says_so(judged):
    code, said = judged["export gmm"]
    assert (code, "no ONNX graph" in said) == (2, True)
