"""One input and many: shapes, channels, precision, errors."""

from __future__ import annotations

import io

import numpy as np
import pytest

import voiceguard
from voiceguard.audio import Audio
from voiceguard.embedding.embedder import Embedder, embed
from voiceguard.embedding.models import EmbeddingModel
from voiceguard.errors import AudioError, AudioNotFoundError, ModelError, ParameterError

SOUND = np.random.default_rng(0).normal(0, 0.1, (2, 8_100)).astype(np.float32)


def test_the_fake_keeps_the_contract(means):
    assert isinstance(means, EmbeddingModel)
    assert isinstance(Embedder().model, EmbeddingModel)


def test_mono_has_no_axis_of_channels(means):
    embedding = embed((SOUND[0], 16_000), model=means)
    assert embedding.values.shape == (50, 3)
    assert embedding.values.dtype == np.float32
    assert embedding.by_channel().shape == (1, 50, 3)
    assert embedding.times_s.shape == (50,)
    assert (embedding.model, embedding.sample_rate, embedding.layer) == ("means", 16_000, None)
    frames = SOUND[0, :8_000].reshape(50, 160)
    np.testing.assert_allclose(embedding.values[:, 0], frames.mean(1), atol=1e-7)


@pytest.mark.parametrize(("pool", "width"), [(None, 3), ("mean", 3), ("mean+std", 6)])
def test_channels_are_kept_apart(means, pool, width):
    embedder = Embedder(means, pool=pool)
    both = embedder.embed((SOUND, 16_000))
    assert both.values.shape == ((2, 50, width) if pool is None else (2, width))
    assert both.by_channel() is both.values
    assert both.pool == pool
    for channel in range(2):
        alone = embedder.embed((SOUND[channel], 16_000))
        np.testing.assert_array_equal(both.values[channel], alone.values)


def test_every_door_gives_the_same(means, recordings):
    (path,) = recordings(1)
    embedder = Embedder(means)
    expected = embedder.embed(path).values
    data = path.read_bytes()
    audio = voiceguard.read(path)
    for source in (str(path), data, io.BytesIO(data), audio, (audio.samples, 16_000)):
        np.testing.assert_array_equal(embedder.embed(source).values, expected)
    array = embedder.embed(audio.samples, sample_rate=16_000)
    np.testing.assert_array_equal(array.values, expected)


def test_audio_of_another_rate_is_resampled(means):
    slow = Audio(SOUND, sample_rate=8_000, source_rate=8_000)
    assert Embedder(means).embed(slow).values.shape == (2, 101, 3)


def test_a_rate_beside_a_source_that_has_its_own(means, recordings):
    with pytest.raises(ParameterError, match="'sample_rate'"):
        Embedder(means).embed(recordings(1)[0], sample_rate=16_000)
    with pytest.raises(ParameterError, match="'sample_rate'"):
        Embedder(means).embed(Audio(SOUND, 16_000, 16_000), sample_rate=16_000)


def test_half_precision(means):
    whole = Embedder(means).embed((SOUND[0], 16_000)).values
    half = Embedder(means, float16=True).embed((SOUND[0], 16_000)).values
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, whole, rtol=1e-3, atol=1e-4)


def test_what_half_precision_cannot_hold_is_refused(means):
    loud = np.full(1_600, 1_000.0, np.float32)
    assert Embedder(means).embed((loud, 16_000)).values.max() == pytest.approx(1e6)
    with pytest.raises(ModelError, match="float16 ends at 65504"):
        Embedder(means, float16=True).embed((loud, 16_000))


@pytest.mark.parametrize("pool", [None, "mean"])
def test_what_is_no_number_is_refused(means, pool):
    means.blocks = lambda channel, layer: iter([np.full((4, 3), np.nan, np.float32)])
    with pytest.raises(ModelError, match="means gave a number that is not finite"):
        Embedder(means, pool=pool).embed((SOUND[0], 16_000))


@pytest.mark.parametrize("pool", [None, "mean"])
def test_too_short_for_a_frame(means, pool):
    with pytest.raises(AudioError, match=r"holds 159 samples.*too few for one frame of means"):
        Embedder(means, pool=pool).embed((SOUND[0, :159], 16_000))


def test_bad_inputs_become_rows(means, recordings, tmp_path):
    good = recordings(2)
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    sources = [good[0], tmp_path / "none.wav", text, 7, good[1]]
    told = []
    rows = Embedder(means).embed_many(sources, progress=told.append)
    assert [row.source for row in rows] == sources
    assert [row.embedding is None for row in rows] == [False, True, True, True, False]
    assert isinstance(rows[1].error, AudioNotFoundError)
    assert rows[1].error.__traceback__ is None, "it would keep the audio alive"
    assert [row.name for row in rows[:2]] == [str(good[0]), str(tmp_path / "none.wav")]
    assert told == rows


@pytest.mark.parametrize("name", ["chunk_s", "context_s"])
@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan"), "4", True])
def test_seconds_out_of_their_domain(means, name, value):
    with pytest.raises(ParameterError, match=f"'{name}' parameter of Embedder"):
        Embedder(means, **{name: value})


def test_an_object_that_is_no_model():
    pytest.importorskip("torch")
    with pytest.raises(ParameterError, match=r"'model' parameter of Embedder.*Got int"):
        Embedder(3)
