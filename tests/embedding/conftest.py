"""A model of known frames that counts its work, and recordings on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


class Means:
    """Mean, largest and mean square of every 10 ms; torch-free."""

    name = "means"
    sha256 = "5a" * 32
    sample_rate = 16_000
    dim = 3

    def __init__(self) -> None:
        self.heard = 0

    def resolve(self, layer):
        assert layer is None
        return layer

    def times(self, n_samples):
        return (np.arange(n_samples // 160) + 0.5) / 100

    def blocks(self, channel, layer):
        self.heard += 1
        frames = channel[: len(channel) // 160 * 160].reshape(-1, 160)
        for start in range(0, len(frames), 64):
            part = frames[start : start + 64]
            columns = [part.mean(1), part.max(1), (part**2).mean(1)]
            yield np.stack(columns, axis=1).astype(np.float32)


@pytest.fixture
def means() -> Means:
    return Means()


@pytest.fixture
def recordings(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write recordings of a second and a bit, each of its own noise."""
    soundfile = pytest.importorskip("soundfile")

    def make(count: int, *, channels: int = 1, seed: int = 0) -> list[Path]:
        folder = tmp_path / "audio"
        folder.mkdir(exist_ok=True)
        paths = []
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            path = folder / f"{channels}-{seed}-{index}.wav"
            soundfile.write(path, rng.normal(0, 0.1, (16_500, channels)), 16_000)
            paths.append(path)
        return paths

    return make
