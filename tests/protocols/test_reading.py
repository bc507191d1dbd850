"""Protocols in and out: every layout by example, round trips, and exact errors."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard import protocols
from voiceguard.errors import ParameterError, ProtocolError
from voiceguard.protocols import Trial

EXAMPLES = {
    "asvspoof2019-la": (
        "LA_0079 LA_T_1138215 - - bonafide\nLA_0039 LA_E_2834763 - A11 spoof\n",
        [
            Trial("LA_T_1138215", "LA_0079", "bonafide", extra=(("environment", "-"),)),
            Trial("LA_E_2834763", "LA_0039", "spoof", "A11", extra=(("environment", "-"),)),
        ],
    ),
    "asvspoof2019-pa": (
        "PA_0079 PA_T_0000001 aaa - bonafide\nPA_0079 PA_T_0005401 aab AC spoof\n",
        [
            Trial("PA_T_0000001", "PA_0079", "bonafide", extra=(("environment", "aaa"),)),
            Trial("PA_T_0005401", "PA_0079", "spoof", "AC", extra=(("environment", "aab"),)),
        ],
    ),
    "asvspoof2021-la": (
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval\n"
        "LA_0020 LA_E_7294490 g722 loc_tx bonafide bonafide notrim eval\n",
        [
            Trial(
                *("LA_E_9332881", "LA_0009", "spoof", "A07", "alaw", "eval"),
                extra=(("transmission", "ita_tx"), ("trim", "notrim")),
            ),
            Trial(
                *("LA_E_7294490", "LA_0020", "bonafide", None, "g722", "eval"),
                extra=(("transmission", "loc_tx"), ("trim", "notrim")),
            ),
        ],
    ),
    "asvspoof2021-df": (
        "TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval "
        "neural_vocoder_nonautoregressive Task1 team20 FF E\n",
        [
            Trial(
                *("DF_E_2000013", "TEF2", "spoof", "Task1-team20", "low_m4a", "eval"),
                extra=(
                    ("source", "vcc2020"),
                    ("trim", "notrim"),
                    ("vocoder", "neural_vocoder_nonautoregressive"),
                    ("task", "Task1"),
                    ("team", "team20"),
                    ("gender_pair", "FF"),
                    ("language", "E"),
                ),
            )
        ],
    ),
    "asvspoof5": (
        "T_4850 T_0000000000 F - - - AC3 A05 spoof -\n"
        "E_0001 E_0000000001 M C05 2 17 - bonafide bonafide -\n",
        [
            Trial(
                *("T_0000000000", "T_4850", "spoof", "A05"),
                extra=(
                    ("gender", "F"),
                    ("codec_q", "-"),
                    ("codec_seed", "-"),
                    ("attack_tag", "AC3"),
                    ("tmp", "-"),
                ),
            ),
            Trial(
                *("E_0000000001", "E_0001", "bonafide", None, "C05"),
                extra=(
                    ("gender", "M"),
                    ("codec_q", "2"),
                    ("codec_seed", "17"),
                    ("attack_tag", "-"),
                    ("tmp", "-"),
                ),
            ),
        ],
    ),
    "asvspoof5-early": (
        "T_4850 T_0000000000 F - A05 spoof\nT_3734 T_0000000011 F - bonafide bonafide\n",
        [
            Trial("T_0000000000", "T_4850", "spoof", "A05", extra=(("gender", "F"),)),
            Trial("T_0000000011", "T_3734", "bonafide", extra=(("gender", "F"),)),
        ],
    ),
    "in-the-wild": (
        "file,speaker,label\n0.wav,Alec Guinness,spoof\n4.wav,Barack Obama,bona-fide\n",
        [
            Trial("0", "Alec Guinness", "spoof", path="0.wav"),
            Trial("4", "Barack Obama", "bonafide", path="4.wav"),
        ],
    ),
    "csv": (
        "utterance,path,speaker,label,attack,codec,subset,language\n"
        'a b,"x/a, b.wav",s1,bonafide,,opus,,en\nc,,,spoof,A01,,,de\n',
        [
            Trial(
                *("a b", "s1", "bonafide", None, "opus", None, "x/a, b.wav"),
                extra=(("language", "en"),),
            ),
            Trial("c", None, "spoof", "A01", extra=(("language", "de"),)),
        ],
    ),
}


@pytest.mark.parametrize("format", EXAMPLES)
def test_reads_and_writes_what_the_corpora_ship(tmp_path, format):
    text, trials = EXAMPLES[format]
    path = tmp_path / "protocol"
    path.write_text(text)
    assert list(protocols.read_trials(path, format, subset="all")) == trials
    assert protocols.write_trials(tmp_path / "again", trials, format) == len(trials)
    assert (tmp_path / "again").read_text() == text


@pytest.mark.parametrize("format", EXAMPLES)
def test_format_is_told_by_the_first_line(tmp_path, format):
    path = tmp_path / "protocol"
    path.write_text(EXAMPLES[format][0])
    alike = {"asvspoof2019-pa": "asvspoof2019-la", "asvspoof5-early": "asvspoof5"}
    assert protocols.guess_format(path) == alike.get(format, format)


def test_asvspoof5_reads_both_layouts(tmp_path):
    path = tmp_path / "early.tsv"
    path.write_text(EXAMPLES["asvspoof5-early"][0])
    labels = [trial.label for trial in protocols.read_trials(path, "asvspoof5")]
    assert labels == ["spoof", "bonafide"]


def test_gzip_is_seen_through_whatever_the_name(tmp_path):
    text, trials = EXAMPLES["asvspoof2019-la"]
    path = tmp_path / "protocol.txt"
    path.write_bytes(gzip.compress(text.encode()))
    assert list(protocols.read_trials(path, "asvspoof2019-la")) == trials
    protocols.write_trials(tmp_path / "out.txt.gz", trials, "asvspoof2019-la")
    assert gzip.decompress((tmp_path / "out.txt.gz").read_bytes()).decode() == text


def test_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_bytes(b"\xef\xbb\xbf" + EXAMPLES["in-the-wild"][0].replace("\n", "\r\n").encode())
    assert list(protocols.read_trials(path, "in-the-wild")) == EXAMPLES["in-the-wild"][1]


def test_folders_of_classes(tmp_path):
    for name in ("Real/a.wav", "fake/tts/b c.FLAC", "fake/notes.txt", "other/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(protocols.read_trials(tmp_path, "folder"))
    assert found == [
        Trial("Real/a", label="bonafide", path="Real/a.wav"),
        Trial("fake/tts/b c", label="spoof", path="fake/tts/b c.FLAC"),
    ]
    assert protocols.guess_format(tmp_path) == "folder"


def test_folder_without_both_classes_is_refused(tmp_path):
    (tmp_path / "bonafide").mkdir()
    with pytest.raises(ProtocolError, match=r"folders named for both classes.* It has: bonafide"):
        list(protocols.read_trials(tmp_path, "folder"))


SUBSETS = (
    "s u1 alaw tx A07 spoof notrim eval\n"
    "s u2 alaw tx A07 spoof notrim progress\n"
    "s u3 alaw tx A07 spoof trim hidden_track\n"
)


@pytest.mark.parametrize(
    ("subset", "utterances"),
    [("eval", ["u1"]), ("progress", ["u2"]), ("hidden", ["u3"]), ("all", ["u1", "u2", "u3"])],
)
def test_subsets_by_name(tmp_path, subset, utterances):
    path = tmp_path / "trial_metadata.txt"
    path.write_text(SUBSETS)
    found = protocols.read_trials(path, "asvspoof2021-la", subset=subset)
    assert [trial.utterance for trial in found] == utterances


def test_subset_is_never_guessed(tmp_path):
    path = tmp_path / "trial_metadata.txt"
    path.write_text(SUBSETS)
    with pytest.raises(ProtocolError, match=r"has subsets. Name one"):
        list(protocols.read_trials(path, "asvspoof2021-la"))
    with pytest.raises(ProtocolError, match=r"no subset 'dev'. It has: eval, hidden, progress"):
        list(protocols.read_trials(path, "asvspoof2021-la", subset="dev"))
    path.write_text(EXAMPLES["asvspoof2019-la"][0])
    with pytest.raises(ProtocolError, match=r"no subset 'eval'. It has: none"):
        list(protocols.read_trials(path, "asvspoof2019-la", subset="eval"))


def test_reading_streams(tmp_path):
    """A fault on the last line leaves the trials before it readable."""
    path = tmp_path / "protocol"
    path.write_text("s u1 - - bonafide\ns u2 - A01 fake\n")
    stream = protocols.read_trials(path, "asvspoof2019-la")
    assert next(stream).utterance == "u1"
    with pytest.raises(ProtocolError, match=r"protocol, line 2: the label must .* Got 'fake'"):
        next(stream)


@pytest.mark.parametrize(
    ("format", "text", "words"),
    [
        ("asvspoof2019-la", "s u - - bonafide\n\ns u -\n", "line 3: .*5 columns. Got 3"),
        ("asvspoof2019-la", "s u - -\n", "line 1: .*5 columns. Got 4"),
        ("asvspoof5", "s u F - A05 spoof\ns v F - - - AC3 A05 spoof -\n", "line 2: .*10 or 6"),
        ("asvspoof5", "s u F x\n", "line 1: asvspoof5 has 10 or 6 columns. Got 4"),
        ("in-the-wild", "file,label\n0.wav,spoof\n", "line 1: the header lacks 'speaker'"),
        ("in-the-wild", "", "line 1: the file is empty"),
        ("csv", "label,speaker\nspoof,s\n", "line 1: the header lacks 'utterance'"),
        ("csv", "id,label\na,spoof\nb,maybe\n", "line 3: the label must .* Got 'maybe'"),
        ("csv", "id,label\na\n", "line 2: the header names 2 columns. Got 1"),
        ("csv", "id,label\n,spoof\n", "line 2: the row names no utterance"),
        ("csv", 'id,label\n"a,spoof\n', "line 2: is no CSV"),
    ],
)
def test_faults_name_file_and_line(tmp_path, format, text, words):
    path = tmp_path / "protocol"
    path.write_text(text)
    with pytest.raises(ProtocolError, match=f"protocol, {words}"):
        list(protocols.read_trials(path, format))


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(ProtocolError, match="absent cannot be read: No such file"):
        list(protocols.read_trials(tmp_path / "absent", "csv"))
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b"s u - - bonafide\n" * 1000)[:-20])
    with pytest.raises(ProtocolError, match="the gzip file is broken"):
        list(protocols.read_trials(broken, "asvspoof2019-la"))
    binary = tmp_path / "binary"
    binary.write_bytes(b"s u - - bonafide\n\xff\xfe\n")
    with pytest.raises(ProtocolError, match="binary, line 2: is no UTF-8 text"):
        list(protocols.read_trials(binary, "asvspoof2019-la"))


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="'format' parameter of read_trials must be one of"):
        protocols.read_trials("x", "asvspoof2015")
    with pytest.raises(ParameterError, match="'format' parameter of write_trials must be one of"):
        protocols.write_trials(tmp_path / "x", [], "folder")
    odd = tmp_path / "odd"
    odd.write_text("one two three\n")
    with pytest.raises(ProtocolError, match="odd, line 1: 3 columns fit none of the formats"):
        protocols.guess_format(odd)


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    def trials():
        yield Trial("u1", "s", "bonafide")
        yield Trial("u 2", "s", "bonafide")

    target = tmp_path / "protocol"
    target.write_text("before")
    with pytest.raises(ProtocolError, match="the 'utterance' of trial 'u 2' must hold no blank"):
        protocols.write_trials(target, trials(), "asvspoof2019-la")
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ProtocolError, match="cannot be written"):
        protocols.write_trials(tmp_path / "absent" / "protocol", [], "csv")


def test_writing_refuses_what_the_format_cannot_hold(tmp_path):
    with pytest.raises(ProtocolError, match="needs a speaker and a label"):
        protocols.write_trials(tmp_path / "x", [Trial("u")], "in-the-wild")
    uneven = [Trial("u", extra=(("a", "1"),)), Trial("v")]
    with pytest.raises(ProtocolError, match="must have the extra columns of the first"):
        protocols.write_trials(tmp_path / "x", uneven, "csv")


WORD = st.text("abcXYZ019_-.é", min_size=1, max_size=8).filter(lambda word: word != "-")
MAYBE = st.none() | WORD


@st.composite
def trials(draw, words=WORD):
    label = draw(st.sampled_from(["bonafide", "spoof", None]))
    return Trial(
        draw(words),
        draw(MAYBE),
        label,
        None if label == "bonafide" else draw(MAYBE),
        draw(MAYBE),
        draw(st.sampled_from([None, "eval", "progress", "hidden"])),
    )


@given(st.lists(trials(), max_size=8))
def test_any_trial_survives_2021(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("p") / "protocol"
    protocols.write_trials(path, written, "asvspoof2021-la")
    found = [
        trial._replace(extra=())
        for trial in protocols.read_trials(path, "asvspoof2021-la", subset="all")
    ]
    assert found == written


@given(
    st.lists(
        trials(st.text("ab ,\"'é\t;", min_size=1).filter(str.strip).map(str.strip)), max_size=8
    )
)
def test_any_trial_survives_csv(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("p") / "protocol.csv"
    assert protocols.write_trials(path, written, "csv") == len(written)
    assert list(protocols.read_trials(path, "csv", subset="all")) == written


def test_trial_fields_by_name():
    trial = Trial("u", "s", "spoof", extra=(("trim", "notrim"),))
    assert (trial.get("speaker"), trial.get("trim"), trial.get("absent")) == ("s", "notrim", None)
    assert hash(trial) == hash(Trial("u", "s", "spoof", extra=(("trim", "notrim"),)))


def test_label_spellings():
    assert [protocols.parse_label(text) for text in ("Bona-Fide", "REAL", "human")] == [
        "bonafide"
    ] * 3
    assert [protocols.parse_label(text) for text in ("spoof", " Fake ", "deepfake")] == [
        "spoof"
    ] * 3
    assert protocols.parse_label("0") is None
