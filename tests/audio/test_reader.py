"""Sources, and hostile or broken files: each line of the list that the reader must survive."""

from __future__ import annotations

import functools
import io
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard import audio
from voiceguard.audio import Limits, intake
from voiceguard.errors import (
    AudioError,
    AudioFormatError,
    AudioLimitError,
    AudioNotFoundError,
    VoiceguardError,
)


def wav_header(rate: int, data_bytes: int, channels: int = 1) -> bytes:
    """A PCM 16 header that says what it is told to."""
    block = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block % 2**32, block, 16)
    return (
        b"RIFF"
        + struct.pack("<I", (36 + data_bytes) % 2**32)
        + b"WAVEfmt "
        + struct.pack("<I", len(form))
        + form
        + b"data"
        + struct.pack("<I", data_bytes)
    )


@pytest.fixture
def clip(wave, encode) -> bytes:
    return encode(wave(), 8000, "WAV", "PCM_16")


def test_all_doors_give_the_same(tmp_path, clip):
    path = tmp_path / "clip.wav"
    path.write_bytes(clip)

    class Stream:
        """Neither seekable nor generous."""

        def __init__(self) -> None:
            self.left = clip

        def read(self, _size: int = -1) -> bytes:
            piece, self.left = self.left[:1000], self.left[1000:]
            return piece

    with path.open("rb") as file:
        sources = [
            str(path), path, clip, bytearray(clip), memoryview(clip), io.BytesIO(clip), file,
            Stream(), {"path": str(path)}, {"bytes": clip, "path": None},
        ]  # fmt: skip
        first, *others = [audio.read(source).samples for source in sources]
    assert first.shape == (1, 16_000)
    for other in others:
        assert np.array_equal(first, other)


def test_a_pipe(clip):
    # A pipe holds 64 KiB, more than the clip, so that one thread can do both ends.
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(clip)
    with os.fdopen(reading, "rb") as file:
        got = audio.read(file)
    assert got.duration_s == 1.0
    assert got.name is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe(tmp_path, clip):
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(clip,))
    writer.start()
    got = audio.read(path)
    writer.join()
    assert got.duration_s == 1.0


def test_standard_input_in_another_process(clip):
    code = (
        "import sys; from voiceguard import audio; print(audio.read(sys.stdin.buffer).duration_s)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=clip, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.strip() == b"1.0"


def test_a_missing_file(tmp_path):
    with pytest.raises(AudioNotFoundError, match=r"nope\.wav.*does not exist"):
        audio.read(tmp_path / "nope.wav")


def test_a_folder(tmp_path):
    with pytest.raises(AudioNotFoundError, match="is a folder"):
        audio.read(tmp_path)


def test_a_device():
    if not Path("/dev/null").is_char_device():
        pytest.skip("this system has no /dev/null")
    with pytest.raises(AudioNotFoundError, match="device"):
        audio.read("/dev/null")


def test_a_path_that_no_system_takes():
    with pytest.raises(AudioNotFoundError, match="may not be read"):
        audio.read("a\0b.wav")


def test_an_unreadable_file(tmp_path, clip, monkeypatch):
    # The superuser reads what chmod forbids, so the system's refusal is played.
    path = tmp_path / "secret.wav"
    path.write_bytes(clip)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioNotFoundError, match=r"secret\.wav.*Permission denied"):
        audio.read(path)


