"""The registry: names to folders, and fetching from a server on this machine that misbehaves."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from voiceguard.detect import registry
from voiceguard.detect.bundle import read_bundle
from voiceguard.detect.detector import Detector
from voiceguard.detect.registry import ENTRIES, RegistryEntry, pull
from voiceguard.errors import (
    BundleError,
    IntegrityError,
    MissingExtraError,
    ModelError,
    ParameterError,
    UnknownModelError,
)

FIXTURES = Path(__file__).parents[2].parent / "shared" / "fixtures" / "aasist"


@pytest.fixture(autouse=True)
def homes(tmp_path, monkeypatch) -> dict[str, Path]:
    """Empty model folders, so that nothing of this machine is read or written."""
    bundled = tmp_path / "package"
    bundled.mkdir()
    monkeypatch.setattr(registry, "bundled_models", lambda: bundled)
    monkeypatch.setenv("VOICEGUARD_HOME", str(tmp_path / "home"))
    return {"bundled": bundled, "user": tmp_path / "home" / "models"}


def place(folder: Path, home: Path, name: str) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return folder.rename(home / name)


def test_names_lead_to_folders(homes, make_bundle):
    small = place(make_bundle("a"), homes["bundled"], "small")
    mine = place(make_bundle("b"), homes["user"], "mine")
    (homes["user"] / ".mine.0123").mkdir()
    (homes["user"] / "no-bundle").mkdir()
    assert [(m.name, m.origin) for m in registry.installed()] == [
        ("small", "bundled"),
        ("mine", "user"),
    ]
    assert registry.find("mine") == mine
    assert registry.default_model() == small
    assert registry.locate(None) == small
    assert registry.locate("mine") == mine
    assert registry.locate(mine) == mine
    assert registry.locate(str(mine)) == mine


def test_each_use_has_its_own_default(homes, make_bundle):
    folders = {
        name: place(make_bundle(name, id=name), homes["bundled"], name)
        for name in ("another", "vg-base", "vg-small")
    }
    for use, name in (("files", "vg-base"), ("live", "vg-small")):
        assert registry.default_model(use) == folders[name]
        assert registry.locate(None, use=registry.Use(use)) == folders[name]
        assert Detector.load(use=use).score((np.zeros(16_000), 16_000)).model.id == name
    assert Detector.load().model.id == "vg-base"
    assert Detector.load("another", use="live").model.id == "another"


def test_a_users_model_is_no_default(homes, make_bundle):
    only = place(make_bundle("a"), homes["bundled"], "only")
    place(make_bundle("b"), homes["user"], "vg-small")
    assert registry.default_model("live") == only


def test_no_other_use_is_known(homes, make_bundle):
    named = place(make_bundle("a"), homes["bundled"], "vg-base")
    for name in (None, named):
        with pytest.raises(ParameterError, match=r"'files', 'live'.*Got 'calls'"):
            Detector.load(name, use="calls")


def test_a_bundled_model_is_not_hidden(homes, make_bundle):
    small = place(make_bundle("a"), homes["bundled"], "small")
    place(make_bundle("b"), homes["user"], "small")
    assert registry.find("small") == small


def test_a_folder_in_reach_is_a_bundle_too(make_bundle, monkeypatch):
    folder = make_bundle("near")
    monkeypatch.chdir(folder.parent)
    assert Detector.load("near").model.id == "tiny"
    assert Detector.load("./near").model.id == "tiny"


def test_the_users_folder(monkeypatch, tmp_path):
    assert registry.user_models() == tmp_path / "home" / "models"
    monkeypatch.delenv("VOICEGUARD_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert registry.user_models() == tmp_path / "xdg" / "voiceguard" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry.user_models() == tmp_path / ".local" / "share" / "voiceguard" / "models"


def test_unknown_names_are_helped(homes, make_bundle):
    place(make_bundle("a"), homes["user"], "telephone")
    with pytest.raises(UnknownModelError, match="Did you mean 'telephone'"):
        Detector.load("telefone")
    with pytest.raises(UnknownModelError, match="voiceguard models list"):
        Detector.load("qqq")
    with pytest.raises(UnknownModelError, match="voiceguard models pull aasist-l"):
        Detector.load("aasist-l")
    with pytest.raises(UnknownModelError, match="no bundled model"):
        Detector.load()
    with pytest.raises(BundleError, match="must be a folder"):
        Detector.load("./qqq")


def test_a_name_does_not_lead_out_of_the_folder(homes, make_bundle):
    place(make_bundle("a"), homes["user"].parent, "outside")
    with pytest.raises(UnknownModelError):
        registry.find("../outside")


def test_the_record_is_that_of_the_published_files():
    if not FIXTURES.is_dir():
        pytest.skip(f"the published checkpoints are not at {FIXTURES}")
    for entry, name in zip(ENTRIES, ("AASIST.pth", "AASIST-L.pth"), strict=True):
        content = (FIXTURES / name).read_bytes()
        assert entry.size == len(content)
        assert entry.sha256 == hashlib.sha256(content).hexdigest()
        assert entry.url.startswith("https://")
        assert entry.url.endswith("/" + name)
        assert registry.entry(entry.name) is entry


class Server(ThreadingHTTPServer):
    """Serves one content; ``claimed`` is the length that it announces."""

    content = b""
    claimed: int | None = None
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.requests += 1
        if self.path != "/model.pth":
            self.send_error(404)
            return
        self.send_response(200)
        if self.server.claimed is not None:
            self.send_header("Content-Length", str(self.server.claimed))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as instance:
        thread = threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield instance
        instance.shutdown()
        thread.join()


@pytest.fixture
def entry(server) -> RegistryEntry:
    server.content = b"weights" * 30_000
    return RegistryEntry(
        name="far",
        url=f"http://127.0.0.1:{server.server_port}/model.pth",
        sha256=hashlib.sha256(server.content).hexdigest(),
        size=len(server.content),
        licence="MIT",
        kind="aasist",
        variant="aasist",
        description="",
    )


@pytest.fixture
def converter(monkeypatch, make_bundle):
    """Stands in for the import, which needs torch; keeps what it was given."""
    given = []

    def import_checkpoint(kind, path, *, out, variant=None):
        given.append((kind, Path(path).read_bytes(), variant))
        shutil.rmtree(out, ignore_errors=True)
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        return make_bundle("converted").rename(out)

    import voiceguard.importers

    monkeypatch.setattr(voiceguard.importers, "import_checkpoint", import_checkpoint)
    monkeypatch.setattr(registry, "_require_converter", lambda name: None)
    return given


def test_a_good_file_becomes_a_model(server, entry, converter, homes):
    seen = []
    folder = pull(entry, progress=lambda got, of: seen.append((got, of)))
    assert folder == homes["user"] / "far"
    assert converter == [("aasist", server.content, "aasist")]
    assert seen[-1] == (entry.size, entry.size)
    assert [got for got, _ in seen] == sorted(got for got, _ in seen)
    assert Detector.load("far").model.id == "tiny"


def test_it_is_found_again_offline(server, entry, converter):
    folder = pull(entry)
    server.shutdown()

    def no_network(url):
        raise AssertionError("the network was used")

    assert pull(entry, opener=no_network) == folder
    assert server.requests == len(converter) == 1


def test_a_damaged_model_is_fetched_again(server, entry, converter):
    folder = pull(entry)
    (folder / "model.onnx").write_bytes(b"damaged")
    assert read_bundle(pull(entry))
    assert server.requests == 2


def broken(server: Server, entry: RegistryEntry, how: str) -> RegistryEntry:
    if how == "hash":
        server.content = b"Weights" + server.content[7:]
    elif how == "large":
        server.content += b"more" * 100_000
    elif how == "short":
        server.content = server.content[:-1]
    elif how == "cut":
        server.claimed = entry.size
        server.content = server.content[:1000]
    elif how == "absent":
        return replace(entry, url=entry.url + ".gone")
    elif how == "refused":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            return replace(entry, url=f"http://127.0.0.1:{closed.getsockname()[1]}/model.pth")
    elif how == "scheme":
        return replace(entry, url="nonsense://host/model.pth")
    return entry


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("hash", IntegrityError, "SHA-256"),
        ("large", IntegrityError, "over 210000 bytes"),
        ("short", IntegrityError, "209999 bytes"),
        ("cut", ModelError, "1000"),
        ("absent", ModelError, "404"),
        ("refused", ModelError, "could not be fetched"),
        ("scheme", ModelError, "could not be fetched"),
    ],
)
def test_a_bad_file_is_never_parsed(server, entry, converter, homes, how, error, message):
    with pytest.raises(error, match=message):
        pull(broken(server, entry, how))
    assert converter == [], "nothing parsed it"
    assert not homes["user"].exists(), "nothing was kept"


def test_no_more_is_read_than_is_on_record(server, entry, converter):
    server.content = b"x" * 50_000_000
    seen = []
    with pytest.raises(IntegrityError, match="over"):
        pull(entry, progress=lambda got, _: seen.append(got))
    assert max(seen) <= entry.size + 2 * (1 << 16)


def test_without_the_converter_nothing_is_fetched(server, entry, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        pull(entry)
    assert server.requests == 0


def test_only_names_on_record_are_fetched():
    with pytest.raises(UnknownModelError, match="Did you mean 'aasist'"):
        pull("asist")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aasist", "aasist-l"])
def test_the_published_checkpoints_from_server_to_verdict(server, homes, name):
    """The whole way, with the real files: fetched, verified, converted, scored offline."""
    for module in ("torch", "onnx", "safetensors"):
        pytest.importorskip(module, reason="converting needs the train extra")
    on_record = registry.entry(name)
    file = FIXTURES / on_record.url.rsplit("/", 1)[1]
    if not file.is_file():
        pytest.skip(f"the published checkpoint is not at {file}")
    server.content = file.read_bytes()
    url = f"http://127.0.0.1:{server.server_port}/model.pth"
    folder = pull(replace(on_record, url=url))
    bundle = read_bundle(folder)
    assert bundle.manifest.provenance["source_sha256"] == on_record.sha256
    expected = np.load(FIXTURES / "expected.npz")
    key = {"aasist": "AASIST", "aasist-l": "AASIST-L"}[name]
    engine = Detector.load(name).engine
    scores, embeddings = engine.run(expected["waveforms"])
    np.testing.assert_allclose(scores, expected[f"{key}/logits"][:, 1], atol=1e-4)
    np.testing.assert_allclose(embeddings, expected[f"{key}/embedding"], atol=1e-4)
