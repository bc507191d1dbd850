"""Exported graphs compute what torch computes, take one length only, and leave the model alone."""

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch

from voiceguard import export
from voiceguard.detect.bundle import Manifest, read_bundle
from voiceguard.errors import ModelError, ParameterError
from voiceguard.features import front_ends
from voiceguard.models import build
from voiceguard.models.spectral_aasist import SpectralAASISTConfig

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
WINDOW = 16000
GRAPH_FRONT_ENDS = [name for name in front_ends() if not name.startswith(("cqt", "cqcc"))]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def real_audio():
    """Three real recordings as windows [shape=(3, 64600)]."""
    paths = sorted((FIXTURES / "asvspoof").glob("*.flac"))
    if not paths:
        pytest.skip("the recordings in ../shared/fixtures/asvspoof are absent")
    clips = [soundfile.read(path, dtype="float32")[0] for path in paths]
    return np.stack([np.resize(clip, 64600) for clip in clips])


def trained(name, **options):
    """A network whose batch statistics and logits are not those of a fresh one."""
    torch.manual_seed(3)
    model = build(name, **options)
    with torch.no_grad():
        for _ in range(3):
            model.train()(0.1 * torch.randn(4, WINDOW))
        model.out_layer.weight.mul_(10)
    return model.eval()


def session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def assert_parity(model, graph, windows):
    with torch.no_grad():
        output = model(torch.from_numpy(windows))
    score, embedding = session(graph).run(["score", "embedding"], {"waveform": windows})
    assert score.shape == (len(windows),)
    assert np.abs(score - model.score(output).numpy()).max() < 1e-4
    assert np.abs(embedding - output.embedding.numpy()).max() < 1e-4


@pytest.mark.parametrize("front_end", GRAPH_FRONT_ENDS)
def test_spectral_parity_on_real_audio(front_end, real_audio):
    model = trained("spectral-aasist", front_end=front_end)
    graph = export.graph_bytes(model, window_samples=WINDOW)
    assert_parity(model, graph, np.ascontiguousarray(real_audio[:, 8000 : 8000 + WINDOW]))


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("statistics", [0, 48])
def test_parity_in_any_batch(batch, statistics):
    model = trained("spectral-aasist", statistics=statistics)
    noise = np.random.default_rng(batch).normal(0, 0.1, (batch, WINDOW)).astype(np.float32)
    assert_parity(model, export.graph_bytes(model, window_samples=WINDOW), noise)


@pytest.mark.slow
def test_published_weights_parity_on_real_audio(real_audio):
    model = build("aasist-l")
    weights = torch.load(
        FIXTURES / "aasist" / "AASIST-L.pth", map_location="cpu", weights_only=True
    )
    model.load_state_dict(weights)
    graph = export.graph_bytes(model.eval(), window_samples=64600, probe=real_audio[:1])
    assert_parity(model, graph, real_audio)


@pytest.fixture(scope="module")
def small():
    return trained("spectral-aasist")


@pytest.fixture(scope="module")
def small_graph(small):
    return export.graph_bytes(small, window_samples=WINDOW)


@pytest.mark.parametrize("samples", [WINDOW - 1, WINDOW + 1, 2 * WINDOW])
def test_another_length_is_refused(small_graph, samples):
    with pytest.raises(Exception, match="invalid dimensions"):
        session(small_graph).run(None, {"waveform": np.zeros((1, samples), np.float32)})


def test_signature_of_the_graph(small_graph):
    proto = onnx.load_from_string(small_graph)

    def sizes(value):
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    assert {v.name: sizes(v) for v in proto.graph.input} == {"waveform": ["batch", WINDOW]}
    assert {v.name: sizes(v) for v in proto.graph.output} == {
        "score": ["batch"],
        "embedding": ["batch", 160],
    }
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert proto.opset_import[0].version >= 17
    external = onnx.TensorProto.EXTERNAL
    assert all(t.data_location != external for t in proto.graph.initializer)


def test_batch_norms_are_folded_into_the_convolutions(small_graph):
    nodes = onnx.load_from_string(small_graph).graph.node
    by_output = {name: node for node in nodes for name in node.output}
    behind_convolution = [
        node
        for node in nodes
        if node.op_type == "BatchNormalization"
        and by_output.get(node.input[0]) is not None
        and by_output[node.input[0]].op_type == "Conv"
    ]
    assert sum(node.op_type == "Conv" for node in nodes) == 13
    assert not behind_convolution


def test_model_is_left_as_it_was(small):
    model = copy.deepcopy(small).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export.graph_bytes(model, window_samples=WINDOW)
    assert model.training and model.GAT_layer_S.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_difference_is_refused_and_nothing_written(small, tmp_path, monkeypatch):
    # A tolerance below zero stands for an exporter that got it wrong.
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differs from torch by"):
        export.export_onnx(small, tmp_path / "model.onnx", window_samples=WINDOW)
    assert not list(tmp_path.iterdir())


def test_nan_is_refused(small):
    broken = copy.deepcopy(small)
    with torch.no_grad():
        broken.out_layer.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="differs"):
        export.graph_bytes(broken, window_samples=WINDOW)


def test_probe_of_another_shape_is_refused(small):
    with pytest.raises(ParameterError, match="probe"):
        export.graph_bytes(small, window_samples=WINDOW, probe=np.zeros((1, 100), np.float32))


def test_window_too_short_is_refused(small):
    with pytest.raises(ParameterError, match="one frame"):
        export.graph_bytes(small, window_samples=100)


def test_front_end_outside_torch_is_refused():
    with pytest.raises(ModelError, match="CQT"):
        export.graph_bytes(build("spectral-aasist", front_end="cqt"), window_samples=WINDOW)


def test_bundle_reads_back(small, tmp_path):
    manifest = Manifest(
        id="small",
        version="1",
        licence="Apache-2.0",
        description="A test.",
        sample_rate=16000,
        window_samples=WINDOW,
        hop_samples=WINDOW // 2,
    )
    folder = export.export_bundle(
        small, tmp_path / "b", manifest=manifest, card="# Card", extra_files={"note.txt": b"x"}
    )
    bundle = read_bundle(folder)
    assert bundle.manifest.embedding_dim == 160
    assert bundle.card == "# Card"
    assert (folder / "note.txt").read_bytes() == b"x"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config.pop("network") == "SpectralAASIST"
    assert SpectralAASISTConfig.from_dict(config) == small.config
    assert_parity(small, bundle.graph, np.zeros((2, WINDOW), np.float32))
