"""The scripts of benchmarks/robustness.py, a made-up voice and a few clips of noise."""

import numpy as np
import pytest

RATE = 16_000


@pytest.fixture(scope="module")
def bench(benchmark_scripts):
    pytest.importorskip("torch", reason="the benchmark's modules need the train extra")
    pytest.importorskip("pyroomacoustics", reason="the rooms need the train extra")
    names = ("_attack", "_conditions", "_effects", "_sounds", "_trials", "robustness")
    with benchmark_scripts(*names) as found:
        yield found


@pytest.fixture(scope="module")
def speech():
    """Two seconds of a buzz whose pitch and level move."""
    rng, t = np.random.default_rng(3), np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 25 * np.sin(2 * np.pi * 1.3 * t)) / RATE
    voice = sum(np.cos(k * phase) / k for k in range(1, 30)) * (0.3 + np.sin(np.pi * t * 1.5) ** 2)
    return (0.1 * voice + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture
def trials(bench):
    rng = np.random.default_rng(2)
    clips = [(0.05 * rng.standard_normal(900)).astype(np.float32) for _ in range(8)]
    rows = [
        {"id": f"c{i}", "path": f"{i}.wav", "label": "bonafide" if i % 2 else "spoof"}
        for i in range(8)
    ]
    human = np.array([i % 2 == 1 for i in range(8)])
    return bench.trials.Trials(rows, clips, human, np.array([f"g{i // 2}" for i in range(8)]))


def power_db(x):
    return 10 * np.log10(np.mean(np.asarray(x, np.float64) ** 2))
