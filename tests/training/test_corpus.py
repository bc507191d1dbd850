"""Decode once, read again from the cache, decode anew when the manifest changes."""

import csv
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from voiceguard.errors import AudioError, AudioNotFoundError, ProtocolError
from voiceguard.training.corpus import open_corpus, read_manifest

CLIPS = {
    "a": (16_000, 4_000, "bonafide"),
    "b": (16_000, 1_601, "spoof"),
    "c": (8_000, 900, "spoof"),
}


def pcm_of(name: str) -> np.ndarray:
    rate, n, _ = CLIPS[name]
    hz = 300 + 100 * ord(name[0])
    return np.round(9_000 * np.sin(2 * np.pi * (hz % 1_000) * np.arange(n) / rate)).astype(np.int16)


def write_wave(path: Path, name: str) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(CLIPS[name][0])
        file.writeframes(pcm_of(name).tobytes())


def write_manifest(folder: Path, names: str, **extra: str) -> None:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "label", *extra])
        writer.writeheader()
        for name in names:
            writer.writerow({"file": f"clips/{name}.wav", "label": CLIPS[name][2], **extra})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "clips").mkdir(parents=True)
    for name in CLIPS:
        write_wave(folder / "clips" / f"{name}.wav", name)
    write_manifest(folder, "abc")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "nested" / "cache"


def test_clips_come_back_sample_for_sample_in_the_manifest_s_order(folder, cache):
    write_manifest(folder, "bac")
    corpus = open_corpus(folder, cache)
    assert len(corpus) == 3
    assert [row["label"] for row in corpus.rows] == ["spoof", "bonafide", "spoof"]
    for index, name in enumerate("ba"):
        clip = corpus.clip(index)
        assert clip.dtype == np.float32
        np.testing.assert_allclose(clip * 32_768, pcm_of(name), atol=1.0)


def test_another_rate_is_brought_to_16_khz(folder, cache):
    clip = open_corpus(folder, cache).clip(2)
    assert len(clip) == 1_800
    cycles = np.argmax(np.abs(np.fft.rfft(clip * np.hanning(1_800)))) * 16_000 / 1_800
    assert cycles == pytest.approx((300 + 100 * ord("c")) % 1_000, abs=9)


def test_the_second_opening_needs_no_audio(folder, cache):
    first = open_corpus(folder, cache)
    expected = [first.clip(i) for i in range(3)]
    shutil.rmtree(folder / "clips")
    again = open_corpus(folder, cache)
    for index, clip in enumerate(expected):
        np.testing.assert_array_equal(again.clip(index), clip)
    assert isinstance(again.pcm, np.memmap)
    assert again.rows == first.rows


def test_a_changed_manifest_is_decoded_anew(folder, cache):
    open_corpus(folder, cache)
    write_manifest(folder, "ca")
    corpus = open_corpus(folder, cache)
    assert [len(corpus.clip(i)) for i in range(2)] == [1_800, 4_000]
    shutil.rmtree(folder / "clips")
    write_manifest(folder, "a")
    with pytest.raises(AudioNotFoundError):
        open_corpus(folder, cache)


def test_an_interrupted_decoding_is_not_taken_for_a_whole_one(folder, cache, monkeypatch):
    open_corpus(folder, cache)
    (folder / "clips" / "d.wav").write_bytes((folder / "clips" / "a.wav").read_bytes())
    before = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text("file,label\nclips/d.wav,spoof\nclips/a.wav,spoof\n")
    save = np.save

    def stop_behind_the_first(path: Path, array: np.ndarray) -> None:
        save(path, array)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "save", stop_behind_the_first)
        open_corpus(folder, cache)
    (folder / "manifest.csv").write_text(before)
    corpus = open_corpus(folder, cache)
    np.testing.assert_allclose(corpus.clip(1) * 32_768, pcm_of("b"), atol=1.0)


def test_progress_counts_the_clips_once(folder, cache):
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))

    open_corpus(folder, cache, on_progress=progress)
    open_corpus(folder, cache, on_progress=progress)
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_the_path_column_can_have_another_name(folder, cache):
    text = (folder / "manifest.csv").read_text().replace("file,label", "clip,label")
    (folder / "manifest.csv").write_text(text)
    assert len(open_corpus(folder, cache, path_column="clip")) == 3


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ProtocolError, match=r"manifest\.csv: no such manifest"):
        open_corpus(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("text", ["", "file,label\n", "file,kind\na.wav,tts\n"])
def test_a_manifest_without_labelled_rows_is_refused(text, tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    with pytest.raises(ProtocolError, match="'label' column"):
        read_manifest(path)


def test_a_manifest_without_the_path_column_is_refused(folder, cache):
    with pytest.raises(ProtocolError, match="'clip'"):
        open_corpus(folder, cache, path_column="clip")


def test_a_clip_that_is_no_audio_is_named(folder, cache):
    (folder / "clips" / "b.wav").write_bytes(b"no audio at all")
    with pytest.raises(AudioError, match=r"b\.wav"):
        open_corpus(folder, cache)
