"""The ASVspoof recipes train: to the same end when killed, on two processes, chosen by dev."""

import json
import re

import numpy as np
import pytest

pytestmark = pytest.mark.slow

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


def parallel(bench, output, *overrides, batch_size):
    options = {"head": "sigmoid", "width": 4, "dropout": 0.0}
    rest = ["--optimiser", "sgd", "--learning_rate", "0.5", *overrides]
    return bench.network("lfcc_lcnn", output, *rest, batch_size=batch_size, options=options)


@pytest.fixture(scope="module")
def refused(bench):
    """Trainings that cannot start."""
    steps = {
        "no corpus": bench.spectral("r1", data="source"),
        "unknown system": bench.spectral("r2", "--system", "aasist-xxl"),
        "unknown setting": bench.spectral("r3", "--learning_speed", "1"),
        "wrong head": bench.network("lfcc_resnet18_oc", "r4", options={"head": "linear"}),
        "unknown objective": bench.spectral("r5", "--objective", "hinge"),
        "too few trials": bench.spectral("r6", batch_size=64),
        "no file": bench.train("nothing", "r7"),
        "torn step": bench.spectral("r8", "--grad_accumulation_factor=3"),
    }
    return bench.run(steps)


def test_every_training_ends(runs):
    assert {name: code for name, (code, _) in runs.items() if code and name != "another"} == {}


@pytest.mark.parametrize("name", ["model", "optimizer", "average"])
def test_a_killed_run_resumes_to_the_same_state(bench, runs, name):
    import torch

    straight, resumed = (bench.checkpoint(run, name) for run in ("straight", "resumed"))
    torch.testing.assert_close(resumed, straight, rtol=0, atol=0)


def test_and_to_the_same_choice_and_log(bench, runs):
    straight, resumed = (bench.weights(run) for run in ("straight", "resumed"))
    assert straight.keys() == resumed.keys()
    for name, weight in straight.items():
        np.testing.assert_array_equal(resumed[name], weight, err_msg=name)
    for name in ("log.csv", "choice.json", "dev_scores.csv"):
        texts = [(bench / run / name).read_text() for run in ("straight", "resumed")]
        assert texts[0] == texts[1], name
    assert [row["epoch"] for row in bench.log("straight")] == ["1", "2"]


def test_a_run_that_has_ended_is_left_alone(runs):
    assert "has ended" in runs["again"][1]


def test_a_run_of_another_configuration_is_not_resumed(runs):
    code, said = runs["another"]
    assert code == 2
    assert "learning_rate=0.5 (the run has 0.001)" in said


def test_the_choice_is_that_of_dev(bench, runs):
    """Its eval part was not there while it trained."""
    choice = json.loads((bench / "straight" / "choice.json").read_text())
    figures = {float(row["epoch"]): float(row["dev_eer"]) for row in bench.log("straight")}
    epochs = {name: f for name, f in choice["dev_eer"].items() if name.startswith("epoch")}
    assert list(epochs.values()) == [min(figures.values())]
    assert choice["dev_eer"][choice["chosen"]] == min(choice["dev_eer"].values())
    assert "average" in choice["dev_eer"]


def test_training_moves_every_weight(bench, runs):
    import torch

    from voiceguard.models.spectral_aasist import SpectralAASIST, SpectralAASISTConfig

    torch.manual_seed(1234)
    started = SpectralAASIST(SpectralAASISTConfig.from_dict(bench.spectral_sizes))
    trained = bench.checkpoint("straight", "model")
    for name, weight in started.named_parameters():
        assert not torch.equal(trained[name], weight), name


def test_the_order_in_memory_changes_no_more_than_rounding(bench, runs):
    planes, last = bench.checkpoint("planes", "model"), bench.checkpoint("last", "model")
    formats = [w.is_contiguous() for name, w in last.items() if name.endswith("conv1.weight")]
    assert formats and not all(formats)
    for name, weight in planes.items():
        np.testing.assert_allclose(last[name], weight, rtol=2e-3, atol=2e-4, err_msg=name)


def test_two_processes_learn_as_one_with_twice_the_batch(bench, runs):
    import torch

    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    alone = bench.python(PARALLEL, [parallel(bench, "alone", batch_size=10)])
    assert alone.returncode == 0, alone.stderr[-3_000:]
    steps = [parallel(bench, "two", "--distributed_backend=gloo", batch_size=5)]
    done = bench.python(PARALLEL, steps, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3_000:]
    expected, found = (bench.checkpoint(run, "model") for run in ("alone", "two"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    rows = [bench.log(run) for run in ("alone", "two")]
    for name in ("train_loss", "dev_eer"):
        assert float(rows[1][0][name]) == pytest.approx(float(rows[0][0][name]), abs=1e-6)
    from voiceguard.models.lcnn import LCNN, LCNNConfig

    torch.manual_seed(1000)
    network = LCNN(LCNNConfig(head="sigmoid", width=4))
    for name, start in network.named_parameters():
        moved, apart = (expected[name] - start).abs().max(), (found[name] - expected[name]).abs()
        # Half the batch alone would have moved it elsewhere altogether.
        assert moved > 0 and apart.max() < 0.01 * moved, name


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
