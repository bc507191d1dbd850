import numpy as np
import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.models.heads import build_head, heads

COSINE = ["am_softmax", "oc_softmax", "p2sgrad"]


def embeddings(batch=5, dim=7):
    return torch.randn(batch, dim, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", heads())
def test_embedding_passes_through_and_logits_come(name):
    head = build_head(name, 7)
    output = head(embeddings())
    assert torch.equal(output.embedding, embeddings())
    assert output.logits.shape == (5, 2)
    assert head.score(output).shape == (5,)


@pytest.mark.parametrize("name", COSINE)
def test_logits_are_cosines(name):
    head = build_head(name, 7)
    given = head.logits(embeddings()).detach().numpy()
    rows, centres = embeddings().numpy(), head.centres.detach().numpy()
    for i, row in enumerate(rows):
        cosines = [row @ c / np.linalg.norm(row) / np.linalg.norm(c) for c in centres]
        expected = cosines if name != "oc_softmax" else [-cosines[0], cosines[0]]
        np.testing.assert_allclose(given[i], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", COSINE)
def test_length_of_an_embedding_does_not_matter(name):
    head = build_head(name, 7)
    torch.testing.assert_close(head.logits(100 * embeddings()), head.logits(embeddings()))


@pytest.mark.parametrize("name", COSINE)
def test_zero_embedding_is_finite(name):
    zero = torch.zeros(1, 7, requires_grad=True)
    logits = build_head(name, 7).logits(zero)
    logits.sum().backward()
    assert torch.equal(logits, torch.zeros(1, 2))
    assert torch.isfinite(zero.grad).all()


def test_score_of_am_softmax_orders_as_its_softmax():
    head = build_head("am_softmax", 7)
    output = head(embeddings(50))
    posterior = torch.softmax(5 * output.logits.double(), dim=1)[:, 1]
    assert torch.equal(head.score(output).argsort(), posterior.argsort())


def test_scores_of_the_others_are_the_bona_fide_column():
    for name in ("oc_softmax", "p2sgrad", "sigmoid"):
        head = build_head(name, 7)
        output = head(embeddings())
        assert torch.equal(head.score(output), output.logits[:, 1])


def test_unknown_head_is_refused():
    with pytest.raises(ParameterError, match="banana"):
        build_head("banana", 7)
