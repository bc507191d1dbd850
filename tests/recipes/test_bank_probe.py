"""The head that fine-tuning starts from: learned from pooled features, the same on frames."""

import numpy as np
import pytest
import torch

from voiceguard.models.probe import MLP, MLPConfig
from voiceguard.training.bank import Bank
from voiceguard.training.corpus import Corpus

CLIPS, DIM = 300, 6


@pytest.fixture
def probe(scripts, monkeypatch):
    """The script, with more passes over so few clips."""
    found = scripts["bank_probe"]
    monkeypatch.setattr(found, "PASSES_OVER_CLIPS", 60)
    monkeypatch.setattr(found, "RATE", 1e-2)
    return found


@pytest.fixture
def corpus():
    rows = [
        {"label": "bonafide" if i % 2 else "spoof", "kind": "tts", "system": "s", "origin": "o"}
        for i in range(CLIPS)
    ]
    return Corpus(rows=rows, pcm=np.zeros(0, np.int16), offsets=np.zeros(CLIPS + 1, np.int64))


@pytest.fixture
def bank():
    """Two passes; in each, one mean tells the classes apart and the rest is noise."""
    rng = np.random.default_rng(3)
    pooled = rng.normal(5.0, 2.0, (2, CLIPS, 2 * DIM))
    pooled[:, :, 2] += np.where(np.arange(CLIPS) % 2, 6.0, -6.0)
    crops = np.zeros((2, CLIPS, 4), np.int16)
    frames = np.zeros((2, CLIPS, 1, 1), np.float16)
    return Bank(tuple(crops), tuple(pooled.astype(np.float16)), tuple(frames))


def fitted(probe, bank, corpus, seed=1):
    torch.manual_seed(seed)
    head = MLP(MLPConfig(dim=DIM, hidden=8, dropout=0.1))
    probe.fit(head, bank, corpus, np.arange(200), seed=seed)
    return head


def test_it_finds_what_tells_the_classes_apart_on_clips_it_did_not_hear(probe, bank, corpus):
    head = fitted(probe, bank, corpus)
    with torch.inference_mode():
        logits = probe.answer(head, torch.from_numpy(bank.pooled[1][200:].astype(np.float32)))
    says = (logits[:, 1] > logits[:, 0]).numpy()
    assert np.mean(says == (np.arange(200, CLIPS) % 2 == 1)) > 0.95


def test_the_norm_stands_at_the_training_features(probe, bank, corpus):
    head = fitted(probe, bank, corpus)
    seen = np.concatenate([one[:200].astype(np.float32) for one in bank.pooled])
    np.testing.assert_allclose(head.bn.running_mean, seen.mean(0), rtol=1e-4)
    np.testing.assert_allclose(head.bn.running_var, seen.var(0), rtol=1e-2)


def test_pooled_features_and_frames_get_the_same_answer(probe, bank, corpus):
    from voiceguard.models.probe import pool_statistics

    head = fitted(probe, bank, corpus)
    frames = torch.randn(4, 9, DIM)
    with torch.inference_mode():
        torch.testing.assert_close(probe.answer(head, pool_statistics(frames)), head(frames).logits)


def test_the_same_seed_gives_the_same_head(probe, bank, corpus):
    one, two, other = (fitted(probe, bank, corpus, seed) for seed in (1, 1, 2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert not torch.equal(one.out_layer.weight, other.out_layer.weight)
