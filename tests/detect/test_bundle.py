"""Bundles: what is written is read back, and nothing else is taken."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from voiceguard.detect import bundle as bundle_module
from voiceguard.detect.bundle import read_bundle, read_extra_files, write_bundle
from voiceguard.detect.calibration import Calibration
from voiceguard.errors import BundleError, IntegrityError
from voiceguard.results import OperatingPoint

POINT = OperatingPoint("balanced", 0.25, 0.1, None, "dev")


def edit(folder: Path, **fields: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_everything_comes_back(tmp_path, manifest, make_graph):
    graph = make_graph()
    full = replace(
        manifest,
        calibration=Calibration(2.0, -0.5, data="dev"),
        operating_points=(POINT,),
        default_operating_point="balanced",
        provenance={"source_sha256": "ab" * 32},
    )
    folder = write_bundle(
        tmp_path / "b", graph=graph, manifest=full, card="# Ü\n", extra_files={"w.bin": b"123"}
    )
    bundle = read_bundle(folder)
    assert replace(bundle.manifest, files={}) == full
    assert bundle.graph == graph
    assert bundle.card == "# Ü\n"
    assert bundle.info.sha256 == hashlib.sha256(graph).hexdigest()
    assert set(bundle.manifest.files) == {"model.onnx", "CARD.md", "w.bin"}
    assert [p.name for p in tmp_path.iterdir()] == ["b"], "no scratch is left"


def test_a_bundle_is_replaced_whole(tmp_path, manifest, make_graph):
    for version in ("1", "2"):
        write_bundle(
            tmp_path / "b",
            graph=make_graph(scale=float(version)),
            manifest=replace(manifest, version=version),
            card="",
            extra_files={f"only-{version}": b""},
        )
    assert read_bundle(tmp_path / "b").manifest.version == "2"
    assert not (tmp_path / "b" / "only-1").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_failed_write_leaves_the_old_bundle(make_bundle, manifest, make_graph, monkeypatch):
    folder = make_bundle()

    def full_disk(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_bundle(folder, graph=make_graph(), manifest=manifest, card="new")
    monkeypatch.undo()
    assert read_bundle(folder).card == "# tiny\n"
    assert [p.name for p in folder.parent.iterdir()] == ["bundle"]


def test_a_folder_of_other_things_is_left_alone(tmp_path, manifest, make_graph):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="choose another folder"):
        write_bundle(tmp_path, graph=make_graph(), manifest=manifest, card="")
    with pytest.raises(BundleError, match="is a file"):
        write_bundle(tmp_path / "thesis.txt", graph=make_graph(), manifest=manifest, card="")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_width_must_be_known(tmp_path, manifest, make_graph):
    with pytest.raises(BundleError, match="embedding_dim"):
        write_bundle(
            tmp_path / "b", graph=make_graph(), manifest=replace(manifest, embedding_dim=0), card=""
        )


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/b", "bundle.json", "", ".hidden"])
def test_extra_files_stay_inside(tmp_path, manifest, make_graph, name):
    with pytest.raises(BundleError, match="files"):
        write_bundle(
            tmp_path / "b",
            graph=make_graph(),
            manifest=manifest,
            card="",
            extra_files={name: b"x"},
        )
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["model.onnx", "CARD.md"])
def test_extra_files_do_not_replace_the_others(tmp_path, manifest, make_graph, name):
    with pytest.raises(BundleError, match="must not be named"):
        write_bundle(
            tmp_path / "b", graph=make_graph(), manifest=manifest, card="", extra_files={name: b""}
        )


def test_extra_files_are_read_and_verified_anew(tmp_path, manifest, make_graph):
    extra = {"config.json": b"{}", "model.safetensors": b"123"}
    bundle = read_bundle(
        write_bundle(
            tmp_path / "b", graph=make_graph(), manifest=manifest, card="", extra_files=extra
        )
    )
    assert read_extra_files(bundle) == extra
    (tmp_path / "b" / "config.json").write_bytes(b"[]")
    with pytest.raises(IntegrityError, match=r"config\.json"):
        read_extra_files(bundle)
    (tmp_path / "b" / "config.json").unlink()
    with pytest.raises(BundleError, match=r"no plain file 'config\.json'"):
        read_extra_files(bundle)


def test_a_bundle_of_graph_and_card_has_no_extra_files(make_bundle):
    assert read_extra_files(read_bundle(make_bundle())) == {}


@pytest.mark.parametrize("name", ["model.onnx", "CARD.md"])
def test_a_changed_byte_is_found_before_parsing(make_bundle, monkeypatch, name):
    folder = make_bundle()
    path = folder / name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))

    def parsed(graph: bytes) -> None:
        raise AssertionError("parsed before it was verified")

    monkeypatch.setattr(bundle_module, "check_graph", parsed)
    with pytest.raises(IntegrityError, match=name):
        read_bundle(folder)


def test_a_missing_file_is_named(make_bundle):
    folder = make_bundle()
    (folder / "CARD.md").unlink()
    with pytest.raises(BundleError, match=r"CARD\.md"):
        read_bundle(folder)


def test_links_are_refused(make_bundle, tmp_path):
    folder = make_bundle()
    outside = tmp_path / "outside"
    (folder / "CARD.md").rename(outside)
    (folder / "CARD.md").symlink_to(outside)
    with pytest.raises(BundleError, match="no plain file"):
        read_bundle(folder)


def test_names_that_lead_out_are_refused(make_bundle, tmp_path):
    folder = make_bundle()
    (tmp_path / "secret").write_bytes(b"s")
    files = json.loads((folder / "bundle.json").read_text())["files"]
    edit(folder, files={**files, "../secret": hashlib.sha256(b"s").hexdigest()})
    with pytest.raises(BundleError, match="plain file names"):
        read_bundle(folder)


@pytest.mark.parametrize("missing", ["model.onnx", "CARD.md"])
def test_unhashed_files_are_refused(make_bundle, missing):
    folder = make_bundle()
    files = json.loads((folder / "bundle.json").read_text())["files"]
    del files[missing]
    edit(folder, files=files)
    with pytest.raises(BundleError, match=missing):
        read_bundle(folder)


def test_sizes_are_capped(make_bundle, monkeypatch):
    folder = make_bundle()
    monkeypatch.setattr(bundle_module, "MAX_FILE_BYTES", 16)
    with pytest.raises(BundleError, match="larger than 16 bytes"):
        read_bundle(folder)


def test_an_oversized_manifest_is_not_parsed(make_bundle):
    folder = make_bundle()
    (folder / "bundle.json").write_bytes(b"[" * ((1 << 20) + 1))
    with pytest.raises(BundleError, match="larger than"):
        read_bundle(folder)


def test_no_folder_and_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="must be a folder"):
        read_bundle(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(tmp_path)
