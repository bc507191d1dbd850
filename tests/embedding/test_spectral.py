"""Spectral models: chunks without seams, and frames where they say that they are."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from voiceguard.embedding.embedder import Embedder  # noqa: E402
from voiceguard.embedding.models import SPECTRAL  # noqa: E402
from voiceguard.embedding.spectral import SpectralModel, framing_of  # noqa: E402
from voiceguard.errors import ParameterError  # noqa: E402
from voiceguard.features import build_front_end  # noqa: E402

RATE = 16_000
SHORT_TIME = sorted(set(SPECTRAL) - {"cqt", "cqcc", "cqcc-asvspoof2019", "cqcc-asvspoof2021"})


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noisy(seconds: float) -> np.ndarray:
    """Harmonics that come and go over noise, with a stretch of digital silence."""
    n = int(seconds * RATE) + 77
    t = np.arange(n) / RATE
    voice = np.sin(2 * np.pi * 140 * t) + 0.5 * np.sin(2 * np.pi * 1400 * t)
    x = 0.1 * voice * (np.sin(2 * np.pi * 3 * t) > 0)
    x += 0.003 * np.random.default_rng(5).normal(size=n)
    x[n // 3 : n // 3 + RATE // 4] = 0.0
    return x.astype(np.float32)


def whole(name: str, x: np.ndarray) -> np.ndarray:
    front_end = build_front_end(SPECTRAL[name])
    with torch.inference_mode():
        return front_end(torch.tensor(x[None]))[0].T.numpy()


@pytest.mark.parametrize("name", SHORT_TIME)
def test_no_seam_shows(name):
    """To float error: the same numbers are added in another order, if in any other."""
    x = noisy(2.2)
    model = SpectralModel.named(name, chunk_s=0.37)
    blocks = list(model.blocks(x, None))
    assert len(blocks) >= 5
    parts, expected = np.concatenate(blocks), whole(name, x)
    if name == "log-spectrogram":
        # A single bin may lie in a null, where the log blows the last digit up.
        parts, expected = np.exp(parts / 2), np.exp(expected / 2)
    np.testing.assert_allclose(parts, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["lfcc", "mfcc", "log-mel"])
def test_a_minute_is_that_of_the_whole(name):
    x = noisy(60)
    embedding = Embedder(name, chunk_s=20).embed((x, RATE))
    np.testing.assert_allclose(embedding.values, whole(name, x), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["cqt", "cqcc-asvspoof2021"])
def test_no_seam_shows_in_the_constant_q_transform(name):
    """The resampler is good to some -90 dB of what it is given; in the log, nulls show more."""
    pytest.importorskip("librosa")
    x = noisy(6)
    parts = np.concatenate(list(SpectralModel.named(name, chunk_s=2).blocks(x, None)))
    expected = whole(name, x)
    assert parts.shape == expected.shape
    if name == "cqt":
        found, expected = np.exp(parts / 2), np.exp(expected / 2)
        assert np.abs(found - expected).max() < 1e-4 * expected.max()
    else:
        np.testing.assert_allclose(parts, expected, atol=0.1)
        assert np.quantile(np.abs(parts - expected), 0.99) < 0.01


@pytest.mark.parametrize("name", ["log-mel", "log-spectrogram", "sinc", "lfcc-lcnn2021"])
def test_a_click_sounds_where_the_times_say(name):
    x = np.zeros(RATE, np.float32)
    click = 7_777
    x[click] = 1.0
    embedding = Embedder(name).embed((x, RATE))
    level = embedding.values[:, 0] if name == "lfcc-lcnn2021" else embedding.values.mean(axis=1)
    loud = embedding.times_s[level > level.min() + 0.8 * np.ptp(level)]
    assert loud.mean() == pytest.approx(click / RATE, abs=0.005)


@pytest.mark.parametrize("name", sorted(SPECTRAL))
def test_as_many_times_as_frames(name):
    model = SpectralModel.named(name)
    for n in (100, 5_000, 16_077):
        assert len(model.times(n)) == model.front_end.frames(n)
    assert np.all(np.diff(model.times(16_077)) > 0)


def test_hashes_tell_settings_apart():
    default = SpectralModel.named("log-mel").sha256
    assert default == SpectralModel(build_front_end("log_mel")).sha256
    assert default != SpectralModel(build_front_end("log_mel", floor=1e-5)).sha256
    assert default != SpectralModel(build_front_end("log_mel", mels=63)).sha256
    hashes = {SpectralModel.named(name).sha256 for name in set(SPECTRAL) - {"lfcc", "cqcc"}}
    assert len(hashes) == len(SPECTRAL) - 2


def test_the_rate_is_that_of_the_front_end():
    assert (
        SpectralModel(build_front_end("cqt", sample_rate=8_000, f_max=4_000)).sample_rate == 8_000
    )
    assert SpectralModel.named("lfcc").sample_rate == 16_000


def test_a_front_end_of_unknown_reach_is_refused():
    with pytest.raises(ParameterError, match="CompressedSpectrogram"):
        framing_of(build_front_end("compressed"))


def test_there_are_no_layers():
    with pytest.raises(ParameterError, match=r"'layer'.*one output"):
        Embedder("log-mel", layer=3)
