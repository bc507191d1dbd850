"""Noise arrives at the drawn ratio, whatever it is made of."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import AudioFormatError
from voiceguard.training.augment import at_snr
from voiceguard.training.perturb_noise import Noise

RATE = 16_000


def rng(seed=0):
    return np.random.default_rng(seed)


def snr_db(x, y):
    return 10 * np.log10(np.mean(x.astype(float) ** 2) / np.mean((y.astype(float) - x) ** 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three tones, each of its own pitch, rate, length, level and channel count."""
    root = tmp_path_factory.mktemp("noises")
    (root / "deeper").mkdir()
    for name, hz, rate, seconds, channels in (
        ("a.wav", 500, 16_000, 3.0, 1),
        ("b.flac", 1_000, 44_100, 2.0, 2),
        ("deeper/c.wav", 2_000, 8_000, 0.3, 1),
    ):
        t = np.arange(round(seconds * rate)) / rate
        tone = hz / 4_000 * np.sin(2 * np.pi * hz * t)
        soundfile.write(root / name, np.stack([tone] * channels, axis=1), rate)
    (root / "notes.txt").write_text("no audio")
    return root


@pytest.mark.parametrize("source", ["coloured", "files", "babble"])
@pytest.mark.parametrize("wanted", [-5.0, 10.0, 30.0])
def test_the_ratio_is_reached(source, wanted, folder, harmonic_voice):
    files = () if source == "coloured" else str(folder)
    noise = Noise((wanted, wanted), source, files)
    for seed in range(3):
        y = noise(harmonic_voice, rng(seed))
        assert snr_db(harmonic_voice, y) == pytest.approx(wanted, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 500),
    wanted=st.floats(-20, 40),
    loudness=st.floats(-6, 1),
)
def test_any_noise_is_scaled_to_the_ratio(length, wanted, loudness):
    x = rng(1).standard_normal(length).astype(np.float32)
    noise = 10**loudness * (0.1 + np.abs(rng(2).standard_normal(length)))
    assert snr_db(x, at_snr(x, noise, wanted)) == pytest.approx(wanted, abs=0.1)


def test_silence_stays_silence(folder):
    x = np.zeros(400, np.float32)
    for noise in (Noise(), Noise(source="babble", files=folder)):
        np.testing.assert_array_equal(noise(x, rng()), x)


def test_ratios_fill_their_range(harmonic_voice):
    drawn = [snr_db(harmonic_voice, Noise((0, 20))(harmonic_voice, rng(s))) for s in range(60)]
    assert -0.1 <= min(drawn) < 2 and 18 < max(drawn) <= 20.1


def pitches(y, x):
    """Which of the folder's tones are in the difference, Hz."""
    noise = y.astype(float) - x
    spectrum = np.abs(np.fft.rfft(noise * np.hanning(len(noise))))
    level = {hz: spectrum[round(hz * len(noise) / RATE)] for hz in (500, 1_000, 2_000)}
    return {hz for hz, value in level.items() if value > 0.2 * max(level.values())}


def test_a_file_is_heard_at_its_own_pitch_whatever_its_rate(folder, harmonic_voice):
    noise = Noise((0, 0), "files", folder)
    heard = [pitches(noise(harmonic_voice, rng(seed)), harmonic_voice) for seed in range(20)]
    assert {frozenset(one) for one in heard} == {
        frozenset([500]),
        frozenset([1_000]),
        frozenset([2_000]),
    }


def test_a_babble_is_several_at_once_alike_in_power(folder, harmonic_voice):
    noise = Noise((0, 0), "babble", folder, (3, 3))
    assert pitches(noise(harmonic_voice, rng()), harmonic_voice) == {500, 1_000, 2_000}


def test_stretches_are_drawn(folder, harmonic_voice):
    noise = Noise((0, 0), "files", (folder / "a.wav",))
    x = harmonic_voice[:RATE]
    assert not np.array_equal(noise(x, rng(0)), noise(x, rng(1)))


def test_the_files_of_a_folder_are_listed_by_name(folder):
    listed = Noise(source="files", files=folder).files
    assert [path.removeprefix(str(folder)) for path in listed] == [
        "/a.wav",
        "/b.flac",
        "/deeper/c.wav",
    ]


@pytest.mark.parametrize(("content", "said"), [(b"no audio", "cannot be read"), (None, "no audio")])
def test_a_bad_file_is_named(content, said, tmp_path, harmonic_voice):
    path = tmp_path / "bad.wav"
    if content is None:
        soundfile.write(path, np.zeros(0), RATE)
    else:
        path.write_bytes(content)
    with pytest.raises(AudioFormatError, match=rf"bad\.wav.*{said}"):
        Noise(source="files", files=(path,))(harmonic_voice, rng())
