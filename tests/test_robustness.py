"""benchmarks/robustness.py: conditions do what physics says, runs go on, the attack stays small."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the benchmark's modules need the train extra")
pytest.importorskip("pyroomacoustics", reason="the rooms need the train extra")

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "benchmarks", ROOT / "recipes" / "open_voices")
RATE = 16_000


@pytest.fixture(scope="module")
def bench():
    """The scripts as they see each other; path and module table end as they were."""
    bare = {path.stem for folder in FOLDERS for path in folder.glob("*.py")}
    shadowed = {name: sys.modules.pop(name) for name in bare if name in sys.modules}
    path = list(sys.path)
    sys.path.insert(0, str(FOLDERS[0]))
    try:
        names = ("_attack", "_conditions", "_effects", "_sounds", "_trials", "robustness")
        yield SimpleNamespace(**{n.strip("_"): importlib.import_module(n) for n in names})
    finally:
        sys.path[:] = path
        for name in bare:
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)


@pytest.fixture(scope="module")
def speech():
    """Two seconds of a buzz whose pitch and level move."""
    rng, t = np.random.default_rng(3), np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 25 * np.sin(2 * np.pi * 1.3 * t)) / RATE
    voice = sum(np.cos(k * phase) / k for k in range(1, 30)) * (0.3 + np.sin(np.pi * t * 1.5) ** 2)
    return (0.1 * voice + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


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


def power_db(x):
    return 10 * np.log10(np.mean(np.asarray(x, np.float64) ** 2))


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
         "silence trimmed", "replay phone", "loss 5 %", "peak -40 dBFS")  # fmt: skip


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


class Toy(torch.nn.Module):
    """Scores a window by its likeness to a fixed pattern."""

    def __init__(self, window):
        super().__init__()
        self.pattern = torch.randn(window, generator=torch.Generator().manual_seed(0))

    def forward(self, waveform):
        return torch.tanh(waveform @ self.pattern / 40.0)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("snr_db", [40, 30])
def test_attack_keeps_its_ratio_and_lifts_the_score(bench, speech, seconds, snr_db):
    window = RATE // 2
    x, toy = speech[: int(seconds * RATE)], Toy(window)
    options = {"window": window, "snr_db": snr_db, "steps": 8}
    y = bench.attack.attacked(x, toy, rng=np.random.default_rng(0), **options)
    again = bench.attack.attacked(x, toy, rng=np.random.default_rng(0), **options)
    heard = slice(0, window)
    assert np.array_equal(y, again)
    assert np.array_equal(y[window:], x[window:])
    assert power_db(x[heard]) - power_db((y - x)[heard]) > snr_db - 0.1
    before, after = bench.attack.network_scores(toy, [x, y], window)
    # Noise of the same power gains nothing.
    noise = np.random.default_rng(1).standard_normal(len(x)).astype(np.float32)
    noise *= np.linalg.norm(y - x) / np.linalg.norm(noise)
    (by_chance,) = bench.attack.network_scores(toy, [x + noise], window)
    assert after - before > 5 * abs(by_chance - before)
    # The linear part of the toy says what the best change could have gained.
    tiled = torch.zeros(min(len(x), window)).index_add(
        0, torch.arange(window) % len(x), toy.pattern
    )
    radius = np.linalg.norm(x[heard]) * 10 ** (-snr_db / 20)
    best = np.tanh(np.arctanh(before) + radius * float(torch.linalg.vector_norm(tiled)) / 40.0)
    assert after - before > 0.9 * (best - before)


@pytest.fixture
def trials(bench):
    rng = np.random.default_rng(2)
    clips = [(0.05 * rng.standard_normal(900)).astype(np.float32) for _ in range(8)]
    rows = [
        {"id": f"c{i}", "path": f"{i}.wav", "label": "bonafide" if i % 2 else "spoof"}
        for i in range(8)
    ]
    human = np.array([i % 2 == 1 for i in range(8)])
    return bench.trials.Trials(rows, clips, human, np.array([f"g{i // 2}" for i in range(8)]))


def system_of(bench, *, calls, name="loud", balanced=0.0):
    """Scores a clip by its loudness, and keeps count."""

    def score(clips):
        calls.append(len(clips))
        return np.array([power_db(x) + 26.0 for x in clips])

    return bench.trials.System(name, "f" * 64, score, calibrated=True, balanced=balanced)


def jobs_of(bench, trials, out, names=("clean", "white 0 dB", "peak -40 dBFS")):
    maker = bench.sounds.Maker(trials, out, out, 0)
    known = {condition.name: condition for condition in bench.conditions.conditions()[0]}
    return [maker.job(known[name]) for name in names]


def test_killed_run_goes_on_without_scoring_anything_twice(bench, trials, tmp_path):
    path, calls = tmp_path / "results.csv", []
    jobs, system = jobs_of(bench, trials, tmp_path), system_of(bench, calls=calls)
    run, results = bench.robustness.run, bench.robustness.Results
    straight = list(run(jobs, [system], trials, results(tmp_path / "straight.csv")))
    calls.clear()
    started = run(jobs, [system], trials, results(path))
    next(started), next(started)
    started.close()
    # As if the machine had died while the next line was written.
    path.write_text(path.read_text() + "loud,ffffffffffff,")
    resumed = list(run(jobs, [system], trials, results(path)))
    assert resumed == straight
    assert calls == [8, 8, 8]
    assert list(run(jobs, [system], trials, results(path))) == straight
    assert len(calls) == 3
    assert path.read_text() == (tmp_path / "straight.csv").read_text()


def test_other_weights_seed_or_clips_are_other_rows(bench, trials, tmp_path):
    calls = []
    system = system_of(bench, calls=calls)
    results = bench.robustness.Results(tmp_path / "results.csv")
    (job,) = jobs_of(bench, trials, tmp_path, ["clean"])
    list(bench.robustness.run([job], [system], trials, results))
    maker = bench.sounds.Maker(trials, tmp_path, tmp_path, 1)
    assert results.find(system, job)
    assert results.find(system, bench.sounds.Job("clean", "clean", maker.key, job.make)) is None
    other = bench.trials.System("loud", "e" * 64, system.score)
    assert results.find(other, job) is None


def test_figures_of_a_row(bench, trials, tmp_path):
    values = np.array([-1.0, 2.0, 3.0, 1.0, -2.0, -3.0, -4.0, 4.0])
    system = bench.trials.System("made up", "f" * 64, lambda _: values, balanced=2.5)
    sound = bench.sounds.Sound(np.arange(8), trials.clips)
    row = bench.robustness.measure(system, sound, trials, None)
    # Humans 2, 1, -3, 4; fakes -1, 3, -2, -4: one of each lies on the wrong side of -1 or 1.
    assert row["eer"] == 0.25
    assert (row["flagged"], row["passed"]) == (0.75, 0.25)
    assert (row["flagged_own_line"], row["passed_own_line"]) == (0.25, 0.25)
    moved = bench.robustness.measure(system, sound, trials, 3.5)
    assert (moved["flagged_own_line"], moved["passed_own_line"]) == (0.75, 0.0)
    assert "act_dcf" not in row


def test_sound_is_made_once_and_kept_within_a_16_bit_step(bench, trials, tmp_path):
    (job,) = jobs_of(bench, trials, tmp_path, ["white 0 dB"])
    first, again = job.make(), job.make()
    assert len(list((tmp_path / "audio").rglob("*.npz"))) == 1
    for a, b, x in zip(first.clips, again.clips, trials.clips, strict=True):
        assert np.array_equal(a, b)
        assert len(a) == len(x)
        assert power_db(a - x) == pytest.approx(power_db(x), abs=0.1)


def test_too_loud_is_turned_down_and_too_long_is_cut(bench):
    y = bench.sounds.fit_to_file(np.full(6 * RATE, 2.0, np.float32))
    assert len(y) == int(4.1 * RATE)
    assert y.max() == 1.0


def test_rows_are_balanced_over_classes_and_systems(bench):
    sizes = {"human": 50, "a": 30, "b": 3, "c": 1}
    rows = [
        {
            "id": f"{system}{i}",
            "label": "bonafide" if system == "human" else "spoof",
            "system": system,
        }
        for system, size in sizes.items()
        for i in range(size)
    ]
    chosen = bench.trials.balanced_rows(rows, 20)
    found = {system: sum(row["system"] == system for row in chosen) for system in sizes}
    assert found == {"human": 10, "a": 6, "b": 3, "c": 1}
    assert [rows.index(row) for row in chosen] == sorted(rows.index(row) for row in chosen)
    assert [row["id"] for row in chosen if row["system"] == "human"][::9] == ["human0", "human49"]
    assert bench.trials.balanced_rows(rows, 0) == rows
    few = bench.trials.balanced_rows(rows, 4)
    assert {row["system"] for row in few} == {"human", "a", "c"}


def test_attack_changes_synthetic_clips_only(bench, trials, tmp_path, monkeypatch):
    toy = Toy(900)
    monkeypatch.setattr(bench.attack, "load_network", lambda path: toy)
    weights = tmp_path / "weights"
    weights.write_bytes(b"any")
    attack = bench.sounds.Attack(weights, window=900, steps=3, clips=2)
    maker = bench.sounds.Maker(trials, tmp_path, tmp_path, 0)
    jobs = list(attack.jobs(maker, (40, 30)))
    assert [job.name for job in jobs] == ["attack 40 dB", "attack 30 dB"]
    sound = jobs[1].make()
    assert sound.which.tolist() == [1, 3, 5, 7, 0, 6]
    for index, clip in zip(sound.which, sound.clips, strict=True):
        far = power_db(clip - trials.clips[index]) - power_db(trials.clips[index])
        assert far == pytest.approx(-30, abs=0.3) if index in (0, 6) else far < -50
    system = attack.system()
    values = system.score(sound.clips)
    before = system.score([trials.clips[i] for i in sound.which])
    assert np.abs(values - before)[:4].max() < 1e-3
    # The change's length, 1.5 * 10^-1.5, times the pattern's, 30, over the toy's 40: some 0.036.
    assert (values - before)[4:].min() > 0.03


def test_network_is_heard_on_clean_and_attack_only(bench, trials, tmp_path):
    calls = []
    everywhere = system_of(bench, calls=calls)
    network = bench.trials.System("network", "d" * 64, everywhere.score, everywhere=False)
    jobs = jobs_of(bench, trials, tmp_path)
    results = bench.robustness.Results(tmp_path / "results.csv")
    rows = list(bench.robustness.run(jobs, [everywhere, network], trials, results))
    assert [row["condition"] for row in rows if row["system"] == "network"] == ["clean"]


def test_table_has_the_difference_to_clean(bench, trials, tmp_path):
    jobs, system = jobs_of(bench, trials, tmp_path), system_of(bench, calls=[])
    results = bench.robustness.Results(tmp_path / "results.csv")
    rows = list(bench.robustness.run(jobs, [system], trials, results))
    rows[1]["eer"] = rows[0]["eer"] + 0.123
    text = bench.robustness.system_table(rows, markdown=True)
    line = next(line for line in text.splitlines() if "white 0 dB" in line)
    assert "| +12.3 |" in line
    assert text.splitlines()[0].startswith("loud (ffffffffffff): 4 human and 4 synthetic clips")
