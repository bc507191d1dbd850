"""``voiceguard embed``: rows, file, options, exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("filelock")

from voiceguard.detect.detector import Detector
from voiceguard.embedding.store import EmbeddingStore


@pytest.fixture
def calls(model, wav):
    """Two recordings and a text file by the name of audio."""
    folder = wav("a.wav", 5.0).parent
    wav("b.wav", -5.0)
    (folder / "c.wav").write_text("no audio")
    return folder


def test_rows_in_a_pipe_and_embeddings_in_the_file(command, calls, model, tmp_path):
    out = tmp_path / "out.h5"
    outcome = command("embed", calls, "--out", out)
    assert outcome.code == 0
    assert outcome.err == ""
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert [row["path"] for row in rows] == [str(calls / f"{name}.wav") for name in "abc"]
    assert [row.get("cached") for row in rows] == [False, False, None]
    assert rows[2]["error"]["type"] == "AudioFormatError"
    found = EmbeddingStore(out).load(rows[0]["key"])
    expected = Detector.load(model).embed(calls / "a.wav").vectors
    np.testing.assert_array_equal(found.values, expected)
    again = command("embed", calls, "--out", out).out.splitlines()
    assert [json.loads(line).get("cached") for line in again] == [True, True, None]


def test_options(command, calls, tmp_path):
    out = tmp_path / "out.h5"
    outcome = command("embed", calls / "a.wav", "--out", out, "--pool", "mean+std", "--float16")
    found = EmbeddingStore(out).load(json.loads(outcome.out)["key"])
    assert (found.values.shape, found.values.dtype, found.pool) == ((6,), np.float16, "mean+std")


def test_on_a_terminal(command, calls, tmp_path):
    outcome = command("embed", calls, "--out", tmp_path / "out.h5", terminal=True)
    assert outcome.code == 0
    assert "2 embedded, 0 there already, 1 failed" in outcome.out
    assert f"{calls / 'c.wav'}: AudioFormatError" in outcome.err


def test_not_one_could_be_read(command, calls, tmp_path):
    assert command("embed", calls / "c.wav", "--out", tmp_path / "out.h5").code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "last"], "The '--layer' option of embed must be a number or 'all'"),
        (["--layer", "3"], "'layer' parameter of Embedder must be None for tiny"),
        (["--layer", "all"], "'layer' parameter of Embedder must be None for tiny"),
        (["--device", "cpu"], "'device' parameter of Embedder does not go with"),
    ],
)
def test_wrong_usage(command, calls, tmp_path, arguments, message):
    outcome = command("embed", calls, "--out", tmp_path / "out.h5", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "out.h5").exists()


def test_the_file_must_be_named(command, calls):
    assert command("embed", calls).code == 2
