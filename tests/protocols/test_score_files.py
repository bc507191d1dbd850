"""Score files: every format, ids with blanks, exact errors, and the published ones."""

from __future__ import annotations

import gzip
import math
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard import protocols
from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols import ScoreRow

FIXTURES = Path(__file__).parents[2] / ".." / "shared" / "fixtures" / "metrics"

EXAMPLES = {
    "asvspoof2019": (
        "LA_E_2834763 A11 spoof -0.5\nLA_E_1 - bonafide 1.5\n",
        [
            ScoreRow("LA_E_2834763", -0.5, attack="A11", label="spoof"),
            ScoreRow("LA_E_1", 1.5, label="bonafide"),
        ],
    ),
    "asvspoof2021": (
        "DF_E_2000011 -5.86\nan id with blanks 2.0\n",
        [ScoreRow("DF_E_2000011", -5.86), ScoreRow("an id with blanks", 2.0)],
    ),
    "asvspoof5": (
        "filename\tcm-score\nE_0000000001\t0.01\nwith blank\t3.0\n",
        [ScoreRow("E_0000000001", 0.01), ScoreRow("with blank", 3.0)],
    ),
    "sasv": (
        "spk\tfilename\tcm-score\tasv-score\tsasv-score\nE_1001\tE_01\t0.1\t0.2\t0.3\n",
        [ScoreRow("E_01", 0.1, "E_1001", 0.2, 0.3)],
    ),
    "csv": (
        'utterance,score\n"a, b.wav",0.25\nc,-1.0\n',
        [ScoreRow("a, b.wav", 0.25), ScoreRow("c", -1.0)],
    ),
}


@pytest.mark.parametrize("format", EXAMPLES)
def test_formats_in_and_out_and_told_by_their_first_line(tmp_path, format):
    text, rows = EXAMPLES[format]
    path = tmp_path / "scores"
    path.write_text(text)
    assert list(protocols.iter_scores(path)) == rows
    assert list(protocols.iter_scores(path, format)) == rows
    assert protocols.write_scores(tmp_path / "again.gz", rows, format) == len(rows)
    assert gzip.decompress((tmp_path / "again.gz").read_bytes()).decode() == text


def test_csv_of_the_score_command(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("path,label,score,llr\na/b.wav,spoof,-3.5,-4\n")
    assert protocols.read_scores(path) == {"a/b.wav": -3.5}


@pytest.mark.parametrize(
    ("format", "text", "words"),
    [
        ("asvspoof2021", "u 1.0\nv\n", "line 2: 2 columns were expected. Got 1"),
        ("asvspoof2021", "u 1.0\nv high\n", "line 2: the score must be a finite .* Got 'high'"),
        ("asvspoof2021", "u nan\n", "line 1: the score must be a finite .* Got 'nan'"),
        ("asvspoof2019", "u spoof 1.0\n", "line 1: 4 columns were expected. Got 3"),
        ("asvspoof5", "u 1.0\n", "line 1: the header must be filename cm-score"),
        ("asvspoof5", "filename\tcm-score\nu 1.0\n", "line 2: 2 columns were expected. Got 1"),
        ("sasv", "spk\tfilename\n", "line 1: the header must be spk filename"),
        ("csv", "utterance\nu\n", "line 1: the header must name 'score'"),
        ("csv", "utterance,score\nu,\n", "line 2: the score must be a finite .* Got ''"),
        ("csv", "utterance,score\nu,1,2\n", "line 2: the header names 2 columns. Got 3"),
        ("csv", 'utterance,score\n"u,1\n', "line 2: "),
    ],
)
def test_faults_name_file_and_line(tmp_path, format, text, words):
    path = tmp_path / "scores"
    path.write_text(text)
    with pytest.raises(ProtocolError, match=f"scores, {words}"):
        list(protocols.iter_scores(path, format))


def test_two_scores_for_one_utterance_are_refused_unless_equal(tmp_path):
    path = tmp_path / "scores"
    path.write_text("u 1.0\nu 1.0\n")
    assert protocols.read_scores(path) == {"u": 1.0}
    path.write_text("u 1.0\nu 2.0\n")
    with pytest.raises(ProtocolError, match=r"scores 'u' twice: 1.0 and 2.0"):
        protocols.read_scores(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(b"u 1.0\nv 2.0\n"),))
    writer.start()
    assert protocols.read_scores(pipe) == {"u": 1.0, "v": 2.0}
    writer.join()


def test_empty_files_and_unknown_formats_are_refused(tmp_path):
    path = tmp_path / "scores"
    path.write_text("\n")
    with pytest.raises(ProtocolError, match="holds no scores"):
        protocols.read_scores(path)
    with pytest.raises(ParameterError, match="'format' parameter of iter_scores"):
        protocols.read_scores(path, "asvspoof2015")
    with pytest.raises(ParameterError, match="'format' parameter of write_scores"):
        protocols.write_scores(path, [], "asvspoof2015")


