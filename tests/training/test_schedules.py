"""Published schedules by their formulas; what cannot be built is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.errors import ParameterError
from voiceguard.training import schedules
from voiceguard.training.schedules import build_schedule

COMMON = {"peak": 1e-4, "total_steps": 1_000, "steps_per_epoch": 10}


def rates(name, count=1_000, **options):
    schedule = build_schedule(name, **COMMON, **options)
    return np.array([schedule.rate(step) for step in range(count)])


def test_cosine_is_aasists_from_its_peak_to_its_floor():
    found = rates("cosine", floor=5e-6)
    assert found[0] == 1e-4
    assert found[500] == pytest.approx((1e-4 + 5e-6) / 2)
    assert np.all(np.diff(found) < 0)
    # As torch anneals it, which is a recursion instead.
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([parameter], lr=1e-4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 1_000, eta_min=5e-6)
    for step in range(1_000):
        assert found[step] == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        theirs.step()


def test_cosine_stays_at_its_floor_past_the_end():
    schedule = build_schedule("cosine", **COMMON, floor=5e-6)
    assert schedule.rate(1_000) == schedule.rate(5_000) == pytest.approx(5e-6)


def test_decay_halves_every_ten_epochs():
    found = rates("decay")
    assert set(found[:100]) == {1e-4}
    assert set(found[100:200]) == {5e-5}
    assert found[999] == pytest.approx(1e-4 * 0.5**9)


def test_constant_is_constant():
    assert set(rates("constant")) == {1e-4}


def test_plateau_is_the_schedule_of_the_bundled_model():
    found = rates("plateau", warmup_steps=100, decay_share=0.5)
    np.testing.assert_allclose(found[:100], 1e-4 * np.arange(1, 101) / 100)
    assert set(found[100:501]) == {1e-4}
    assert found[-1] < 2e-6


@given(
    st.sampled_from(schedules.schedules()),
    st.integers(0, 10**7),
    st.integers(1, 10**6),
    st.integers(1, 10**4),
)
def test_a_rate_lies_between_nothing_and_the_peak(name, step, total, per_epoch):
    options = {"floor": 1e-6} if name == "cosine" else {}
    schedule = build_schedule(
        name, peak=1e-3, total_steps=total, steps_per_epoch=per_epoch, **options
    )
    assert 0 <= schedule.rate(step) <= 1e-3
    assert math.isfinite(schedule.rate(step))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("warm", {}, "one of"),
        ("cosine", {}, "floor"),
        ("cosine", {"floor": 1.0}, "floor <= peak"),
        ("decay", {"factor": 0.0}, "factor in"),
        ("decay", {"every": 0}, "every >= 1"),
        ("constant", {"floor": 1.0}, "does not take"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, said):
    with pytest.raises(ParameterError, match=said):
        build_schedule(name, **COMMON, **options)
