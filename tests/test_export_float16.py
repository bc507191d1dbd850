"""Weights in float16: half the bytes, the same scores, no work left for a window."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from voiceguard import export
from voiceguard.errors import ModelError, ParameterError
from voiceguard.export_float16 import (
    FLOAT16_TOLERANCE,
    LEAST_VALUES,
    checked_float16,
    fixed_arrays,
    to_float16,
)
from voiceguard.features.compressed import windowed_basis
from voiceguard.features.spectrum import PowerSpectrum
from voiceguard.models import build

WINDOW = 16_000
BINS = 320


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    """A network whose scores are as large as a trained one's."""
    torch.manual_seed(3)
    model = build("spectral-aasist", statistics=48)
    with torch.no_grad():
        for _ in range(3):
            model.train()(0.1 * torch.randn(4, WINDOW))
        model.out_layer.weight.mul_(10)
    return model.eval()


@pytest.fixture(scope="module")
def graphs(network):
    """The same network with weights in float32 and in float16."""
    both = ("float32", "float16")
    return {w: export.graph_bytes(network, window_samples=WINDOW, weights=w) for w in both}


@pytest.fixture(scope="module")
def windows(voice):
    return np.stack([voice(1.0, seed=0), voice(3.0, seed=1)[-WINDOW:], voice(1.0, seed=2)[::-1]])


def run(graph, windows):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"waveform": windows})


