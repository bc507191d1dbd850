"""Error rates on the held-out fold, with models whose scores are known by hand."""

import numpy as np
import pytest
import torch

from voiceguard.audio.telephony import g711_path
from voiceguard.models.graph import ModelOutput
from voiceguard.training.corpus import Corpus


class ByLoudness(torch.nn.Module):
    """Bona fide the louder it is (the quieter, with a sign of -1)."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def forward(self, waveform):
        score = self.sign * waveform.square().mean(dim=1)
        logits = torch.stack([torch.zeros_like(score), score], dim=1)
        return ModelOutput(logits, logits)


@pytest.fixture
def judge(scripts):
    return scripts["judge"]


@pytest.fixture
def corpus(toy_rows):
    """Humans twice as loud as the others, 1,000 samples each."""
    t = np.arange(1_000)
    clips = [
        (12_000 if row["label"] == "bonafide" else 6_000) * np.sin(t * (0.2 + 1e-3 * i))
        for i, row in enumerate(toy_rows)
    ]
    pcm = np.concatenate(clips).astype(np.int16)
    return Corpus(toy_rows, pcm, np.arange(len(clips) + 1) * 1_000)


def test_window_repeats_short_clips_and_cuts_long_ones(judge):
    x = np.arange(1_000, dtype=np.float32)
    short = judge.window(x)
    assert short.shape == (judge.WINDOW,)
    np.testing.assert_array_equal(short[:2_000], np.concatenate([x, x]))
    long = np.arange(judge.WINDOW + 5, dtype=np.float32)
    np.testing.assert_array_equal(judge.window(long), long[:-5])


def test_a_right_model_errs_never_and_a_wrong_one_always(judge, corpus):
    held_out = judge.HeldOut(corpus, 1)
    assert held_out(ByLoudness(1)) == {"eer_clean": 0.0, "eer_g711": 0.0}
    assert held_out(ByLoudness(-1)) == {"eer_clean": 1.0, "eer_g711": 1.0}


def test_scores_keep_the_order_of_the_rows(judge, corpus, scripts):
    held_out = judge.HeldOut(corpus, 2)
    rows = scripts["split"].split(corpus.rows, 2).held_out
    np.testing.assert_array_equal(held_out.rows, rows)
    for channel, path in (("clean", lambda x: x), ("g711", g711_path)):
        expected = [np.mean(judge.window(path(corpus.clip(i))) ** 2) for i in rows]
        np.testing.assert_allclose(held_out.scores(ByLoudness(1), channel), expected, rtol=1e-4)


def test_a_limit_takes_clips_of_the_whole_fold(judge, corpus):
    everything, some = judge.HeldOut(corpus, 0), judge.HeldOut(corpus, 0, limit=9)
    assert len(some.rows) == 9
    assert set(some.rows) <= set(everything.rows)
    assert some.rows[0] == everything.rows[0]
    assert some.rows[-1] == everything.rows[-1]
    assert 0 < some.bonafide.sum() < 9
    assert len(judge.HeldOut(corpus, 0, limit=10**6).rows) == len(everything.rows)
