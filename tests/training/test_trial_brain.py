"""Checkpoints that survive a kill, the run's configuration, the Brain's own steps.

Whole runs (kill, resume, several processes) are tested through the recipes, in tests/recipes.
"""

import copy
import csv
import importlib
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from voiceguard.errors import ParameterError, ProtocolError, VoiceguardError
from voiceguard.models.graph import ModelOutput
from voiceguard.protocols import Trial
from voiceguard.training.data import Batch
from voiceguard.training.objectives import build_objective
from voiceguard.training.schedules import Constant
from voiceguard.training.scoring import equal_error_rate, score_windows
from voiceguard.training.trials import EpochBatches, TrainingCrops, Windows

TRIALS = [Trial(f"t{i}", label="bonafide" if i % 3 == 0 else "spoof") for i in range(12)]


@pytest.fixture(scope="module")
def modules():
    """The modules under test, imported late; see test_brain."""
    pytest.importorskip("speechbrain", reason="the training loop is SpeechBrain's")
    return SimpleNamespace(
        brain=importlib.import_module("voiceguard.training.trial_brain"),
        checkpoints=importlib.import_module("voiceguard.training.checkpoints"),
    )


class Tones:
    """Twelve clips; the bona fide ones are louder."""

    def __len__(self):
        return len(TRIALS)

    def clip(self, index):
        rng = np.random.default_rng(index)
        gain = 1.0 if TRIALS[index].label == "bonafide" else 0.1
        return (gain * rng.standard_normal(40)).astype(np.float32)


