"""The schedule and the average by their formulas, the objectives by hand.

Resuming and the whole loop are tested through the recipe, in tests/recipes.
"""

import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from voiceguard.models.graph import GraphConfig
from voiceguard.models.spectral_aasist import BlockConfig, SpectralAASIST, SpectralAASISTConfig
from voiceguard.training.data import Batch
from voiceguard.training.losses import belief_loss, frame_loss, label_loss, view_loss


@pytest.fixture(scope="module")
def loop():
    """The module under test, imported late: tests/conftest.py clears up behind SpeechBrain."""
    pytest.importorskip("speechbrain", reason="the training loop is SpeechBrain's")
    return importlib.import_module("voiceguard.training.brain")


# Schedule


def test_schedule_rises_rests_and_falls_to_a_hundredth(loop):
    schedule = loop.Schedule(peak=2e-3, total_steps=1_000, warmup_steps=100, decay_share=0.4)
    rates = np.array([schedule.rate(step) for step in range(1_000)])
    np.testing.assert_allclose(rates[:100], 2e-3 * np.arange(1, 101) / 100)
    np.testing.assert_array_equal(rates[100:601], 2e-3)
    assert np.all(np.diff(rates[600:]) < 0)
    # Half way down a cosine lies the middle between both ends.
    assert rates[800] == pytest.approx(2e-3 * (1 + 0.01) / 2)
    assert schedule.rate(1_000) == pytest.approx(2e-5)
    assert schedule.rate(5_000) == pytest.approx(2e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_schedule_at_the_ends_of_the_decay_share(loop, share):
    schedule = loop.Schedule(peak=1.0, total_steps=50, warmup_steps=5, decay_share=share)
    rates = [schedule.rate(step) for step in range(50)]
    assert all(0 < rate <= 1.0 for rate in rates)
    assert rates[4] == 1.0
    assert rates[-1] == (1.0 if share == 0.0 else pytest.approx(0.01, abs=0.01))


# Average


def test_average_of_weights_is_the_polynomial_one_at_first(loop):
    """Share (1 + n) / (10 + n): snapshot k of n weighs as the binomial (k + 8 choose 8)."""
    average, n = loop.warmed_average(0.999), 60
    weights = [_run(average, [1.0 if i == k else 0.0 for i in range(n + 1)]) for k in range(n + 1)]
    expected = np.array([math.comb(k + 9, 8) for k in range(1, n + 1)], dtype=float)
    np.testing.assert_allclose(weights[1:], expected / math.comb(n + 10, 9), rtol=1e-4)
    assert sum(weights) == pytest.approx(1.0, rel=1e-5)
    # The random start is forgotten within a hundred steps, which a decay of 0.999 alone is not.
    assert weights[0] < 1e-6
    assert 0.999**n > 0.9


def _run(average, snapshots):
    mean = torch.tensor(snapshots[0], dtype=torch.float64)
    for steps, value in enumerate(snapshots[1:], start=1):
        mean = average(mean, torch.tensor(value, dtype=torch.float64), steps)
    return mean.item()


def test_average_of_weights_ends_at_its_decay(loop):
    average = loop.warmed_average(0.9)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    shares = [average(one, zero, steps).item() for steps in range(200)]
    assert shares[0] == pytest.approx(0.1)
    assert np.all(np.diff(shares) >= 0)
    np.testing.assert_allclose(shares[80:], 0.9, rtol=1e-6)
    assert average(torch.tensor(3.0), torch.tensor(3.0), 7).item() == pytest.approx(3.0)


def test_average_starts_at_the_first_weights_and_takes_buffers_along(loop):
    layer = torch.nn.BatchNorm1d(2)
    averaged = AveragedModel(layer, avg_fn=loop.warmed_average(0.5), use_buffers=True)
    for mean in (4.0, 8.0):
        layer.running_mean.fill_(mean)
        averaged.update_parameters(layer)
    # Update one copies; update two keeps 2/11 of it.
    torch.testing.assert_close(
        averaged.module.running_mean, torch.full((2,), 4 * 2 / 11 + 8 * 9 / 11)
    )


# Objectives


@pytest.fixture(params=[0, 6], ids=["graphs", "graphs and statistics"])
def model(request):
    torch.manual_seed(0)
    config = SpectralAASISTConfig(
        stem=4,
        blocks=(BlockConfig(4, (2, 2)), BlockConfig(6, (4, 2))),
        graph=GraphConfig(gat_dims=(6, 4)),
        statistics=request.param,
    )
    return SpectralAASIST(config).eval()


@pytest.fixture
def brain(loop, model):
    torch.manual_seed(1)
    settings = {
        "label_smoothing": 0.1,
        "label_weight": 1.0,
        "branch_weight": 0.5,
        "belief_weight": 0.25,
        "view_weight": 2.0,
        "frame_weight": 3.0,
        "seed": 3,
        "steps_per_epoch": 7,
        "schedule": loop.Schedule(peak=1.0, total_steps=100, warmup_steps=50),
    }
    view = torch.nn.Linear(model.out_layer.in_features, 5)
    frames = torch.nn.Linear(6 * model.pos_S.shape[1], 4)
    parts = {"model": model, "view": view, "frames": frames}
    return loop.CountermeasureBrain(parts, None, settings, {"device": "cpu"})


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    waveform = 0.1 * torch.randn(4, 4_000, generator=generator)
    return Batch(waveform, torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([2, 0, 5, 1]))


def test_branches_add_up_to_the_whole(brain, model, batch):
    output = model(batch.waveform)
    branches = brain._branches(output.embedding)
    if not model.config.statistics:
        assert branches == []
        return
    # Each carries the bias.
    torch.testing.assert_close(sum(branches) - model.out_layer.bias, output.logits)


def test_without_a_teacher_the_labels_count_alone(brain, model, batch):
    predictions = brain.compute_forward(batch, None)
    loss = brain.compute_objectives(predictions, batch, None)
    expected = label_loss(predictions[1].logits, batch.bonafide, smoothing=0.1)
    for logits in brain._branches(predictions[1].embedding):
        expected = expected + 0.5 * label_loss(logits, batch.bonafide, smoothing=0.1)
    torch.testing.assert_close(loss, expected)


def test_the_teacher_is_looked_up_by_row(loop, brain, batch):
    predictions = brain.compute_forward(batch, None)
    labels_only = brain.compute_objectives(predictions, batch, None)
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(6, 5, generator=generator)
    logits = torch.randn(6, generator=generator)
    logits[5] = float("nan")
    brain.teacher = loop.TeacherTargets(features, logits)
    loss = brain.compute_objectives(predictions, batch, None)
    score = predictions[1].logits[:, 1] - predictions[1].logits[:, 0]
    belief = belief_loss(score, logits[[2, 0, 5, 1]])
    view = view_loss(brain.modules.view(predictions[1].embedding), features[[2, 0, 5, 1]])
    torch.testing.assert_close(loss, labels_only + 0.25 * belief + 2.0 * view)


def test_what_the_teacher_hears_at_each_step_counts_by_its_weight(loop, brain, batch):
    feature_map, output = brain.compute_forward(batch, None)
    heard = np.random.default_rng(3).standard_normal((6, feature_map.shape[3], 4))
    frames = heard.astype(np.float16)
    features, logits = torch.randn(6, 5), torch.randn(6)
    brain.teacher = loop.TeacherTargets(features, logits)
    without = brain.compute_objectives((feature_map, output), batch, None)
    brain.teacher = loop.TeacherTargets(features, logits, frames)
    loss = brain.compute_objectives((feature_map, output), batch, None)
    # The map of one step is channels by frequencies, as the projection reads them.
    said = brain.modules.frames(feature_map.permute(0, 3, 1, 2).flatten(2))
    expected = frame_loss(said, torch.from_numpy(frames[[2, 0, 5, 1]].astype(np.float32)))
    torch.testing.assert_close(loss - without, 3.0 * expected)


def test_gradient_reaches_every_weight(loop, brain, model, batch):
    model.train()
    frames = np.random.default_rng(3).standard_normal((6, 9, 4)).astype(np.float16)
    brain.teacher = loop.TeacherTargets(torch.randn(6, 5), torch.randn(6), frames)
    loss = brain.compute_objectives(brain.compute_forward(batch, None), batch, None)
    loss.backward()
    silent = [name for name, weight in brain.modules.named_parameters() if weight.grad is None]
    assert silent == []


def test_an_epoch_starts_from_its_own_seed_at_step_zero(loop, brain):
    """Whatever a checkpoint of the epoch before brought back."""
    draws = []
    for stale_step in (0, 7):
        brain.step, brain.avg_train_loss = stale_step, 0.3 * stale_step
        brain.on_stage_start(loop.sb.Stage.TRAIN, 2)
        draws.append(torch.rand(3))
        assert (brain.step, brain.avg_train_loss, brain.epoch) == (0, 0.0, 2)
    assert torch.equal(*draws)
    brain.on_stage_start(loop.sb.Stage.TRAIN, 3)
    assert not torch.equal(torch.rand(3), draws[0])


def test_the_learning_rate_follows_the_step_of_the_whole_training(brain, batch):
    brain.optimizer = SimpleNamespace(param_groups=[{"lr": None}, {"lr": None}])
    for epoch, step, expected in ((1, 1, 1), (1, 7, 7), (2, 1, 8), (3, 2, 16)):
        brain.epoch, brain.step = epoch, step
        brain.on_fit_batch_start(batch, should_step=True)
        rates = [group["lr"] for group in brain.optimizer.param_groups]
        assert rates == [pytest.approx(expected / 50)] * 2
