"""Conditions do what physics says, and what is drawn for a clip is drawn again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import RATE, power_db


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Files of three other voices."""
    import soundfile

    folder, rng = tmp_path_factory.mktemp("voices"), np.random.default_rng(5)
    paths = [folder / f"{i}.wav" for i in range(3)]
    for path in paths:
        soundfile.write(path, 0.1 * rng.standard_normal(RATE), RATE)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def changed(bench, speech, voices):
    """The voice under a condition."""
    known = {condition.name: condition for condition in bench.conditions.conditions()[0]}

    def change(name, x=speech, *, clip_id="a", seed=0):
        return known[name](x, clip_id=clip_id, seed=seed, voices=voices)

    change.names = list(known)
    return change


def tone(hz, seconds=1.0):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def pitch_of(x):
    """Hz where the spectrum of a tone peaks."""
    middle = x[len(x) // 4 : -len(x) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 8 * RATE))
    return np.argmax(spectrum) / 8


@pytest.mark.parametrize("kind", ["white", "babble"])
@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_has_the_ratio_of_its_name(changed, speech, kind, snr_db):
    noise = changed(f"{kind} {snr_db} dB").astype(np.float64) - speech
    assert power_db(speech) - power_db(noise) == pytest.approx(snr_db, abs=0.1)


def test_names_are_unique_and_every_codec_has_its_rates(bench, changed):
    from voiceguard.training.codecs import CODECS, has_encoder

    assert len(set(changed.names)) == len(changed.names)
    assert changed.names[0] == "clean"
    for codec in CODECS.values():
        mine = [name for name in changed.names if name.startswith(f"codec {codec.name}")]
        mine = [name for name in mine if name.split()[1] == codec.name]
        assert len(mine) == (max(len(codec.bit_rates), 1) if has_encoder(codec.name) else 0)


CHEAP = ("white 5 dB", "babble 5 dB", "room small", "line ulaw", "codec gsm", "pitch +10 %",
         "silence trimmed", "replay phone", "loss 5 %", "peak -40 dBFS", "suppression WebRTC 4",
         "suppression FFmpeg", "gate", "compressor 4:1", "levelled")  # fmt: skip


@pytest.mark.parametrize("name", CHEAP)
def test_same_draw_same_sound_and_nothing_else_changes_it(changed, speech, name):
    before, first = speech.copy(), changed(name)
    assert np.array_equal(first, changed(name))
    assert np.array_equal(speech, before)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()


@pytest.mark.parametrize("name", ["white 5 dB", "babble 5 dB", "loss 5 %", "replay laptop"])
def test_other_clip_and_other_seed_draw_anew(changed, name):
    first = changed(name)
    assert not np.array_equal(first, changed(name, clip_id="b"))
    assert not np.array_equal(first, changed(name, seed=1))


@pytest.mark.parametrize(("sign", "factor"), [("-", 0.9), ("+", 1.1)])
def test_speed_tempo_and_pitch_move_what_they_should(changed, sign, factor):
    x = tone(440.0)
    speed, tempo, pitch = (changed(f"{kind} {sign}10 %", x) for kind in ("speed", "tempo", "pitch"))
    assert len(speed) == pytest.approx(len(x) / factor, abs=2)
    assert len(tempo) == pytest.approx(len(x) / factor, abs=2)
    assert len(pitch) == len(x)
    assert pitch_of(speed) == pytest.approx(440 * factor, abs=1.5)
    assert pitch_of(tempo) == pytest.approx(440, abs=1.5)
    assert pitch_of(pitch) == pytest.approx(440 * factor, abs=1.5)


@given(factor=st.floats(0.7, 1.4), n=st.integers(2_000, 12_000))
@settings(max_examples=15)
def test_stretching_keeps_level_and_gives_the_length(bench, factor, n):
    x = tone(300.0)[:n]
    y = bench.effects.stretched(x, factor)
    assert len(y) == round(n / factor)
    body = y[512:-1024] if len(y) > 2_600 else y
    assert np.max(np.abs(body)) < 1.1


def test_stretching_by_nothing_changes_nothing(bench, speech):
    middle = slice(600, -1_200)
    assert np.abs(bench.effects.stretched(speech, 1.0) - speech)[middle].max() < 1e-4


@pytest.mark.parametrize(("name", "share"), [("loss 3 %", 0.03), ("loss 10 %", 0.10)])
def test_lost_packets_are_as_many_as_named(bench, changed, speech, name, share):
    packet, join = bench.effects.PACKET, 64
    differs = changed(name) != speech
    lost = differs.reshape(-1, packet)[:, join:].any(axis=1)
    assert lost.sum() == round(share * len(lost))


def test_concealment_continues_a_tone(bench):
    x = tone(200.0, 0.5)
    filled = bench.effects.concealed(x, [10])
    gap = slice(10 * 320, 11 * 320)
    assert power_db(filled[gap] - x[gap]) < power_db(x[gap]) - 12
    silence = x.copy()
    silence[gap] = 0
    assert power_db(filled[gap] - x[gap]) < power_db(silence[gap] - x[gap]) - 12


def test_long_gap_fades_to_silence_and_packets_come_back_unchanged(bench):
    x = tone(200.0, 0.5)
    filled = bench.effects.concealed(x, [10, 11, 12, 13])
    assert not filled[13 * 320 : 14 * 320].any()
    assert np.array_equal(filled[: 10 * 320], x[: 10 * 320])
    assert np.array_equal(filled[14 * 320 + 64 :], x[14 * 320 + 64 :])


@pytest.mark.parametrize("which", ["SMALL_ROOM", "LARGE_ROOM"])
def test_room_decays_as_asked(bench, which):
    room = getattr(bench.effects, which)
    response = bench.effects.room_response(room).astype(np.float64)
    left = np.cumsum(response[::-1] ** 2)[::-1]
    level = 10 * np.log10(left / left[0] + 1e-12)
    rt60_s = 3 * (np.argmax(level < -25) - np.argmax(level < -5)) / RATE
    assert rt60_s == pytest.approx(room.rt60_s, rel=0.25)
    assert np.sum(response**2) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "hz"), [("resample 8 kHz", 4_000), ("resample 11.025 kHz", 5_512)]
)
def test_resampling_takes_the_band_away(changed, name, hz):
    x = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    spectrum = np.abs(np.fft.rfft(changed(name, x))) ** 2
    assert spectrum[hz + 100 :].sum() < 1e-3 * spectrum[: hz - 500].sum()


