"""The ASVspoof recipes end to end on toy corpora: prepare, train, resume, judge, export.

Every process imports torch and SpeechBrain anew, so that many steps run in one.
"""

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

# Looked up and not imported: the recipes run in processes of their own.
ABSENT = [name for name in ("speechbrain", "av", "onnx") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ABSENT), reason=f"the recipes need {ABSENT}"),
]

RECIPES = Path(__file__).parents[2] / "recipes"
LA = RECIPES / "asvspoof2019_la" / "hparams"

# Runs steps, each a module of recipes/common and the arguments of its main.
DRIVER = """
import contextlib, importlib, io, json, sys
sys.path.insert(0, sys.argv[1])
results = []
for module, arguments in json.loads(sys.argv[2]):
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            importlib.import_module(module).main(*arguments)
        except SystemExit as end:
            code = end.code
    results.append([code, out.getvalue()])
print("RESULTS" + json.dumps(results))
"""
CORPORA = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mini_corpus import make_mini_corpus
for layout, trials in json.loads(sys.argv[2]):
    options = {"layout": layout, "trials": trials, "seconds": 0.6, "seed": 1}
    make_mini_corpus(Path("source"), Path(layout), **options)
"""
# Dies where the third batch of the second epoch has been learned from.
KILLED = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import training_run

learn = training_run.TrialBrain.on_fit_batch_end

def learn_and_die(brain, *rest):
    learn(brain, *rest)
    if (brain.epoch, brain.step) == (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)

training_run.TrialBrain.on_fit_batch_end = learn_and_die
training_run.main(*json.loads(sys.argv[2])[0][1])
"""
# Without batch norm: on CPUs each process normalises by its own batch.
PARALLEL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch, training_run

build = training_run.build_network

def without_batch_norm(*arguments):
    network = build(*arguments)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, torch.nn.Identity())
    return network

training_run.build_network = without_batch_norm
for module, arguments in json.loads(sys.argv[2]):
    training_run.main(*arguments)
"""

SPECTRAL = {
    "stem": 4,
    "blocks": [{"channels": 4, "stride": [2, 2]}, {"channels": 6, "stride": [4, 2]}],
    "graph": {"gat_dims": [6, 4]},
    "statistics": 6,
}
AASIST = {
    "sizes": {
        "widths": [4, 6],
        "graph": {
            "gat_dims": [6, 4],
            "pool_ratios": [0.5, 0.5, 0.5],
            "temperatures": [2.0, 2.0, 100.0],
        },
    }
}
# Every other system of 2019 LA, as shipped but for its sizes.
SMALL = {
    "aasist": AASIST,
    "aasist_l": AASIST,
    "rawnet2": {"taps": 65, "widths": [4, 6], "gru": 8, "gru_layers": 2, "embedding": 8},
    "rawgat_st": {"window_samples": 8_000, "widths": [4, 6], "gat_dims": [6, 4]},
    "lfcc_lcnn": {"head": "sigmoid", "width": 4},
    "lfcc_resnet18_oc": {
        "head": "oc_softmax", "stem": 4, "widths": [4, 4, 6, 6], "pooled": 6, "embedding": 6,
    },
}  # fmt: skip
MIXTURES = {
    "lfcc_gmm": {"front_end": "lfcc_gmm2021", "components": 2},
    "cqcc_gmm": {"front_end": "cqcc_asvspoof2021", "components": 2},
}


def python(code, steps, *, cwd, launcher=()):
    """Python code in a process of its own, on one thread."""
    script = cwd / f"driver_{abs(hash(code))}.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, *launcher, str(script), str(RECIPES / "common"), json.dumps(steps)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def run(steps, *, cwd):
    """Exit code and output of every step, by the steps' own names."""
    done = python(DRIVER, list(steps.values()), cwd=cwd)
    assert done.returncode == 0, done.stderr[-3_000:]
    results = json.loads(done.stdout.rsplit("RESULTS", 1)[1])
    return dict(zip(steps, results, strict=True))


def train(hparams, output, *overrides, corpus="asvspoof2019_la", options=None, data=None):
    """A step that trains at toy size."""
    arguments = [
        *(str(RECIPES / corpus / "hparams" / f"{hparams}.yaml"), "--data_folder", data or corpus),
        *("--output_folder", output, "--device", "cpu", *overrides),
    ]
    if options is not None:
        arguments += ["--options", json.dumps(options)]
    return ["training_run", [corpus, arguments]]


def network(hparams, output, *overrides, epochs=1, batch_size=11, **more):
    toy = ["--crop_samples", "8000", "--batch_size", str(batch_size), "--epochs", str(epochs)]
    return train(hparams, output, *toy, *overrides, **more)


def spectral(output, *overrides, **more):
    """The run that is killed and resumed: two epochs of eleven steps."""
    more = {"epochs": 2, "batch_size": 2, "options": SPECTRAL} | more
    return network("spectral_aasist", output, "--ckpt_interval_steps", "2", *overrides, **more)


