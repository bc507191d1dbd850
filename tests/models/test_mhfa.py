"""MHFA against its formula, head by head."""

import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.models.mhfa import MHFA, MHFAConfig

CONFIG = MHFAConfig(dim=6, layers=3, heads=2, compression=4, embedding=5)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = MHFA(CONFIG).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter.detach())
    return made


def test_formula(model):
    features = torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(features)
        for row, embedding in zip(features, output.embedding, strict=True):
            shares = [torch.softmax(w, 0) for w in (model.weights_k, model.weights_v)]
            mixed = [sum(s * x for s, x in zip(w, row, strict=True)) for w in shares]
            keys, values = model.cmp_linear_k(mixed[0]), model.cmp_linear_v(mixed[1])
            attention = torch.softmax(model.att_head(keys), dim=0)
            heads = [(attention[:, h, None] * values).sum(dim=0) for h in range(2)]
            expected = model.pooling_fc(torch.cat(heads))
            torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(output.logits, model.out_layer(output.embedding))


def test_order_of_frames_does_not_matter(model):
    features = torch.randn(1, 3, 9, 6)
    with torch.no_grad():
        turned = model(features.flip(2)).logits
        torch.testing.assert_close(turned, model(features).logits, rtol=1e-4, atol=1e-5)


def test_fresh_network_mixes_the_layers_alike():
    made = MHFA(CONFIG)
    features = torch.randn(1, 3, 4, 6)
    layer_mean = features.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(made(features).logits, made(layer_mean).logits)


@pytest.mark.parametrize("field", ["dim", "layers", "heads", "compression", "embedding"])
def test_bad_config_is_refused(field):
    with pytest.raises(ParameterError, match=f"'{field}'"):
        MHFAConfig(**{field: 0})
