"""A round trip is a passable telephone: same length, right delay, the voice still in it."""

import sys

import numpy as np
import pytest

from voiceguard.errors import MissingExtraError, ParameterError
from voiceguard.training.codecs import CODECS, round_trip

pytest.importorskip("av", reason="PyAV carries most of the codecs")

# Codec: (delay in samples at its rate, least correlation at its lowest bit rate).
EXPECTED = {
    "ulaw": (0, 0.999),
    "alaw": (0, 0.999),
    "gsm": (0, 0.95),
    "ima_adpcm": (0, 0.95),
    "amr_nb": (40, 0.85),
    "g722": (22, 0.99),
    "opus_nb": (1, 0.80),
    "opus": (0, 0.92),
    "mp3_8k": (0, 0.93),
    "mp3": (0, 0.95),
    "vorbis": (0, 0.95),
    "aac": (1_024, 0.95),
}
SETTINGS = [(name, rate) for name, codec in CODECS.items() for rate in codec.bit_rates or (None,)]


def telephone_band(x, rate):
    """300 to 3400 Hz, zero phase.

    Below it AMR and Opus (in voip mode) high-pass by the book and so turn the phase of a voice's
    fundamental; a correlation over all frequencies would measure that filter, not the coding: a
    male voice through AMR shows 0.8, a 140 Hz buzz 0.5, at any bit rate.
    """
    spectrum = np.fft.rfft(x)
    hz = np.fft.rfftfreq(len(x), 1 / rate)
    spectrum[(hz < 300) | (hz > 3_400)] = 0
    return np.fft.irfft(spectrum, len(x))


def alignment(x, y, rate):
    """(delay in samples, correlation there) of y behind x, within 75 ms."""
    x, y = telephone_band(x, rate), telephone_band(y, rate)
    padded = 2 * len(x)
    cross = np.fft.irfft(np.fft.rfft(y, padded) * np.conj(np.fft.rfft(x, padded)), padded)
    delay = int(np.argmax(cross[: int(0.075 * rate)]))
    a, b = x[: len(x) - delay], y[delay:]
    return delay, float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_every_codec_is_expected():
    assert set(EXPECTED) == set(CODECS)
    assert all(name == codec.name for name, codec in CODECS.items())


@pytest.mark.parametrize("name", CODECS)
def test_the_voice_comes_through_at_the_lowest_rate(name, voice, at_rate):
    rate = CODECS[name].sample_rate
    x = at_rate(voice, rate)
    y = round_trip(x, name)
    delay, correlation = alignment(x, y, rate)
    expected_delay, least = EXPECTED[name]
    assert abs(delay - expected_delay) <= 1
    assert correlation >= least


@pytest.mark.parametrize(("name", "bit_rate"), SETTINGS)
def test_length_type_and_loudness_are_kept(name, bit_rate, harmonic_voice, at_rate):
    x = at_rate(harmonic_voice, CODECS[name].sample_rate)
    y = round_trip(x, name, bit_rate=bit_rate)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.all(np.isfinite(y))
    loudness_db = 10 * np.log10(np.mean(y**2) / np.mean(x**2))
    assert abs(loudness_db) < 2.0


@pytest.mark.parametrize("name", [name for name, codec in CODECS.items() if codec.bit_rates])
def test_more_bits_more_voice(name, voice, at_rate):
    rate = CODECS[name].sample_rate
    x = at_rate(voice, rate)
    found = [
        alignment(x, round_trip(x, name, bit_rate=bits), rate)[1] for bits in CODECS[name].bit_rates
    ]
    assert list(CODECS[name].bit_rates) == sorted(CODECS[name].bit_rates)
    assert found[-1] > found[0] + 0.005
    # Neighbouring rates of AMR share most of their codebooks; they may swap by a hair.
    assert np.all(np.diff(found) > -0.02)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("length", [0, 1, 159, 161, 1_023, 1_601])
def test_any_length_is_kept(name, length, harmonic_voice):
    x = harmonic_voice[4_000 : 4_000 + length]
    y = round_trip(x, name)
    assert y.shape == (length,)
    assert np.all(np.isfinite(y))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("length", [8_000, 8_977])
def test_the_last_block_is_not_lost(name, length, harmonic_voice):
    """The end sounds as if silence followed it; a coder that was not drained would cut it off."""
    x = harmonic_voice[4_000 : 4_000 + length]
    followed = np.pad(x, (0, 4_096))
    end = slice(length - 1_500, length)
    y, expected = round_trip(x, name)[end], round_trip(followed, name)[end]
    assert np.max(np.abs(expected)) > 0.05
    np.testing.assert_allclose(y, expected, atol=0.1 * np.max(np.abs(expected)))


@pytest.mark.parametrize(("name", "bit_rate"), SETTINGS)
def test_silence_stays_all_but_silent(name, bit_rate):
    y = round_trip(np.zeros(8_123, np.float32), name, bit_rate=bit_rate)
    # A-law has no zero: its smallest step is 8 of 32,768; GSM idles at 16.
    assert np.max(np.abs(y)) <= 16 / 32_768


@pytest.mark.parametrize("name", CODECS)
def test_beyond_full_scale_clips_and_does_not_wrap(name, harmonic_voice):
    loud = 6.0 * harmonic_voice[:8_000]
    np.testing.assert_array_equal(
        round_trip(loud, name), round_trip(np.clip(loud, -1.0, 1.0), name)
    )


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_remembers_nothing(name, harmonic_voice):
    x = harmonic_voice[:8_000]
    before = round_trip(x, name)
    round_trip(np.sign(x), name)
    np.testing.assert_array_equal(round_trip(x, name), before)


def test_the_input_is_left_alone(harmonic_voice):
    x = 3.0 * harmonic_voice[:4_000]
    kept = x.copy()
    for name in CODECS:
        round_trip(x, name)
    np.testing.assert_array_equal(x, kept)


def test_gsm_is_the_same_in_another_decoder(harmonic_voice, at_rate):
    """libsndfile encodes and decodes; FFmpeg's own GSM decoder must hear the same bits."""
    import io

    import av
    import soundfile

    x = at_rate(harmonic_voice, 8_000)
    buffer = io.BytesIO()
    soundfile.write(buffer, x, 8_000, format="WAV", subtype="GSM610")
    buffer.seek(0)
    with av.open(buffer) as container:
        frames = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    other = np.concatenate(frames)[: len(x)].astype(np.float32) / 32_768
    np.testing.assert_allclose(round_trip(x, "gsm"), other, atol=2 / 32_768)


def test_unknown_codec_is_named_with_the_choice():
    with pytest.raises(ParameterError, match=r"'codec'.*'amr_nb'.*Got 'g729' instead"):
        round_trip(np.zeros(160, np.float32), "g729")


def test_without_pyav_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        round_trip(np.zeros(160, np.float32), "opus")
    assert len(round_trip(np.zeros(160, np.float32), "gsm")) == 160
