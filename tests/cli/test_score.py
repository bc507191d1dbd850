"""``voiceguard score``: formats, inputs, exit codes, and output that harms nobody."""

from __future__ import annotations

import csv
import io
import json
import sys
from types import SimpleNamespace

import pytest

from voiceguard.cli import output
from voiceguard.cli.rows import ScoredRow, csv_line, spoof_spans
from voiceguard.detect.detector import Detector
from voiceguard.errors import AudioFormatError
from voiceguard.results import result_schema


@pytest.fixture
def calls(model, wav):
    """Human, synthetic, silence, and a text file by the name of audio."""
    human, spoof, silence = wav("a.wav", 5.0), wav("b.wav", -5.0), wav("c.wav", None)
    text = human.with_name("d.wav")
    text.write_text("no audio")
    return SimpleNamespace(
        folder=human.parent, human=human, spoof=spoof, silence=silence, text=text
    )


def lines(outcome):
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_jsonl_is_what_a_pipe_gets(command, calls):
    outcome = command("score", calls.human, calls.spoof)
    assert outcome.code == 0
    assert outcome.err == ""
    rows = lines(outcome)
    assert [row["path"] for row in rows] == [str(calls.human), str(calls.spoof)]
    assert [row["label"] for row in rows] == ["bonafide", "spoof"]


def test_json_rows_are_the_results_of_the_library(command, calls, model):
    jsonschema = pytest.importorskip("jsonschema")
    (row,) = json.loads(command("score", calls.spoof, "--format", "json").out)
    jsonschema.validate(row, result_schema())
    result = Detector.load(model).score(calls.spoof).to_dict()
    assert {**row, "elapsed_s": 0} == {**result, "elapsed_s": 0}


def test_json_is_one_document_with_errors_as_rows(command, calls):
    outcome = command("score", calls.folder, "--format", "json")
    rows = json.loads(outcome.out)
    assert outcome.code == 0
    assert [row.get("label") for row in rows] == ["bonafide", "spoof", "inconclusive", None]
    assert rows[3]["path"] == str(calls.text)
    assert rows[3]["error"]["type"] == "AudioFormatError"


def test_csv(command, calls):
    outcome = command("score", calls.folder, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [row["verdict"] for row in rows] == ["bonafide", "spoof", "inconclusive", ""]
    assert "label" not in rows[0], "the truth is the user's to add"
    assert float(rows[0]["llr"]) == pytest.approx(5.0, abs=0.1)
    assert rows[1]["where"] == "0.00-2.00"
    assert rows[2]["score"] == ""
    assert "no_speech" in rows[2]["reasons"]
    assert rows[3]["error"].startswith("AudioFormatError")


def test_a_table_on_a_terminal(command, calls):
    outcome = command("score", calls.folder, terminal=True)
    assert outcome.code == 0
    for word in ("a.wav", "bonafide", "spoof", "inconclusive", "0.0-2.0 s", "no_speech"):
        assert word in outcome.out
    assert "1 bonafide, 1 spoof, 1 inconclusive, 1 error" in outcome.out
    assert "not of fraud" in outcome.out
    assert "operating point balanced" in outcome.out
    assert "\x1b[" in outcome.out


def test_no_colours_and_no_bar_in_a_pipe(command, calls):
    outcome = command("score", calls.folder, "--format", "table")
    assert "\x1b" not in outcome.out
    assert outcome.err == ""


def test_a_bar_on_a_terminal_only(command, calls):
    assert "scoring" in command("score", calls.folder, terminal=True).err
    rows = command("score", calls.folder, "--format", "jsonl", terminal=True)
    assert rows.err == "", "the rows themselves show that it goes on"
    assert command("score", calls.human, terminal=True).err == "", "one file needs no bar"


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "table"])
def test_a_bar_leaves_the_rows_alone(command, calls, form):
    plain = command("score", calls.folder, "--format", form)
    beside = command("score", calls.folder, "--format", form, bar=True)
    assert "scoring" in beside.err
    assert len(beside.out.splitlines()) == len(plain.out.splitlines()) >= 4
    assert "\x1b" not in beside.out


@pytest.mark.parametrize(
    ("fail_on", "names", "code"),
    [
        ([], ["human", "spoof", "silence", "text"], 0),
        (["spoof"], ["human", "silence", "text"], 0),
        (["spoof"], ["human", "spoof"], 1),
        (["inconclusive"], ["human", "spoof"], 0),
        (["inconclusive"], ["silence"], 1),
        (["error"], ["human", "spoof", "silence"], 0),
        (["error"], ["human", "text"], 1),
        (["spoof", "error"], ["spoof"], 1),
        ([], ["text"], 2),
        (["error"], ["text"], 1),
        (["spoof"], ["text"], 2),
    ],
)
def test_exit_codes(command, calls, fail_on, names, code):
    policy = [word for each in fail_on for word in ("--fail-on", each)]
    files = [getattr(calls, name) for name in names]
    assert command("score", *files, *policy).code == code


