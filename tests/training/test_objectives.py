"""Each loss against its formula, trial by trial, and its gradient against finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import ParameterError
from voiceguard.models.graph import ModelOutput
from voiceguard.models.heads import build_head, heads
from voiceguard.training.objectives import (
    AMSoftmax,
    Focal,
    OCSoftmax,
    P2SGradMSE,
    WeightedCrossEntropy,
    build_objective,
    objectives,
)

LABELS = [1, 0, 0, 1, 0]
BONAFIDE = torch.tensor(LABELS, dtype=torch.float32)


def output(logits):
    return ModelOutput(logits, torch.zeros(len(logits), 1))


def cosines(seed=0, batch=5):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(batch, 2, generator=generator, dtype=torch.float64) - 1


def log_posterior(row, label, scale=1.0):
    """ln softmax, written out."""
    spoof, bonafide = (scale * float(v) for v in row)
    other = spoof if label else bonafide
    own = bonafide if label else spoof
    return -math.log1p(math.exp(other - own))


def expected_cross_entropy(logits, spoof, bonafide):
    weights = [bonafide if y else spoof for y in LABELS]
    terms = [-w * log_posterior(row, y) for w, row, y in zip(weights, logits, LABELS, strict=True)]
    return sum(terms) / sum(weights)


def expected_focal(logits, gamma, spoof, bonafide):
    total = 0.0
    for row, y in zip(logits, LABELS, strict=True):
        p = math.exp(log_posterior(row, y))
        total -= (bonafide if y else spoof) * (1 - p) ** gamma * math.log(p)
    return total / len(LABELS)


def expected_am(logits, margin, scale):
    total = 0.0
    for row, y in zip(logits, LABELS, strict=True):
        held = [float(row[k]) - (margin if k == y else 0.0) for k in (0, 1)]
        total -= log_posterior(held, y, scale)
    return total / len(LABELS)


def expected_oc(logits, real, fake, alpha):
    total = 0.0
    for row, y in zip(logits, LABELS, strict=True):
        cosine = float(row[1])
        total += math.log1p(math.exp(alpha * (real - cosine if y else cosine - fake)))
    return total / len(LABELS)


def expected_p2sgrad(logits):
    errors = [
        (float(row[k]) - float(k == y)) ** 2
        for row, y in zip(logits, LABELS, strict=True)
        for k in (0, 1)
    ]
    return sum(errors) / len(errors)


CASES = [
    (WeightedCrossEntropy(), lambda z: expected_cross_entropy(z, 0.1, 0.9)),
    (WeightedCrossEntropy(2.0, 0.5), lambda z: expected_cross_entropy(z, 2.0, 0.5)),
    (Focal(), lambda z: expected_focal(z, 2.0, 1.0, 1.0)),
    (Focal(0.5, 0.2, 3.0), lambda z: expected_focal(z, 0.5, 0.2, 3.0)),
    (AMSoftmax(), lambda z: expected_am(z, 0.9, 20.0)),
    (AMSoftmax(0.2, 7.0), lambda z: expected_am(z, 0.2, 7.0)),
    (OCSoftmax(), lambda z: expected_oc(z, 0.9, 0.2, 20.0)),
    (OCSoftmax(0.5, -0.1, 3.0), lambda z: expected_oc(z, 0.5, -0.1, 3.0)),
    (P2SGradMSE(), expected_p2sgrad),
]


@pytest.mark.parametrize(("objective", "formula"), CASES, ids=lambda c: str(c)[:40])
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_the_formula(objective, formula, seed):
    given = float(objective(output(cosines(seed)), BONAFIDE))
    assert given == pytest.approx(formula(cosines(seed)), rel=1e-9)


@pytest.mark.parametrize("objective", [case[0] for case in CASES], ids=lambda o: str(o)[:40])
def test_gradient_is_that_of_finite_differences(objective):
    logits = cosines().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: objective(output(z), BONAFIDE), (logits,))


@pytest.mark.parametrize("name", objectives())
def test_gradient_pulls_the_right_way(name):
    """More towards the true class lowers the loss, in either class."""
    logits = torch.tensor([[0.3, 0.4], [0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    build_objective(name)(output(logits), torch.tensor([1.0, 0.0])).backward()
    assert logits.grad[0, 1] < 0 < logits.grad[1, 1]


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(objectives()),
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.booleans()), min_size=1, max_size=9),
)
def test_order_of_the_batch_does_not_matter_and_no_loss_is_negative(name, trials):
    logits = torch.tensor([trial[:2] for trial in trials], dtype=torch.float64)
    bonafide = torch.tensor([trial[2] for trial in trials])
    objective = build_objective(name)
    loss = objective(output(logits), bonafide)
    backwards = objective(output(logits.flip(0)), bonafide.flip(0))
    assert loss >= 0
    torch.testing.assert_close(loss, backwards)


@pytest.mark.parametrize("name", ["weighted_cross_entropy", "focal"])
def test_confident_logits_stay_finite(name):
    logits = torch.tensor([[-1e4, 1e4], [-1e4, 1e4]], requires_grad=True)
    loss = build_objective(name)(output(logits), torch.tensor([1.0, 0.0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_focal_without_focus_is_cross_entropy():
    plain = WeightedCrossEntropy(1.0, 1.0)(output(cosines()), BONAFIDE)
    torch.testing.assert_close(Focal(gamma=0.0)(output(cosines()), BONAFIDE), plain)
    torch.testing.assert_close(AMSoftmax(0.0, 1.0)(output(cosines()), BONAFIDE), plain)


def test_one_class_loss_vanishes_beyond_both_margins():
    logits = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    far = OCSoftmax(alpha=200.0)(output(logits), torch.tensor([1.0, 0.0]))
    assert far < 1e-6
    at_margins = torch.tensor([[0.0, 0.9], [0.0, 0.2]], dtype=torch.float64)
    loss = OCSoftmax()(output(at_margins), torch.tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx(math.log(2.0))


def test_p2sgrad_gradient_is_the_error_itself():
    logits = cosines().requires_grad_()
    P2SGradMSE()(output(logits), BONAFIDE).backward()
    target = torch.nn.functional.one_hot(BONAFIDE.long(), 2)
    torch.testing.assert_close(logits.grad, (logits.detach() - target) / len(LABELS))


@pytest.mark.parametrize("name", objectives())
def test_every_objective_separates_two_clouds_through_its_head(name):
    torch.manual_seed(0)
    objective = build_objective(name)
    bonafide = (torch.arange(64) % 2).float()
    points = torch.randn(64, 3) + 2 * (2 * bonafide - 1).unsqueeze(1) * torch.tensor([1.0, 0, 0])
    for head_name in objective.heads:
        head = build_head(head_name, 3)
        optimiser = torch.optim.Adam(head.parameters(), lr=0.1)
        for _ in range(60):
            optimiser.zero_grad()
            objective(head(points), bonafide).backward()
            optimiser.step()
        scores = head.score(head(points)).detach()
        above = scores[bonafide == 1].unsqueeze(1) > scores[bonafide == 0]
        assert above.float().mean() > 0.95, head_name


def test_every_head_has_an_objective():
    assert {head for name in objectives() for head in build_objective(name).heads} == set(heads())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("banana", {}, "banana"),
        ("focal", {"banana": 1}, "banana"),
        ("focal", {"gamma": -0.1}, "'gamma'"),
        ("focal", {"spoof": float("nan")}, "'spoof'"),
        ("weighted_cross_entropy", {"bonafide": -1.0}, "'bonafide'"),
        ("am_softmax", {"scale": 0.0}, "'scale'"),
        ("am_softmax", {"margin": -0.5}, "'margin'"),
        ("oc_softmax", {"alpha": 0.0}, "'alpha'"),
        ("oc_softmax", {"real_margin": 0.1}, "margins"),
        ("oc_softmax", {"real_margin": 1.1}, "margins"),
    ],
)
def test_out_of_range_is_refused(name, options, message):
    with pytest.raises(ParameterError, match=message):
        build_objective(name, **options)
