"""recipes/open_voices/splice.py: the truth is where it says, and nothing but the voice tells it."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the recipe's modules need the train extra")

from voiceguard.errors import ProtocolError
from voiceguard.training.corpus import Corpus

RECIPE = Path(__file__).parents[2] / "recipes" / "open_voices"
RATE = 16_000
TONE_HZ = 2_000
SEED = 3


@pytest.fixture(scope="module")
def splice():
    """The module; path and module table end as they were."""
    bare = [path.stem for path in RECIPE.glob("*.py")]
    shadowed = {name: sys.modules.pop(name) for name in bare if name in sys.modules}
    path = list(sys.path)
    sys.path.insert(0, str(RECIPE))
    try:
        yield importlib.import_module("splice")
    finally:
        sys.path[:] = path
        for name in bare:
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)


def toy_corpus() -> Corpus:
    """Humans are noise of many levels, machines a tone at 2 kHz; one human is too short to call."""
    rng = np.random.default_rng(0)
    rows, clips = [], []
    for speaker, count in (("ann", 12), ("bob", 7), ("cid", 8), ("dot", 2)):
        for _ in range(count):
            n = int(rng.integers(40_000, 65_600))
            clips.append(rng.normal(0, 10 ** rng.uniform(-2.5, -1), n))
            rows.append(
                {"label": "bonafide", "origin": "here", "speaker": speaker, "system": "human"}
            )
    for system, count in (("old", 4), ("new", 9), ("tiny", 1)):
        for _ in range(count):
            n = int(rng.integers(40_000, 65_600))
            tone = np.sin(2 * np.pi * TONE_HZ * np.arange(n) / RATE)
            clips.append(10 ** rng.uniform(-2.5, -0.5) * tone)
            rows.append({"label": "spoof", "origin": "there", "speaker": "it", "system": system})
    pcm = np.round(np.concatenate(clips).clip(-1, 1) * 32_767).astype(np.int16)
    return Corpus(rows, pcm, np.cumsum([0, *map(len, clips)]))


@pytest.fixture(scope="module")
def corpus():
    return toy_corpus()


@pytest.fixture(scope="module")
def maker(splice, corpus):
    return splice.CallMaker(corpus, range(len(corpus)), seed=SEED)


def tone_share(x):
    """Share of the power that lies at the machines' tone."""
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    return spectrum[np.abs(hz - TONE_HZ) < 60].sum() / spectrum.sum()


@settings(max_examples=20)
@given(db=st.floats(-40, 0), zeros=st.integers(0, 9))
def test_level_follows_gain_and_not_the_pauses(splice, db, zeros):
    x = np.random.default_rng(1).normal(0, 0.1, 16_000)
    louder = splice.active_level_db(x * 10 ** (db / 20)) - splice.active_level_db(x)
    assert louder == pytest.approx(db, abs=1e-4)
    padded = np.concatenate([x, np.zeros(3_200 * zeros)])
    assert splice.active_level_db(padded) == pytest.approx(splice.active_level_db(x), abs=1e-6)
    assert splice.active_level_db(splice.levelled(padded)) == pytest.approx(
        splice.LEVEL_DB, abs=0.01
    )


def test_silence_has_no_level_to_match(splice):
    assert not splice.levelled(np.zeros(1_000, np.float32)).any()


def test_a_cross_fade_keeps_the_power_of_unrelated_sounds(splice):
    rise = splice.ramp()
    assert np.allclose(rise**2 + rise[::-1] ** 2, 1.0, atol=1e-6)
    noise = np.random.default_rng(2).normal(0, 0.1, (2, 300, 2 * splice.FADE)).astype(np.float32)
    seams = [splice.join(pair)[splice.FADE : 2 * splice.FADE] for pair in noise.swapaxes(0, 1)]
    power = np.mean(np.square(seams), axis=0).reshape(8, -1).mean(axis=1)
    assert np.all(np.abs(10 * np.log10(power / 0.01)) < 0.3)


def test_a_join_touches_the_seam_alone(splice):
    a, b = np.random.default_rng(3).normal(0, 0.1, (2, 5_000)).astype(np.float32)
    joined = splice.join([a, b])
    assert len(joined) == 10_000 - splice.FADE
    assert np.array_equal(joined[: 5_000 - splice.FADE], a[: -splice.FADE])
    assert np.array_equal(joined[5_000:], b[splice.FADE :])


def test_an_overlay_has_its_borders_in_the_middle_of_the_fades(splice):
    half = splice.FADE // 2
    host, passage = np.full(20_000, 0.1, np.float32), np.full(6_000 + splice.FADE, 0.2, np.float32)
    for source, others in ((host, 0 * passage), (0 * host, passage)):
        call = splice.overlay(source, others, 7_000)
        # At both borders either sound has lost 3 dB.
        for border in (7_000, 13_000):
            level = np.mean(call[border - 1 : border + 1]) / max(source.max(), others.max())
            assert level == pytest.approx(0.5**0.5, abs=1e-3)
    call = splice.overlay(host, passage, 7_000)
    assert np.array_equal(call[: 7_000 - half], host[: 7_000 - half])
    assert np.array_equal(call[13_000 + half :], host[13_000 + half :])
    assert np.array_equal(call[7_000 + half : 13_000 - half], passage[: 6_000 - splice.FADE])


