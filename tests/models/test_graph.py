import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import ParameterError
from voiceguard.models.graph import (
    GraphAttention,
    GraphConfig,
    GraphPool,
    HeterogeneousAttention,
)


def nodes(count, width=8, batch=2, seed=0):
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


def naive_gat(layer, graph):
    """Attention pair by pair, as the formula reads."""
    count = len(graph)
    logits = torch.empty(count, count)
    for i in range(count):
        for j in range(count):
            hidden = torch.tanh(layer.att_proj(graph[i] * graph[j]))
            logits[i, j] = hidden @ layer.att_weight[:, 0] / layer.temperature
    attention = torch.softmax(logits, dim=1)
    mixed = layer.proj_with_att(attention @ graph) + layer.proj_without_att(graph)
    return torch.selu(layer.bn(mixed))


def test_graph_attention_is_the_formula():
    torch.manual_seed(0)
    layer = GraphAttention(8, 4, temperature=2.0).eval()
    graph = nodes(5)
    expected = torch.stack([naive_gat(layer, one) for one in graph])
    torch.testing.assert_close(layer(graph), expected)


def test_heterogeneous_attention_is_the_formula():
    torch.manual_seed(0)
    layer = HeterogeneousAttention(8, 4, temperature=3.0).eval()
    first, second, master = nodes(3, batch=1), nodes(2, batch=1, seed=1), nodes(1, batch=1, seed=2)
    new1, new2, new_master = layer(first, second, master)

    every = torch.cat([layer.proj_type1(first), layer.proj_type2(second)], dim=1)[0]
    vectors = {(0, 0): layer.att_weight11, (1, 1): layer.att_weight22}
    logits = torch.empty(5, 5)
    for i in range(5):
        for j in range(5):
            vector = vectors.get((int(i >= 3), int(j >= 3)), layer.att_weight12)
            logits[i, j] = torch.tanh(layer.att_proj(every[i] * every[j])) @ vector[:, 0] / 3.0
    attention = torch.softmax(logits, dim=1)
    mixed = layer.proj_with_att(attention @ every) + layer.proj_without_att(every)
    expected = torch.selu(layer.bn(mixed))
    torch.testing.assert_close(torch.cat([new1, new2], dim=1)[0], expected)

    weights = torch.tanh(layer.att_projM(every * master[0])) @ layer.att_weightM[:, 0] / 3.0
    pooled = torch.softmax(weights, dim=0) @ every
    told = layer.proj_with_attM(pooled) + layer.proj_without_attM(master[0, 0])
    torch.testing.assert_close(new_master[0, 0], told)


def test_attention_does_not_care_for_node_order():
    layer = GraphAttention(8, 4, temperature=2.0).eval()
    graph, order = nodes(6), torch.tensor([3, 1, 5, 0, 4, 2])
    torch.testing.assert_close(layer(graph[:, order]), layer(graph)[:, order])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 1.0))
def test_pool_keeps_the_best(count, ratio):
    pool = GraphPool(8, ratio=ratio).eval()
    graph = nodes(count)
    kept = pool(graph)
    assert kept.shape == (2, max(int(count * ratio), 1), 8)
    scores = torch.sigmoid(pool.proj(graph)).squeeze(-1)
    best = scores.argsort(dim=1, descending=True)[:, : kept.shape[1]]
    for one, scored, indices, given_nodes in zip(graph, scores, best, kept, strict=True):
        torch.testing.assert_close(given_nodes, one[indices] * scored[indices].unsqueeze(1))


def test_saturated_gates_are_told_apart_by_their_logits():
    pool = GraphPool(1, ratio=0.4).eval()
    with torch.no_grad():
        pool.proj.weight.fill_(1.0)
        pool.proj.bias.fill_(0.0)
    graph = torch.tensor([[[50.0], [52.0], [51.0], [54.0], [53.0]]])
    assert torch.sigmoid(graph).unique().numel() == 1
    assert pool(graph).flatten().tolist() == [54.0, 53.0]


@pytest.mark.parametrize(
    "options",
    [
        {"gat_dims": (64,)},
        {"gat_dims": (64, 0)},
        {"pool_ratios": (0.5, 0.0, 0.5)},
        {"pool_ratios": (0.5, 0.5, 1.1)},
        {"temperatures": (2.0, -1.0, 1.0)},
    ],
)
def test_parameters_are_checked(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        GraphConfig(**options)


def test_unknown_field_is_refused():
    with pytest.raises(ParameterError, match="banana"):
        GraphConfig.from_dict({"banana": [1]})
