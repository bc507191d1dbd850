"""A file of embeddings: hits, misses, damage, killed writers, several writers at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
pytest.importorskip("filelock")

from voiceguard.embedding import store as store_module  # noqa: E402
from voiceguard.embedding.embedder import Embedder  # noqa: E402
from voiceguard.embedding.store import EmbeddingStore  # noqa: E402
from voiceguard.errors import AudioError, IntegrityError, ModelError  # noqa: E402


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "embeddings.h5"


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.glob(f"{out.name}.*"))


def same(found, expected) -> None:
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.times_s, expected.times_s)
    for field in ("model", "model_sha256", "sample_rate", "n_channels", "layer", "pool"):
        assert getattr(found, field) == getattr(expected, field), field
    assert found.values.dtype == expected.values.dtype


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("pool", [None, "mean+std"])
@pytest.mark.parametrize("float16", [False, True])
def test_what_is_loaded_is_what_was_embedded(means, recordings, out, channels, pool, float16):
    (path,) = recordings(1, channels=channels)
    embedder = Embedder(means, pool=pool, float16=float16)
    (row,) = embedder.embed_many([path], out=out)
    assert (row.error, row.cached, row.embedding) == (None, False, None)
    assert row.key == embedder.key(path)
    same(EmbeddingStore(out).load(row.key), embedder.embed(path))
    assert leftovers(out) == ["embeddings.h5.lock"]


def test_the_file_is_plain_hdf5(means, recordings, out):
    (path,) = recordings(1)
    (row,) = Embedder(means).embed_many([path], out=out)
    with h5py.File(out) as file:
        entry = file["entries"][row.key]
        assert entry["values"].shape == (1, 103, 3)
        assert entry["times_s"].shape == (103,)
        assert entry.attrs["model"] == "means"
        assert file["names"].asstr()[()].tolist() == [[str(path), row.key]]


def test_a_hit_is_not_computed_again(means, recordings, out):
    paths = recordings(3)
    first = Embedder(means).embed_many(paths, out=out)
    assert means.heard == 3
    before = out.stat().st_mtime_ns
    again = Embedder(means).embed_many(paths, out=out)
    assert means.heard == 3
    assert [row.cached for row in again] == [True] * 3
    assert [row.key for row in again] == [row.key for row in first]
    assert out.stat().st_mtime_ns == before, "nothing new: the file is left alone"


def test_the_content_counts_and_not_the_name(means, recordings, out):
    one, two = recordings(2)
    copy = one.with_name("copy.wav")
    copy.write_bytes(one.read_bytes())
    rows = Embedder(means).embed_many([one, copy, one.read_bytes()], out=out)
    assert means.heard == 1
    assert [row.cached for row in rows] == [False, True, True]
    one.write_bytes(two.read_bytes())
    (row,) = Embedder(means).embed_many([one], out=out)
    assert not row.cached
    names = EmbeddingStore(out).names()
    assert names == {str(one): (rows[0].key, row.key), str(copy): (rows[0].key,)}


def test_headerless_audio_is_what_its_extension_says(means, tmp_path, out):
    paths = [tmp_path / f"call.{suffix}" for suffix in ("ulaw", "alaw")]
    for path in paths:
        path.write_bytes(bytes(range(256)) * 40)
    one, other = Embedder(means).embed_many(paths, out=out)
    assert one.key != other.key


def test_a_stream_is_known_by_its_sound(means, recordings, out):
    (path,) = recordings(1)
    for expected in (False, True):
        with path.open("rb") as stream:
            (row,) = Embedder(means).embed_many([stream], out=out)
        assert row.cached is expected


@pytest.mark.parametrize("changed", [{"pool": "mean"}, {"float16": True}, {"sha256": "other"}])
def test_changed_parameters_miss(means, recordings, out, changed):
    (path,) = recordings(1)
    Embedder(means).embed_many([path], out=out)
    if "sha256" in changed:
        means.sha256 = changed.pop("sha256")
    (row,) = Embedder(means, **changed).embed_many([path], out=out)
    assert not row.cached
    assert len(EmbeddingStore(out).keys()) == 2


@pytest.mark.parametrize("what", ["values", "times_s", "model", "seal"])
def test_a_damaged_entry_is_noticed_and_replaced(means, recordings, out, what):
    paths = recordings(2)
    embedder = Embedder(means)
    rows = embedder.embed_many(paths, out=out)
    with h5py.File(out, "r+") as file:
        entry = file["entries"][rows[0].key]
        if what == "model":
            entry.attrs["model"] = "another"
        elif what == "seal":
            del entry.attrs["sha256"]
        else:
            entry[what][..., 0] += 1e-3
    store = EmbeddingStore(out)
    assert rows[0].key not in store
    assert rows[1].key in store
    with pytest.raises(IntegrityError, match=r"is damaged.*Embed the recording again"):
        store.load(rows[0].key)
    assert [row.cached for row in embedder.embed_many(paths, out=out)] == [False, True]
    same(EmbeddingStore(out).load(rows[0].key), embedder.embed(paths[0]))


def test_a_file_that_is_none_of_ours(means, recordings, out):
    out.write_bytes(b"no HDF5 at all")
    with pytest.raises(IntegrityError, match=r"cannot be opened as HDF5.*move it away"):
        Embedder(means).embed_many(recordings(1), out=out)
    assert out.read_bytes() == b"no HDF5 at all"
    assert means.heard == 0


def test_a_damaged_part_counts_as_absent(means, recordings, out):
    (path,) = recordings(1)
    parts = out.with_name(out.name + ".parts")
    parts.mkdir()
    (parts / "0001.h5").write_bytes(b"half a part")
    (row,) = Embedder(means).embed_many([path], out=out)
    assert row.key in EmbeddingStore(out)
    assert leftovers(out) == ["embeddings.h5.lock"]


def test_no_such_entry(means, recordings, out):
    Embedder(means).embed_many(recordings(1), out=out)
    assert 7 not in EmbeddingStore(out)
    with pytest.raises(ModelError, match="no embedding 'nonsense'"):
        EmbeddingStore(out).load("nonsense")


def test_errors_are_rows_and_leave_nothing_half_written(means, recordings, out, tmp_path):
    good, broken, last = recordings(3)
    blocks = type(means).blocks

    def fail_late(channel, layer):
        for index, block in enumerate(blocks(means, channel, layer)):
            if means.heard == 2 and index:
                raise ModelError("gave up in the middle")
            yield block

    means.blocks = fail_late
    rows = Embedder(means).embed_many([good, broken, tmp_path / "none.wav", last], out=out)
    assert [type(row.error) for row in rows[:2]] == [type(None), ModelError]
    assert isinstance(rows[2].error, AudioError)
    assert set(EmbeddingStore(out).keys()) == {rows[0].key, rows[3].key}


def test_an_interrupt_keeps_what_was_done(means, recordings, out):
    paths = recordings(3)

    def stop(row):
        if row.source == paths[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Embedder(means).embed_many(paths, out=out, progress=stop)
    assert len(EmbeddingStore(out).keys()) == 2, "in the parts, and seen there"
    rows = Embedder(means).embed_many(paths, out=out)
    assert [row.cached for row in rows] == [True, True, False]


def test_names_that_are_no_text(means, recordings, tmp_path, out):
    (path,) = recordings(1)
    odd = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.wav")
    try:
        Path(odd).write_bytes(path.read_bytes())
    except OSError:
        pytest.skip("this file system takes text names only")
    (row,) = Embedder(means).embed_many([odd], out=out)
    assert row.error is None
    assert list(EmbeddingStore(out).names()) == [str(tmp_path) + "/\\udcff.wav"]


CHILD = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Means
from voiceguard.embedding import disk, store
from voiceguard.embedding.embedder import Embedder

out, moment, paths = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
store.PUBLISH_S = 0.0
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
means = Means()
if moment == "entry":
    blocks = Means.blocks
    def half(self, channel, layer):
        for block in blocks(self, channel, layer):
            yield block
            if self.heard == 3:
                die()
    Means.blocks = half
elif moment == "publish":
    replace = Path.replace
    def once(self, target):
        if self.suffix == ".tmp" and means.heard == 3:
            die()
        return replace(self, target)
    Path.replace = once
elif moment == "join":
    copy = store.entries.copy_entry
    def dying(source, target, key):
        copy(source, target, key)
        target.flush()
        die()
    store.entries.copy_entry = dying
elif moment == "joined":
    Path.unlink = lambda self, missing_ok=False: die() if self.suffix == ".h5" else None
rows = Embedder(means).embed_many(paths, out=out)
print(json.dumps([[row.key, row.cached, str(row.error)] for row in rows]))
"""


