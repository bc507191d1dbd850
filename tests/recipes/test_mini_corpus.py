"""A mini corpus lies on the disk as the real one does, and holds out whole systems and people."""

import csv
import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voiceguard import protocols
from voiceguard.audio import read
from voiceguard.errors import ParameterError, ProtocolError

pytest.importorskip("av", reason="PyAV carries most of the codecs")

COMMON = Path(__file__).parents[2] / "recipes" / "common"
RATE = 16_000
TRIALS = 60
LAYOUTS = ("asvspoof2019_la", "asvspoof2021_la", "asvspoof2021_df", "asvspoof5", "in_the_wild")
# (protocol, format, folder of the audio, part) of every protocol of a layout.
PROTOCOLS = {
    "asvspoof2019_la": [
        (
            f"ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{ending}.txt",
            "asvspoof2019-la",
            f"ASVspoof2019_LA_{part}/flac",
            part,
        )
        for part, ending in (("train", "train.trn"), ("dev", "dev.trl"), ("eval", "eval.trl"))
    ],
    "asvspoof2021_la": [
        (
            "keys/LA/CM/trial_metadata.txt",
            "asvspoof2021-la",
            "ASVspoof2021_LA_eval/flac",
            "eval",
        )
    ],
    "asvspoof2021_df": [
        (
            "keys/DF/CM/trial_metadata.txt",
            "asvspoof2021-df",
            "ASVspoof2021_DF_eval/flac",
            "eval",
        )
    ],
    "asvspoof5": [
        ("ASVspoof5.train.tsv", "asvspoof5", "flac_T", "train"),
        ("ASVspoof5.dev.track_1.tsv", "asvspoof5", "flac_D", "dev"),
        ("ASVspoof5.eval.track_1.tsv", "asvspoof5", "flac_E_eval", "eval"),
    ],
    "in_the_wild": [("meta.csv", "in-the-wild", "", "eval")],
}


