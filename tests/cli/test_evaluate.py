"""The command evaluate: the official figures end to end, and refusals without a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from voiceguard import metrics, protocols
from voiceguard.cli import evaluate

FIXTURES = Path(__file__).parents[2] / ".." / "shared" / "fixtures" / "metrics"


@pytest.fixture
def run():
    app = typer.Typer()
    app.callback()(lambda: None)
    evaluate.register(app)

    def invoke(*arguments):
        return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])

    return invoke


@pytest.fixture
def files(tmp_path):
    """Scores and a 2021 LA protocol of two codecs and two subsets."""
    lines, scores = [], []
    for i in range(40):
        label, attack = ("spoof", f"A0{7 + i % 4 // 2}") if i % 2 else ("bonafide", "bonafide")
        codec, part = ("alaw", "g722")[i // 4 % 2], ("eval", "progress")[i // 20]
        lines.append(f"s{i % 5} u{i} {codec} tx {attack} {label} notrim {part}")
        scores.append(f"u{i} {(-1 if i % 2 else 1) + i / 10}")
    (tmp_path / "protocol.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "scores.txt").write_text("\n".join(scores) + "\n")
    return tmp_path / "scores.txt", tmp_path / "protocol.txt"


@pytest.mark.parametrize("system", ["amsoftmax", "ocsoftmax"])
def test_published_system_gives_the_official_figures(run, tmp_path, system):
    scores = FIXTURES / f"asvspoof2019_la_cm_eval_{system}.txt.gz"
    if not scores.is_file():
        pytest.skip("the published score files are not beside the repository")
    from voiceguard import protocols

    protocol = tmp_path / "ASVspoof2019.LA.cm.eval.trl.txt"
    protocols.write_trials(
        protocol,
        (
            protocols.Trial(row.utterance, "s", row.label, row.attack)
            for row in protocols.iter_scores(scores)
        ),
        "asvspoof2019-la",
    )
    official = json.loads((FIXTURES / "expected.json").read_text())[system]
    asv = FIXTURES / "asvspoof2019_la_asv_eval_scores.txt.gz"
    sign = [] if official["score_sign_for_higher_is_bonafide"] == 1 else ["--lower-is-bonafide"]
    result = run(scores, protocol, "--asv", asv, "--by", "attack", "--json", *sign)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    names = {
        "eer": "eer",
        "min_dcf": "min_dcf",
        "act_dcf": "act_dcf",
        "cllr": "cllr_bits",
        "min_tdcf_2019": "min_tdcf_legacy_2019",
        "min_tdcf_2021": "min_tdcf_revised_2021",
    }
    for ours, theirs in names.items():
        assert report["metrics"][ours] == pytest.approx(official[theirs], abs=1e-9)
    by_attack = {row["group"]: row["eer"] for row in report["by"]["attack"]}
    assert by_attack == pytest.approx(official["eer_by_attack"], abs=1e-9)


def test_table_breakdowns_and_intervals(run, files):
    result = run(
        *(*files, "--subset", "eval", "--by", "codec", "--by", "attack"),
        *("--bootstrap", 20, "--bootstrap-by", "speaker"),
    )
    assert result.exit_code == 0, result.output
    for words in ("10 bona fide, 10 spoof", "EER (%)", "95 % by speaker", "alaw", "g722", "A07"):
        assert words in result.stdout


def test_codec_splits_both_classes_and_attack_only_the_spoofs(run, files):
    report = json.loads(
        run(*files, "--subset", "all", "--by", "codec", "--by", "attack", "--json").stdout
    )
    assert [row["n_bonafide"] for row in report["by"]["codec"]] == [10, 10]
    assert [row["n_bonafide"] for row in report["by"]["attack"]] == [20, 20]


def test_a_column_that_parts_the_spoofs_only_keeps_all_bona_fide(run, tmp_path):
    (tmp_path / "p.csv").write_text("id,label,kind\na,bonafide,human\nb,spoof,tts\nc,spoof,vc\n")
    (tmp_path / "s.csv").write_text("id,score\na,1\nb,0\nc,2\n")
    report = json.loads(
        run(tmp_path / "s.csv", tmp_path / "p.csv", "--by", "kind", "--json").stdout
    )
    assert [(row["group"], row["eer"]) for row in report["by"]["kind"]] == [("tts", 0), ("vc", 1)]


def test_asv_scores_of_2021_give_the_t_dcf_of_the_subset(run, files, tmp_path):
    keys, scores = [], []
    for i in range(60):
        kind = ("target", "nontarget", "spoof")[i % 3]
        attack, part = ("A07" if kind == "spoof" else "bonafide"), ("eval", "progress")[i // 30]
        keys.append(f"s{i % 4} u{i} alaw tx {attack} {kind} notrim {part}")
        # Every verifier errs now and then; that of progress more often.
        score = {"target": 1.0, "nontarget": -1.0, "spoof": 0.5}[kind] * (-1) ** (i % 10 == 0)
        scores.append(f"s{i % 4} u{i} {score * (1 + i % 7) * (1 if i < 30 else (-1) ** (i % 4))}")
    (tmp_path / "keys").write_text("\n".join(keys) + "\n")
    (tmp_path / "asv").write_text("\n".join(scores) + "\n")
    asv = ("--asv", tmp_path / "asv", "--asv-keys", tmp_path / "keys", "--json")
    report = json.loads(run(*files, "--subset", "eval", *asv).stdout)
    verifier = protocols.read_asv_scores_2021(tmp_path / "asv", tmp_path / "keys", subset="eval")
    trials = protocols.read_trials(files[1], "asvspoof2021-la", subset="all")
    matched = protocols.match(protocols.read_scores(files[0]), trials, subset="eval")
    rates = metrics.asv_rates(verifier.target, verifier.nontarget, verifier.spoof)
    expected = metrics.min_tdcf(
        matched.bonafide_scores, matched.spoof_scores, asv=rates, version="2021"
    )
    assert report["metrics"]["min_tdcf_2021"] == expected.value
    whole = json.loads(run(*files, "--subset", "all", *asv).stdout)
    assert whole["metrics"]["min_tdcf_2021"] != expected.value


def test_plots_are_drawn(run, files, tmp_path):
    pytest.importorskip("matplotlib")
    result = run(*files, "--subset", "all", "--plot", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        *("det.png", "det.svg", "scores.png", "scores.svg")
    }


def test_mismatches_are_listed(run, files):
    scores, protocol = files
    scores.write_text(scores.read_text().replace("u7 ", "w7 "))
    result = run(scores, protocol, "--subset", "all")
    assert result.exit_code == 2
    assert "1 trials without a score:\n  u7\n" in result.stderr
    assert "1 scores without a trial:\n  w7\n" in result.stderr
    assert "Traceback" not in result.output


def test_partial_scores_are_counted(run, files):
    scores, protocol = files
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:-4]))
    refused = run(scores, protocol, "--subset", "all")
    assert refused.exit_code == 2
    assert "--partial leaves trials without a score out." in refused.stderr
    report = json.loads(run(scores, protocol, "--subset", "all", "--partial", "--json").stdout)
    assert (report["n_bonafide"], report["n_spoof"], report["n_without_score"]) == (18, 18, 4)


def test_paths_match_by_stem(run, files):
    scores, protocol = files
    scores.write_text(
        "path,score\n" + "".join(f"flac/{a}.flac,{b}\n" for a, b in map(str.split, scores.open()))
    )
    refused = run(scores, protocol, "--subset", "all")
    assert refused.exit_code == 2
    assert "--match stem" in refused.stderr
    assert run(scores, protocol, "--subset", "all", "--match", "stem").exit_code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "has subsets. Name one"),
        (["--subset", "dev"], "no subset 'dev'"),
        (["--subset", "all", "--by", "language"], "names no 'language'"),
        (["--subset", "all", "--format", "nonsense"], "must be one of"),
        (["--subset", "all", "--asv", "absent"], "absent cannot be read"),
        (["--subset", "all", "--asv-keys", "keys"], "goes with '--asv' and '--subset'"),
    ],
)
def test_user_errors_are_one_clear_line(run, files, options, words):
    result = run(*files, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert isinstance(result.exception, SystemExit)