@pytest.mark.parametrize("passage_s", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("index", range(3))
def test_the_truth_is_where_the_machine_is(splice, maker, index, passage_s):
    call = maker.spliced(index, passage_s)
    ((start, stop),) = call.fakes
    first, last = start * RATE, stop * RATE
    assert first == pytest.approx(round(first), abs=1e-6)
    assert stop - start == pytest.approx(passage_s, abs=1e-9)
    assert 20 * RATE <= len(call.samples) <= 60 * RATE
    assert 1.0 <= start < stop <= len(call.samples) / RATE - 1.0
    half, (first, last) = splice.FADE // 2, (round(first), round(last))
    assert tone_share(call.samples[first + half : last - half]) > 0.98
    assert tone_share(call.samples[: first - half]) < 0.05
    assert tone_share(call.samples[last + half :]) < 0.05


@pytest.mark.parametrize("index", range(4))
def test_a_control_holds_no_fake_and_the_same_joins(splice, maker, index):
    call, control = maker.spliced(index, 4.0), maker.control(index, 4.0)
    assert control.fakes == ()
    assert tone_share(control.samples) < 0.05
    assert (control.donor == control.host) == (index % 2 == 0)
    ((start, stop),) = call.fakes
    half = splice.FADE // 2
    inside = slice(round(start * RATE) - half, round(stop * RATE) + half)
    differs = np.flatnonzero(call.samples != control.samples)
    assert inside.start <= differs[0] <= inside.start + 2
    assert inside.stop - 2 <= differs[-1] + 1 <= inside.stop
    levels = [splice.active_level_db(each.samples[inside]) for each in (call, control)]
    assert levels == pytest.approx([splice.LEVEL_DB] * 2, abs=0.7)


def test_the_passage_alone_changes_with_its_length(maker):
    short, long = maker.spliced(1, 1.0), maker.spliced(1, 8.0)
    assert (short.host, short.donor) == (long.host, long.donor)
    assert len(short.samples) == len(long.samples)
    assert np.array_equal(short.samples[-RATE // 2 :], long.samples[-RATE // 2 :])


def test_a_greeting_stands_before_the_message(splice, maker):
    for index in range(3):
        call, message = maker.reversed(index), maker.message(index)
        ((start, stop),) = call.fakes
        border, half = round(start * RATE), splice.FADE // 2
        assert 2.0 <= start <= 4.0
        assert stop == len(call.samples) / RATE
        assert 8.0 <= len(message.samples) / RATE <= 30.0
        assert message.fakes == ((0.0, len(message.samples) / RATE),)
        assert tone_share(call.samples[: border - half]) < 0.05
        assert tone_share(call.samples[border + half :]) > 0.98
        tail = message.samples[splice.FADE :]
        assert np.array_equal(call.samples[-len(tail) :], tail)


def test_calls_follow_from_seed_and_index_alone(splice, corpus, maker):
    again = splice.CallMaker(corpus, range(len(corpus)), seed=SEED)
    other = splice.CallMaker(corpus, range(len(corpus)), seed=SEED + 1)
    again.message(7)
    for kind, make in splice.MAKERS.items():
        call, same, unlike = (make(each, 2, 4.0) for each in (maker, again, other))
        assert call.kind == kind
        assert np.array_equal(call.samples, same.samples)
        assert call.fakes == same.fakes
        assert not np.array_equal(call.samples, unlike.samples)


def test_a_channel_keeps_truth_and_length(splice, maker):
    call = maker.spliced(0, 2.0)
    assert splice.through(call, "clean").samples is call.samples
    phoned = splice.through(call, "g711")
    assert phoned.fakes == call.fakes
    assert len(phoned.samples) == len(call.samples)
    spectrum = np.abs(np.fft.rfft(phoned.samples)) ** 2
    assert spectrum[len(spectrum) // 2 :].sum() < 1e-3 * spectrum.sum()


def test_only_the_rows_that_were_given_are_heard(splice, corpus, monkeypatch):
    rows = [i for i, row in enumerate(corpus.rows) if row["speaker"] != "bob"]
    heard = []
    clip = Corpus.clip
    monkeypatch.setattr(Corpus, "clip", lambda self, i: heard.append(i) or clip(self, i))
    maker = splice.CallMaker(corpus, rows)
    for index in range(4):
        for make in splice.MAKERS.values():
            make(maker, index, 8.0)
    assert heard
    assert set(heard) <= set(rows)


def test_voices_too_short_are_named(splice, corpus):
    rows = [i for i, row in enumerate(corpus.rows) if row["speaker"] in ("dot", "it")]
    with pytest.raises(ProtocolError, match="human voice of 20 s"):
        splice.CallMaker(corpus, rows)
