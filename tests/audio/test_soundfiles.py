"""Every coding that libsndfile reads comes back by round trip, and from bytes as from a path."""

from __future__ import annotations

import numpy as np
import pytest

from voiceguard import audio
from voiceguard.errors import AudioFormatError

# Container, subtype, largest error of a wave of peak 0.6.
LINEAR = [
    ("WAV", "PCM_U8", 1 / 128),
    ("WAV", "PCM_16", 1 / 32768),
    ("WAV", "PCM_24", 2**-23),
    ("WAV", "PCM_32", 2**-24),
    ("WAV", "FLOAT", 0.0),
    ("WAV", "DOUBLE", 0.0),
    ("WAV", "ULAW", 0.02),
    ("WAV", "ALAW", 0.02),
    ("WAVEX", "PCM_16", 1 / 32768),
    ("RF64", "PCM_16", 1 / 32768),
    ("W64", "PCM_16", 1 / 32768),
    ("FLAC", "PCM_S8", 1 / 128),
    ("FLAC", "PCM_16", 1 / 32768),
    ("FLAC", "PCM_24", 2**-23),
    ("AIFF", "PCM_16", 1 / 32768),
    ("AIFF", "FLOAT", 0.0),
    ("AU", "PCM_16", 1 / 32768),
    ("AU", "ULAW", 0.02),
    ("CAF", "PCM_16", 1 / 32768),
    ("NIST", "PCM_16", 1 / 32768),
    ("VOC", "PCM_16", 1 / 32768),
]
LOSSY = [
    ("WAV", "GSM610", 8000),
    ("WAV", "IMA_ADPCM", 8000),
    ("WAV", "MS_ADPCM", 8000),
    ("OGG", "VORBIS", 16000),
    ("OGG", "OPUS", 16000),
    ("MP3", "MPEG_LAYER_III", 16000),
]


@pytest.mark.parametrize(("container", "subtype", "tolerance"), LINEAR)
@pytest.mark.parametrize("channels", [1, 2])
def test_linear_codings_come_back(wave, encode, container, subtype, tolerance, channels):
    sent = wave(8000, 0.5, channels)
    got = audio.read(encode(sent, 8000, container, subtype), sample_rate=None)
    assert got.samples.shape == sent.shape
    assert got.samples.dtype == np.float32
    assert got.samples.flags.c_contiguous
    assert (got.source_rate, got.sample_rate) == (8000, 8000)
    assert got.codec.endswith(f"/{subtype.lower()}")
    assert np.abs(got.samples - sent).max() <= tolerance
    assert got.warnings == ()


@pytest.mark.parametrize(("container", "subtype", "rate"), LOSSY)
def test_lossy_codings_sound_alike(wave, encode, similarity, container, subtype, rate):
    sent = wave(rate, 1.0)
    got = audio.read(encode(sent, rate, container, subtype), sample_rate=None)
    assert got.source_rate == rate
    assert abs(got.duration_s - 1.0) < 0.15
    assert similarity(got.samples[0], sent[0], rate) > 0.95


def test_channels_are_kept_apart(wave, encode):
    sent = np.stack([k * wave(8000, 0.2)[0] / 8 for k in range(1, 9)])
    got = audio.read(encode(sent, 8000, "WAV", "FLOAT"), sample_rate=None)
    assert np.array_equal(got.samples, sent)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_read_resamples_in_blocks_as_in_one_go(rng, encode, rate):
    # Longer than the decoder's block, so that the joints count.
    sent = rng.uniform(-0.5, 0.5, (2, 70_000)).astype(np.float32)
    got = audio.read(encode(sent, rate, "WAV", "FLOAT"))
    want = audio.resample(sent, source_rate=rate, target_rate=16_000)
    assert got.samples.shape == want.shape
    assert np.abs(got.samples - want).max() < 1e-5


