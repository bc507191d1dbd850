"""Re-syntheses: in time with their human, changed, alike in envelope, and the same again."""

import importlib
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_toeplitz
from scipy.signal import freqz, get_window

from voiceguard.errors import ProtocolError, VoiceguardError
from voiceguard.training.corpus import Corpus, open_corpus

RECIPE = Path(__file__).parents[2] / "recipes" / "open_voices"
PARTS = (
    "harmonics", "magnitude", "measures", "mixing", "pitch", "prediction", "quantised", "spectra",
    "store", "world",
)  # fmt: skip
RATE = 16_000

# Log-spectral distance of a re-synthesis to the made-up voice in dB, at most.
FARTHEST_DB = {
    "world": 6.0, "griffinlim": 3.0, "mel": 5.0, "lpc": 7.0, "harmonic": 9.0, "phase": 5.0,
    "codewords": 8.0, "blend": 7.0, "partial": 8.0,
}  # fmt: skip
WITH_PITCH = {"world", "lpc", "harmonic", "blend", "partial"}


def load():
    """Import the script and its package; path and module table end as they were."""
    before = dict(sys.modules)
    sys.path.insert(0, str(RECIPE))
    try:
        script = importlib.import_module("resynthesis")
        split = importlib.import_module("split")
        parts = {name: importlib.import_module(f"resyntheses.{name}") for name in PARTS}
        package = sys.modules["resyntheses"]
    finally:
        sys.path.remove(str(RECIPE))
        for name in [name for name in sys.modules if name not in before]:
            if name.split(".")[0] in ("resynthesis", "resyntheses", "split"):
                del sys.modules[name]
    return SimpleNamespace(script=script, split=split, package=package, **parts)


R = load()