def test_resampling_up_and_back_loses_next_to_nothing(changed, speech):
    for name in ("resample 22.05 kHz", "resample 44.1 kHz"):
        assert power_db(changed(name) - speech) < power_db(speech) - 40


@pytest.mark.parametrize("peak", [0, -20, -40])
def test_peak_lies_where_its_name_says(changed, peak):
    found = 20 * np.log10(np.max(np.abs(changed(f"peak {peak} dBFS"))))
    assert found == pytest.approx(peak, abs=0.05)


def test_clipping_and_silence(changed, speech):
    assert np.max(np.abs(changed("clip at 25 %"))) == pytest.approx(np.max(np.abs(speech)) / 4)
    quiet = np.concatenate([np.zeros(RATE // 2, np.float32), speech])
    assert len(changed("silence trimmed", quiet)) < len(quiet) - 0.4 * RATE
    zeros, floor = changed("silence padded with zeros"), changed("silence padded with a floor")
    assert len(zeros) == len(floor) == len(speech) + 2 * RATE
    assert not zeros[:RATE].any()
    assert power_db(floor[:RATE]) == pytest.approx(-66, abs=0.2)
    assert np.array_equal(zeros[RATE:-RATE], speech)


def bursts(seconds=4.0):
    """A voice whose pitch glides, half of each half second; where it is off, and where on."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    voice = sum(np.sin(k * phase + k) / k for k in range(1, 25))
    late = t > seconds / 2
    off, on = (t % 0.5 > 0.33) & (t % 0.5 < 0.45) & late, (t % 0.5 < 0.25) & late
    return (0.1 * voice * (t % 0.5 < 0.25)).astype(np.float32), off, on


@pytest.mark.parametrize(
    "name", ["suppression WebRTC 2", "suppression WebRTC 4", "suppression FFmpeg", "gate"]
)
def test_what_cleans_lowers_the_floor_beside_the_voice(changed, name):
    x, off, on = bursts()
    noisy = x + 0.005 * np.random.default_rng(2).standard_normal(len(x)).astype(np.float32)
    y = changed(name, noisy)
    assert len(y) == len(x)
    drop_off, drop_on = (power_db(noisy[part]) - power_db(y[part]) for part in (off, on))
    assert drop_off - drop_on > 5.0


@pytest.mark.parametrize(
    "name", ["suppression WebRTC 2", "suppression WebRTC 4", "suppression FFmpeg", "gate"]
)
def test_what_cleans_stays_in_time(changed, name):
    x = 0.1 * np.random.default_rng(1).standard_normal(4 * RATE).astype(np.float32)
    y = changed(name, x)
    lags = range(-200, 201)
    body = slice(2 * RATE, -RATE)
    found = lags[int(np.argmax([x[body] @ np.roll(y, -lag)[body] for lag in lags]))]
    assert abs(found) <= 2


@pytest.mark.parametrize("name", ["compressor 4:1", "levelled"])
def test_what_levels_brings_loud_and_soft_together(changed, name):
    x = tone(440.0, 8.0)
    x[4 * RATE :] *= 0.1
    y = changed(name, x)
    assert len(y) == len(x)
    loud, soft = power_db(y[RATE : 3 * RATE]), power_db(y[6 * RATE : 7 * RATE])
    assert 0.0 <= loud - soft < 17.0


def test_replay_bends_and_band_limits(bench):
    rng = np.random.default_rng(0)
    phone = bench.effects.PHONE
    spectrum = np.abs(np.fft.rfft(bench.effects.replayed(0.5 * tone(1_000.0), rng, handset=phone)))
    floor = np.median(spectrum[2_100:2_900])
    assert spectrum[3_000] > 20 * floor
    assert spectrum[2_000] > 5 * floor
    low = bench.effects.replayed(tone(100.0) + tone(1_000.0), rng, handset=phone)
    heard = np.abs(np.fft.rfft(low))
    assert heard[100] < 0.03 * heard[1_000]


def test_globs_choose_and_what_names_nothing_is_refused(bench):
    from voiceguard.errors import ParameterError

    names = ["clean", "white 20 dB", "white 5 dB", "room small"]
    assert bench.conditions.choose(names, "room*, white 5*") == ["white 5 dB", "room small"]
    with pytest.raises(ParameterError, match="Got 'rain'"):
        bench.conditions.choose(names, "clean,rain")
