"""Parity with the published weights and the outputs of the published code."""

import numpy as np
import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.models.aasist import AASIST, AASISTConfig

PUBLISHED = {
    "AASIST": AASISTConfig.AASIST,
    "AASIST-L": AASISTConfig.AASIST_L,
    "ASVspoof5-AASIST": AASISTConfig.AASIST,
}


@pytest.mark.parametrize(
    ("config", "count"), [(AASISTConfig.AASIST, 297_866), (AASISTConfig.AASIST_L, 85_306)]
)
def test_parameter_count(config, count):
    model = AASIST(config)
    assert sum(p.numel() for p in model.parameters()) == count
    assert len(model.state_dict()) == 229


@pytest.fixture(scope="module", params=PUBLISHED)
def loaded(request, published):
    model = AASIST(PUBLISHED[request.param]).eval()
    path = published / f"{request.param}.pth"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(weights, strict=True)
    return request.param, model


def outputs(model, waveforms):
    with torch.inference_mode():
        return model(torch.from_numpy(waveforms))


@pytest.mark.slow
def test_batch_matches_published_code(loaded, expected):
    name, model = loaded
    given = outputs(model, expected["waveforms"])
    assert np.abs(given.logits.numpy() - expected[f"{name}/logits"]).max() < 1e-4
    assert np.abs(given.embedding.numpy() - expected[f"{name}/embedding"]).max() < 1e-4


@pytest.mark.parametrize("row", [0, 2])
def test_single_window_matches_published_code(loaded, expected, row):
    name, model = loaded
    given = outputs(model, expected["waveforms"][row : row + 1])
    assert np.abs(given.logits.numpy() - expected[f"{name}/logits"][row]).max() < 1e-4
    assert np.abs(given.embedding.numpy() - expected[f"{name}/embedding"][row]).max() < 1e-4
    assert torch.equal(model.score(given), given.logits[:, 1])


def test_shortest_input():
    model = AASIST().eval()
    assert torch.isfinite(model(torch.randn(1, 2315)).logits).all()
    with pytest.raises(ParameterError, match="2315"):
        model(torch.randn(1, 2314))


def test_config_of_other_fields_is_refused():
    with pytest.raises(ParameterError, match="widths"):
        AASISTConfig.from_dict({"widths": [32, 64]})
