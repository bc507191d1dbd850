"""The command data check: counts, files, exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from voiceguard.cli import data


@pytest.fixture
def run():
    app = typer.Typer()
    app.callback()(lambda: None)
    data.register(app)

    def invoke(*arguments):
        return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])

    return invoke


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "protocol.txt").write_text("s u1 - - bonafide\ns u2 - A01 spoof\n")
    (tmp_path / "flac").mkdir()
    for name in ("u1", "u2"):
        (tmp_path / "flac" / f"{name}.flac").touch()
    return tmp_path


def test_all_is_well(run, corpus):
    result = run(corpus / "protocol.txt", "--audio", corpus / "flac")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "2 trials: 1 bona fide, 1 spoof, 0 unlabelled",
        "All is well.",
    ]


def test_missing_and_extra_files_are_listed(run, corpus):
    (corpus / "flac" / "u2.flac").rename(corpus / "flac" / "u3.flac")
    result = run(corpus / "protocol.txt", "--audio", corpus / "flac")
    assert result.exit_code == 1
    assert "Amiss: 1 audio files are missing." in result.stdout
    assert "missing: 1\n  u2.flac" in result.stdout
    assert "(no fault): 1\n  u3.flac" in result.stdout


def test_counts_are_held_against_the_published_ones(run, corpus):
    result = run(corpus / "protocol.txt", "--part", "eval")
    assert result.exit_code == 1
    assert "published counts are 71237 (7355 bona fide, 63882 spoof). Got 2" in result.stdout


def test_every_file_is_decoded(run, corpus):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("voiceguard.audio")
    tone = 0.1 * np.sin(np.arange(16_000) * 0.1)
    soundfile.write(corpus / "flac" / "u1.flac", tone, 16_000)
    (corpus / "flac" / "u2.flac").write_bytes(b"fLaC but not for long")
    result = run(corpus / "protocol.txt", "--audio", corpus / "flac", "--decode", "--json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert report["n_decoded"] == 2
    assert [name for name, _ in report["undecodable"]] == ["u2.flac"]
    assert report["ok"] is False


def test_folder_of_classes_is_its_own_audio(run, tmp_path):
    for name in ("bonafide/a.wav", "spoof/b.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert "2 trials: 1 bona fide, 1 spoof" in result.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--part", "nonsense"], "No published counts for asvspoof2019-la/nonsense"),
        (["--decode"], "--decode needs the folder of the audio"),
        (["--audio", "absent"], "absent is no folder"),
        (["--subset", "eval"], "no subset 'eval'"),
    ],
)
def test_user_errors_are_one_clear_line(run, corpus, options, words):
    result = run(corpus / "protocol.txt", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert isinstance(result.exception, SystemExit)
