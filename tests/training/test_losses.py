"""The losses against their closed forms, in numpy."""

import numpy as np
import pytest
import torch

from voiceguard.training.losses import belief_loss, frame_loss, label_loss, view_loss

LOGITS = torch.tensor([[0.3, -1.2], [2.0, 2.5], [-4.0, 1.0]], dtype=torch.float64)
BONAFIDE = torch.tensor([0.0, 1.0, 0.0])


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_label_loss_is_the_mean_log_loss_with_bona_fide_in_column_one():
    expected = -log_softmax(LOGITS.numpy())[[0, 1, 2], [0, 1, 0]].mean()
    assert label_loss(LOGITS, BONAFIDE).item() == pytest.approx(expected)
    sure = torch.tensor([[-20.0, 20.0]])
    assert label_loss(sure, torch.ones(1)).item() == pytest.approx(0.0, abs=1e-6)
    assert label_loss(sure, torch.zeros(1)).item() == pytest.approx(40.0)


@pytest.mark.parametrize("smoothing", [0.05, 0.4])
def test_smoothing_moves_its_share_to_both_classes_alike(smoothing):
    logs = log_softmax(LOGITS.numpy())
    target = np.eye(2)[[0, 1, 0]] * (1 - smoothing) + smoothing / 2
    expected = -(target * logs).sum(axis=1).mean()
    assert label_loss(LOGITS, BONAFIDE, smoothing=smoothing).item() == pytest.approx(expected)


def test_belief_loss_is_the_cross_entropy_of_two_posteriors():
    score = torch.tensor([0.4, -3.0, 2.0], dtype=torch.float64)
    teacher = torch.tensor([1.0, -1.0, 0.2], dtype=torch.float64)
    p, q = sigmoid(teacher.numpy()), sigmoid(score.numpy())
    expected = -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()
    assert belief_loss(score, teacher).item() == pytest.approx(expected)


def test_belief_is_lowest_where_student_and_teacher_agree():
    teacher = torch.tensor([1.5, -0.7])
    score = teacher.clone().requires_grad_()
    belief_loss(score, teacher).backward()
    torch.testing.assert_close(score.grad, torch.zeros(2), atol=1e-7, rtol=0)
    for shift in (-0.5, 0.5):
        assert belief_loss(teacher + shift, teacher) > belief_loss(teacher, teacher)


@pytest.mark.parametrize("missing", [float("nan"), float("inf"), -float("inf")])
def test_clips_without_a_teacher_do_not_count(missing):
    score = torch.tensor([0.4, 7.0, 2.0], requires_grad=True)
    loss = belief_loss(score, torch.tensor([1.0, missing, 0.2]))
    kept = belief_loss(score.detach()[[0, 2]], torch.tensor([1.0, 0.2]))
    assert loss.item() == pytest.approx(kept.item())
    loss.backward()
    assert torch.isfinite(score.grad).all()
    assert score.grad[1] == 0
    assert torch.all(score.grad[[0, 2]] != 0)


def test_a_batch_without_any_teacher_costs_nothing_and_still_backpropagates():
    score = torch.tensor([0.4, 7.0], requires_grad=True)
    loss = belief_loss(score, torch.full((2,), float("nan")))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(score.grad, torch.zeros(2))


def test_view_loss_is_one_minus_the_cosine():
    seen = torch.tensor([[1.0, 2.0, 2.0], [3.0, 0.0, 4.0]])
    turned = torch.tensor([[2.0, 0.0, 0.0], [-3.0, 0.0, -4.0]])
    assert view_loss(seen, 5.0 * seen).item() == pytest.approx(0.0, abs=1e-6)
    assert view_loss(-seen, seen).item() == pytest.approx(2.0)
    # Cosines 1/3 and -1.
    assert view_loss(turned, seen).item() == pytest.approx(((1 - 1 / 3) + 2) / 2)


def test_view_gradient_is_across_the_prediction_only():
    predicted = torch.tensor([[1.0, 1.0]], requires_grad=True)
    view_loss(predicted, torch.tensor([[1.0, 0.0]])).backward()
    assert predicted.grad.norm() > 0.1
    assert (predicted.grad @ predicted.detach().T).item() == pytest.approx(0.0, abs=1e-6)


def test_frame_loss_is_the_mean_distance_in_angle_of_the_common_steps():
    torch.manual_seed(2)
    said, heard = torch.randn(3, 5, 4), torch.randn(3, 6, 4)
    a, b = said.numpy(), heard.numpy()[:, :5]
    cosine = (a * b).sum(2) / np.linalg.norm(a, axis=2) / np.linalg.norm(b, axis=2)
    assert frame_loss(said, heard).item() == pytest.approx(1 - cosine.mean(), rel=1e-5)
    assert frame_loss(3.0 * heard, heard).item() == pytest.approx(0.0, abs=1e-6)
    changed = heard.clone()
    changed[:, 5] = 100.0
    assert frame_loss(said, changed).item() == frame_loss(said, heard).item()
