"""Toy corpora and the runs on them that every test of the ASVspoof recipes looks at.

Every process imports torch and SpeechBrain anew, so that many steps run in one.
"""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

# Looked up and not imported: the recipes run in processes of their own.
ABSENT = [name for name in ("speechbrain", "av", "onnx") if importlib.util.find_spec(name) is None]
RECIPES = Path(__file__).parents[3] / "recipes"

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


class Bench:
    """A folder of corpora and runs, and the steps that the recipes take in it."""

    spectral_sizes = SPECTRAL

    def __init__(self, folder):
        self.folder = folder

    def __truediv__(self, path):
        return self.folder / path

    def python(self, code, steps, *, launcher=()):
        """Python code in a process of its own, on one thread."""
        script = self / f"driver_{abs(hash(code))}.py"
        script.write_text(code)
        return subprocess.run(
            [sys.executable, *launcher, str(script), str(RECIPES / "common"), json.dumps(steps)],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def run(self, steps):
        """Exit code and output of every step, by the steps' own names."""
        done = self.python(DRIVER, list(steps.values()))
        assert done.returncode == 0, done.stderr[-3_000:]
        results = json.loads(done.stdout.rsplit("RESULTS", 1)[1])
        return dict(zip(steps, results, strict=True))

    def train(self, hparams, output, *overrides, corpus="asvspoof2019_la", options=None, data=None):
        """A step that trains."""
        settings = str(RECIPES / corpus / "hparams" / f"{hparams}.yaml")
        places = ["--data_folder", data or corpus, "--output_folder", output]
        arguments = [settings, *places, "--device", "cpu", *overrides]
        if options is not None:
            arguments += ["--options", json.dumps(options)]
        return ["training_run", [corpus, arguments]]

    def network(self, hparams, output, *overrides, epochs=1, batch_size=11, **more):
        """A step that trains a network at toy size."""
        toy = ["--crop_samples", "8000", "--batch_size", str(batch_size), "--epochs", str(epochs)]
        return self.train(hparams, output, *toy, *overrides, **more)

    def spectral(self, output, *overrides, **more):
        """The run that is killed and resumed: two epochs of eleven steps."""
        more = {"epochs": 2, "batch_size": 2, "options": SPECTRAL} | more
        interval = ("--ckpt_interval_steps", "2")
        return self.network("spectral_aasist", output, *interval, *overrides, **more)

    def call(self, module, corpus, *arguments):
        """A step of another script."""
        return [module, [corpus, [*map(str, arguments)]]]

    def weights(self, output):
        from safetensors.numpy import load_file

        return load_file(self / output / "model.safetensors")

    def checkpoint(self, output, name):
        import torch

        newest = max((self / output / "checkpoints").iterdir(), key=lambda p: p.stat().st_mtime)
        return torch.load(newest / f"{name}.ckpt", weights_only=True)

    def log(self, output):
        with (self / output / "log.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def bench(tmp_path_factory, make_voices):
    """All five toy corpora."""
    if ABSENT:
        pytest.skip(f"the recipes need {ABSENT}")
    bench = Bench(tmp_path_factory.mktemp("asvspoof"))
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
    done = bench.python(CORPORA, layouts)
    assert done.returncode == 0, done.stderr[-3_000:]
    return bench


@pytest.fixture(scope="session")
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
    killed = bench.python(KILLED, [bench.spectral("resumed")])
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3_000:]
    assert not (bench / "resumed" / "model.safetensors").exists()
    steps = {
        "straight": bench.spectral("straight"),
        "resumed": bench.spectral("resumed"),
        "again": bench.spectral("straight"),
        "another": bench.spectral("straight", "--learning_rate", "0.5"),
        "cached bf16": bench.spectral("cached", "--cache", "cache", "--precision=bf16", epochs=1),
        **{name: bench.network(name, name, options=options) for name, options in SMALL.items()},
        **{name: bench.train(name, name, options=options) for name, options in MIXTURES.items()},
        "asvspoof5": bench.spectral("five", corpus="asvspoof5", epochs=1),
        "augmented": bench.spectral(
            "augmented",
            *("--perturb", json.dumps([{"name": "rawboost", "algorithm": 3}])),
            epochs=1,
        ),
        "planes": bench.spectral("planes", epochs=1),
        "channels last": bench.spectral("last", "--channels_last", "true", epochs=1),
    }
    found = bench.run(steps)
    for there, hidden in eval_part.items():
        hidden.rename(there)
    return found
