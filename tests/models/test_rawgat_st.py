import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.models.rawgat_st import RawGATST, RawGATSTConfig

SMALL = RawGATSTConfig(window_samples=8000, widths=(4, 6), gat_dims=(5, 4))


@pytest.fixture(scope="module")
def published():
    return RawGATST()


def test_parameter_count_is_the_published_one(published):
    assert sum(p.numel() for p in published.parameters()) == 437_034


def test_nodes_are_the_published_ones(published):
    assert published.config.temporal_nodes == 29
    assert published.proj_spectral.in_features == 14
    assert published.proj_temp.in_features == 23
    assert published.proj_spectral.out_features == published.proj_temp.out_features == 12
    assert published.embedding_dim == 7


def test_the_two_encoders_share_nothing(published):
    first = {id(p) for p in published.encoder1.parameters()}
    assert first.isdisjoint(id(p) for p in published.encoder2.parameters())


def small():
    torch.manual_seed(2)
    return RawGATST(SMALL).eval()


def noise(batch=2, samples=8000, seed=0):
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def set_constant(layer, value):
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(value)


def test_fusion_is_a_product():
    """A temporal graph that is one everywhere leaves the spectral graph; zero leaves nothing."""
    model, waveform = small(), noise()
    set_constant(model.proj_temp, 1.0)
    one = model(waveform)
    with torch.no_grad():
        for parameter in model.encoder2.parameters():
            parameter.mul_(1.5)
    assert torch.equal(model(waveform).embedding, one.embedding)
    set_constant(model.proj_temp, 0.0)
    nothing = model(waveform).embedding
    assert torch.equal(nothing[0], nothing[1])
    assert not torch.equal(one.embedding[0], one.embedding[1])


def test_both_graphs_are_heard():
    waveform = noise()
    for encoder in ("encoder1", "encoder2"):
        model = small()
        before = model(waveform).embedding
        with torch.no_grad():
            for parameter in getattr(model, encoder).parameters():
                parameter.mul_(1.5)
        assert not torch.equal(model(waveform).embedding, before)


def test_score_is_the_bona_fide_logit():
    model = small()
    output = model(noise())
    assert torch.equal(model.score(output), output.logits[:, 1])


@pytest.mark.parametrize("samples", [7999, 8001, 16000])
def test_another_length_is_refused(samples):
    with pytest.raises(ParameterError, match="8000"):
        small()(torch.zeros(1, samples))


def test_filters_are_masked_in_training_only():
    model = RawGATST(RawGATSTConfig(window_samples=8000, widths=(4, 6), gat_dims=(5, 4)))
    assert model.front_end.max_mask == 14
    torch.manual_seed(0)
    waveform = noise(1)
    clean = model.eval().front_end(waveform)
    silent = (model.train().front_end(waveform).abs().amax(dim=2) == 0).sum()
    assert 0 < silent < 14
    assert (clean.abs().amax(dim=2) > 0).all()
