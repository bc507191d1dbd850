"""SLS against its formula, layer by layer, and its rule for other numbers of frames."""

import pytest
import torch
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.models.sls import SLS, SLSConfig


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SLS(SLSConfig(dim=10, layers=3, frames=8, hidden=6)).eval()


@pytest.fixture
def features():
    return torch.randn(2, 3, 8, 10, generator=torch.Generator().manual_seed(4))


def test_formula(model, features):
    with torch.no_grad():
        for row, output in zip(features, model(features).logits, strict=True):
            mixed = sum(layer * torch.sigmoid(model.fc0(layer.mean(dim=0))) for layer in row)
            # A fresh batch norm in evaluation only divides by sqrt(1 + eps).
            image = F.selu(mixed / (1 + model.first_bn.eps) ** 0.5)
            pooled = torch.stack(
                [
                    image[3 * t : 3 * t + 3, 3 * d : 3 * d + 3].max()
                    for t in (0, 1)
                    for d in range(3)
                ]
            )
            expected = F.selu(model.fc3(F.selu(model.fc1(pooled))))
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_published_names():
    names = {"fc0", "fc1", "fc3", "first_bn"}
    assert {key.split(".")[0] for key in SLS(SLSConfig(dim=3, frames=3)).state_dict()} == names


def test_short_rows_repeat_and_long_ones_are_cut(model, features):
    with torch.no_grad():
        repeated = model(features[:, :, [0, 1, 2, 0, 1, 2, 0, 1]]).logits
        assert torch.equal(model(features[:, :, :3]).logits, repeated)
        longer = torch.cat([features, torch.full((2, 3, 2, 10), 9.0)], dim=2)
        assert torch.equal(model(longer).logits, model(features).logits)


def test_score_is_the_published_log_probability(model, features):
    output = model(features)
    assert torch.equal(model.score(output), torch.log_softmax(output.logits, 1)[:, 1])
    assert (model.score(output) < 0).all()


@pytest.mark.parametrize("options", [{"frames": 2}, {"dim": 2}, {"layers": 0}, {"hidden": 0}])
def test_bad_config_is_refused(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        SLSConfig(**options)
