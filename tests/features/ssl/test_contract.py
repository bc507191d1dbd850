"""What every encoder shares: freezing, checkpoints of gradients, layers, fingerprints."""

import pytest
import torch

from voiceguard.errors import ParameterError
from voiceguard.features.ssl import load_encoder


@pytest.fixture
def encoder(published):
    return load_encoder(published("wav2vec2", "large")[1])


def test_a_frozen_encoder_is_deterministic_while_training(encoder, waveform):
    assert encoder.freeze() is encoder
    encoder.train()
    assert not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(encoder(waveform).layers, encoder(waveform).layers)


def test_partial_freezing_trains_the_top_alone(encoder, waveform):
    encoder.freeze(blocks=2).train()
    encoder(waveform).layers[:, -1].square().sum().backward()
    moved = {name for name, p in encoder.named_parameters() if p.grad is not None}
    top = "network.encoder.transformer.layers.2."
    closing = "network.encoder.transformer.layer_norm."
    assert moved and all(name.startswith((top, closing)) for name in moved)
    assert encoder.blocks[2].training
    assert not encoder.blocks[1].training
    assert not encoder.network.feature_extractor.training


@pytest.mark.parametrize("blocks", [-1, 4])
def test_more_blocks_than_there_are_cannot_be_frozen(encoder, blocks):
    with pytest.raises(ParameterError, match="blocks"):
        encoder.freeze(blocks=blocks)


def test_gradient_checkpointing_changes_no_gradient(published, waveform):
    gradients = []
    for checkpointing in (False, True):
        encoder = load_encoder(published("wavlm", "base")[1], gradient_checkpointing=checkpointing)
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.0
        encoder.train()
        encoder(waveform, torch.tensor([9000, 5000])).layers[:, -1].square().mean().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 30
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("layers", [[], [0, 0], [4], [-5], [1.0], [True]])
def test_layers_that_are_not_there_are_refused(published, layers):
    with pytest.raises(ParameterError, match="layers"):
        load_encoder(published("hubert", "base")[1], layers=layers)


def test_negative_layers_count_from_the_end(published):
    assert load_encoder(published("hubert", "base")[1], layers=[-1, -4]).layers == (3, 0)


def test_the_fingerprint_follows_weights_layers_and_options(published):
    folder = published("hubert", "base")[1]
    first = load_encoder(folder).fingerprint()
    assert first == load_encoder(folder).fingerprint()
    others = {
        load_encoder(folder, layers=[1]).fingerprint(),
        load_encoder(folder, normalize=True).fingerprint(),
        load_encoder(published("hubert", "large")[1]).fingerprint(),
    }
    moved = load_encoder(folder)
    with torch.no_grad():
        next(moved.parameters()).add_(1e-3)
    assert len({first, moved.fingerprint(), *others}) == 5


def test_the_mask_marks_each_items_frames(encoder, waveform):
    out = encoder(waveform, torch.tensor([9000, 5000]))
    assert out.mask().sum(1).tolist() == out.lengths.tolist() == [27, 15]