def test_folders_are_searched_through(command, model, wav):
    kept = [wav("x/1.wav", 1.0), wav("x/y/2.WAV", 1.0)]
    wav("x/.hidden.wav", 1.0)
    wav("x/.git/3.wav", 1.0)
    wav("x/notes.txt", 1.0)
    rows = lines(command("score", kept[0].parent))
    assert [row["path"] for row in rows] == [str(path) for path in kept]


def test_patterns_that_the_shell_left_alone(command, calls):
    rows = lines(command("score", str(calls.folder / "[ab].wav")))
    assert [row["path"] for row in rows] == [str(calls.human), str(calls.spoof)]
    outcome = command("score", str(calls.folder / "*.flac"))
    assert outcome.code == 2
    assert "No file matches" in outcome.err


def test_a_name_with_magic_in_it_is_a_name(command, model, wav):
    path = wav("a[1].wav", 5.0)
    assert lines(command("score", path))[0]["label"] == "bonafide"


def test_each_file_once(command, calls):
    assert len(lines(command("score", calls.human, calls.human, calls.folder))) == 4


def test_a_missing_file_is_a_row(command, calls):
    rows = lines(command("score", calls.human, "absent.wav"))
    assert rows[1]["error"]["type"] == "AudioNotFoundError"


def test_a_folder_without_audio(command, model, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = command("score", tmp_path / "empty")
    assert outcome.code == 2
    assert "holds no file with an audio extension" in outcome.err


def test_standard_input(command, calls, monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(calls.spoof.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    (row,) = lines(command("score", "-"))
    assert row["path"] == "-"
    assert row["label"] == "spoof"


def test_the_model_and_the_line_are_the_users(command, calls, model):
    (row,) = lines(
        command("score", calls.human, "--model", model, "--operating-point", "low_false_alarm")
    )
    assert row["operating_point"]["name"] == "low_false_alarm"
    (rare,) = lines(command("score", calls.human, "--prior", "0.001"))
    assert rare["prior_spoof"] == 0.001
    assert rare["p_spoof"] < row["p_spoof"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "tinny"], "Did you mean 'tiny'"),
        (["--operating-point", "balance"], "'balanced', 'low_false_alarm'"),
        (["--prior", "1"], "prior_spoof"),
    ],
)
def test_user_errors_are_one_line(command, calls, arguments, message):
    outcome = command("score", calls.human, *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("Error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err


def test_an_uncalibrated_model_says_so(command, calls, make_bundle):
    outcome = command("score", calls.human, "--model", make_bundle("raw"), "-f", "table")
    assert "uncalibrated" in outcome.out
    assert "score" in outcome.out


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_name_that_a_spreadsheet_would_run(name):
    row = ScoredRow(name, None, AudioFormatError("=cmd"))
    (cells,) = csv.reader(io.StringIO(csv_line(row), newline=""))
    assert cells[0] == f"'{name}"
    assert not cells[-1].startswith("=")


def test_numbers_are_left_as_they_are(command, calls):
    rows = list(csv.DictReader(io.StringIO(command("score", calls.spoof, "-f", "csv").out)))
    assert float(rows[0]["llr"]) < 0


def test_names_cannot_drive_the_terminal(command, model, wav):
    path = wav("evil\x1b[31m\nname.wav", 5.0)
    outcome = command("score", path, "--format", "table")
    assert "\x1b" not in outcome.out
    assert "\\x1b" in outcome.out


def test_names_that_are_no_text(command, model, wav):
    path = wav("odd\udcff.wav", 5.0)
    for form in ("csv", "jsonl", "json", "table"):
        outcome = command("score", path, "--format", form)
        assert outcome.code == 0
        assert "udcff" in outcome.out


def test_spans_of_neighbouring_windows_are_joined(model, voice):
    import numpy as np

    call = np.concatenate([voice(3.0, 6.0), voice(3.0, -9.0), voice(3.0, 6.0)])
    result = Detector.load(model).score((call, 16_000))
    ((start, end),) = spoof_spans(result)
    assert start == pytest.approx(3.0, abs=0.5)
    assert end == pytest.approx(6.0, abs=0.5)


def test_an_output_that_cannot_carry_a_character(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.write("é\n")
    assert raw.getvalue() == b"\\xe9\n"
