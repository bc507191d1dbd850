"""Rooms, bands, codecs and telephones, as drawn by a pipeline."""

import numpy as np
import pytest

from voiceguard.audio.telephony import g711_path
from voiceguard.errors import MissingExtraError, ParameterError
from voiceguard.training import codecs as codecs_module
from voiceguard.training.augment import transcode
from voiceguard.training.codecs import CODECS, has_encoder
from voiceguard.training.perturb_channel import BandLimit, Codec, Room, Telephone

pytest.importorskip("av", reason="PyAV carries most of the codecs")

RATE = 16_000


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def white():
    return rng(1).standard_normal(2 * RATE).astype(np.float32) * np.float32(0.1)


def share_between(x, low, high):
    power = np.abs(np.fft.rfft(x)) ** 2
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    return power[(hz >= low) & (hz < high)].sum() / power.sum()


def response_db(band, hz):
    """Of a tone through the band, after it has settled."""
    x = np.sin(2 * np.pi * hz * np.arange(RATE) / RATE).astype(np.float32)
    y = band(x, rng())[RATE // 2 :]
    return 10 * np.log10(np.mean(y**2) / 0.5)


def test_a_band_keeps_its_inside_and_loses_an_octave_by_24_db():
    band = BandLimit((500.0, 500.0), (2_000.0, 2_000.0))
    assert response_db(band, 1_000) == pytest.approx(0.0, abs=0.5)
    for edge in (500, 2_000):
        assert response_db(band, edge) == pytest.approx(-3.0, abs=0.3)
    assert max(response_db(band, 250), response_db(band, 4_000)) < -24.0
    high_pass = BandLimit((500.0, 500.0), (8_000.0, 8_000.0))
    assert response_db(high_pass, 250) == pytest.approx(-24.1, abs=0.5)


@pytest.mark.parametrize(
    ("low", "high", "inside"), [(0, 3_000, (0, 3_600)), (3_000, 8_000, (2_500, 8_001))]
)
def test_one_side_may_stay_open(low, high, inside, white):
    y = BandLimit((low, low), (high, high))(white, rng())
    assert share_between(y, *inside) > 0.98
    open_end = response_db(BandLimit((low, low), (high, high)), 20 if low == 0 else 7_900)
    assert open_end == pytest.approx(0.0, abs=0.1)


def test_both_sides_open_is_nothing(white):
    np.testing.assert_array_equal(BandLimit((0, 0), (8_000, 8_000))(white, rng()), white)


@pytest.mark.parametrize("codec", ["ulaw", "gsm", "opus_nb", "vorbis"])
def test_a_narrow_codec_leaves_nothing_above_four_kilohertz(codec, white):
    y = Codec((codec,))(white, rng())
    assert y.shape == white.shape
    if CODECS[codec].sample_rate == 8_000:
        assert share_between(y, 4_100, 8_001) < 1e-3
    else:
        assert share_between(y, 4_100, 8_001) > 0.3


def test_a_chain_is_its_codecs_one_after_the_other(harmonic_voice):
    y = Codec((("ulaw", "gsm"),))(harmonic_voice, rng())
    np.testing.assert_array_equal(y, transcode(transcode(harmonic_voice, "ulaw"), "gsm"))


def test_every_codec_of_the_list_is_drawn(harmonic_voice):
    x = harmonic_voice[:4_000]
    drawn = {Codec(("ulaw", "alaw", "gsm"))(x, rng(seed)).tobytes() for seed in range(30)}
    assert len(drawn) == 3


def test_bit_rates_are_drawn(harmonic_voice):
    x = harmonic_voice[:8_000]
    heard = {Codec(("opus",))(x, rng(seed)).tobytes() for seed in range(16)}
    assert len(heard) == len(CODECS["opus"].bit_rates)


def test_vorbis_is_better_at_a_higher_rate(harmonic_voice):
    low, *_, high = CODECS["vorbis"].bit_rates
    errors = [
        np.mean((transcode(harmonic_voice, "vorbis", bit_rate=rate) - harmonic_voice) ** 2)
        for rate in (low, high)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_a_codec_that_the_build_lacks_is_refused(monkeypatch):
    from dataclasses import replace

    lacking = replace(CODECS["amr_nb"], encoder="no_such_encoder")
    monkeypatch.setitem(codecs_module.CODECS, "amr_nb", lacking)
    assert not has_encoder("amr_nb")
    with pytest.raises(ParameterError, match="amr_nb is not"):
        Codec(("amr_nb",))


def test_without_pyav_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert has_encoder("gsm")
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        Codec(("opus",))


def test_a_telephone_is_the_library_s_own(harmonic_voice):
    heard = {Telephone()(harmonic_voice, rng(seed)).tobytes() for seed in range(12)}
    laws = {g711_path(harmonic_voice, law=law).tobytes() for law in ("ulaw", "alaw")}
    assert heard == laws


@pytest.mark.parametrize("seed", range(4))
def test_any_telephone_is_narrow(seed, white):
    y = Telephone(path="any", second_codec=0.5)(white, rng(seed))
    assert y.shape == white.shape
    assert share_between(y, 4_100, 8_001) < 1e-3


def test_rooms_are_simulated_once_and_kept(tmp_path, harmonic_voice):
    pytest.importorskip("pyroomacoustics")
    path = tmp_path / "rooms.npy"
    made = Room(rooms=1, seed=3, file=path)
    assert [file.name for file in tmp_path.iterdir()] == ["rooms.npy"]
    read = Room(rooms=1, seed=99, file=path)
    np.testing.assert_array_equal(made.bank, read.bank)
    wet = read(harmonic_voice, rng())
    assert wet.shape == harmonic_voice.shape
    assert wet.dtype == np.float32
    expected = np.convolve(harmonic_voice.astype(float), read.bank[0])[: len(wet)]
    np.testing.assert_allclose(wet, expected, atol=1e-4)


def test_every_room_of_a_bank_is_used(tmp_path, echoes):
    np.save(tmp_path / "rooms.npy", echoes)
    room = Room(rooms=len(echoes), file=tmp_path / "rooms.npy")
    impulse = np.eye(1, 2_000)[0].astype(np.float32)
    heard = {round(float(room(impulse, rng(seed))[0]), 4) for seed in range(30)}
    assert heard == {round(float(echo[0]), 4) for echo in echoes}


def test_a_bank_of_another_size_is_refused(tmp_path, echoes):
    np.save(tmp_path / "rooms.npy", echoes)
    with pytest.raises(ParameterError, match="must hold 4 rooms"):
        Room(rooms=4, file=tmp_path / "rooms.npy")
