"""Corpora held against their protocols: every kind of thing amiss is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceguard import protocols
from voiceguard.errors import AudioFormatError, ProtocolError
from voiceguard.protocols import PUBLISHED_COUNTS, Trial, TrialCounts

TRIALS = [Trial("u1", label="bonafide"), Trial("u2", label="spoof"), Trial("u3", path="x/u3.wav")]


@pytest.fixture
def audio(tmp_path) -> Path:
    (tmp_path / "x").mkdir()
    for name in ("u1.flac", "u2.flac", "x/u3.wav"):
        (tmp_path / name).write_bytes(b"audio")
    (tmp_path / "readme.txt").touch()
    return tmp_path


def test_a_whole_corpus_is_well(audio):
    seen = []
    report = protocols.check(TRIALS, audio=audio, decode=seen.append, expected=TrialCounts(1, 1, 1))
    assert report.ok
    assert report.problems() == ()
    assert sorted(path.relative_to(audio).as_posix() for path in seen) == [
        *("u1.flac", "u2.flac", "x/u3.wav")
    ]
    assert report.n_decoded == 3


def test_missing_extra_and_undecodable_files_are_named(audio):
    (audio / "u1.flac").unlink()
    (audio / "u9.flac").touch()

    def decode(path):
        if path.suffix == ".wav":
            raise AudioFormatError("not audio")

    steps = []
    report = protocols.check(TRIALS, audio=audio, decode=decode, progress=steps.append)
    assert report.missing == ("u1.flac",)
    assert report.extra == ("u9.flac",)
    assert report.undecodable == (("x/u3.wav", "not audio"),)
    assert steps == [1, 2]
    assert not report.ok
    assert report.problems() == ("1 audio files are missing.", "1 audio files do not decode.")


def test_extra_files_alone_are_no_fault(audio):
    (audio / "u9.flac").touch()
    report = protocols.check(TRIALS, audio=audio)
    assert report.ok
    assert report.extra == ("u9.flac",)


def test_faults_of_the_program_are_not_taken_for_bad_audio(audio):
    def decode(path):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        protocols.check(TRIALS, audio=audio, decode=decode)


def test_counts_and_duplicates():
    report = protocols.check([*TRIALS, TRIALS[0]], expected=PUBLISHED_COUNTS["in-the-wild/all"])
    assert report.duplicates == ("u1",)
    assert report.problems() == (
        "The published counts are 31779 (19963 bona fide, 11816 spoof). Got 4 (2 bona fide, "
        "1 spoof, 1 unlabelled) instead.",
        "1 utterances stand more than once.",
    )
    assert report.missing == ()


@pytest.mark.parametrize(
    ("part", "total"),
    [
        ("asvspoof2019-la/train", 25_380),
        ("asvspoof2019-la/dev", 24_844),
        ("asvspoof2019-la/eval", 71_237),
        ("asvspoof2021-la/all", 181_566),
        ("asvspoof2021-df/all", 611_829),
        ("in-the-wild/all", 31_779),
    ],
)
def test_published_totals(part, total):
    assert PUBLISHED_COUNTS[part].total == total


def test_folder_must_be_one(tmp_path):
    with pytest.raises(ProtocolError, match="absent is no folder"):
        protocols.check(TRIALS, audio=tmp_path / "absent")
