"""Conformer-TCM: head tokens and attention written out, positions, class token."""

import math

import pytest
import torch
from torch.nn import functional as F

from voiceguard.errors import ParameterError
from voiceguard.models.conformer_tcm import (
    ConformerTCM,
    ConformerTCMConfig,
    HeadTokenAttention,
    positions,
)


def naive_attention(layer, tokens):
    """One utterance (count, width), head by head, row by row."""
    tokens = layer.norm(tokens)
    width, heads = tokens.shape[1], layer.heads
    size = width // heads
    made = []
    for head in range(heads):
        spread = layer.head_proj(tokens[:, head * size : (head + 1) * size].mean(dim=0))
        pieces = [F.gelu(layer.head_norm(piece)) for piece in spread.split(size)]
        made.append(torch.cat(pieces) + layer.head_position[0, head])
    everything = torch.cat([tokens, torch.stack(made)])
    query, key, value = layer.qkv(everything).split(width, dim=1)
    out = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits = query[:, part] @ key[:, part].T / math.sqrt(size)
        out.append(logits.softmax(dim=1) @ value[:, part])
    mixed = layer.proj(torch.cat(out, dim=1))
    cls, frames, extra = mixed[0], mixed[1:-heads], mixed[-heads:]
    return torch.cat([(cls + extra.mean(dim=0) + frames.mean(dim=0))[None], frames])


def test_attention_with_head_tokens():
    torch.manual_seed(0)
    layer = HeadTokenAttention(12, 3)
    torch.nn.init.normal_(layer.head_position)
    tokens = torch.randn(2, 7, 12)
    with torch.no_grad():
        expected = torch.stack([naive_attention(layer, row) for row in tokens])
        torch.testing.assert_close(layer(tokens), expected, rtol=1e-4, atol=1e-5)


def test_positions_are_sines_and_cosines_of_falling_rate():
    table = positions(50, 8)
    assert table.shape == (50, 8)
    for column in range(8):
        rate = 10_000 ** (-2 * (column // 2) / 8)
        wave = (math.sin, math.cos)[column % 2]
        expected = torch.tensor([wave(p * rate) for p in range(50)])
        torch.testing.assert_close(table[:, column], expected, rtol=1e-4, atol=1e-5)


def test_order_of_frames_matters():
    torch.manual_seed(0)
    config = ConformerTCMConfig(dim=6, width=8, heads=2, blocks=1, kernel=3)
    model = ConformerTCM(config).eval()
    features = torch.randn(1, 9, 6)
    with torch.no_grad():
        assert not torch.allclose(model(features).logits, model(features.flip(1)).logits)


def test_embedding_is_the_class_token_of_the_last_block():
    torch.manual_seed(0)
    config = ConformerTCMConfig(dim=6, width=8, heads=2, blocks=2, kernel=3)
    model = ConformerTCM(config).eval()
    kept = {}
    model.blocks[-1].register_forward_hook(lambda *given: kept.update(tokens=given[-1]))
    with torch.no_grad():
        output = model(torch.randn(2, 5, 6))
    assert kept["tokens"].shape == (2, 6, 8)
    assert torch.equal(output.embedding, kept["tokens"][:, 0])


@pytest.mark.parametrize(
    "options", [{"heads": 5}, {"width": 147}, {"kernel": 30}, {"blocks": 0}, {"dim": 0}]
)
def test_bad_config_is_refused(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        ConformerTCMConfig(**options)