def child(out: Path, moment: str, paths: list[Path]) -> subprocess.Popen[str]:
    arguments = [str(Path(__file__).parent), str(out), moment, json.dumps([str(p) for p in paths])]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize(
    ("moment", "kept"), [("entry", 2), ("publish", 2), ("join", 4), ("joined", 4)]
)
def test_a_killed_process_leaves_a_file_that_is_whole(means, recordings, out, moment, kept):
    """Two recordings stand in the file, and a process dies at four more."""
    old, new = recordings(2, seed=1), recordings(4)
    Embedder(means).embed_many(old, out=out)
    process = child(out, moment, new)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    store, embedder = EmbeddingStore(out), Embedder(means)
    assert all(embedder.key(path) in store for path in old)
    assert [embedder.key(path) in store for path in new] == [i < kept for i in range(4)]
    means.heard = 0
    rows = embedder.embed_many([*old, *new], out=out)
    assert [row.cached for row in rows] == [True] * (2 + kept) + [False] * (4 - kept)
    assert means.heard == 4 - kept
    for row in rows:
        same(EmbeddingStore(out).load(row.key), embedder.embed(row.source))
    assert leftovers(out) == ["embeddings.h5.lock"], "what the dead process left is removed"


def test_several_processes_at_once(means, recordings, out):
    """Three processes, each with files of its own and some in common; none loses another's."""
    common = recordings(2)
    shares = [[*recordings(6, seed=k), *common] for k in (1, 2, 3)]
    processes = [child(out, "never", share) for share in shares]
    outcomes = [process.communicate() for process in processes]
    assert [p.returncode for p in processes] == [0] * 3, [errors for _, errors in outcomes]
    keys = set()
    for text, _ in outcomes:
        for key, _, error in json.loads(text):
            assert error == "None"
            keys.add(key)
    store, embedder = EmbeddingStore(out), Embedder(means)
    assert set(store.keys()) == keys
    assert len(keys) == 20
    assert {path for share in shares for path in map(str, share)} == set(store.names())
    rows = embedder.embed_many([path for share in shares for path in share], out=out)
    assert all(row.cached for row in rows)
    assert leftovers(out) == ["embeddings.h5.lock"]


def test_what_one_process_published_another_sees(means, recordings, out, monkeypatch):
    """Two writers are open; the second finds what the first has computed."""
    monkeypatch.setattr(store_module, "PUBLISH_S", 0.0)
    (path,) = recordings(1)
    embedder = Embedder(means)
    other = EmbeddingStore(out)
    assert embedder.key(path) not in other
    with EmbeddingStore(out).writing() as writer:
        with writer.entry(embedder.key(path), channels=1, dtype=np.float32) as entry:
            entry.extend(0, means.blocks(np.zeros(1_600, np.float32), None))
            said = {"model": "means", "model_sha256": "", "sample_rate": 16_000}
            entry.close(np.zeros(10), {**said, "layer": "", "pool": "", "audio_sha256": ""})
        assert embedder.key(path) in other
    assert embedder.key(path) in other
