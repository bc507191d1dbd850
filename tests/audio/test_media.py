"""What only FFmpeg decodes: by round trip, within the limits, with its demuxer named."""

from __future__ import annotations

import builtins
import io

import numpy as np
import pytest

from voiceguard import audio
from voiceguard.audio import Limits, media
from voiceguard.errors import AudioFormatError, AudioLimitError, MissingExtraError

pytest.importorskip("av")

FORMS = [
    ("ipod", "aac", 16_000, "fltp", "mov/aac"),
    ("mp4", "aac", 44_100, "fltp", "mov/aac"),
    ("adts", "aac", 16_000, "fltp", "aac/aac"),
    ("amr", "libopencore_amrnb", 8_000, "s16", "amr/"),
    ("webm", "libopus", 48_000, "flt", "matroska/"),
    ("matroska", "pcm_s16le", 8_000, "s16", "matroska/pcm_s16le"),
    ("matroska", "flac", 16_000, "s16", "matroska/flac"),
    ("3gp", "aac", 16_000, "fltp", "mov/aac"),
    ("asf", "wmav2", 16_000, "fltp", "asf/wmav2"),
]


@pytest.mark.parametrize(("muxer", "codec", "rate", "fmt", "name"), FORMS)
def test_round_trip(wave, encode_av, similarity, muxer, codec, rate, fmt, name):
    sent = wave(rate, 1.0)
    got = audio.read(encode_av(sent, rate, muxer, codec, fmt), sample_rate=None)
    assert got.codec.startswith(name)
    assert got.source_rate == rate
    assert abs(got.duration_s - 1.0) < 0.2
    # AMR at 12.2 kbit/s models speech and bends partials by a little.
    assert similarity(got.samples[0], sent[0], rate) > 0.9


def test_channels_are_kept_apart(wave, encode_av, similarity):
    sent = wave(16_000, 1.0, 2)
    sent[1] *= 0.25
    got = audio.read(encode_av(sent, 16_000, "ipod", "aac"))
    assert got.n_channels == 2
    for row, want in zip(got.samples, sent, strict=True):
        assert similarity(row, want, 16_000) > 0.95
    assert 3.5 < got.samples[0].std() / got.samples[1].std() < 4.5


@pytest.mark.parametrize("fmt", ["u8", "s16", "s32", "flt", "dbl"])
def test_sample_types_have_their_full_scale(wave, encode_av, fmt):
    codec = {"u8": "u8", "s16": "s16le", "s32": "s32le", "flt": "f32le", "dbl": "f64le"}[fmt]
    sent = wave(8_000, 0.2, 2)
    got = audio.read(encode_av(sent, 8_000, "matroska", f"pcm_{codec}", fmt), sample_rate=None)
    assert got.samples.shape == sent.shape
    assert np.abs(got.samples - sent).max() < (0.01 if fmt == "u8" else 1e-4)


def test_g722_by_extension(tmp_path, wave, encode_av, similarity):
    sent = wave(16_000, 1.0)
    path = tmp_path / "msg0000.g722"
    path.write_bytes(encode_av(sent, 16_000, "g722", "g722", "s16"))
    got = audio.read(path, sample_rate=None)
    assert got.source_rate == 16_000
    assert similarity(got.samples[0], sent[0], 16_000) > 0.95


def test_a_flac_behind_an_id3_tag_goes_to_ffmpeg(wave, encode):
    sent = wave(16_000, 0.5)
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    got = audio.read(tag + encode(sent, 16_000, "FLAC", "PCM_16"))
    assert np.abs(got.samples - sent).max() <= 1 / 32768


def test_a_flac_of_unstated_length_goes_to_ffmpeg(wave, encode):
    # A FLAC written to a pipe leaves the 36 bits of its length at 0; libsndfile stops at once.
    sent = wave(16_000, 0.5)
    flac = bytearray(encode(sent, 16_000, "FLAC", "PCM_16"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    got = audio.read(bytes(flac))
    assert np.abs(got.samples - sent).max() <= 1 / 32768


def test_an_m4a_cut_off_before_its_index_is_refused(wave, encode_av):
    whole = encode_av(wave(16_000, 2.0), 16_000, "ipod", "aac")
    with pytest.raises(AudioFormatError, match="could not be decoded"):
        audio.read(whole[: len(whole) // 2])


def test_a_damaged_stream_gives_the_rest_with_a_warning(wave, encode_av, rng):
    whole = bytearray(encode_av(wave(16_000, 4.0), 16_000, "adts", "aac"))
    middle = len(whole) // 2
    whole[middle : middle + 400] = rng.integers(0, 255, 400, dtype=np.uint8).tobytes()
    got = audio.read(bytes(whole))
    assert 2.0 < got.duration_s < 4.5
    assert any("damaged" in warning for warning in got.warnings)


def test_video_without_sound_is_refused(encode_av):
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("rawvideo", rate=1, width=16, height=16, pix_fmt="yuv420p")
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(AudioFormatError, match="no audio stream"):
        audio.read(buffer.getvalue())


def test_limits_hold(wave, encode_av):
    data = encode_av(wave(16_000, 2.0, 2), 16_000, "ipod", "aac")
    for limits, named in (
        (Limits(max_duration_s=1.0), "max_duration_s"),
        (Limits(max_channels=1), "max_channels"),
        (Limits(max_rate_hz=8_000), "max_rate_hz"),
        (Limits(max_decoded_bytes=1000), "max_decoded_bytes"),
        (Limits(max_decode_s=1e-9), "max_decode_s"),
    ):
        with pytest.raises(AudioLimitError, match=named):
            audio.read(data, sample_rate=None, limits=limits)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.aac\n",
        "ffconcat version 1.0\nfile 'other.wav'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_playlists_never_reach_ffmpeg(monkeypatch, tmp_path, text):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a playlist reached the decoder")

    monkeypatch.setattr(media, "decode_media", refuse)
    path = tmp_path / "list.m4a"
    path.write_text(text)
    with pytest.raises(AudioFormatError, match="no known audio container"):
        audio.read(path)


def test_without_pyav_the_extra_is_named(monkeypatch, wave, encode_av, encode):
    m4a = encode_av(wave(), 8_000, "ipod", "aac")
    broken = encode(wave(), 8_000, "FLAC", "PCM_16")[:20]
    real = builtins.__import__

    def blocked(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[media\]"):
        audio.read(m4a)
    with pytest.raises(AudioFormatError, match=r"voiceguard\[media\]"):
        audio.read(broken)