def test_a_stream_that_fails(clip):
    class Broken(io.RawIOBase):
        def read(self, _size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(AudioNotFoundError, match="Input/output error"):
        audio.read(Broken())


def test_a_text_stream():
    with pytest.raises(AudioFormatError, match=r"sys\.stdin\.buffer"):
        audio.read(io.StringIO("RIFF"))


@pytest.mark.parametrize("name", ["notes.txt", "notes.wav", "notes.m4a"])
def test_a_text_file(tmp_path, name):
    path = tmp_path / name
    path.write_text("Call the bank about the voice on Tuesday.\n" * 50)
    with pytest.raises(AudioFormatError, match=rf"{name}.*no known audio container"):
        audio.read(path)


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.wav"
    path.touch()
    with pytest.raises(AudioFormatError, match="0 bytes"):
        audio.read(path)
    with pytest.raises(AudioFormatError, match="0 bytes"):
        audio.read(b"")


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "huge.wav"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    monkeypatch.setattr("voiceguard.audio.reader._decode", lambda *_: pytest.fail("was read"))
    with pytest.raises(AudioLimitError, match=r"huge\.wav.*3,221,225,472 bytes.*max_bytes"):
        audio.read(path)


def test_an_endless_stream_is_stopped():
    class Endless:
        given = 0

        def read(self, size: int) -> bytes:
            self.given += size
            return bytes(size)

    stream = Endless()
    with pytest.raises(AudioLimitError, match="max_bytes"):
        audio.read(stream, limits=Limits(max_bytes=3_000_000))
    assert stream.given < 6_000_000


@pytest.mark.parametrize(
    ("rate", "named"), [(655_360_000, "max_rate_hz"), (1, "min_rate_hz"), (2**31 - 1, "max_rate")]
)
def test_a_header_that_lies_about_the_rate(rate, named):
    with pytest.raises(AudioLimitError, match=named):
        audio.read(wav_header(rate, 200) + bytes(200))


def test_a_header_that_lies_about_the_length():
    got = audio.read(wav_header(8000, 2**32 - 40) + bytes(100), sample_rate=None)
    assert got.samples.shape == (1, 50)


def test_a_header_that_lies_about_the_channels():
    with pytest.raises(AudioError):
        audio.read(wav_header(8000, 2000, channels=200) + bytes(2000))


def test_a_claimed_length_is_refused_before_it_is_decoded(wave, encode):
    flac = bytearray(encode(wave(), 8000, "FLAC", "PCM_16"))
    # STREAMINFO: 36 bits of total samples end at byte 26.
    flac[21] |= 0x0F
    flac[22:26] = b"\xff\xff\xff\xff"
    with pytest.raises(AudioLimitError, match="max_duration_s"):
        audio.read(bytes(flac))


def test_a_file_that_grows_while_it_is_read(tmp_path, clip):
    path = tmp_path / "growing.wav"
    path.write_bytes(clip)

    class Growing(io.FileIO):
        def readinto(self, buffer) -> int:
            with path.open("ab") as more:
                more.write(bytes(4096))
            return super().readinto(buffer)

    with Growing(path) as stream:
        # By the reader's path branch, as a stream it would be followed to its (moving) end.
        request = audio.reader.Request(str(path), None, Limits(), time.monotonic())
        got = audio.reader._decode(stream, request)
    assert path.stat().st_size > len(clip)
    assert got.samples.shape == (1, 8000)


def test_ten_minutes_of_silence_in_a_few_kilobytes(encode):
    silence = np.zeros((1, 600 * 8000), np.float32)
    flac = encode(silence, 8000, "FLAC", "PCM_16")
    assert len(flac) < silence.size / 100
    assert audio.read(flac, sample_rate=None).duration_s == 600.0
    with pytest.raises(AudioLimitError, match="max_duration_s"):
        audio.read(flac, limits=Limits(max_duration_s=300))


def test_a_slow_decoder_is_stopped(clip, monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(intake.time, "monotonic", lambda: next(clock))
    with pytest.raises(AudioLimitError, match="max_decode_s"):
        audio.read(clip, limits=Limits(max_decode_s=50))


def test_eight_channels_and_not_nine(encode, wave):
    eight = np.tile(wave(), (8, 1))
    assert audio.read(encode(eight, 8000, "WAV", "PCM_16")).n_channels == 8
    nine = np.tile(wave(), (9, 1))
    with pytest.raises(AudioLimitError, match="max_channels"):
        audio.read(encode(nine, 8000, "WAV", "PCM_16"))


@pytest.mark.parametrize("kind", ["zeros", "offset", "clipped"])
def test_dull_audio_passes_unchanged(encode, kind):
    sent = {
        "zeros": np.zeros((1, 8000)),
        "offset": np.full((1, 8000), 0.25),
        "clipped": np.sign(np.sin(np.arange(8000) / 9.0))[None],
    }[kind].astype(np.float32)
    got = audio.read(encode(sent, 16_000, "WAV", "FLOAT"))
    assert np.array_equal(got.samples, sent)
    assert got.warnings == ()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@settings(deadline=None, max_examples=120)
@given(data=st.data())
def test_damaged_files_give_audio_or_a_typed_error(data):
    base = data.draw(st.sampled_from(_seeds()))
    damaged = bytearray(base)
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    limits = Limits(max_duration_s=60.0, max_decode_s=30.0)
    try:
        got = audio.read(bytes(damaged[:cut]), limits=limits)
    except VoiceguardError as error:
        assert len(str(error)) > 20
    else:
        assert np.isfinite(got.samples).all()
        assert got.duration_s <= 60.1


@settings(deadline=None, max_examples=60)
@given(
    magic=st.sampled_from(
        [b"RIFF", b"fLaC", b"OggS", b"FORM", b".snd", b"caff", b"ID3", b"\xff\xfb", b"#!AMR\n",
         b"\x00\x00\x00\x18ftyp", b"\x1a\x45\xdf\xa3", b"\xff\xf1"]
    ),
    rest=st.binary(max_size=400),
)  # fmt: skip
def test_noise_behind_a_magic_number_gives_a_typed_error_or_audio(magic, rest):
    try:
        got = audio.read(magic + rest)
    except VoiceguardError:
        return
    assert np.isfinite(got.samples).all()


@functools.cache
def _seeds() -> list[bytes]:
    """Small files of many kinds, made once."""
    import soundfile

    tone = (0.3 * np.sin(np.arange(4000) / 7.0)).astype(np.float32)
    made = []
    for container, subtype in (
        ("WAV", "PCM_16"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_24"), ("AU", "ULAW"), ("CAF", "PCM_16"), ("VOC", "PCM_16"),
    ):  # fmt: skip
        buffer = io.BytesIO()
        soundfile.write(buffer, tone, 8000, format=container, subtype=subtype)
        made.append(buffer.getvalue())
    return made


def test_importing_and_reading_stay_light():
    code = """
import sys
from voiceguard import audio
import voiceguard.audio.quality, voiceguard.audio.telephony, voiceguard.audio.vad
early = {"soundfile", "soxr", "av", "onnxruntime", "scipy", "sklearn"} & set(sys.modules)
import io, numpy as np
audio.read((np.zeros(8000, np.float32), 8000))
voiceguard.audio.quality.assess(np.zeros(16000, np.float32))
late = {"torch", "torchaudio", "librosa", "speechbrain", "matplotlib", "av"} & set(sys.modules)
print(sorted(early | late))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"[]"
