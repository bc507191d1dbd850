"""Folders of clips under one manifest: order, paths, and what does not fit together."""

import csv

import numpy as np
import pytest
import soundfile as sf

from voiceguard.errors import ProtocolError
from voiceguard.training.corpus import open_corpus

from .conftest import RECIPE, import_from

COLUMNS = ("file", "label", "system")


@pytest.fixture(scope="module")
def join():
    return import_from(RECIPE, ("join",))["join"]


@pytest.fixture
def folder(tmp_path):
    """Make a folder of so many clips, each of a loudness of its own."""

    def make(name, levels, columns=COLUMNS):
        path = tmp_path / name
        path.mkdir()
        with (path / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for number, level in enumerate(levels):
                clip = f"{number}.wav"
                sf.write(path / clip, np.full(800, level), 16_000, subtype="PCM_16")
                row = {"file": clip, "label": "bonafide", "system": name}
                writer.writerow({key: row.get(key, "") for key in columns})
        return path

    return make


def test_rows_keep_their_order_and_files_are_found_from_the_new_folder(
    join, folder, tmp_path, monkeypatch
):
    first, second = folder("first", [0.1, 0.2]), folder("second", [0.3])
    out = tmp_path / "deep" / "joined"
    monkeypatch.setattr("sys.argv", ["join.py", str(first), str(second), "--out", str(out)])
    join.main()
    corpus = open_corpus(out, tmp_path / "cache")
    assert [row["system"] for row in corpus.rows] == ["first", "first", "second"]
    assert [corpus.clip(i).mean() for i in range(3)] == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)


def test_other_columns_are_named(join, folder, tmp_path):
    folders = [folder("first", [0.1]), folder("second", [0.1], ("file", "label", "speaker"))]
    with pytest.raises(ProtocolError, match=r"second.*speaker, system"):
        join.joined(folders, tmp_path)


def test_a_folder_given_twice_is_refused(join, folder, tmp_path):
    first = folder("first", [0.1])
    with pytest.raises(ProtocolError, match="named twice"):
        join.joined([first, first], tmp_path)


def test_a_folder_without_a_manifest_is_refused(join, tmp_path):
    with pytest.raises(ProtocolError, match="no such manifest"):
        join.joined([tmp_path], tmp_path)


@pytest.mark.parametrize("label", ["bonafide", "spoof"])
def test_an_origin_that_shares_a_recording_with_the_judges_is_left_out(
    join, tmp_path, monkeypatch, capsys, label
):
    rng = np.random.default_rng(3)

    def voice(seconds=2.0):
        steps = rng.uniform(0.01, 0.5, int(seconds * 20)).repeat(800)
        return (steps * rng.uniform(-1, 1, len(steps))).astype(np.float32)

    def write(name, column, clips):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, (column, "label", "origin"))
            writer.writeheader()
            for number, (origin, samples) in enumerate(clips):
                sf.write(folder / f"{number}.flac", samples, 16_000, subtype="PCM_16")
                row = {column: f"{number}.flac", "label": label, "origin": origin}
                writer.writerow(row)
        return folder

    same = voice(3.0)
    corpus = write("corpus", "file", [("old", same)])
    added = write("added", "file", [("a", voice()), ("b", voice()), ("b", 0.3 * same[1_600:])])
    judge = write("judge", "path", [("", voice()), ("", same)])
    out = tmp_path / "out"
    monkeypatch.setattr(
        "sys.argv", ["join.py", str(corpus), str(added), "--out", str(out), "--apart", str(judge)]
    )
    join.main()
    with (out / "manifest.csv").open() as file:
        assert [row["origin"] for row in csv.DictReader(file)] == ["old", "a"]
    assert "b is left out: ../added/2.flac is a clip of" in capsys.readouterr().out
