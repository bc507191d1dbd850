"""G.711 against libsndfile, FFmpeg and the standard library's old audioop; the path's physics."""

from __future__ import annotations

import io
import sys
import warnings

import numpy as np
import pytest

from voiceguard.audio.telephony import decode_g711, encode_g711, g711_path
from voiceguard.errors import ParameterError

ALL_SAMPLES = np.arange(-32768, 32768).astype(np.int16)
ALL_CODES = np.arange(256, dtype=np.uint8)
LAWS = ("ulaw", "alaw")


@pytest.fixture(scope="module")
def audioop():
    if sys.version_info >= (3, 13):
        pytest.skip("audioop left the standard library in 3.13")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop
    return audioop


def _sndfile(codes_or_samples: np.ndarray, law: str) -> np.ndarray:
    """What libsndfile decodes from raw codes, or its codes for samples."""
    import soundfile

    if codes_or_samples.dtype == np.uint8:
        stream = io.BytesIO(codes_or_samples.tobytes())
        form = {"format": "RAW", "subtype": law.upper(), "samplerate": 8000, "channels": 1}
        return soundfile.read(stream, dtype="int16", **form)[0]
    stream = io.BytesIO()
    soundfile.write(stream, codes_or_samples, 8000, format="RAW", subtype=law.upper())
    return np.frombuffer(stream.getvalue(), np.uint8)


def _steps(law: str) -> np.ndarray:
    """Distance from each sample's decoded value to its farther neighbour on the scale."""
    values = np.sort(np.unique(decode_g711(ALL_CODES, law=law).astype(int)))
    at = np.searchsorted(values, decode_g711(encode_g711(ALL_SAMPLES, law=law), law=law))
    padded = np.concatenate((values[:1], values, values[-1:]))
    return np.maximum(padded[at + 2] - padded[at + 1], padded[at + 1] - padded[at])


@pytest.mark.parametrize("law", LAWS)
def test_all_codes_decode_as_libsndfile_and_audioop_do(law, audioop):
    got = decode_g711(ALL_CODES, law=law)
    assert np.array_equal(got, _sndfile(ALL_CODES, law))
    old = getattr(audioop, f"{law}2lin")(ALL_CODES.tobytes(), 2)
    assert np.array_equal(got, np.frombuffer(old, np.int16))


def test_all_samples_encode_in_ulaw_as_libsndfile_does():
    assert np.array_equal(encode_g711(ALL_SAMPLES, law="ulaw"), _sndfile(ALL_SAMPLES, "ulaw"))


def test_all_samples_encode_in_alaw_as_audioop_does(audioop):
    old = np.frombuffer(audioop.lin2alaw(ALL_SAMPLES.tobytes(), 2), np.uint8)
    assert np.array_equal(encode_g711(ALL_SAMPLES, law="alaw"), old)


@pytest.mark.parametrize("law", LAWS)
def test_ffmpeg_differs_at_decision_values_only(law):
    av = pytest.importorskip("av")
    name = {"ulaw": "pcm_mulaw", "alaw": "pcm_alaw"}[law]
    encoder = av.CodecContext.create(name, "w")
    encoder.sample_rate, encoder.layout, encoder.format = 8000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(ALL_SAMPLES[None], "s16", "mono")
    frame.sample_rate = 8000
    theirs = np.frombuffer(b"".join(map(bytes, encoder.encode(frame))), np.uint8)
    ours = encode_g711(ALL_SAMPLES, law=law)
    # FFmpeg puts a sample that falls on a decision value, or a few units beside it, elsewhere.
    gap = np.abs(decode_g711(ours, law=law).astype(int) - decode_g711(theirs, law=law))
    assert (ours != theirs).mean() < 0.02
    assert (gap <= _steps(law)).all()


@pytest.mark.parametrize("law", LAWS)
def test_a_decoded_value_encodes_to_itself(law):
    values = decode_g711(ALL_CODES, law=law)
    again = decode_g711(encode_g711(values, law=law), law=law)
    assert np.array_equal(again, values)


@pytest.mark.parametrize(("law", "largest"), [("ulaw", 32124), ("alaw", 32256)])
def test_published_extremes(law, largest):
    # G.711 tables 1 and 2: 8031 of 8159 steps of u-law, 4032 of 4096 of A-law.
    values = decode_g711(ALL_CODES, law=law)
    assert (int(values.min()), int(values.max())) == (-largest, largest)
    assert len(np.unique(values)) == (255 if law == "ulaw" else 256)


@pytest.mark.parametrize("law", LAWS)
def test_error_stays_within_half_a_step(law):
    error = np.abs(
        decode_g711(encode_g711(ALL_SAMPLES, law=law), law=law) - ALL_SAMPLES.astype(int)
    )
    inside = np.abs(ALL_SAMPLES.astype(int)) <= (32635 if law == "ulaw" else 32767)
    # Half a step, and what the cut to 14 or 13 bits loses.
    assert (error <= _steps(law) / 2 + 8)[inside].all()


def _tone(hz: float, level: float = 0.25) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000)).astype(np.float32)


@pytest.mark.parametrize("law", LAWS)
def test_the_path_passes_the_band_and_stops_the_rest(law):
    def gain_db(hz: float) -> float:
        sent = _tone(hz)
        heard = g711_path(sent, law=law)
        at = np.abs(np.fft.rfft(heard)[round(hz)]) / np.abs(np.fft.rfft(sent)[round(hz)])
        return 20 * np.log10(at + 1e-12)

    assert abs(gain_db(400)) < 0.5
    assert abs(gain_db(1000)) < 0.5
    assert abs(gain_db(3300)) < 0.5
    assert gain_db(60) < -40
    assert gain_db(4500) < -40
    assert gain_db(6000) < -40


@pytest.mark.parametrize("law", LAWS)
def test_the_path_has_the_noise_of_g711(law):
    # The laws keep a signal-to-distortion ratio of some 33 to 39 dB over a wide range of levels.
    for level in (0.5, 0.05, 0.02):
        sent = _tone(1020, level)
        middle = slice(1000, -1000)
        error = (g711_path(sent, law=law) - sent)[middle]
        ratio = 10 * np.log10(np.mean(sent[middle] ** 2) / np.mean(error**2))
        assert 32 < ratio < 45, (level, ratio)


def test_the_path_is_deterministic_and_keeps_length(rng):
    for n in (0, 1, 7, 15_999, 16_001):
        sent = rng.uniform(-0.5, 0.5, n).astype(np.float32)
        first, second = g711_path(sent), g711_path(sent)
        assert first.shape == (n,)
        assert first.dtype == np.float32
        assert np.array_equal(first, second)


def test_the_path_clips_beyond_full_scale():
    assert np.abs(g711_path(_tone(1000, 4.0))).max() < 1.5


def test_misuse_is_told():
    with pytest.raises(ParameterError, match="'ulaw' or 'alaw'"):
        decode_g711(b"\x00", law="mulaw")
    with pytest.raises(ParameterError, match="int16"):
        encode_g711(np.zeros(3, np.float32))
    with pytest.raises(ParameterError, match="uint8"):
        decode_g711(np.zeros(3, np.int16))
    with pytest.raises(ParameterError, match="shape"):
        g711_path(np.zeros((2, 10), np.float32))
