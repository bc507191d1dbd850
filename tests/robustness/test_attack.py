"""The attack stays as small as its name and lifts the score of synthetic clips."""

import numpy as np
import pytest

from .conftest import RATE, power_db

torch = pytest.importorskip("torch", reason="the attack needs the train extra")


class Toy(torch.nn.Module):
    """Scores a window by its likeness to a fixed pattern."""

    def __init__(self, window):
        super().__init__()
        self.pattern = torch.randn(window, generator=torch.Generator().manual_seed(0))

    def forward(self, waveform):
        return torch.tanh(waveform @ self.pattern / 40.0)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("snr_db", [40, 30])
def test_attack_keeps_its_ratio_and_lifts_the_score(bench, speech, seconds, snr_db):
    window = RATE // 2
    x, toy = speech[: int(seconds * RATE)], Toy(window)
    options = {"window": window, "snr_db": snr_db, "steps": 8}
    y = bench.attack.attacked(x, toy, rng=np.random.default_rng(0), **options)
    again = bench.attack.attacked(x, toy, rng=np.random.default_rng(0), **options)
    heard = slice(0, window)
    assert np.array_equal(y, again)
    assert np.array_equal(y[window:], x[window:])
    assert power_db(x[heard]) - power_db((y - x)[heard]) > snr_db - 0.1
    before, after = bench.attack.network_scores(toy, [x, y], window)
    # Noise of the same power gains nothing.
    noise = np.random.default_rng(1).standard_normal(len(x)).astype(np.float32)
    noise *= np.linalg.norm(y - x) / np.linalg.norm(noise)
    (by_chance,) = bench.attack.network_scores(toy, [x + noise], window)
    assert after - before > 5 * abs(by_chance - before)
    # The linear part of the toy says what the best change could have gained.
    tiled = torch.zeros(min(len(x), window)).index_add(
        0, torch.arange(window) % len(x), toy.pattern
    )
    radius = np.linalg.norm(x[heard]) * 10 ** (-snr_db / 20)
    best = np.tanh(np.arctanh(before) + radius * float(torch.linalg.vector_norm(tiled)) / 40.0)
    assert after - before > 0.9 * (best - before)


def test_attack_changes_synthetic_clips_only(bench, trials, tmp_path, monkeypatch):
    toy = Toy(900)
    monkeypatch.setattr(bench.attack, "load_network", lambda path: toy)
    weights = tmp_path / "weights"
    weights.write_bytes(b"any")
    attack = bench.sounds.Attack(weights, window=900, steps=3, clips=2)
    maker = bench.sounds.Maker(trials, tmp_path, tmp_path, 0)
    jobs = list(attack.jobs(maker, (40, 30)))
    assert [job.name for job in jobs] == ["attack 40 dB", "attack 30 dB"]
    sound = jobs[1].make()
    assert sound.which.tolist() == [1, 3, 5, 7, 0, 6]
    for index, clip in zip(sound.which, sound.clips, strict=True):
        far = power_db(clip - trials.clips[index]) - power_db(trials.clips[index])
        assert far == pytest.approx(-30, abs=0.3) if index in (0, 6) else far < -50
    system = attack.system()
    values = system.score(sound.clips)
    before = system.score([trials.clips[i] for i in sound.which])
    assert np.abs(values - before)[:4].max() < 1e-3
    # The change's length, 1.5 * 10^-1.5, times the pattern's, 30, over the toy's 40: some 0.036.
    assert (values - before)[4:].min() > 0.03
