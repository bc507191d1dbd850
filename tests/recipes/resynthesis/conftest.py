"""The re-syntheses and their script, a made-up voice, and a codebook of such voices."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

RECIPE = Path(__file__).parents[3] / "recipes" / "open_voices"
PARTS = (
    "harmonics", "magnitude", "measures", "mixing", "neural", "pitch", "prediction", "quantised",
    "spectra", "store", "world",
)  # fmt: skip
RATE = 16_000


def load():
    """Import the script and its package; path and module table end as they were."""
    before = dict(sys.modules)
    sys.path.insert(0, str(RECIPE))
    try:
        script = importlib.import_module("resynthesis")
        split = importlib.import_module("split")
        parts = {name: importlib.import_module(f"resyntheses.{name}") for name in PARTS}
        package = sys.modules["resyntheses"]
    finally:
        sys.path.remove(str(RECIPE))
        for name in [name for name in sys.modules if name not in before]:
            if name.split(".")[0] in ("resynthesis", "resyntheses", "split"):
                del sys.modules[name]
    return SimpleNamespace(script=script, split=split, package=package, **parts)


R = load()


def voice(seed=0, seconds=1.2):
    """Vowels of a wavering pitch with pauses of hiss between them."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    f0 = 120 + 60 * rng.random() + 15 * np.sin(2 * np.pi * 1.7 * t + rng.random())
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    formants = [(600 + 200 * rng.random(), 90), (1500 + 500 * rng.random(), 130), (2700, 200)]
    x = np.zeros(n)
    for k in range(1, 36):
        level = sum(1 / (1 + ((k * 150 - f) / b) ** 2) for f, b in formants) + 0.02
        x += level * np.cos(k * phase + k**2 * 0.1) * (k * 200 < 7500)
    loud = np.clip(1.5 * np.sin(2 * np.pi * 1.3 * t + 0.5) + 0.5, 0, 1)
    x = x * loud + 0.3 * rng.standard_normal(n) * (1 - loud) + 0.003 * rng.standard_normal(n)
    return (0.25 * x / np.sqrt(np.mean(x**2)) / 2).astype(np.float32)


@pytest.fixture(scope="module")
def codewords():
    rng = np.random.default_rng(0)
    clips = [voice(seed) for seed in range(20, 26)]
    return R.quantised.fit_codebook(clips, rng, n_fft=512, n_mels=40, codewords=32)


@pytest.fixture(scope="module")
def methods(codewords):
    return {**R.package.METHODS, "codewords": R.quantised.QuantisedVocoder([codewords])}
