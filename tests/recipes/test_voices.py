"""People with synthetic doubles count more and nobody else; files that do not fit are refused."""

import numpy as np
import pytest

from voiceguard.errors import ProtocolError

from .conftest import RECIPE, import_from


@pytest.fixture(scope="module")
def voices():
    return import_from(RECIPE, ("voices",))["voices"]


def company(doubles):
    """Someone with so many fakes of their voice, and ten people and fakes of other voices."""
    rng = np.random.default_rng(1)
    owner = np.eye(64)[0]
    theirs = owner + 0.01 * rng.standard_normal((1 + doubles, 64))
    others = 3.0 * np.eye(64)[1:21]
    embeddings = np.concatenate([theirs, others]).astype(np.float32)
    bonafide = np.array([True] + [False] * doubles + [True] * 10 + [False] * 10)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), bonafide


def counted(voices, doubles, rows=None):
    """How often the owner and a stranger count, beside what they count without voices."""
    embeddings, bonafide = company(doubles)
    rows = np.arange(len(bonafide)) if rows is None else rows
    found = voices.Voices(embeddings).weigh(rows, bonafide[rows], np.ones(len(rows)))
    assert (found[~bonafide[rows]] == 1.0).all()
    assert found[bonafide[rows]].sum() == pytest.approx(bonafide[rows].sum())
    return found[0] / found[bonafide[rows]][-1]


def test_the_owner_of_a_voice_counts_by_its_share_among_those_who_have_it(voices):
    assert counted(voices, 0) == pytest.approx(1.0)
    # One person, nine fakes, an even prior of four: a share of 3 / 14, so 14 / 6 times.
    assert counted(voices, 9) == pytest.approx(14 / 6, rel=1e-5)
    assert counted(voices, 500) == pytest.approx(voices.MOST)


def test_only_clips_that_train_are_looked_at(voices):
    embeddings, _ = company(30)
    rows = np.r_[0, np.arange(31, len(embeddings))]
    assert counted(voices, 30, rows) == pytest.approx(1.0)


def test_strangers_share_no_voice_and_likeness_fades_in(voices):
    owner, angle = np.eye(2)[0], np.deg2rad([0.0, 20.0, 30.0, 60.0])
    others = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    bonafide = np.r_[True, True, np.zeros(20, bool)]
    gained = []
    for other in others:
        embeddings = np.stack([owner, -owner] + [other] * 20).astype(np.float32)
        weights = voices.Voices(embeddings).weigh(np.arange(22), bonafide, np.ones(22))
        gained.append(weights[0] / weights[1])
    assert gained[0] == pytest.approx(gained[1]), "one voice from a cosine of 0.9 on"
    assert gained[1] > gained[2] > gained[3] == pytest.approx(1.0)


def test_voices_of_another_corpus_are_refused(voices, tmp_path):
    path = tmp_path / voices.NAME
    np.save(path, company(3)[0])
    assert len(voices.Voices.load(path, 24).embeddings) == 24
    with pytest.raises(ProtocolError, match=r"expected the voices of 7 clips, got 24"):
        voices.Voices.load(path, 7)


def test_an_embedding_has_unit_length_whatever_level_and_length(voices):
    pytest.importorskip("resemblyzer", reason="it brings the mel spectra of the speaker encoder")
    import torch

    class Encoder(torch.nn.Module):
        def forward(self, mel):
            return torch.log(mel.mean(dim=1) + 1e-9)

    tone = np.sin(np.arange(48_000) * 0.2).astype(np.float32)
    loud, quiet = (voices.embedded(gain * tone, Encoder()) for gain in (0.02, 0.002))
    short = voices.embedded(0.02 * tone[:8_000], Encoder())
    for found in (loud, quiet, short):
        assert found.dtype == np.float32 and np.linalg.norm(found) == pytest.approx(1.0, rel=1e-5)
    assert loud @ quiet == pytest.approx(1.0, abs=1e-4), "levels below the usual one are raised"
    assert loud @ short > 0.95
