"""Error rates on the held-out fold, with models whose scores are known by hand."""

import numpy as np
import pytest
import torch

from voiceguard.audio.telephony import g711_path
from voiceguard.metrics import eer
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
    figures = {
        f"{kind}_{channel}": 0.0 for kind in ("eer", "macro") for channel in ("clean", "g711")
    }
    assert held_out(ByLoudness(1)) == pytest.approx(figures, abs=1e-9)
    assert held_out(ByLoudness(-1)) == pytest.approx(dict.fromkeys(figures, 1.0), abs=1e-9)


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


def test_macro_eer_weights_each_family_alike_whatever_its_size(scripts):
    macro_eer = scripts["judge"].macro_eer
    # Ninety spoofs of one engine are caught, the only one of another is not: half of them pass.
    scores = np.array([0.0] * 90 + [9.0] + [5.0] * 10)
    bonafide = np.array([False] * 91 + [True] * 10)
    families = ["caught"] * 90 + ["missed"] + ["human:a"] * 5 + ["human:b"] * 5
    assert macro_eer(scores, bonafide, families) == pytest.approx(0.5, abs=0.26)
    assert macro_eer(scores, bonafide, ["spoof"] * 91 + ["human"] * 10) < 0.02


def test_macro_eer_of_families_of_one_size_is_the_plain_one(scripts):
    rng = np.random.default_rng(5)
    bonafide = np.repeat([True, False], 200)
    scores = rng.standard_normal(400) + 1.5 * bonafide
    families = [f"{'h' if good else 's'}{i % 10}" for i, good in enumerate(bonafide)]
    plain = eer(scores[bonafide], scores[~bonafide]).value
    assert scripts["judge"].macro_eer(scores, bonafide, families) == pytest.approx(plain, abs=0.006)