def parallel(output, *overrides, batch_size):
    options = {"head": "sigmoid", "width": 4, "dropout": 0.0}
    rest = ["--optimiser", "sgd", "--learning_rate", "0.5", *overrides]
    return network("lfcc_lcnn", output, *rest, batch_size=batch_size, options=options)


def call(module, corpus, *arguments):
    return [module, [corpus, [*map(str, arguments)]]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory, make_voices):
    """All five toy corpora."""
    bench = tmp_path_factory.mktemp("asvspoof")
    for label in ("bonafide", "spoof"):
        for who in range(6):
            folder = bench / "source" / label / f"{label}{who}"
            folder.mkdir(parents=True)
            for take in range(3):
                pcm = np.round(make_voices(label, 10 * who + take) * 32_767).astype(np.int16)
                with wave.open(str(folder / f"{take}.wav"), "wb") as file:
                    file.setparams((1, 2, 16_000, 0, "NONE", ""))
                    file.writeframes(pcm.tobytes())
    layouts = [
        *(("asvspoof2019_la", 40), ("asvspoof5", 40), ("in_the_wild", 20)),
        *(("asvspoof2021_la", 24), ("asvspoof2021_df", 24)),
    ]
    done = python(CORPORA, layouts, cwd=bench)
    assert done.returncode == 0, done.stderr[-3_000:]
    return bench


@pytest.fixture(scope="module")
def runs(bench):
    """Trainings, evaluations, exports and refusals; the killed run before, its resumption here."""
    # Training must need neither audio nor protocol of the eval part.
    eval_part = {
        bench / "asvspoof2019_la" / name: bench / f"hidden_{i}"
        for i, name in enumerate(
            (
                "ASVspoof2019_LA_eval",
                "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.eval.trl.txt",
            )
        )
    }
    for there, hidden in eval_part.items():
        there.rename(hidden)
    killed = python(KILLED, [spectral("resumed")], cwd=bench)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3_000:]
    assert not (bench / "resumed" / "model.safetensors").exists()
    steps = {
        "straight": spectral("straight"),
        "resumed": spectral("resumed"),
        "again": spectral("straight"),
        "another": spectral("straight", "--learning_rate", "0.5"),
        "cached bf16": spectral("cached", "--cache", "cache", "--precision=bf16", epochs=1),
        **{name: network(name, name, options=options) for name, options in SMALL.items()},
        **{name: train(name, name, options=options) for name, options in MIXTURES.items()},
        "asvspoof5": spectral("five", corpus="asvspoof5", epochs=1),
        "augmented": spectral(
            "augmented",
            *("--perturb", json.dumps([{"name": "rawboost", "algorithm": 3}])),
            epochs=1,
        ),
    }
    found = run(steps, cwd=bench)
    for there, hidden in eval_part.items():
        hidden.rename(there)
    return found


@pytest.fixture(scope="module")
def judged(bench, runs):
    """What is done with trained systems."""
    la, model = ("--data_folder", "asvspoof2019_la"), ("--model", "straight")
    steps = {
        **{
            f"prepare {name}": call("preparing", *(name, "--data_folder", folder, "--no_counts"))
            for name, folder in (
                *(("asvspoof2019_la", "asvspoof2019_la"), ("asvspoof5", "asvspoof5")),
                ("in_the_wild", "in_the_wild"),
            )
        },
        "counts": call("preparing", "asvspoof2019_la", *la),
        "2021 prepare": call(
            "preparing", "asvspoof2021", "--part", "LA", "--data_folder", "asvspoof2021_la",
            "--no_counts", "--decode",
        ),
        "eval": call("evaluating", "asvspoof2019_la", *model, *la),
        "gmm": call("evaluating", "asvspoof2019_la", "--model", "lfcc_gmm", *la),
        "by telephone": call(
            "evaluating", "asvspoof2019_la", *model, *la, "--perturb", "[{name: telephone}]"
        ),
        "torn list": call("evaluating", "asvspoof2019_la", *model, *la, "--perturb", "[{"),
        "five": call(
            "evaluating", "asvspoof5", "--model", "five", "--data_folder", "asvspoof5"
        ),
        "LA": call(
            "evaluating", "asvspoof2021", *model, "--data_folder", "asvspoof2021_la",
            "--part", "LA", "--subset", "eval",
        ),
        "DF": call(
            "evaluating", "asvspoof2021", *model, "--data_folder", "asvspoof2021_df",
            "--part", "DF", "--subset", "progress", "--out", "df",
        ),
        "no subset": call(
            "evaluating", "asvspoof2021", *model, "--data_folder", "asvspoof2021_la",
            "--part", "LA",
        ),
        "wild": call("evaluating", "in_the_wild", *model, "--data_folder", "in_the_wild"),
        "no model": call("evaluating", "in_the_wild", "--model", "x", "--data_folder", "x"),
        "export": ["exporting", [[*model, "--out", "toy-bundle", "--licence", "MIT",
                                  "--uncalibrated"]]],
        "export gmm": ["exporting", [["--model", "lfcc_gmm", "--out", "g", "--licence", "MIT"]]],
    }  # fmt: skip
    return run(steps, cwd=bench)


