"""Engines of packages: what is written, that a run goes on, and that bad clips are refused."""

import csv
import importlib
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import soundfile as sf

RECIPE = Path(__file__).parents[2] / "recipes" / "open_voices"
RATE = 16_000
CLIPS = 3
COLUMNS = [
    "file", "label", "kind", "system", "method", "speaker", "group", "language", "source",
    "origin", "ref_path", "licence", "orig_rate", "orig_codec", "stored", "duration_s", "joined",
    "derived_from",
]  # fmt: skip


def load():
    """Import the script and its package; path and module table end as they were."""
    before = dict(sys.modules)
    sys.path.insert(0, str(RECIPE))
    try:
        script = importlib.import_module("engines")
        return SimpleNamespace(
            script=script, engine=sys.modules["speaking.engine"], package=sys.modules["speaking"]
        )
    finally:
        sys.path.remove(str(RECIPE))
        for name in set(sys.modules) - set(before):
            if name.split(".")[0] in ("engines", "speaking"):
                del sys.modules[name]


E = load()


def babble(rate, seconds=3.0, seed=0):
    """Noise in syllables: five bursts a second over a faint floor."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    bursts = 0.01 + np.sin(np.pi * 5 * t) ** 4
    return (0.1 * bursts * rng.standard_normal(len(t))).astype(np.float32)


def about(system, kind, rate, language):
    return E.engine.About(system, kind, "noise", language, "pypi:fake 1.0", "MIT", rate)


class Babbler(E.engine.Speaker):
    about = about("babbler", "tts", 22_050, "en")
    bring = "pip install babbler"
    clips = CLIPS
    voices = ("low", "high")
    spoken: ClassVar[list[str]] = []

    def __init__(self, packages, work):
        assert packages.is_dir()
        assert work.is_dir()

    def speak(self, text, voice, rng):
        self.spoken.append(text)
        return babble(22_050, seed=int(rng.integers(1_000))), "seed drawn"


class Parrot(E.engine.Copier):
    about = about("parrot", "vocoder", RATE, "")
    bring = "pip install parrot"
    clips = 4

    def __init__(self, packages, work): ...

    def copy(self, x, rng):
        return -x, ""


class Absent(Babbler):
    about = about("absent", "tts", RATE, "en")
    bring = "pip install absent-package"

    def __init__(self, packages, work):
        raise self.missing("absent-package")


class Muted(Babbler):
    about = about("muted", "tts", RATE, "en")

    def speak(self, text, voice, rng):
        y = babble(RATE)
        y[RATE // 2 : -RATE // 2] = 0.0
        return y, ""


class Stammerer(Babbler):
    """Babbles in every other clip and is muted in between."""

    about = about("stammerer", "tts", RATE, "en")
    calls = 0

    def speak(self, text, voice, rng):
        self.calls += 1
        return babble(RATE) * (self.calls % 2), ""


class Deaf(Parrot):
    """Gives what does not follow the recording."""

    about = about("deaf", "vocoder", RATE, "")

    def copy(self, x, rng):
        return np.roll(x, RATE // 10), ""


FAKES = {e.about.system: e for e in (Absent, Muted, Stammerer, Babbler, Parrot, Deaf)}


def row(name, origin, group, seconds="3.00", kind="human"):
    known = {
        "file": f"bonafide/{name}.flac", "label": "bonafide", "kind": kind, "origin": origin,
        "speaker": f"{group}-speaker", "group": group, "language": "mi", "licence": "CC0-1.0",
        "duration_s": seconds,
    }  # fmt: skip
    return dict.fromkeys(COLUMNS, "") | known


@pytest.fixture
def corpus(tmp_path):
    """Two origins: one of three speakers with four clips each, one of a single clip."""
    folder = tmp_path / "corpus"
    (folder / "bonafide").mkdir(parents=True)
    rows = [row(f"{g}{i}", "choir", g) for g in "abc" for i in range(4)] + [row("z0", "solo", "z")]
    for i, r in enumerate(rows):
        sf.write(folder / r["file"], babble(RATE, seed=i), RATE)
    rows += [row("short", "brief", "s", "1.00"), row("fake", "lab", "f", kind="tts")]
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def run(corpus, tmp_path, monkeypatch, capsys):
    """Run the script with the named fakes; what it made, and what it printed."""
    monkeypatch.setattr(E.script, "ENGINES", FAKES)
    monkeypatch.setattr(Babbler, "spoken", [])
    out = tmp_path / "out"

    def go(*names):
        argv = ["engines.py", "--data_folder", str(corpus), "--out", str(out)]
        argv += ["--packages", str(tmp_path / "packages"), "--engines", *names]
        monkeypatch.setattr(sys, "argv", argv)
        E.script.main()
        rows = []
        if (out / "manifest.csv").is_file():
            with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        return SimpleNamespace(rows=rows, printed=capsys.readouterr().out, out=out)

    return go


def test_clips_are_as_the_corpus_has_them(run):
    made = run("babbler")
    assert len(made.rows) == CLIPS
    for r in made.rows:
        info = sf.info(made.out / r["file"])
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert info.format == "FLAC"
        assert float(r["duration_s"]) == pytest.approx(info.duration, abs=0.01)
        assert 2.0 <= info.duration <= 4.1


def test_the_manifest_has_the_columns_of_the_corpus(run, corpus):
    made = run("babbler", "parrot")
    with (corpus / "manifest.csv").open() as theirs, (made.out / "manifest.csv").open() as ours:
        assert ours.readline().strip() == theirs.readline().strip()
    r = made.rows[0]
    assert (r["label"], r["kind"], r["system"]) == ("spoof", "tts", "babbler")
    assert r["method"] == "noise; seed drawn"
    assert (r["language"], r["source"], r["origin"]) == ("en", "generated", "pypi:fake 1.0")
    assert (r["licence"], r["orig_rate"], r["stored"]) == ("MIT", "22050", "flac")
    assert not r["derived_from"]
    assert {r["speaker"] for r in made.rows[:CLIPS]} == {"babbler:low", "babbler:high"}
    assert {r["group"] for r in made.rows[:CLIPS]} == {"babbler|low", "babbler|high"}


def test_the_recipe_names_the_columns_that_the_corpus_has(corpus_folder):
    with (corpus_folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        assert tuple(next(csv.reader(file))) == E.script.COLUMNS


def test_a_copy_names_its_human_and_has_its_group(run, corpus):
    made = run("parrot")
    assert len(made.rows) == Parrot.clips
    for r in made.rows:
        human, _ = sf.read(corpus / f"bonafide/{r['derived_from']}.flac")
        copy, _ = sf.read(made.out / r["file"])
        np.testing.assert_allclose(copy, -human, atol=1e-4)
        assert r["group"] == Path(r["derived_from"]).stem[0]
        assert (r["language"], r["licence"]) == ("mi", "MIT; source clip: CC0-1.0")


def test_each_origin_has_its_turn_and_no_group_or_origin_too_many():
    rows = [row(f"{o}{g}{i}", o, f"{o}{g}") for o in "kl" for g in range(5) for i in range(5)]
    rows += [row("m0", "m", "m"), row("brief", "n", "n", "1.99"), row("made", "o", "o", kind="vc")]
    kept = E.script.humans(rows, "parrot")
    assert {r["origin"] for r in kept[:3]} == {"k", "l", "m"}
    assert Counter(r["origin"] for r in kept) == {"k": 4, "l": 4, "m": 1}
    assert max(Counter(r["group"] for r in kept).values()) <= 2


def test_a_run_goes_on_where_it_stopped(run):
    whole = run("babbler")
    times = {f: f.stat().st_mtime_ns for f in sorted((whole.out / "spoof").iterdir())}
    lost = whole.out / whole.rows[-1]["file"]
    lost.unlink()
    E.script.write(whole.out / "manifest.csv", whole.rows[:-1])
    spoken = len(Babbler.spoken)
    again = run("babbler")
    assert len(Babbler.spoken) == spoken + 1
    assert again.rows == whole.rows
    assert lost.is_file()
    assert all(f.stat().st_mtime_ns == t for f, t in times.items() if f != lost)


def test_a_finished_run_speaks_no_more(run):
    run("babbler")
    spoken = len(Babbler.spoken)
    assert len(run("babbler").rows) == CLIPS
    assert len(Babbler.spoken) == spoken


def test_an_absent_package_is_named_and_the_others_go_on(run):
    made = run("absent", "babbler")
    assert "absent needs absent-package: pip install absent-package" in made.printed
    assert {r["system"] for r in made.rows} == {"babbler"}
    assert len(made.rows) == CLIPS


@pytest.mark.parametrize("name", sorted(E.package.ENGINES))
def test_the_recipes_own_engines_say_what_they_need(name, tmp_path):
    engine = E.package.ENGINES[name]
    with pytest.raises(E.engine.MissingEngineError, match=f"{name} needs .*: pip download"):
        engine(tmp_path, tmp_path)


def test_mostly_zero_clips_are_refused(run):
    made = run("muted", "babbler")
    assert "of the samples are exact zeros, at most 2% may be" in made.printed
    assert "muted: 0 clips" in made.printed
    assert {r["system"] for r in made.rows} == {"babbler"}
    assert {f.name for f in (made.out / "spoof").iterdir()} == {
        Path(r["file"]).name for r in made.rows
    }


def test_a_refused_clip_gives_way_to_another(run):
    made = run("stammerer")
    assert len(made.rows) == CLIPS
    assert made.printed.count("The engine gave silence.") == CLIPS - 1


def test_a_copy_that_does_not_follow_its_recording_is_refused(run):
    made = run("deaf")
    assert not made.rows
    assert "0.8 is needed" in made.printed
    assert "deaf: 0 clips" in made.printed


HISS = (2e-3 * np.random.default_rng(1).standard_normal(3 * RATE)).astype(np.float32)


def tone():
    return (0.3 * np.sin(2 * np.pi * 300 * np.arange(3 * RATE) / RATE)).astype(np.float32)


def click():
    y = HISS.copy()
    y[RATE : RATE + RATE // 2] += 3 * babble(RATE)[: RATE // 2]
    return y


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.zeros(3 * RATE, np.float32), "gave silence"),
        (np.full(3 * RATE, np.nan, np.float32), "not finite"),
        (babble(RATE)[: 3 * RATE // 2], r"Only 1\.50 s of sound, 2 s are needed"),
        (click(), "Hardly any speech: in .*%"),
        (tone() + HISS, r"No speech: the level spreads by 0\.\d dB, speech by 3 dB"),
    ],
)
def test_what_is_no_speech_is_refused(y, said):
    with pytest.raises(E.engine.UnsuitableError, match=said):
        E.engine.finished(y, RATE)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_babble_passes_cut_to_the_longest_and_not_louder_than_full_scale(rate):
    y = E.engine.finished(20 * babble(rate, seconds=6), rate)
    assert len(y) == int(4.1 * RATE)
    assert np.abs(y).max() == pytest.approx(0.98, abs=1e-3)


def test_silent_ends_are_cut_to_a_margin():
    y = babble(RATE)
    padded = np.concatenate([np.zeros(RATE, np.float32), y, np.zeros(RATE, np.float32)])
    assert len(E.engine.trimmed(padded)) == pytest.approx(len(y) + 0.3 * RATE, abs=0.02 * RATE)


def test_the_sentences_are_of_the_languages_that_are_spoken():
    with E.script.SENTENCES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    spoken = Counter(r["language"] for r in rows)
    wanted = {
        e.about.language
        for e in E.package.ENGINES.values()
        if issubclass(e, E.engine.Speaker)
    }  # fmt: skip
    assert wanted <= set(spoken)
    assert len({r["text"] for r in rows}) == len(rows)