class Toy(torch.nn.Module):
    """Two logits of a waveform, with dropout."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout(0.3)
        self.linear = torch.nn.Linear(16, 2)

    def forward(self, waveform):
        return ModelOutput(self.linear(self.drop(waveform.square())), waveform)

    def score(self, output):
        return output.logits[:, 1] - output.logits[:, 0]


def make(modules, folder, *, judge=None, average=None, epochs=4, **settings):
    import speechbrain as sb

    torch.manual_seed(0)
    network = Toy()
    history = modules.checkpoints.History()
    counter = sb.utils.epoch_loop.EpochCounter(epochs)
    kept = {"model": network, "history": history, "counter": counter}
    average = torch.optim.swa_utils.AveragedModel(network) if average else None
    if average is not None:
        kept["average"] = average
    batches = EpochBatches(len(TRIALS), batch_size=2, accumulate=1, seed=1)
    hparams = {
        "objective": build_objective("weighted_cross_entropy"),
        "schedule": Constant(0.01),
        "steps_per_epoch": batches.steps,
        "seed": 3,
        "judge_every": 1,
        "average": average,
        "average_when": "best",
        "history": history,
        "counter": counter,
        "noprogressbar": True,
        **settings,
    }
    checkpointer = modules.checkpoints.WholeCheckpointer(folder / "checkpoints", kept)
    brain = modules.brain.TrialBrain(
        {"model": network}, torch.optim.Adam, hparams, {"device": "cpu"}, checkpointer
    )
    brain.crops = TrainingCrops(TRIALS, Tones(), length=16, seed=2)
    brain.batches, brain.judge = batches, judge
    return brain


def fit(brain):
    loader = torch.utils.data.DataLoader(
        brain.crops, batch_sampler=brain.batches, collate_fn=Batch.collate
    )
    brain.fit(brain.hparams.counter, loader)
    return brain


# Resume


class Stop(Exception):
    pass


@pytest.mark.parametrize("died_at", [(1, 1), (2, 3), (2, 6), (3, 5)])
def test_a_run_that_died_anywhere_ends_with_the_same_weights(modules, tmp_path, died_at):
    def judged(network):
        return float(network.linear.weight.detach().square().sum())

    options = {"judge": judged, "average": True, "ckpt_interval_steps": 2}
    straight = fit(make(modules, tmp_path / "straight", **options))
    dying = make(modules, tmp_path / "resumed", **options)

    def learn(batch, outputs, loss, should_step):
        if (dying.epoch, dying.step) == died_at:
            raise Stop

    dying.on_fit_batch_end = learn
    with pytest.raises(Stop):
        fit(dying)
    resumed = fit(make(modules, tmp_path / "resumed", **options))
    for part in ("network", "optimizer"):
        expected, found = (getattr(brain, part).state_dict() for brain in (straight, resumed))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    averages = [brain.hparams.average.state_dict() for brain in (straight, resumed)]
    torch.testing.assert_close(*averages, rtol=0, atol=0)
    assert straight.hparams.history.rows == resumed.hparams.history.rows
    logs = [(tmp_path / run / "log.csv").read_text() for run in ("straight", "resumed")]
    assert logs[0] == logs[1]
    assert [row["epoch"] for row in csv.DictReader(logs[0].splitlines())] == ["1", "2", "3", "4"]


def test_a_checkpoint_that_was_never_finished_is_not_seen(modules, tmp_path):
    brain = fit(make(modules, tmp_path, epochs=1))
    [whole] = brain.checkpointer.list_checkpoints()
    names = {path.name for path in whole.path.iterdir()}
    assert "CKPT.yaml" in names and "CKPT.yaml.part" not in names
    torn = whole.path.with_name("CKPT+9999-torn")
    torn.mkdir()
    (torn / "CKPT.yaml.part").write_text("unixtime: 9e99\nend-of-epoch: true\n")
    (torn / "model.ckpt").write_bytes(b"half")
    again = fit(make(modules, tmp_path, epochs=1))
    assert not torn.exists()
    torch.testing.assert_close(again.network.state_dict(), brain.network.state_dict())


def test_a_checkpoint_takes_its_name_after_its_last_file(modules, tmp_path):
    from speechbrain.utils import checkpoints

    seen = []

    @checkpoints.register_checkpoint_hooks
    class Spy:
        @checkpoints.mark_as_saver
        def save(self, path):
            seen.append([p.name for p in path.parent.glob("CKPT.yaml*")])
            path.touch()

        @checkpoints.mark_as_loader
        def load(self, path, end_of_epoch):
            raise AssertionError

    brain = make(modules, tmp_path, epochs=1)
    brain.checkpointer.add_recoverable("spy", Spy())
    fit(brain)
    assert seen == [["CKPT.yaml.part"]]


# The choice of an epoch


def test_the_best_epoch_on_dev_is_kept_and_averaged(modules, tmp_path):
    figures = iter([0.3, 0.1, 0.4, 0.1])
    snapshots = []

    def judged(network):
        snapshots.append(copy.deepcopy(network.state_dict()))
        return next(figures)

    brain = fit(make(modules, tmp_path, judge=judged, average=True))
    kept = {c.meta["epoch"]: c.meta["dev_eer"] for c in brain.checkpointer.list_checkpoints()}
    # Of two alike the later one is the best, and it is the newest too.
    assert kept == {4: 0.1}
    # The average takes each epoch that was the best so far: one, two and four.
    assert int(brain.hparams.average.n_averaged) == 3
    expected = torch.stack([snapshots[i]["linear.weight"] for i in (0, 1, 3)]).mean(dim=0)
    torch.testing.assert_close(brain.hparams.average.module.linear.weight.data, expected)


def test_a_worse_last_epoch_leaves_the_best_in_place(modules, tmp_path):
    figures = iter([0.3, 0.1, 0.4, 0.2])
    brain = fit(make(modules, tmp_path, judge=lambda network: next(figures)))
    assert brain.checkpointer.find_checkpoint(min_key="dev_eer").meta["epoch"] == 2
    assert brain.checkpointer.find_checkpoint().meta["epoch"] == 4


def test_judging_now_and_then_still_judges_the_last_epoch(modules, tmp_path):
    asked = []
    brain = make(modules, tmp_path, judge=lambda _: asked.append(1) or 0.5, judge_every=3)
    fit(brain)
    judged = [row["epoch"] for row in brain.hparams.history.rows if "dev_eer" in row]
    assert judged == [3, 4]


# Steps


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(modules, tmp_path, value):
    brain = make(modules, tmp_path)
    brain.hparams.objective = lambda output, bonafide: output.logits.sum() * value
    with pytest.raises(VoiceguardError, match="epoch 1, step 1") as caught:
        fit(brain)
    assert isinstance(caught.value, modules.brain.NonFiniteLossError)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (copied.epoch, copied.step, str(copied)) == (1, 1, str(caught.value))


def test_accumulated_batches_take_one_step_at_one_rate(modules, tmp_path):
    seen = []
    brain = make(modules, tmp_path, epochs=1, grad_accumulation_factor=3, steps_per_epoch=2)
    brain.hparams.schedule = SimpleNamespace(rate=lambda step: seen.append(step) or 0.01)
    fit(brain)
    assert seen == [0, 0, 0, 1, 1, 1]
    assert brain.optimizer_step == 2


def test_an_objective_sees_full_precision(modules, tmp_path):
    seen = []
    brain = make(modules, tmp_path, epochs=1, precision="bf16")
    objective = brain.hparams.objective

    def spy(output, bonafide):
        seen.append(output.logits.dtype)
        return objective(output, bonafide)

    brain.hparams.objective = spy
    fit(brain)
    assert set(seen) == {torch.float32}


# Scores


def test_scores_come_in_the_order_of_the_trials_whatever_the_batch():
    torch.manual_seed(1)
    network = Toy().train()
    windows = Windows(TRIALS, Tones(), length=16)
    whole = score_windows(network, windows, batch_size=12)
    assert not network.training
    np.testing.assert_allclose(score_windows(network, windows, batch_size=5), whole, rtol=1e-6)
    for index in (0, 7):
        one = torch.from_numpy(windows[index][0])[None]
        expected = network.score(network(one)).item()
        assert whole[index] == pytest.approx(expected, rel=1e-5)


def test_scoring_leaves_trainings_random_numbers_alone():
    before = torch.random.get_rng_state()
    score_windows(Toy(), Windows(TRIALS, Tones(), length=16))
    made = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    Toy()
    assert torch.equal(made, torch.random.get_rng_state())


def test_the_dev_figure_is_the_official_eer():
    windows = Windows(TRIALS, Tones(), length=16)
    scores = np.array([1.0 if trial.label == "bonafide" else 0.0 for trial in TRIALS])
    assert equal_error_rate(scores, windows) == 0.0
    assert equal_error_rate(-scores, windows) == 1.0
    with pytest.raises(ProtocolError, match="no label"):
        equal_error_rate(scores[:1], Windows([Trial("x")], [None], length=16))


# Configuration


def test_a_run_is_resumed_with_its_own_configuration_only(modules, tmp_path):
    settle = modules.checkpoints.settle_configuration
    plain = {"seed": 1, "options": {"widths": (4, 8)}, "max_grad_norm": math.inf}
    assert settle(tmp_path / "run", plain)
    assert not settle(tmp_path / "run", plain)
    with pytest.raises(ParameterError, match=r"seed=2 \(the run has 1\)") as caught:
        settle(tmp_path / "run", {**plain, "seed": 2, "more": True})
    assert "more=True" in str(caught.value)
    assert "output_folder" in str(caught.value)
