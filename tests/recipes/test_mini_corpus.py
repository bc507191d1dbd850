"""A mini corpus lies on the disk as the real one does, and holds out whole systems and people."""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from voiceguard import protocols
from voiceguard.audio import read
from voiceguard.errors import ParameterError

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
def mini(mini_scripts):
    return mini_scripts["mini_corpus"]


@pytest.fixture(scope="module")
def layouts(mini_scripts):
    return mini_scripts["mini_layouts"]


@pytest.fixture(scope="module")
def source(tmp_path_factory, hum):
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


def test_2021_names_every_codec_and_subset_in_both_classes(corpora, layouts):
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


def test_only_the_eval_part_of_asvspoof5_is_coded(corpora, layouts):
    for protocol, format, _, part in PROTOCOLS["asvspoof5"]:
        trials = list(protocols.read_trials(corpora["asvspoof5"] / protocol, format))
        codecs = {trial.codec for trial in trials}
        assert (codecs == {None}) == (part != "eval")
        assert codecs - {None} <= set(layouts._ASVSPOOF5)
        assert all((trial.codec is None) == (trial.get("codec_q") == "-") for trial in trials)


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


def test_the_command_line_makes_a_corpus_and_says_what_is_wrong(tmp_path, hum):
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
