"""From clips to a verdict on a toy corpus: train, be killed, resume, export, score."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import wave

import numpy as np
import pytest

# Looked up and not imported: the recipe runs in processes of its own.
ABSENT = [name for name in ("speechbrain", "av", "onnx") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ABSENT), reason=f"the recipe needs {ABSENT}"),
]

TOY_MODEL = {
    "stem": 4,
    "blocks": [{"channels": 4, "stride": [2, 2]}, {"channels": 6, "stride": [4, 2]}],
    "graph": {"gat_dims": [6, 4]},
    "statistics": 6,
}
SPEAKERS = (  # label, kind, system, origin
    ("bonafide", "human", "human", "attic"),
    ("bonafide", "human", "human", "kitchen"),
    ("spoof", "tts", "alpha", "alpha-samples"),
    ("spoof", "tts", "beta", "beta-samples"),
)
# Dies where the third batch of the second epoch has been learned from, of four.
DRIVER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import train

learn = train.CountermeasureBrain.on_fit_batch_end

def learn_and_die(brain, *rest):
    learn(brain, *rest)
    if (brain.epoch, brain.step) == (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)

train.CountermeasureBrain.on_fit_batch_end = learn_and_die
train.main(sys.argv[2:])
"""


def run(*arguments, cwd):
    """A script in a process of its own, on one thread."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def succeed(*arguments, cwd):
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3_000:]
    return done


def write_corpus(folder, voices):
    rows = []
    for label, kind, system, origin in SPEAKERS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for take in range(3):
            name = f"{label}/{'h' if label == 'bonafide' else 's'}_{origin}{take}.wav"
            rows.append((name, label, kind, system, origin, f"{origin}-voice", ""))
            with wave.open(str(folder / name), "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", ""))
                pcm = np.round(voices(label, len(rows)) * 32_767).astype(np.int16)
                file.writeframes(pcm.tobytes())
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "kind", "system", "origin", "group", "derived_from"])
        writer.writerows(rows)


def toy_hparams(recipe_folder):
    """The shipped experiment, small enough for seconds."""
    from hyperpyyaml import load_hyperpyyaml

    text = (recipe_folder / "hparams" / "base.yaml").read_text("utf-8")
    settings = load_hyperpyyaml(text, {"data_folder": "to be overridden"})
    return settings | {
        "fold": 0,
        "threads": 1,
        "crop_samples": 4_160,
        "batch_size": 2,
        "crops_per_epoch": 8,
        "epochs": 3,
        "judge_clips": 4,
        # The warm-up outlasts the twelve steps: this is a rate of 0.06 at the last.
        "learning_rate": 1.0,
        "teacher": False,
        "model": settings["model"] | TOY_MODEL,
    }


@pytest.fixture(scope="module")
def bench(tmp_path_factory, recipe_folder, make_voices):
    """The toy corpus, the experiment, and the runs ``straight`` and ``resumed``."""
    bench = tmp_path_factory.mktemp("recipe")
    write_corpus(bench / "corpus", make_voices)
    (bench / "work").mkdir()
    rooms = np.random.default_rng(0).standard_normal((4, 400)) * np.exp(-np.arange(400) / 60)
    np.save(bench / "work" / "rooms.npy", rooms.astype(np.float32))
    (bench / "toy.yaml").write_text(json.dumps(toy_hparams(recipe_folder)))
    options = ["toy.yaml", "--data_folder", "corpus", "--work", "work", "--name"]
    train = recipe_folder / "train.py"
    succeed(train, *options, "straight", cwd=bench)
    killed = run("-c", DRIVER, recipe_folder, *options, "resumed", cwd=bench)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3_000:]
    assert not (bench / "work" / "resumed" / "average.safetensors").exists()
    assert [row["epoch"] for row in log(bench, "resumed")] == ["1"]
    succeed(train, *options, "resumed", cwd=bench)
    return bench


@pytest.fixture(scope="module")
def bundle(bench, recipe_folder):
    (bench / "CARD.md").write_text("# toy\n")
    weights = "work/straight/average.safetensors"
    options = ["--data_folder", "corpus", "--work", "work", "--network", weights, "--fold", "0"]
    export = recipe_folder / "export.py"
    succeed(export, *options, "--card", "CARD.md", "--out", "toy-bundle", cwd=bench)
    return bench / "toy-bundle"


def log(bench, name):
    with (bench / "work" / name / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def averaged(bench, name):
    from safetensors.numpy import load_file

    return load_file(bench / "work" / name / "average.safetensors")


def test_a_killed_run_resumes_to_the_very_same_weights(bench):
    straight, resumed = averaged(bench, "straight"), averaged(bench, "resumed")
    assert straight.keys() == resumed.keys()
    for name, weight in straight.items():
        np.testing.assert_array_equal(resumed[name], weight, err_msg=name)


def test_and_to_the_same_checkpoint(bench):
    """The raw weights and the optimiser too, not the average alone."""
    import torch

    for name in ("model.ckpt", "optimizer.ckpt"):
        states = [
            torch.load(max(bench.glob(f"work/{run}/checkpoints/*/{name}")), weights_only=True)
            for run in ("straight", "resumed")
        ]
        torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)


def test_the_log_has_each_epoch_once_with_equal_figures(bench):
    logs = [log(bench, name) for name in ("straight", "resumed")]
    assert [row["epoch"] for row in logs[0]] == ["1", "2", "3"]
    for row in logs[0] + logs[1]:
        del row["minutes"]
    assert logs[0] == logs[1]
    assert 0 <= float(logs[0][1]["eer_clean"]) <= 1


def test_training_moved_every_weight(bench, recipe_folder):
    import torch

    from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig

    hparams = toy_hparams(recipe_folder)
    torch.manual_seed(hparams["seed"])
    start = SpectralAASIST(SpectralAASISTConfig.from_dict(hparams["model"]))
    trained = averaged(bench, "straight")
    for name, weight in start.named_parameters():
        assert not np.array_equal(trained[name], weight.detach().numpy()), name


def test_the_bundle_scores_a_clip_as_the_network_does(bench, bundle, make_voices):
    import torch

    from voiceguard import Detector
    from voiceguard.audio.quality import GatePolicy
    from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig

    weights = averaged(bench, "straight")
    config = SpectralAASISTConfig.from_dict(toy_hparams_of(bench)["model"])
    model = SpectralAASIST(config).eval()
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    detector = Detector.load(bundle, policy=GatePolicy.open())
    calibration = detector.manifest.calibration
    assert calibration.slope > 0
    for label in ("bonafide", "spoof"):
        clip = make_voices(label, 77)
        result = detector.score((clip, 16_000))
        window = np.resize(clip, detector.manifest.window_samples)
        with torch.inference_mode():
            expected = model.score(model(torch.from_numpy(window)[None])).item()
        assert result.score == pytest.approx(expected, abs=1e-3)
        assert result.llr == pytest.approx(calibration.slope * result.score + calibration.offset)


def toy_hparams_of(bench):
    return json.loads((bench / "toy.yaml").read_text())


def test_the_bundle_tells_where_it_comes_from(bench, bundle):
    import hashlib

    manifest = json.loads((bundle / "bundle.json").read_text())
    weights = (bench / "work" / "straight" / "average.safetensors").read_bytes()
    assert manifest["id"] == "toy-bundle"
    assert manifest["provenance"]["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert manifest["provenance"]["held_out_fold"] == "0"
    assert (bundle / "CARD.md").read_text() == "# toy\n"
