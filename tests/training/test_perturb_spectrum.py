"""Masks hide what the paper says, for each example anew, in training alone."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from voiceguard.errors import ParameterError
from voiceguard.features.sinc import SincFilterbank
from voiceguard.training.perturb_spectrum import SpecAugment, mask_features, mask_sinc_bands


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def runs(hidden):
    """Lengths of the runs of True."""
    padded = np.concatenate([[0], hidden.astype(int), [0]])
    edges = np.flatnonzero(np.diff(padded))
    return (edges[1::2] - edges[::2]).tolist()


def one_mask(**options):
    return SpecAugment(**({"time_masks": 0, "frequency_masks": 0} | options))


def test_same_generator_same_masks():
    x = torch.randn(4, 60, 300)
    augment = SpecAugment()
    torch.testing.assert_close(
        augment(x, generator=seeded(1)), augment(x, generator=seeded(1)), rtol=0, atol=0
    )
    assert not torch.equal(augment(x, generator=seeded(1)), augment(x, generator=seeded(2)))


def test_without_a_generator_torch_s_own_seed_counts():
    x = torch.randn(2, 30, 100)
    heard = []
    for _ in range(2):
        torch.manual_seed(5)
        heard.append(SpecAugment()(x))
    assert torch.equal(*heard)


@pytest.mark.parametrize(
    ("options", "axis", "widest"),
    [
        ({"time_masks": 1, "time_width": 12, "time_share": 1.0}, 1, 12),
        ({"time_masks": 1, "time_width": 90, "time_share": 0.1}, 1, 8),
        ({"frequency_masks": 1, "frequency_width": 7}, 0, 7),
        ({"frequency_masks": 1, "frequency_width": 99}, 0, 20),
    ],
)
def test_widths_are_uniform_from_none_to_the_widest(options, axis, widest):
    y = one_mask(**options)(torch.ones(3_000, 20, 80), generator=seeded()).numpy()
    hidden = np.all(y == 0, axis=2 - axis)
    lengths = [runs(example) for example in hidden]
    assert max(map(len, lengths)) == 1
    widths = np.array([sum(length) for length in lengths])
    counts = np.bincount(widths, minlength=widest + 1)
    assert len(counts) == widest + 1
    expected = len(widths) / (widest + 1)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    # Every place is reached, the two ends too.
    assert hidden.any(axis=0).all()


def test_masks_cross_and_fill():
    x = torch.randn(8, 20, 80)
    y = SpecAugment(
        time_masks=1, time_width=40, time_share=1.0, frequency_masks=1, frequency_width=10, fill=-7
    )(x, generator=seeded(3))
    hidden = (y == -7).numpy()
    torch.testing.assert_close(y[torch.from_numpy(~hidden)], x[torch.from_numpy(~hidden)])
    rows, columns = hidden.all(axis=2), hidden.all(axis=1)
    np.testing.assert_array_equal(hidden, rows[:, :, None] | columns[:, None, :])


def test_channels_share_masks_and_examples_do_not():
    y = SpecAugment()(torch.ones(6, 3, 40, 200), generator=seeded())
    assert torch.equal(y[:, 0], y[:, 2])
    assert not torch.equal(y[0], y[1])


def test_more_masks_hide_more():
    x = torch.ones(200, 40, 200)
    shares = [
        float((one_mask(time_masks=n, time_width=20)(x, generator=seeded()) == 0).float().mean())
        for n in (0, 1, 2, 4)
    ]
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(10 / 200, rel=0.1)
    assert sorted(shares) == shares


def test_nothing_happens_outside_training():
    x = torch.randn(2, 30, 100)
    assert SpecAugment().eval()(x) is x


def test_gradients_pass_where_nothing_is_hidden():
    x = torch.randn(2, 30, 100, requires_grad=True)
    y = SpecAugment()(x, generator=seeded())
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), (y != 0).float().numpy())


def test_short_features_are_taken():
    y = SpecAugment(time_share=1.0)(torch.ones(50, 1, 1), generator=seeded())
    assert set(y.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "options",
    [
        {"time_masks": -1},
        {"frequency_masks": 1.5},
        {"time_width": True},
        {"time_share": 1.1},
        {"fill": float("nan")},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(ParameterError, match=f"'{next(iter(options))}' parameter of SpecAugment"):
        SpecAugment(**options)


def test_dimensions_are_checked():
    with pytest.raises(ParameterError, match=r"Got \(3, 4\)"):
        SpecAugment()(torch.ones(3, 4))


class Network(nn.Module):
    """The shape that the models have."""

    def __init__(self):
        super().__init__()
        self.front_end = SincFilterbank(filters=12, taps=33)
        self.linear = nn.Linear(12, 1)

    def forward(self, x):
        return self.front_end(x)


def test_a_model_is_masked_behind_its_front_end():
    model, x = Network(), torch.randn(4, 400)
    keys = list(model.state_dict())
    mask_features(model, one_mask(frequency_masks=1, frequency_width=12))
    assert list(model.state_dict()) == keys
    assert (model(x) == 0).all(dim=2).any()
    model.eval()
    torch.testing.assert_close(model(x), Network().eval()(x))


def test_a_copy_of_a_masked_model_has_masks_of_its_own():
    model, x = Network(), torch.randn(4, 400)
    mask_features(model, one_mask(frequency_masks=4, frequency_width=12))
    twin = copy.deepcopy(model)
    model.eval()
    assert (twin(x) == 0).all(dim=2).any()
    assert not (model(x) == 0).all(dim=2).any()


def test_masks_go_on_once_and_need_a_front_end():
    model = Network()
    mask_features(model, SpecAugment())
    for refused in (model, nn.Linear(2, 2)):
        with pytest.raises(ParameterError, match=r"'model' parameter of mask_features"):
            mask_features(refused, SpecAugment())


def test_sinc_bands_are_hidden_in_one_run_of_at_most_the_widest():
    model, x = Network(), torch.randn(1, 400)
    assert mask_sinc_bands(model, widest=4) == 1
    torch.manual_seed(0)
    lengths = [runs((model(x)[0] == 0).all(dim=1).numpy()) for _ in range(200)]
    assert max(map(len, lengths)) == 1
    assert {sum(length) for length in lengths} == {0, 1, 2, 3, 4}
    model.eval()
    assert not (model(x)[0] == 0).all(dim=1).any()
    mask_sinc_bands(model.train(), widest=0)
    assert not (model(x)[0] == 0).all(dim=1).any()


@pytest.mark.parametrize("widest", [-1, 12, 1.5, True])
def test_the_widest_run_leaves_a_filter(widest):
    with pytest.raises(ParameterError, match=r"int in \[0, 11\]"):
        mask_sinc_bands(Network(), widest=widest)


def test_a_model_without_sinc_filters_is_refused():
    with pytest.raises(ParameterError, match="SincFilterbank"):
        mask_sinc_bands(nn.Linear(2, 2))
