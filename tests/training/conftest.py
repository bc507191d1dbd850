"""Sounds to send through a channel: a voice-like one made here, and a recorded one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from voiceguard.training.corpus import Corpus

RATE = 16_000
RECORDING = (
    Path(__file__).parents[3] / "shared/corpus/bonafide/"
    "h_librispeech-resemblyzer__1034-121119-0000.ogg"
)


def harmonic(seconds: float = 2.0) -> np.ndarray:
    """Pitch pulses through two formants, in syllables, over a faint floor."""
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    pitch = 140.0 * (1.0 + 0.1 * np.sin(2 * np.pi * 2.0 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    buzz = np.zeros(n)
    for k in range(1, 24):
        at = 140.0 * k
        formants = np.exp(-(((at - 600) / 300) ** 2)) + 0.5 * np.exp(-(((at - 1900) / 400) ** 2))
        buzz += (0.05 + formants) * np.sin(k * phase)
    syllables = np.sqrt(np.maximum(0.0, np.sin(2 * np.pi * 3.0 * t)))
    x = buzz * syllables / np.max(np.abs(buzz))
    x += 3e-4 * np.random.default_rng(5).standard_normal(n)
    return (0.4 * x).astype(np.float32)


def recorded() -> np.ndarray:
    if not RECORDING.is_file():
        pytest.skip("the training corpus (../shared/corpus) is absent")
    from voiceguard.audio import read

    return read(RECORDING).samples[0]


@pytest.fixture(scope="session")
def harmonic_voice() -> np.ndarray:
    return harmonic()


@pytest.fixture(scope="session", params=["harmonic", "recorded"])
def voice(request: pytest.FixtureRequest) -> np.ndarray:
    """float32 at 16 kHz."""
    return harmonic() if request.param == "harmonic" else recorded()


@pytest.fixture(scope="session")
def at_rate() -> Callable[[np.ndarray, int], np.ndarray]:
    """Resample from 16 kHz."""
    import soxr

    def convert(x: np.ndarray, rate: int) -> np.ndarray:
        return x if rate == RATE else soxr.resample(x, RATE, rate).astype(np.float32)

    return convert


@pytest.fixture(scope="session")
def echoes() -> np.ndarray:
    """Three decaying responses of unit energy: rooms that need no room simulator."""
    rng = np.random.default_rng(3)
    decay = np.exp(-np.arange(2_000) / np.array([[100.0], [300.0], [600.0]]))
    responses = rng.standard_normal((3, 2_000)) * decay
    responses[:, 0] = 5.0
    return (responses / np.linalg.norm(responses, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def make_corpus() -> Callable[..., Corpus]:
    """A corpus in memory, of noises with a pitch of their own."""

    def make(labels: Sequence[str], *, seconds: float = 1.0) -> Corpus:
        rng = np.random.default_rng(9)
        n = int(seconds * RATE)
        t = np.arange(n) / RATE
        clips = [
            0.4 * np.sin(2 * np.pi * (200 + 70 * i) * t) + 0.05 * rng.standard_normal(n)
            for i in range(len(labels))
        ]
        pcm = np.round(np.concatenate(clips) * 32_767).astype(np.int16)
        offsets = np.arange(len(labels) + 1, dtype=np.int64) * n
        return Corpus([{"label": label} for label in labels], pcm, offsets)

    return make