@pytest.mark.parametrize(
    ("extension", "subtype", "rate"),
    [
        (".ulaw", "ULAW", 8000),
        (".ul", "ULAW", 8000),
        (".alaw", "ALAW", 8000),
        (".al", "ALAW", 8000),
        (".gsm", "GSM610", 8000),
        (".sln", "PCM_16", 8000),
        (".sln16", "PCM_16", 16000),
        (".SLN48", "PCM_16", 48000),
    ],
)
def test_headerless_by_extension(tmp_path, wave, similarity, extension, subtype, rate):
    import soundfile

    sent = wave(rate, 0.5)
    path = tmp_path / f"message{extension}"
    with path.open("wb") as file:
        soundfile.write(file, sent[0], rate, format="RAW", subtype=subtype, endian="LITTLE")
    got = audio.read(path, sample_rate=None)
    assert got.source_rate == rate
    assert got.codec == f"raw/{subtype.lower()}"
    assert similarity(got.samples[0], sent[0], rate) > 0.95


def test_silent_ulaw_is_not_taken_for_mpeg(tmp_path):
    path = tmp_path / "quiet.ulaw"
    path.write_bytes(b"\xff" * 8000)
    got = audio.read(path, sample_rate=None)
    assert got.codec == "raw/ulaw"
    assert not got.samples.any()


def test_headerless_bytes_without_a_name_are_refused_with_a_hint():
    with pytest.raises(AudioFormatError, match=r"\.ulaw"):
        audio.read(bytes(range(256)) * 10)


@pytest.mark.parametrize("extension", [".mp3", ".txt", ".raw", ".ulaw", ""])
def test_a_wrong_extension_is_decoded_by_content(tmp_path, wave, encode, extension):
    path = tmp_path / f"clip{extension}"
    path.write_bytes(encode(wave(), 8000, "WAV", "PCM_16"))
    got = audio.read(path, sample_rate=None)
    assert got.codec == "wav/pcm_16"
    assert got.samples.shape == (1, 8000)
    assert got.name == str(path)


def test_truncated_gsm_gives_what_is_there_and_says_so(wave, encode):
    whole = encode(wave(8000, 2.0), 8000, "WAV", "GSM610")
    got = audio.read(whole[: len(whole) // 2], sample_rate=None)
    assert 0.5 < got.duration_s < 1.1


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_truncated_files_give_their_start(wave, encode, container, subtype):
    whole = encode(wave(16_000, 12.0), 16_000, container, subtype)
    got = audio.read(whole[: len(whole) // 2])
    assert 2.0 < got.duration_s < 11.0
    assert np.isfinite(got.samples).all()


def test_a_truncated_flac_is_announced(wave, encode):
    whole = encode(wave(16_000, 12.0), 16_000, "FLAC", "PCM_16")
    warnings = audio.read(whole[: len(whole) // 2]).warnings
    assert any("192000" in warning or "stopped" in warning for warning in warnings)


def test_a_container_with_nothing_behind_it(encode, wave):
    whole = encode(wave(), 8000, "FLAC", "PCM_16")
    with pytest.raises(AudioFormatError, match="could not be"):
        audio.read(whole[:20])


def test_no_samples_is_no_error(encode):
    got = audio.read(encode(np.zeros((1, 0), np.float32), 8000, "WAV", "PCM_16"))
    assert got.samples.shape == (1, 0)
    assert got.duration_s == 0.0
    assert any("no samples" in warning for warning in got.warnings)


def test_one_sample(encode):
    got = audio.read(encode(np.full((1, 1), 0.5, np.float32), 16_000, "WAV", "FLOAT"))
    assert got.samples.tolist() == [[0.5]]


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_made_finite(encode, subtype):
    sent = np.array([[0.1, np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, 0.2]], np.float32)
    got = audio.read(encode(sent, 16_000, "WAV", subtype))
    want = np.array([[0.1, 0, 0, 0, 32768, -32768, 1e-40, 0.2]], np.float32)
    assert np.array_equal(got.samples, want)
    assert any("3 samples" in warning for warning in got.warnings)
    assert any("2 samples" in warning and "clamped" in warning for warning in got.warnings)