@pytest.fixture(scope="module")
def refused(bench):
    """Trainings that cannot start."""
    steps = {
        "no corpus": spectral("r1", data="source"),
        "unknown system": spectral("r2", "--system", "aasist-xxl"),
        "unknown setting": spectral("r3", "--learning_speed", "1"),
        "wrong head": network("lfcc_resnet18_oc", "r4", options={"head": "linear"}),
        "unknown objective": spectral("r5", "--objective", "hinge"),
        "too few trials": spectral("r6", batch_size=64),
        "no file": train("nothing", "r7"),
        "torn step": spectral("r8", "--grad_accumulation_factor=3"),
    }
    return run(steps, cwd=bench)


def weights(path):
    from safetensors.numpy import load_file

    return load_file(path)


def checkpoint(bench, output, name):
    import torch

    newest = max((bench / output / "checkpoints").iterdir(), key=lambda p: p.stat().st_mtime)
    return torch.load(newest / f"{name}.ckpt", weights_only=True)


def log(bench, output):
    with (bench / output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# Train


def test_every_training_ends(runs):
    assert {name: code for name, (code, _) in runs.items() if code and name != "another"} == {}


@pytest.mark.parametrize("name", ["model", "optimizer", "average"])
def test_a_killed_run_resumes_to_the_same_state(bench, runs, name):
    import torch

    straight, resumed = (checkpoint(bench, run, name) for run in ("straight", "resumed"))
    torch.testing.assert_close(resumed, straight, rtol=0, atol=0)


def test_and_to_the_same_choice_and_log(bench, runs):
    straight, resumed = (
        weights(bench / run / "model.safetensors") for run in ("straight", "resumed")
    )
    assert straight.keys() == resumed.keys()
    for name, weight in straight.items():
        np.testing.assert_array_equal(resumed[name], weight, err_msg=name)
    for name in ("log.csv", "choice.json", "dev_scores.csv"):
        texts = [(bench / run / name).read_text() for run in ("straight", "resumed")]
        assert texts[0] == texts[1], name
    assert [row["epoch"] for row in log(bench, "straight")] == ["1", "2"]


def test_a_run_that_has_ended_is_left_alone(runs):
    assert "has ended" in runs["again"][1]


def test_a_run_of_another_configuration_is_not_resumed(runs):
    code, said = runs["another"]
    assert code == 2
    assert "learning_rate=0.5 (the run has 0.001)" in said


def test_the_choice_is_that_of_dev(bench, runs):
    """Its eval part was not there while it trained."""
    choice = json.loads((bench / "straight" / "choice.json").read_text())
    figures = {float(row["epoch"]): float(row["dev_eer"]) for row in log(bench, "straight")}
    epochs = {name: f for name, f in choice["dev_eer"].items() if name.startswith("epoch")}
    assert list(epochs.values()) == [min(figures.values())]
    assert choice["dev_eer"][choice["chosen"]] == min(choice["dev_eer"].values())
    assert "average" in choice["dev_eer"]


def test_training_moves_every_weight(bench, runs):
    import torch

    from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig

    torch.manual_seed(1234)
    started = SpectralAASIST(SpectralAASISTConfig.from_dict(SPECTRAL))
    trained = checkpoint(bench, "straight", "model")
    for name, weight in started.named_parameters():
        assert not torch.equal(trained[name], weight), name


# Several processes


def test_two_processes_learn_as_one_with_twice_the_batch(bench, runs):
    import torch

    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    alone = python(PARALLEL, [parallel("alone", batch_size=10)], cwd=bench)
    assert alone.returncode == 0, alone.stderr[-3_000:]
    steps = [parallel("two", "--distributed_backend=gloo", batch_size=5)]
    done = python(PARALLEL, steps, cwd=bench, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3_000:]
    expected, found = (checkpoint(bench, run, "model") for run in ("alone", "two"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    rows = [log(bench, run) for run in ("alone", "two")]
    for name in ("train_loss", "dev_eer"):
        assert float(rows[1][0][name]) == pytest.approx(float(rows[0][0][name]), abs=1e-6)
    from voiceguard.models.lcnn import LCNN, LCNNConfig

    torch.manual_seed(1000)
    network = LCNN(LCNNConfig(head="sigmoid", width=4))
    for name, start in network.named_parameters():
        moved, apart = (expected[name] - start).abs().max(), (found[name] - expected[name]).abs()
        # Half the batch alone would have moved it elsewhere altogether.
        assert moved > 0 and apart.max() < 0.01 * moved, name


# Judge


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


# Export


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


# Refusals


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no corpus", r"source holds no protocol: looked for .*cm\.train\.trn\.txt"),
        ("unknown system", "No network is named 'aasist-xxl'; there are aasist"),
        ("unknown setting", "learning_speed"),
        ("wrong head", r"goes with a head of \['oc_softmax'\]"),
        ("unknown objective", "must be one of"),
        ("too few trials", "One step takes 64 trials"),
        ("no file", "nothing.yaml is no file"),
        ("torn step", "multiple of grad_accumulation_factor"),
    ],
)
def test_what_cannot_start_says_why(refused, name, said):
    code, output = refused[name]
    assert code == 2, output
    assert re.search(said, output), output
