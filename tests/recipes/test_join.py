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