def test_writing_refuses_rows_that_lack_a_column(tmp_path):
    with pytest.raises(ProtocolError, match="'u' needs a label"):
        protocols.write_scores(tmp_path / "x", [ScoreRow("u", 1.0)], "asvspoof2019")
    with pytest.raises(ProtocolError, match="'u' needs a speaker"):
        protocols.write_scores(tmp_path / "x", [ScoreRow("u", 1.0)], "sasv")
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_scores_survive_to_the_last_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("s") / "scores"
    rows = [ScoreRow(f"utterance {i}", value) for i, value in enumerate(values)]
    protocols.write_scores(path, rows, "asvspoof2021")
    found = [row.score for row in protocols.iter_scores(path, "asvspoof2021")]
    assert found == values
    assert [math.copysign(1, value) for value in found] == [math.copysign(1, v) for v in values]


def test_published_score_file_loads():
    path = FIXTURES / "asvspoof2019_la_cm_eval_softmax.txt.gz"
    if not path.is_file():
        pytest.skip("the published score files are not beside the repository")
    found = protocols.read_scores(path)
    assert len(found) == 71_237
    assert found["LA_E_2834763"] == 0.00826383288949728


def test_published_asv_scores_load():
    path = FIXTURES / "asvspoof2019_la_asv_eval_scores.txt.gz"
    if not path.is_file():
        pytest.skip("the published score files are not beside the repository")
    found = protocols.read_asv_scores(path)
    assert found.target.size + found.nontarget.size + found.spoof.size == 102_579
    assert found.spoof.size == 63_882


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bonafide target 1\nA01 cheat 2\n", "asv, line 2: source, key"),
        ("bonafide target 1\nA01 spoof x\n", "asv, line 2: the score must be a finite"),
        ("bonafide target 1\n", "asv holds no trials of kind nontarget, spoof"),
    ],
)
def test_asv_score_faults(tmp_path, text, words):
    path = tmp_path / "asv"
    path.write_text(text)
    with pytest.raises(ProtocolError, match=words):
        protocols.read_asv_scores(path)


# In the form of the key package of 2021 LA.
ASV_KEYS = """\
LA_0007-alaw-ita_tx LA_E_01-alaw-ita_tx alaw ita_tx bonafide target notrim eval
LA_0007-alaw-ita_tx LA_E_02-alaw-ita_tx alaw ita_tx bonafide nontarget notrim eval
LA_0012-alaw-ita_tx LA_E_02-alaw-ita_tx alaw ita_tx bonafide target notrim progress
LA_0007-none-loc_tx LA_E_03-none-loc_tx none loc_tx A07 spoof notrim eval
LA_0012-none-loc_tx LA_E_04-none-loc_tx none loc_tx A11 spoof notrim hidden_track
"""
ASV_SCORES = "".join(
    f"{' '.join(line.split()[:2])} {i}.5\n" for i, line in enumerate(ASV_KEYS.splitlines())
)


def asv_2021(folder, *, scores=ASV_SCORES, keys=ASV_KEYS, subset="all"):
    (folder / "asv").write_text(scores)
    (folder / "keys").write_text(keys)
    return protocols.read_asv_scores_2021(folder / "asv", folder / "keys", subset=subset)


def test_asv_scores_of_2021_take_their_kind_from_the_keys(tmp_path):
    found = asv_2021(tmp_path)
    assert found.target.tolist() == [0.5, 2.5]
    assert found.nontarget.tolist() == [1.5]
    assert found.spoof.tolist() == [3.5, 4.5]


def test_asv_scores_of_2021_are_those_of_the_subset(tmp_path):
    found = asv_2021(tmp_path, subset="eval")
    assert [found.target.tolist(), found.nontarget.tolist(), found.spoof.tolist()] == [
        [0.5],
        [1.5],
        [3.5],
    ]
    with pytest.raises(ProtocolError, match=r"no trials of kind target, nontarget in .* 'hid"):
        asv_2021(tmp_path, subset="hidden")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": ASV_SCORES + "a b 1\n"}, "keys holds fewer trials than .*asv"),
        ({"keys": ASV_KEYS + ASV_KEYS}, "asv holds fewer trials than .*keys"),
        (
            {"scores": ASV_SCORES.replace("LA_0012-alaw-ita_tx LA_E_02", "LA_0012 LA_E_02")},
            "asv, line 3: 'LA_0012-alaw-ita_tx LA_E_02-alaw-ita_tx' and a .* line 3 of .*keys",
        ),
        ({"scores": ASV_SCORES.replace(" 3.5", "")}, "asv, line 4: .* and a score were expected"),
        ({"scores": ASV_SCORES.replace("1.5", "nan")}, "asv, line 2: the score must be a finite"),
        ({"keys": ASV_KEYS.replace("spoof notrim eval", "spoof eval")}, "keys, line 4: speaker"),
        ({"keys": ASV_KEYS.replace("nontarget", "bonafide")}, "keys, line 2: speaker, utterance"),
        ({"scores": "", "keys": ""}, "asv holds no trials of kind target, nontarget, spoof"),
    ],
)
def test_asv_score_faults_of_2021(tmp_path, change, words):
    with pytest.raises(ProtocolError, match=words):
        asv_2021(tmp_path, **change)