def optimised(graph, path):
    """The graph as ONNX Runtime runs it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return onnx.load(path).graph


def product_graph(weights):
    """Score = sum of the window times the weights; embedding = the products with all columns."""
    n, width = weights.shape
    nodes = [
        helper.make_node("MatMul", ["waveform", "weights"], ["embedding"]),
        helper.make_node("ReduceSum", ["embedding", "axis"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", n])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width]),
        ],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def convolution_graph(kernels):
    """The waveform through some kernels."""
    nodes = [
        helper.make_node("Unsqueeze", ["waveform", "axis"], ["row"]),
        helper.make_node("Conv", ["row", "weights"], ["heard"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("waveform", ["batch", "n"]), ("heard", ["batch", len(kernels), "m"]))
    ]
    constants = [
        numpy_helper.from_array(kernels, "weights"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    graph = helper.make_graph(nodes, "convolution", ends[:1], ends[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def test_scores_stay_within_the_stated_tolerance(graphs, windows):
    for want, got in zip(*(run(graph, windows) for graph in graphs.values()), strict=True):
        assert 0 < np.abs(want - got).max() < FLOAT16_TOLERANCE * max(1, np.abs(want).max())


def test_weights_take_half_the_bytes(graphs, network):
    learned = sum(p.numel() for p in network.parameters() if p.numel() >= LEAST_VALUES)
    basis = BINS**2
    saved = len(graphs["float32"]) - len(graphs["float16"])
    assert saved > 0.95 * (2 * learned + 4 * basis)


def test_the_runtime_runs_the_very_nodes_of_the_float32_graph(graphs, tmp_path):
    one, other = (optimised(graph, tmp_path / f"{name}.onnx") for name, graph in graphs.items())
    assert Counter(n.op_type for n in one.node) == Counter(n.op_type for n in other.node)
    assert not any(t.data_type == TensorProto.FLOAT16 for t in other.initializer)


def test_only_large_float32_tensors_are_rounded(graphs):
    tensors = {t.name: t for t in onnx.load_from_string(graphs["float16"]).graph.initializer}
    for tensor in tensors.values():
        large = np.prod(tensor.dims) >= LEAST_VALUES
        assert tensor.data_type != TensorProto.FLOAT or not large
        assert tensor.data_type != TensorProto.FLOAT16 or large


@pytest.mark.parametrize("turn", [lambda a: a, lambda a: a.T.copy(), lambda a: a.reshape(-1, 1)])
def test_what_is_exact_is_known_in_any_layout(turn):
    weights = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    tensors = onnx.load_from_string(to_float16(product_graph(weights), exact=[turn(weights)]))
    assert (numpy_helper.to_array(tensors.graph.initializer[0]) == weights).all()


def test_halving_twice_is_halving_once(graphs):
    assert to_float16(graphs["float16"]) == graphs["float16"]


def test_a_fourier_basis_is_made_anew_to_its_last_digits(tmp_path):
    basis = windowed_basis(BINS).numpy()
    graph = to_float16(product_graph(basis), exact=[basis])
    assert len(graph) < 0.05 * basis.nbytes
    unit = np.eye(BINS, dtype=np.float32)
    assert np.abs(run(graph, unit)[1] - basis).max() < 2e-7
    assert [n.op_type for n in optimised(graph, tmp_path / "o.onnx").node].count("Gather") == 0


@pytest.mark.parametrize(
    ("n_fft", "frame", "window"),
    [(512, 512, "hamming"), (321, 321, "hann"), (512, 400, "hann"), (320, 320, "hann")],
)
def test_the_basis_of_a_power_spectrum_is_made_anew_too(n_fft, frame, window, tmp_path):
    spectrum = PowerSpectrum(n_fft=n_fft, frame=frame, hop=160, window=window)
    basis = spectrum.basis.numpy()
    graph = to_float16(convolution_graph(basis), exact=[basis])
    assert len(graph) < 0.05 * basis.nbytes
    impulses = np.eye(frame, dtype=np.float32)
    np.testing.assert_allclose(run(graph, impulses)[0][..., 0].T, basis[:, 0], atol=2e-7)
    assert [n.op_type for n in optimised(graph, tmp_path / "o.onnx").node].count("Gather") == 0


def test_a_rounded_basis_would_put_a_floor_under_a_tone():
    """Why it is exact: a Hann window leaves nothing of a tone beyond its neighbour bins."""
    basis = windowed_basis(BINS).numpy()
    tone = np.cos(2 * np.pi * 40 * np.arange(BINS) / BINS).astype(np.float32)[None]
    far = np.r_[45:155]
    floors = {}
    for name, exact in (("exact", [basis]), ("rounded", [])):
        spectrum = run(to_float16(product_graph(basis), exact=exact), tone)[1][0]
        power = spectrum[:160] ** 2 + spectrum[160:] ** 2
        floors[name] = 10 * np.log10(power[far].max() / power.max())
    assert floors["exact"] < -110
    assert -95 < floors["rounded"] < -70


def test_a_matrix_that_is_no_basis_stays_as_it_is():
    basis = windowed_basis(BINS).numpy().copy()
    basis[7, 11] += 0.01
    tensors = onnx.load_from_string(to_float16(product_graph(basis), exact=[basis]))
    assert (numpy_helper.to_array(tensors.graph.initializer[0]) == basis).all()


@pytest.mark.parametrize("value", [70_000.0, np.nan])
def test_what_float16_cannot_hold_stays(value):
    weights = np.ones((64, 32), np.float32)
    weights[3, 5] = value
    tensors = onnx.load_from_string(to_float16(product_graph(weights))).graph.initializer
    assert tensors[0].data_type == TensorProto.FLOAT


def test_weights_that_cancel_are_refused():
    weights = np.resize(np.array([1000.26, -1000.24]), (2048, 1))
    probe = np.ones((1, 2048), np.float32)
    with pytest.raises(ModelError, match=r"moves by .*weights='float32'"):
        checked_float16(product_graph(weights), exact=[], probes=[probe])


def test_nothing_is_written_where_float16_is_refused(network, graphs, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_trace", lambda *_: graphs["float32"])
    monkeypatch.setattr("voiceguard.export_float16.FLOAT16_TOLERANCE", 0.0)
    with pytest.raises(ModelError, match="float16"):
        export.export_onnx(
            network, tmp_path / "model.onnx", window_samples=WINDOW, weights="float16"
        )
    assert not list(tmp_path.iterdir())


def test_another_format_is_refused(network):
    with pytest.raises(ParameterError, match="'weights' parameter of graph_bytes"):
        export.graph_bytes(network, window_samples=WINDOW, weights="bfloat16")


def test_what_is_fixed_by_design(network):
    (basis,) = fixed_arrays(network)
    assert (basis == windowed_basis(BINS).numpy()).all()