@pytest.fixture(scope="module")
def mini():
    """The scripts, which import each other by bare name."""
    sys.path.insert(0, str(COMMON))
    try:
        yield importlib.import_module("mini_corpus")
    finally:
        sys.path.remove(str(COMMON))
        for name in ("mini_corpus", "mini_layouts", "mini_source"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def scripts(mini):
    return sys.modules["mini_source"], sys.modules["mini_layouts"]


def hum(pitch, seed, seconds=0.7):
    """A tone between two silences over a faint floor; its pitch names its system or speaker."""
    rng = np.random.default_rng(seed)
    x = np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)
    x[:1_600] = x[-1_600:] = 0.0
    return (0.4 * x + 1e-4 * rng.standard_normal(len(x))).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twelve systems of two builds each and nine people, four clips each, with a manifest."""
    root = tmp_path_factory.mktemp("source")
    rows = []
    for label, kinds in (("spoof", 24), ("bonafide", 9)):
        (root / label).mkdir()
        for kind in range(kinds):
            for clip in range(4):
                file = f"{label}/{kind}_{clip}.wav"
                pitch = 200 + 50 * kind + (25 if label == "spoof" else 0)
                soundfile.write(root / file, hum(pitch, len(rows)), RATE)
                rows.append(
                    {
                        "file": file,
                        "label": label,
                        "kind": "tts" if label == "spoof" else "human",
                        "system": f"engine{kind // 2}-build{kind % 2}",
                        "origin": f"{label}{kind}",
                        "group": f"{label}_voice{kind}",
                    }
                )
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


def engine(row):
    """The engine of a build; the origin of a human."""
    return row["system"].partition("-")[0] if row["label"] == "spoof" else f"h:{row['origin']}"


@pytest.fixture(scope="module")
def corpora(mini, source, tmp_path_factory):
    """Every layout of the source."""
    root = tmp_path_factory.mktemp("corpora")
    return {
        layout: mini.make_mini_corpus(
            source, root / layout, layout=layout, trials=TRIALS, seconds=0.5, seed=4, family=engine
        )
        for layout in LAYOUTS
    }


@pytest.fixture(params=LAYOUTS)
def laid_out(request, corpora):
    """(layout, folder, {part: trials})."""
    folder = corpora[request.param]
    parts = {
        part: list(
            protocols.read_trials(
                folder / protocol, format, subset="all" if "2021" in format else None
            )
        )
        for protocol, format, _, part in PROTOCOLS[request.param]
    }
    return request.param, folder, parts


def test_every_protocol_reads_and_matches_its_audio(laid_out):
    layout, folder, parts = laid_out
    seen = 0
    for protocol, format, audio, part in PROTOCOLS[layout]:
        assert protocols.guess_format(folder / protocol) == format
        suffix = ".wav" if layout == "in_the_wild" else ".flac"
        report = protocols.check(parts[part], audio=folder / audio, suffix=suffix, decode=read)
        assert report.ok, report.problems()
        assert report.extra == ()
        assert report.n_decoded == report.counts.total
        assert min(report.counts.bonafide, report.counts.spoof) > 0
        seen += report.counts.total
    assert seen == TRIALS


def test_audio_is_16_khz_16_bit_mono_of_the_asked_length(laid_out):
    layout, folder, _ = laid_out
    suffix, container = (".wav", "WAV") if layout == "in_the_wild" else (".flac", "FLAC")
    files = list(folder.rglob(f"*{suffix}"))
    assert len(files) == TRIALS
    for file in files:
        info = soundfile.info(file)
        assert (info.format, info.subtype) == (container, "PCM_16")
        assert (info.samplerate, info.channels) == (RATE, 1)
        # A hidden trial has lost the silence that its stretch held.
        assert 0.3 * RATE <= info.frames <= 0.5 * RATE


def test_parts_have_their_share(corpora):
    for layout in ("asvspoof2019_la", "asvspoof5"):
        counts = {
            part: len(list(protocols.read_trials(corpora[layout] / protocol, format)))
            for protocol, format, _, part in PROTOCOLS[layout]
        }
        assert counts == {"train": 33, "dev": 9, "eval": 18}


def test_no_attack_and_no_speaker_stands_in_two_parts(laid_out):
    _, _, parts = laid_out
    for field in ("attack", "speaker"):
        homes = Counter()
        for trials in parts.values():
            homes.update(
                {
                    trial.get(field).partition("_")[2] or trial.get(field)
                    for trial in trials
                    if trial.get(field)
                }
            )
        assert set(homes.values()) <= {1}


def test_every_spoof_trial_names_an_attack_and_no_other(laid_out):
    layout, _, parts = laid_out
    for trials in parts.values():
        for trial in trials:
            named = trial.attack is not None
            assert named == (trial.label == "spoof" and layout != "in_the_wild")


def test_layouts_of_one_source_hold_out_the_same(corpora):
    def names(layout, field):
        protocol, format, _, _ = PROTOCOLS[layout][-1]
        trials = protocols.read_trials(
            corpora[layout] / protocol, format, subset="all" if "2021" in format else None
        )
        return {str(trial.get(field)).rpartition("_")[2] for trial in trials}

    for layout in ("asvspoof2021_la", "asvspoof2021_df", "asvspoof5"):
        assert names(layout, "attack") == names("asvspoof2019_la", "attack")
    for layout in LAYOUTS:
        assert names(layout, "speaker") <= set().union(
            *(names(other, "speaker") for other in LAYOUTS if other != layout)
        )


def test_2021_names_every_codec_and_subset_in_both_classes(corpora, scripts):
    _, layouts = scripts
    for layout, codecs in (
        ("asvspoof2021_la", layouts.LA_CODECS),
        ("asvspoof2021_df", layouts.DF_CODECS),
    ):
        protocol, format, _, _ = PROTOCOLS[layout][0]
        trials = list(protocols.read_trials(corpora[layout] / protocol, format, subset="all"))
        for label in ("bonafide", "spoof"):
            own = [trial for trial in trials if trial.label == label]
            assert {trial.codec for trial in own} == set(codecs)
            assert {trial.subset for trial in own} == {"eval", "progress", "hidden"}
        assert all((t.get("trim") == "trim") == (t.subset == "hidden") for t in trials)
        listed = next(corpora[layout].rglob("*.cm.eval.trl.txt")).read_text().split()
        assert sorted(listed) == sorted(trial.utterance for trial in trials)


def test_the_line_conditions_are_those_of_the_published_keys(corpora):
    trials = protocols.read_trials(
        corpora["asvspoof2021_la"] / "keys/LA/CM/trial_metadata.txt",
        "asvspoof2021-la",
        subset="all",
    )
    assert {(t.codec == "pstn", t.get("transmission")) for t in trials} == {
        (True, "mad_tx"),
        (False, "loc_tx"),
    }


def test_lines_have_the_published_columns(corpora):
    first = {
        layout: (corpora[layout] / PROTOCOLS[layout][-1][0]).read_text().splitlines()
        for layout in LAYOUTS
    }
    widths = {layout: {len(line.split()) for line in lines} for layout, lines in first.items()}
    assert widths["asvspoof2019_la"] == {5}
    assert widths["asvspoof2021_la"] == {8}
    assert widths["asvspoof2021_df"] == {13}
    assert widths["asvspoof5"] == {10}
    assert first["in_the_wild"][0] == "file,speaker,label"
    vocoders = {line.split()[5]: line.split()[8] for line in first["asvspoof2021_df"]}
    assert vocoders == {"bonafide": "bonafide", "spoof": "unknown"}


def test_only_the_eval_part_of_asvspoof5_is_coded(corpora, scripts):
    _, layouts = scripts
    for protocol, format, _, part in PROTOCOLS["asvspoof5"]:
        trials = list(protocols.read_trials(corpora["asvspoof5"] / protocol, format))
        codecs = {trial.codec for trial in trials}
        assert (codecs == {None}) == (part != "eval")
        assert codecs - {None} <= set(layouts._ASVSPOOF5)
        assert all((trial.codec is None) == (trial.get("codec_q") == "-") for trial in trials)


@pytest.mark.parametrize("name", ["alaw", "pstn", "ulaw", "gsm", "none", "g722", "opus"])
def test_a_la_codec_is_as_wide_as_it_says(name, scripts):
    x = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    y = scripts[1].LA_CODECS[name](x)
    power = np.abs(np.fft.rfft(y)) ** 2
    share = power[len(power) // 2 + 100 :].sum() / power.sum()
    assert (share < 1e-3) == (name in {"alaw", "pstn", "ulaw", "gsm"})
    assert (name == "none") == np.array_equal(x, y)


def test_df_compression_at_the_low_rate_loses_more(scripts):
    x = hum(300, 0) + 0.05 * np.random.default_rng(0).standard_normal(11_200).astype(np.float32)
    for kind, delay in (("mp3", 0), ("ogg", 0), ("m4a", 1_024)):
        error = {
            rate: np.mean(
                (scripts[1].DF_CODECS[f"{rate}_{kind}"](x)[delay:] - x[: 11_200 - delay]) ** 2
            )
            for rate in ("low", "high")
        }
        assert 0 < error["high"] < error["low"]


def test_same_seed_same_bytes_another_seed_others(mini, source, corpora, tmp_path):
    def contents(folder):
        return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    made = {
        seed: mini.make_mini_corpus(
            source, tmp_path / str(seed), layout="asvspoof2021_la", trials=TRIALS, seconds=0.5,
            seed=seed, family=engine,
        )
        for seed in (4, 5)
    }  # fmt: skip
    assert contents(made[4]) == contents(corpora["asvspoof2021_la"])
    assert contents(made[5]) != contents(made[4])


def test_a_folder_that_holds_something_is_refused(mini, source, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ParameterError, match=r"holds something: remove it"):
        mini.make_mini_corpus(
            source, tmp_path, layout="in_the_wild", trials=20, seconds=1, seed=0, family=engine
        )
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_what_a_killed_run_left_is_made_anew(mini, source, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "0.wav").write_text("half")
    (tmp_path / "out").mkdir()
    done = []
    out = mini.make_mini_corpus(
        source, tmp_path / "out", layout="in_the_wild", trials=20, seconds=0.2, seed=0,
        family=engine, on_progress=lambda *at: done.append(at),
    )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert soundfile.info(out / "0.wav").frames == 3_200
    assert done == [(i, 20) for i in range(1, 21)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layout": "asvspoof2015"}, "'layout' .*asvspoof2019_la"),
        ({"trials": 19}, "'trials' .*>= 20"),
        ({"seconds": 0}, "'seconds'"),
        ({"seconds": float("nan")}, "'seconds'"),
    ],
)
def test_options_are_checked(options, said, mini, source, tmp_path):
    given = {"layout": "in_the_wild", "trials": 20, "seconds": 1.0, "seed": 0} | options
    with pytest.raises(ParameterError, match=said):
        mini.make_mini_corpus(source, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def layered(root, spec):
    """Empty files by relative path: the dealing looks at names alone."""
    for path in spec:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_a_folder_per_class_is_told_by_folder_or_by_name(scripts, tmp_path):
    spec = [f"fake/{name}/{i}.wav" for name in ("a", "b", "c", "d") for i in range(3)]
    spec += [f"real/{name}_{i:02d}.wav" for name in ("ann", "bo-2", "cy") for i in range(3)]
    clips = scripts[0].read_source(layered(tmp_path, spec))
    assert {c.family for c in clips if not c.bonafide} == {"a", "b", "c", "d"}
    assert {c.group for c in clips if c.bonafide} == {
        f"bonafide:{n}" for n in ("ann", "bo-2", "cy")
    }
    assert len(clips) == len(spec)


@pytest.mark.parametrize(
    ("spoofs", "humans", "said"),
    [(2, 3, "at least 3 systems.*Got 2"), (3, 2, "at least 3 human origins.*Got 2")],
)
def test_too_few_names_to_hold_any_out_are_refused(spoofs, humans, said, scripts, tmp_path):
    spec = [f"spoof/{name}/0.wav" for name in "abc"[:spoofs]]
    spec += [f"bonafide/{name}/0.wav" for name in "abc"[:humans]]
    with pytest.raises(ProtocolError, match=said):
        scripts[0].read_source(layered(tmp_path, spec))


def manifest(root, lines):
    (root / "manifest.csv").write_text("file,label,system,origin,group\n" + "\n".join(lines))
    return root


def test_a_copy_follows_its_human_and_a_demonstration_its_page(scripts, tmp_path):
    lines = [f"h{i}.wav,real,,origin{i % 9},person{i}" for i in range(90)]
    lines += [f"c{i}.wav,fake,vocoder{i % 6},copies,person{i}" for i in range(90)]
    lines += [f"d{i}.wav,fake,demo{i % 6},origin{i % 9},voice{i}" for i in range(90)]
    lines += [f"t{i}.wav,fake,tts{i % 6},shop,voice-of-tts{i % 6}" for i in range(90)]
    clips = scripts[0].read_source(
        manifest(tmp_path, lines),
        family=lambda r: r["system"] if r["label"] == "spoof" else r["origin"],
    )
    homes = {}
    for clip in clips:
        number = int(clip.path.stem[1:])
        names = [f"group:{clip.group}", f"family:{clip.family}"]
        if clip.path.stem[0] in "hd":
            names.append(f"origin{number % 9}")
        for name in names:
            assert homes.setdefault(name, clip.part) == clip.part
    kept = Counter(clip.path.stem[0] for clip in clips)
    assert kept["h"] == kept["t"] == 90
    assert 0 < kept["c"] < 90 and 0 < kept["d"] < 90


def test_a_copy_follows_its_human_even_where_its_group_forgets_it(scripts, tmp_path):
    lines = ["file,label,system,origin,group,derived_from"]
    lines += [f"bonafide/h_{i}.wav,bonafide,human,origin{i % 9},person{i}," for i in range(90)]
    lines += [f"spoof/c{i}.wav,spoof,vocoder{i % 5},copies,c{i},{i}" for i in range(90)]
    lines += [f"spoof/t{i}.wav,spoof,tts{i % 6},shop,t{i}," for i in range(90)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    parts = {clip.path.stem: clip.part for clip in scripts[0].read_source(tmp_path)}
    copies = [i for i in range(90) if f"c{i}" in parts]
    assert 0 < len(copies) < 90
    assert all(parts[f"c{i}"] == parts[f"h_{i}"] for i in copies)


def test_origins_that_share_a_speaker_stay_together(scripts, tmp_path):
    lines = [f"h{i}.wav,real,,origin{i % 6},person{i % 3}" for i in range(36)]
    lines += [f"t{i}.wav,fake,tts{i % 3},shop{i % 3},voice{i % 3}" for i in range(36)]
    clips = scripts[0].read_source(manifest(tmp_path, lines))
    humans = {(clip.group, clip.part) for clip in clips if clip.bonafide}
    assert len(humans) == 3
    assert {part for _, part in humans} == {"train", "dev", "eval"}


@pytest.mark.parametrize("line", ["x.wav,maybe,a,b,c", ",real,a,b,c"])
def test_a_bad_line_is_named(line, scripts, tmp_path):
    with pytest.raises(ProtocolError, match=r"manifest\.csv, line 2"):
        scripts[0].read_source(manifest(tmp_path, [line]))


def test_systems_come_alike_often_until_they_run_out(scripts):
    source, _ = scripts
    clips = [
        source.Clip(Path(f"{name}{i}"), False, name, "g", "train")
        for name, count in (("large", 50), ("middle", 10), ("small", 2))
        for i in range(count)
    ]
    rng = np.random.default_rng(0)
    chosen = source.choose(clips, 22, rng)
    assert Counter(clip.family for clip in chosen) == {"large": 10, "middle": 10, "small": 2}
    assert len({clip.path for clip in chosen}) == 22
    again = Counter(clip.path for clip in source.choose(clips, 2 * len(clips), rng))
    assert set(again.values()) == {2}


def test_the_real_corpus_deals_sensibly(scripts, corpus_folder):
    clips = scripts[0].read_source(corpus_folder)
    total = Counter(clip.bonafide for clip in clips)
    for part, share in scripts[0].SHARES.items():
        for bonafide in (True, False):
            own = sum(clip.part == part and clip.bonafide == bonafide for clip in clips)
            assert own / total[bonafide] == pytest.approx(share, abs=0.06)
    families = {part: {c.family for c in clips if c.part == part} for part in scripts[0].SHARES}
    assert not families["train"] & families["eval"]
    assert not families["dev"] & (families["train"] | families["eval"])
    # Each part could fill 4,000 trials without a clip twice.
    assert sum(clip.part == "train" and clip.bonafide for clip in clips) >= 880
    assert len(clips) > 8_500


def test_the_command_line_makes_a_corpus_and_says_what_is_wrong(tmp_path):
    spec = [f"{label}/{name}/{i}.wav" for label in ("spoof", "bonafide")
            for name in "abc" for i in range(2)]  # fmt: skip
    for number, path in enumerate(spec):
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "source" / path, hum(200 + 40 * number, number), RATE)
    command = [
        sys.executable, str(COMMON / "mini_corpus.py"), "--source", str(tmp_path / "source"),
        "--out", str(tmp_path / "out"), "--layout", "asvspoof2019_la", "--trials", "20",
        "--seconds", "0.3",
    ]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert made.stdout.splitlines() == ["20 of 20 trials", str(tmp_path / "out")]
    assert len(list((tmp_path / "out").rglob("*.flac"))) == 20
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith("Error: ") and "remove it" in again.stderr