def voice(seed=0, seconds=1.2):
    """Vowels of a wavering pitch with pauses of hiss between them."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    f0 = 120 + 60 * rng.random() + 15 * np.sin(2 * np.pi * 1.7 * t + rng.random())
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    formants = [(600 + 200 * rng.random(), 90), (1500 + 500 * rng.random(), 130), (2700, 200)]
    x = np.zeros(n)
    for k in range(1, 36):
        level = sum(1 / (1 + ((k * 150 - f) / b) ** 2) for f, b in formants) + 0.02
        x += level * np.cos(k * phase + k**2 * 0.1) * (k * 200 < 7500)
    loud = np.clip(1.5 * np.sin(2 * np.pi * 1.3 * t + 0.5) + 0.5, 0, 1)
    x = x * loud + 0.3 * rng.standard_normal(n) * (1 - loud) + 0.003 * rng.standard_normal(n)
    return (0.25 * x / np.sqrt(np.mean(x**2)) / 2).astype(np.float32)


@pytest.fixture(scope="module")
def codewords():
    rng = np.random.default_rng(0)
    clips = [voice(seed) for seed in range(20, 26)]
    return R.quantised.fit_codebook(clips, rng, n_fft=512, n_mels=40, codewords=32)


@pytest.fixture(scope="module")
def methods(codewords):
    return {**R.package.METHODS, "codewords": R.quantised.QuantisedVocoder([codewords])}


@pytest.fixture(params=sorted(FARTHEST_DB))
def name(request):
    if request.param in WITH_PITCH:
        pytest.importorskip("pyworld", reason="pyworld is absent: pip install pyworld")
    return request.param


def made(name, methods, x, seed):
    return R.package.resynthesise(x, name, np.random.default_rng(seed), methods)


class TestEveryMethod:
    def test_all_methods_of_the_recipe_are_tested(self):
        assert set(FARTHEST_DB) == set(R.script.NAMES)

    def test_it_is_changed_sound_in_time_with_its_human_and_like_it(self, name, methods):
        for seed in range(2):
            x = voice(seed)
            y = made(name, methods, x, [1, seed])
            assert y.method == name
            assert y.samples.shape == x.shape
            assert y.samples.dtype == np.float32
            assert np.all(np.isfinite(y.samples))
            assert R.measures.level_db(x, y.samples) == pytest.approx(0.0, abs=0.01)
            assert R.measures.likeness_db(x, y.samples) < R.package.MOST_LIKE_DB
            assert abs(R.measures.lag_ms(x, y.samples)) <= 5
            assert 0.3 < R.measures.spectral_distance_db(x, y.samples) < FARTHEST_DB[name]

    def test_the_same_generator_gives_the_same_and_another_one_does_not(self, name, methods):
        x = voice(3)
        first, again, other = (made(name, methods, x, seed).samples for seed in (5, 5, 6))
        np.testing.assert_array_equal(first, again)
        assert R.measures.level_db(x, first - other) > -30

    @pytest.mark.parametrize("n", [8000, 8191])
    def test_odd_lengths_come_back_as_they_are(self, name, methods, n):
        x = voice(1)[:n]
        # Nor is the human written into.
        x.setflags(write=False)
        assert len(made(name, methods, x, n).samples) == n


class TestWhatCannotBeDone:
    def test_an_unvoiced_clip_goes_to_the_fallback(self, methods):
        pytest.importorskip("pyworld")
        hiss = 0.1 * np.random.default_rng(2).standard_normal(RATE).astype(np.float32)
        for name in ("world", "harmonic"):
            assert made(name, methods, hiss, 1).method == R.package.FALLBACK
        with pytest.raises(R.package.UnsuitableClipError, match="voiced"):
            R.pitch.track_pitch(hiss)

    def test_silence_is_refused(self, methods):
        with pytest.raises(R.package.UnsuitableClipError, match="silent"):
            made("phase", methods, np.zeros(RATE, dtype=np.float32), 1)

    @pytest.mark.parametrize("bad", ["copy", "nan", "short", "silence"])
    def test_what_is_no_resynthesis_goes_to_the_fallback(self, methods, bad):
        x = voice(0, 0.6)
        outcome = {"copy": x, "nan": x * np.nan, "short": -x[1:], "silence": 0 * x}[bad]
        broken = {**methods, "bad": lambda x, rng: outcome}
        assert made("bad", broken, x, 1).method == R.package.FALLBACK

    def test_a_mixture_that_changes_nothing_gives_way_to_what_it_mixes(self, methods, monkeypatch):
        monkeypatch.setitem(R.package.MIXTURES, "blend", lambda x, y, rng: (x, "nothing"))
        only = {name: methods[name] for name in ("griffinlim", "phase")}
        assert made("blend", only, voice(0, 0.6), 1).method in only

    def test_pyworld_that_is_absent_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyworld", None)
        with pytest.raises(VoiceguardError, match="pip install pyworld"):
            R.package.METHODS["world"](voice(), np.random.default_rng(0))


class TestSpectra:
    @settings(max_examples=20, deadline=None)
    @given(st.sampled_from([(256, 2), (400, 4), (512, 4), (1024, 8)]), st.integers(2000, 9000))
    def test_forth_and_back_is_the_clip(self, size, length):
        transform = R.spectra.Transform(size[0], size[0] // size[1], 0.54)
        x = np.random.default_rng(length).standard_normal(length).astype(np.float32)
        np.testing.assert_allclose(
            transform.inverse(transform.forward(x), length), x, atol=2e-5, rtol=0
        )

    def test_a_frame_is_the_windowed_spectrum_about_its_sample(self):
        x = voice()
        ours = R.spectra.Transform(512, 128).forward(x)[20]
        middle = 20 * 128
        direct = np.fft.rfft(x[middle - 256 : middle + 256] * get_window("hann", 512))
        np.testing.assert_allclose(ours, direct, atol=1e-4)

    def test_minimum_phase_is_that_of_a_filter_with_its_zeros_inside(self):
        response = freqz([1.0, -1.2, 0.5], worN=np.arange(257) * np.pi / 256)[1]
        found = R.spectra.minimum_phase(np.abs(response)[None].astype(np.float32))
        phase = found[0] - R.spectra.centred_phase(257)
        np.testing.assert_allclose(np.exp(1j * phase), response / np.abs(response), atol=1e-3)

    def test_griffin_lim_comes_closer_round_by_round(self):
        x, transform = voice(seconds=0.8), R.spectra.Transform(512, 128)
        magnitude = np.abs(transform.forward(x))
        start = R.spectra.random_phase(magnitude.shape, np.random.default_rng(0))

        def left(rounds, momentum=0.0):
            y = R.spectra.griffin_lim(
                magnitude, transform, len(x), start, iterations=rounds, momentum=momentum
            )
            error = np.linalg.norm(np.abs(transform.forward(y)) - magnitude)
            return error / np.linalg.norm(magnitude)

        few, many = left(2), left(20)
        assert many < few
        assert left(20, 0.9) < many

    def test_mel_triangles_hand_over_to_each_other(self):
        filters = R.spectra.mel_filters(40, 1024, low=100.0, high=7000.0)
        inside = slice(int(400 / 15.625), int(6500 / 15.625))
        np.testing.assert_allclose(filters.sum(axis=0)[inside], 1.0, atol=0.1)
        assert filters[:, :6].max() == 0
        assert filters[:, 449:].max() == 0

    @pytest.mark.parametrize("n_mels", [24, 80, 128])
    def test_no_mel_band_is_empty(self, n_mels):
        assert R.spectra.mel_filters(n_mels, 512).max(axis=1).min() > 0


class TestMagnitude:
    def test_updates_without_negatives_fit_the_bands_better(self):
        spectra = np.abs(R.spectra.Transform(512, 128).forward(voice()))
        filters = R.spectra.mel_filters(40, 512)
        mel = spectra @ filters.T
        errors = [
            np.linalg.norm(R.magnitude.from_mel(mel, filters, method=method) @ filters.T - mel)
            for method in ("pinv", "nonnegative")
        ]
        assert errors[1] < 0.5 * errors[0]

    @pytest.mark.parametrize("kind", ["random", "frozen", "zero", "minimum", "noisy", "coarse"])
    def test_damaged_phases_are_not_those_of_the_human(self, kind):
        transform = R.spectra.Transform(512, 256)
        spectrum = transform.forward(voice())
        phase = R.magnitude.damaged(kind, spectrum, transform, np.random.default_rng(1))
        assert phase.shape == spectrum.shape
        assert np.mean(np.cos(phase - np.angle(spectrum))) < 0.95

    def test_zero_phase_makes_frames_that_read_alike_both_ways(self):
        transform = R.spectra.Transform(512, 256)
        spectrum = transform.forward(voice())
        phase = R.magnitude.damaged("zero", spectrum, transform, np.random.default_rng(1))
        frame = np.fft.irfft(R.spectra.turned(np.abs(spectrum), phase)[9])
        np.testing.assert_allclose(frame[257:], frame[1:256][::-1], atol=1e-5)
        assert np.argmax(frame) == 256

    def test_smearing_over_one_bin_changes_nothing(self):
        spectrum = R.spectra.Transform(512, 128).forward(voice())
        turn = R.magnitude.smeared_phase(spectrum, 1) - np.angle(spectrum)
        np.testing.assert_allclose(np.cos(turn), 1.0, atol=1e-3)


class TestPrediction:
    @pytest.fixture
    def reflection(self):
        transform = R.spectra.Transform(320, 160)
        return R.prediction.reflection_of(transform.frames(voice()), transform, 12)

    def test_the_filter_is_the_solution_of_the_normal_equations(self, reflection):
        transform = R.spectra.Transform(320, 160)
        frame = (transform.frames(voice())[30] * transform.window).astype(float)
        lags = np.correlate(frame, frame, "full")[319 : 319 + 13]
        lags[0] = lags[0] * 1.00001 + 1e-9
        expected = solve_toeplitz(lags[:12], -lags[1:])
        np.testing.assert_allclose(
            R.prediction.predictor_of(reflection)[30, 1:], expected, atol=2e-3
        )

    def test_what_the_filter_takes_out_it_puts_back(self, reflection):
        x, a = voice(), R.prediction.predictor_of(reflection)
        residual = R.prediction.filtered(x, a, 160, inverse=False)
        assert np.std(residual) < 0.6 * np.std(x)
        # States are carried differently by both, which matters only where the filter changes.
        steady = np.repeat(a[30:31], len(a), axis=0)
        there = R.prediction.filtered(x, steady, 160, inverse=False)
        np.testing.assert_allclose(
            R.prediction.filtered(there, steady, 160, inverse=True), x, atol=1e-5
        )

    @pytest.mark.parametrize("steps", [8, 24, 48])
    def test_coarse_coefficients_stay_stable(self, reflection, steps):
        coarse = R.prediction.quantised_reflection(reflection, steps)
        assert np.abs(coarse).max() < 1
        assert len(np.unique(np.round(coarse, 9))) <= steps + 2
        poles = [np.abs(np.roots(a)).max() for a in R.prediction.predictor_of(coarse)[::10]]
        assert max(poles) < 1

    def test_levels_follow_the_model(self):
        rng = np.random.default_rng(0)
        model = np.where(np.arange(8000) < 4000, 0.1, 0.4) * rng.standard_normal(8000)
        y = R.prediction.with_envelope(rng.standard_normal(8000), model, 400)
        assert np.std(y[500:3500]) == pytest.approx(0.1, rel=0.1)
        assert np.std(y[4500:7500]) == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize("frequency", [200.0, 443.0, 1010.0, 3333.0])
def test_the_level_of_a_sine_is_read_to_a_decibel_and_a_half(frequency):
    transform = R.spectra.Transform(1024, 128)
    x = 0.3 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    magnitude = np.abs(transform.forward(x.astype(np.float32)))
    level = R.harmonics.harmonic_level(magnitude, np.full(len(magnitude), frequency), transform)
    assert np.abs(20 * np.log10(level[10:-10] / 0.3)).max() < 1.5


class TestCodewords:
    def test_k_means_finds_clusters_that_are_apart(self):
        rng = np.random.default_rng(2)
        middles = 10 * rng.standard_normal((4, 5)).astype(np.float32)
        points = np.repeat(middles, 50, axis=0) + 0.1 * rng.standard_normal((200, 5))
        starts = [R.quantised.k_means(points.astype(np.float32), 4, rng) for _ in range(5)]
        gaps = [np.linalg.norm(middles[:, None] - c, axis=2).min(axis=1).max() for c in starts]
        assert min(gaps) < 0.1

    def test_the_nearest_is_the_nearest(self):
        rng = np.random.default_rng(3)
        points, centres = rng.standard_normal((40, 6)), rng.standard_normal((9, 6))
        brute = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(R.quantised.nearest(points, centres), brute)

    def test_each_stage_leaves_less(self, codewords):
        frames, _ = codewords.log_mel(np.abs(codewords.transform.forward(voice(40))))
        left = [
            np.mean((frames - codewords.quantise(frames, stages=stages)) ** 2)
            for stages in range(4)
        ]
        assert left == sorted(left, reverse=True)
        assert left[2] < 0.8 * left[1] < 0.2 * left[0]


class TestMixing:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(4000, 6 * RATE), st.integers(0, 2**31))
    def test_passages_are_in_order_and_no_long_stretch_stays_human(self, length, seed):
        spans = R.mixing.passages(length, np.random.default_rng(seed))
        edges = [0, *(edge for span in spans for edge in span), length]
        assert edges == sorted(edges)
        assert all(RATE // 4 <= stop - start <= 2 * RATE for start, stop in spans)
        human = [b - a for a, b in zip(edges[::2], edges[1::2], strict=True)]
        assert max(human) <= R.mixing.MAX_HUMAN_S * RATE
        assert spans

    def test_outside_its_passages_a_clip_is_human_to_the_bit(self):
        x, y = voice(0, 4.0), voice(1, 4.0)
        z, words = R.mixing.replace_passages(x, y, np.random.default_rng(3))
        outside = np.ones(len(x), dtype=bool)
        for passage in words.split()[1:-1]:
            start, stop = (float(edge) for edge in passage.split("-"))
            outside[int((start - 0.01) * RATE) : int((stop + 0.01) * RATE)] = False
            inner = slice(int((start + 0.05) * RATE), int((stop - 0.05) * RATE))
            assert R.measures.likeness_db(y[inner], R.mixing.matched(z[inner], y[inner])) > 40
        assert outside.any()
        np.testing.assert_array_equal(z[outside], x[outside])

    def test_a_band_is_replaced_and_the_rest_is_human(self):
        x, y = (np.random.default_rng(k).standard_normal(RATE).astype(np.float32) for k in (1, 2))
        seen = 0
        for seed in range(30):
            z, words = R.mixing.blend(x, y, np.random.default_rng(seed))
            if not words.endswith("Hz"):
                continue
            low, high = (float(edge) for edge in words.removesuffix(" Hz").split("-"))
            # The telephone band holds at least 1 kHz of it.
            assert min(high, 3400) - max(low, 300) >= 1000
            spectra = [np.fft.rfft(v * np.hanning(RATE)) for v in (x, z, R.mixing.matched(y, x))]
            inside = slice(int(low + 300), int(high - 300))
            outside = np.r_[: max(int(low) - 300, 0), min(int(high) + 300, 8000) : 8000]
            human, mixed, synthetic = spectra
            assert np.linalg.norm((mixed - synthetic)[inside]) < 0.1 * np.linalg.norm(
                synthetic[inside]
            )
            assert np.linalg.norm((mixed - human)[outside]) <= 0.1 * np.linalg.norm(human[outside])
            seen += 1
        assert seen >= 5


class TestMeasures:
    def test_nothing_done_is_no_distance(self):
        x = voice()
        assert R.measures.spectral_distance_db(x, x) == 0
        assert R.measures.lag_ms(x, x) == 0
        assert R.measures.floor_db(x, x) == 0

    @pytest.mark.parametrize("gain_db", [-6.0, 3.0])
    def test_a_gain_is_read_in_decibels(self, gain_db):
        x = voice()
        y = x * np.float32(10 ** (gain_db / 20))
        assert R.measures.level_db(x, y) == pytest.approx(gain_db, abs=1e-3)
        assert R.measures.spectral_distance_db(x, y) == pytest.approx(abs(gain_db), rel=0.15)

    @pytest.mark.parametrize("shift", [-12, -3, 4, 20])
    def test_a_shift_is_found(self, shift):
        x = voice()
        assert R.measures.lag_ms(x, np.roll(x, shift * RATE // 1000)) == shift

    def test_likeness_is_the_ratio_to_the_difference(self):
        rng = np.random.default_rng(0)
        x, noise = rng.standard_normal((2, RATE))
        assert R.measures.likeness_db(x, x + 0.1 * noise) == pytest.approx(20, abs=0.3)


def toy_corpus(clips=8):
    """Humans of four groups, and every third row a spoof."""
    rows, sounds = [], []
    for i in range(clips):
        human = i % 3 != 2
        rows.append(
            {
                "file": f"bonafide/h_clip{i}.ogg" if human else f"spoof/s_{i}.ogg",
                "label": "bonafide" if human else "spoof",
                "kind": "human" if human else "tts",
                "system": "human" if human else f"engine{i}",
                "method": "read speech",
                "group": f"speaker{i % 4}",
                "origin": f"repo{i % 2}",
                "licence": "CC0",
                "derived_from": "",
            }
        )
        sounds.append(np.round(voice(i, 0.6 + 0.01 * i) * 32_767).astype(np.int16))
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in sounds])])
    return Corpus(rows=rows, pcm=np.concatenate(sounds), offsets=offsets)


class TestPlan:
    @given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 40), st.integers(0, 9))
    @settings(max_examples=60, deadline=None)
    def test_methods_are_balanced_and_copies_differ(self, humans, per_clip, clips, seed):
        rows = list(range(100, 100 + 3 * humans, 3))
        items = R.script.plan(rows, clips=clips, per_clip=per_clip, seed=seed)
        taken = min(clips, humans) if clips else humans
        assert len(items) == taken * per_clip
        assert len({(item.row, item.copy) for item in items}) == len(items)
        assert {item.row for item in items} <= set(rows)
        for row in {item.row for item in items}:
            names = [item.asked for item in items if item.row == row]
            assert len(set(names)) == min(per_clip, len(R.script.NAMES))

    def test_over_many_clips_every_method_is_asked_alike(self):
        items = R.script.plan(list(range(900)), clips=0, per_clip=1, seed=1)
        assert set(Counter(item.asked for item in items).values()) == {100}

    def test_the_stride_is_even(self):
        items = R.script.plan(list(range(1000)), clips=10, per_clip=1, seed=1)
        assert [item.row for item in items] == list(range(0, 1000, 100))

    def test_short_silent_and_synthetic_clips_are_left_out(self):
        corpus = toy_corpus(6)
        pcm = corpus.pcm.copy()
        pcm[: corpus.offsets[1]] = 0
        cut = Corpus(rows=corpus.rows, pcm=pcm, offsets=corpus.offsets.copy())
        cut.offsets[2] = cut.offsets[1] + 4000
        assert R.script.humans(corpus) == [0, 1, 3, 4]
        assert R.script.humans(cut) == [3, 4]


class TestRun:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        pytest.importorskip("pyworld", reason="pyworld is absent: pip install pyworld")
        monkeypatch.setattr(R.script, "BOOKS", ({"n_fft": 512, "n_mels": 24, "codewords": 4},))
        monkeypatch.setattr(R.store, "FLUSH", 2)

    @staticmethod
    def go(folder, seed=1):
        return R.script.run(toy_corpus(), folder, clips=0, per_clip=1, seed=seed)

    @staticmethod
    def files(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_a_killed_run_goes_on_to_the_same_files(self, tmp_path, monkeypatch):
        self.go(tmp_path / "whole")
        put, calls = R.store.Store.put, []

        def killed(store, *args):
            calls.append(1)
            if len(calls) > 3:
                raise KeyboardInterrupt
            put(store, *args)

        with monkeypatch.context() as patch:
            patch.setattr(R.store.Store, "put", killed)
            with pytest.raises(KeyboardInterrupt):
                self.go(tmp_path / "parts")
        measures = tmp_path / "parts" / "measures.csv"
        assert len(measures.read_text().splitlines()) == 3
        with measures.open("a") as file:
            file.write("half a li")
        self.go(tmp_path / "parts")
        assert self.files(tmp_path / "parts") == self.files(tmp_path / "whole")

    def test_another_seed_is_another_run_and_does_not_go_into_the_folder(self, tmp_path):
        self.go(tmp_path / "a")
        with pytest.raises(ProtocolError, match="begun with the settings"):
            self.go(tmp_path / "a", seed=2)

    def test_the_folder_opens_as_a_corpus_whose_rows_lead_to_their_humans(self, tmp_path):
        humans = toy_corpus()
        self.go(tmp_path)
        made = open_corpus(tmp_path, tmp_path)
        names = {
            R.split.source_name(row): i
            for i, row in enumerate(humans.rows)
            if row["label"] == "bonafide"
        }
        assert len(made) == len(names)
        assert len({row["file"] for row in made.rows}) == len(made)
        for i, row in enumerate(made.rows):
            human = names[row["derived_from"]]
            assert (row["label"], row["kind"]) == ("spoof", "vocoder")
            assert row["system"].removeprefix("sig2-") in R.script.NAMES
            for column in ("group", "origin", "licence"):
                assert row[column] == humans.rows[human][column]
            x, y = humans.clip(human), made.clip(i)
            assert x.shape == y.shape
            assert R.measures.likeness_db(x, y) < R.package.MOST_LIKE_DB + 0.1
            others = [humans.clip(k) for k in names.values() if k != human]
            distances = [R.measures.spectral_distance_db(z[: len(y)], y[: len(z)]) for z in others]
            assert R.measures.spectral_distance_db(x, y) < min(distances)

    def test_a_split_takes_them_to_the_side_of_their_human(self, tmp_path):
        humans = toy_corpus()
        self.go(tmp_path)
        rows = humans.rows + open_corpus(tmp_path, tmp_path).rows
        split, name = R.split, R.split.source_name
        for fold in range(split.N_FOLDS):
            found = split.split(rows, fold)
            held = {name(rows[i]) for i in found.held_out}
            assert not held & {rows[i]["derived_from"] for i in found.train}
            assert not any(rows[i]["derived_from"] for i in found.held_out)

    def test_the_table_has_a_line_for_each_method_and_the_share_that_gave_way(self, tmp_path):
        rows = self.go(tmp_path)
        rows = [*rows, {**rows[0], "asked": "world", "method": "griffinlim"}]
        rows = [*rows, {**rows[0], "asked": "world", "method": "world"}] * 2
        lines = R.script.table(rows).splitlines()
        asked = {row["asked"] for row in rows}
        assert [line.split()[0] for line in lines[1:]] == [n for n in R.script.NAMES if n in asked]
        gave_way = np.mean([r["method"] != "world" for r in rows if r["asked"] == "world"])
        world = next(line for line in lines if line.startswith("world"))
        assert world.split()[2] == f"{gave_way:.1%}"


class TestHalves:
    def test_codewords_come_from_groups_that_the_clip_is_not_of(self, monkeypatch):
        corpus = toy_corpus(12)
        heard = []

        def fit(clips, rng, **book):
            heard.append({len(clip) for clip in clips})
            return "book"

        monkeypatch.setattr(R.script, "fit_codebook", fit)
        monkeypatch.setattr(R.script, "BOOKS", ({},))
        rows = R.script.humans(corpus)
        halves = R.script.Halves(corpus, rows, 1)
        # Every clip has a length of its own, so that a length names it.
        lengths = np.diff(corpus.offsets)
        assert {halves.half(row) for row in rows} == {0, 1}
        for row in rows:
            group = corpus.rows[row]["group"]
            own = {int(lengths[i]) for i in rows if corpus.rows[i]["group"] == group}
            assert not own & heard[halves.half(row)]


def test_loud_results_are_turned_down_and_not_clipped():
    loud = np.array([0.0, 2.0, -1.0, 0.5], dtype=np.float32)
    np.testing.assert_allclose(R.store.quantised(loud) / 32_767, 0.495 * loud, atol=2e-5)
    soft = np.array([0.25, -0.5], dtype=np.float32)
    np.testing.assert_array_equal(R.store.quantised(soft), [8192, -16384])
