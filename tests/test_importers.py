"""Published checkpoints become bundles; anything else is refused with a typed error."""

import hashlib
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from voiceguard import importers
from voiceguard.detect.bundle import read_bundle
from voiceguard.errors import MissingExtraError, ModelError, ParameterError, UnknownModelError
from voiceguard.importers import import_checkpoint
from voiceguard.models import build

# On the sweep all eleven gates of one pool of these weights round to 1, and which nodes stay is up
# to the runtime: torch keeps others than ONNX Runtime, and the scores differ by 1.
TIED = ("ASVspoof5-AASIST", 4)

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "fixtures" / "aasist"


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return build("aasist-l").state_dict()


@pytest.fixture
def save(tmp_path):
    def write(content):
        path = tmp_path / "weights.pth"
        torch.save(content, path)
        return path

    return write


@pytest.fixture
def refused(tmp_path):
    """Import a file that must be refused; no folder may appear."""

    def attempt(path, match, **options):
        with pytest.raises(ModelError, match=match) as caught:
            import_checkpoint("aasist", path, out=tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    return attempt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "identity"),
    [("AASIST", "aasist"), ("AASIST-L", "aasist-l"), ("ASVspoof5-AASIST", "aasist")],
)
def test_published_checkpoint_scores_as_published(name, identity, tmp_path):
    if not PUBLISHED.is_dir():
        pytest.skip("the published AASIST checkpoints (../shared/fixtures/aasist) are absent")
    source = PUBLISHED / f"{name}.pth"
    bundle = read_bundle(import_checkpoint("aasist", source, out=tmp_path / "bundle"))
    manifest = bundle.manifest
    assert manifest.id == identity
    assert (manifest.window_samples, manifest.hop_samples) == (64600, 32300)
    assert manifest.calibration is None and manifest.operating_points == ()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest.provenance["source_sha256"] == digest
    assert digest in bundle.card
    session = onnxruntime.InferenceSession(bundle.graph, providers=["CPUExecutionProvider"])
    with np.load(PUBLISHED / "expected.npz") as expected:
        rows = [row for row in range(6) if (name, row) != TIED]
        score, embedding = session.run(None, {"waveform": expected["waveforms"][rows]})
        assert np.abs(score - expected[f"{name}/logits"][rows, 1]).max() < 1e-4
        assert np.abs(embedding - expected[f"{name}/embedding"][rows]).max() < 1e-4


def test_weights_are_kept_as_safetensors(save, weights, tmp_path):
    from safetensors.torch import load_file

    # As a training run on several devices saves them.
    prefixed = {f"module.{key}": value for key, value in weights.items()}
    folder = import_checkpoint("aasist", save(prefixed), out=tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "CARD.md", "bundle.json", "config.json", "model.onnx", importers.WEIGHTS_NAME,
    ]  # fmt: skip
    kept = load_file(folder / importers.WEIGHTS_NAME)
    assert kept.keys() == weights.keys()
    assert all(torch.equal(kept[key], weights[key]) for key in weights)
    assert importers.WEIGHTS_NAME in read_bundle(folder).manifest.files


def test_code_in_the_pickle_does_not_run(save, refused, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    refused(save({"pos_S": Payload()}), "refused")
    assert not (tmp_path / "owned").exists()


def test_bare_pickle_is_refused(refused, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"pos_S": 1}))
    refused(path, "zip archive")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(save, refused, weights, share):
    path = save(weights)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "damaged")


@pytest.mark.parametrize("offset", [40, 400, 30000])
def test_flipped_bytes_in_the_pickle_are_refused(save, refused, weights, offset):
    path = save(weights)
    content = bytearray(path.read_bytes())
    start = content.index(b"data.pkl") + offset
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))
    refused(path, "weights.pth")


def test_missing_and_unexpected_names_are_told(save, refused, weights):
    changed = dict(weights)
    changed["banana"] = changed.pop("master1")
    message = refused(save(changed), "does not fit AASIST-L")
    assert "Missing: master1" in message and "Unexpected: banana" in message


def test_many_missing_names_are_cut_short(save, refused, weights):
    message = refused(save({"pos_S": weights["pos_S"]}), "does not fit AASIST-L")
    assert "and 223 more" in message and len(message) < 500


def test_wrong_shape_is_told(save, refused, weights):
    changed = {**weights, "master1": torch.zeros(1, 1, 7)}
    assert "master1 (1, 1, 7) for (1, 1, 24)" in refused(save(changed), "Shapes")


def test_variant_is_told_from_the_shapes_and_can_be_insisted_on(save, refused, weights):
    refused(save(weights), "does not fit AASIST", variant="aasist")


@pytest.mark.parametrize("content", [{"pos_S": torch.zeros(1, 23, 99)}, {"banana": torch.zeros(1)}])
def test_another_network_is_refused(save, refused, content):
    refused(save(content), "neither AASIST nor AASIST-L")


@pytest.mark.parametrize(
    "content",
    [{"model": {"pos_S": torch.zeros(1)}}, {3: torch.zeros(1)}, [torch.zeros(1)], {}],
    ids=["nested", "number", "list", "empty"],
)
def test_what_is_no_state_dict_is_refused(save, refused, content):
    refused(save(content), "must hold")


def test_nan_is_refused(save, refused, weights):
    refused(save({**weights, "master1": torch.full((1, 1, 24), float("nan"))}), "NaN")


def test_tensor_that_declares_a_huge_shape_is_refused(save, refused, weights):
    # One stored number, 4e15 declared: touching its values would take all memory.
    refused(save({**weights, "master1": torch.zeros(1).expand(2**26, 2**26)}), "Shapes")


def test_archive_that_unpacks_to_too_much_is_refused(refused, tmp_path):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(importers.MAX_CHECKPOINT_BYTES + 1))
    assert path.stat().st_size < 1_000_000
    refused(path, "unpack")


def test_large_file_is_refused(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "MAX_CHECKPOINT_BYTES", 1000)
    path = tmp_path / "weights.pth"
    path.write_bytes(bytes(1001))
    refused(path, "larger than 1000")


@pytest.mark.parametrize("absent", ["torch", "onnx", "safetensors"])
def test_missing_extra_is_named(absent, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError, match=r"voiceguard\[train\]"):
        import_checkpoint("aasist", tmp_path / "x.pth", out=tmp_path / "out")


def test_absent_file_and_folder_are_refused(refused, tmp_path):
    refused(tmp_path / "none.pth", "does not exist")
    refused(tmp_path, "no regular file")


def test_unknown_kind_and_variant_are_refused(tmp_path):
    with pytest.raises(UnknownModelError, match="rawnet"):
        import_checkpoint("rawnet", tmp_path / "x.pth", out=tmp_path / "out")
    with pytest.raises(ParameterError, match="aasist-xl"):
        import_checkpoint("aasist", tmp_path / "x.pth", out=tmp_path / "out", variant="aasist-xl")


@pytest.mark.filterwarnings("ignore:Sparse invariant")
def test_sparse_tensor_is_refused(save, refused, weights):
    refused(save({**weights, "master1": torch.zeros(1, 1, 24).to_sparse()}), "dense")
