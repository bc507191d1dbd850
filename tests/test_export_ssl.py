"""Graphs of encoder and back end: they compute what torch does, in int8 nearly so, and score."""

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from voiceguard import Detector
from voiceguard.audio.gate import GatePolicy
from voiceguard.detect.bundle import Manifest
from voiceguard.detect.engine import OnnxEngine
from voiceguard.detect.graph_check import check_graph
from voiceguard.errors import ModelError, ParameterError
from voiceguard.export_float16 import FLOAT16_TOLERANCE, LEAST_VALUES
from voiceguard.export_int8 import LEAST_CHANNELS, static_int8, stored_int8, to_int8
from voiceguard.export_ssl import TOLERANCE, export_ssl_bundle, ssl_graph_bytes, traceable
from voiceguard.features.ssl.distillmos import DistillMOSEncoder
from voiceguard.features.ssl.dnsmos import DNSMOSEncoder
from voiceguard.features.ssl.plcmos import PLCMOSEncoder
from voiceguard.features.ssl.torchaudio_encoders import WaveEncoder
from voiceguard.features.ssl.wave_config import WAVE_CONFIGS
from voiceguard.features.ssl.whisper import WhisperConfig, WhisperEncoder
from voiceguard.models.ssl_ensemble import SSLEnsemble
from voiceguard.models.ssl_network import SSLNetwork, frame_network

pytest.importorskip("transformers", reason="one of the small encoders is Whisper's")

# No multiple of a frame: the last one must not get lost in a graph's division.
WINDOW = 3_360


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encoder_of(kind):
    torch.manual_seed(5)
    if kind == "whisper":
        config = WhisperConfig(dim=24, depth=2, heads=2, feedforward=32, mels=20, positions=20)
        return WhisperEncoder(config, layers=(1, 2), context_s=0.22)
    if kind == "plcmos":
        return PLCMOSEncoder(layers=(1, 2))
    if kind == "dnsmos":
        return DNSMOSEncoder()
    return DistillMOSEncoder(layers=(0,) if kind == "convolutions" else (1,))


def network_of(kind, name="mlp", **options):
    encoder = encoder_of(kind)
    head = frame_network(
        name, dim=encoder.dim, n_layers=encoder.n_layers, frames=encoder.frames(WINDOW), **options
    )
    return SSLNetwork(encoder, head, back_end=name).eval()


@pytest.fixture(scope="module")
def probe():
    """Noise that fades away, and a voice-like buzz."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0.0, 0.1, WINDOW) * np.linspace(1.0, 1e-3, WINDOW)
    buzz = 0.2 * np.sign(np.sin(2 * np.pi * 120 * np.arange(WINDOW) / 16_000))
    return np.stack([noise, buzz, noise[::-1]]).astype(np.float32)


@pytest.fixture(scope="module")
def whisper():
    network = network_of("whisper", hidden=6)
    return network, ssl_graph_bytes(network, window_samples=WINDOW)


def run(graph, network, windows):
    check_graph(graph)
    engine = OnnxEngine(graph, window_samples=WINDOW, embedding_dim=network.embedding_dim)
    return engine.run(windows)


def expected(network, windows):
    with torch.no_grad():
        output = network(torch.from_numpy(windows))
        return network.score(output).numpy(), output.embedding.numpy()


@pytest.mark.parametrize("kind", ["convolutions", "blocks"])
def test_a_graph_of_distillmos_computes_what_torch_does(kind, probe):
    network = network_of(kind, hidden=6)
    graph = ssl_graph_bytes(network, window_samples=WINDOW, probe=probe)
    for given, want in zip(run(graph, network, probe), expected(network, probe), strict=True):
        np.testing.assert_allclose(given, want, atol=TOLERANCE)


@pytest.mark.parametrize(("kind", "layers"), [("plcmos", 2), ("dnsmos", 1)])
def test_a_graph_of_a_small_quality_network_computes_what_torch_does(kind, layers, probe):
    network = network_of(kind, hidden=0, layers=layers)
    for weights in ("float32", "float16"):
        graph = ssl_graph_bytes(network, window_samples=WINDOW, probe=probe, weights=weights)
        tolerance = TOLERANCE if weights == "float32" else FLOAT16_TOLERANCE
        for given, want in zip(run(graph, network, probe), expected(network, probe), strict=True):
            np.testing.assert_allclose(given, want, atol=2 * tolerance)
    together, alone = run(graph, network, probe), run(graph, network, probe[1:2])
    np.testing.assert_allclose(alone[0][0], together[0][1], atol=1e-5)


def test_a_graph_of_whisper_computes_what_torch_does_in_any_batch(whisper, probe):
    network, graph = whisper
    together, alone = run(graph, network, probe), run(graph, network, probe[1:2])
    for given, one, want in zip(together, alone, expected(network, probe), strict=True):
        np.testing.assert_allclose(given, want, atol=TOLERANCE)
        np.testing.assert_allclose(one[0], given[1], atol=1e-5)


def test_another_back_end_on_all_layers(probe):
    network = network_of("whisper", "mhfa", heads=2, compression=5, embedding=7)
    graph = ssl_graph_bytes(network, window_samples=WINDOW, probe=probe)
    np.testing.assert_allclose(
        run(graph, network, probe)[0], expected(network, probe)[0], atol=TOLERANCE
    )


def test_the_network_is_left_as_it_is_and_the_twin_is_equal(probe):
    network = network_of("blocks", hidden=6)
    before = copy.deepcopy(network.state_dict())
    twin = traceable(network)
    np.testing.assert_allclose(expected(twin, probe)[0], expected(network, probe)[0], atol=1e-4)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert type(network.encoder) is DistillMOSEncoder


def test_int8_rounds_every_linear_layer_of_the_encoder_and_nothing_else(whisper, probe):
    network, graph = whisper
    rounded = to_int8(graph)
    nodes = onnx.load_from_string(rounded).graph.node
    integer = [node.name for node in nodes if node.op_type == "MatMulInteger"]
    # Queries, keys, values, output and two of the feed-forward, in two blocks.
    assert len(integer) == 12
    assert all("/encoder/" in name for name in integer)
    score, wanted = run(rounded, network, probe)[0], run(graph, network, probe)[0]
    assert 0 < np.abs(score - wanted).max() < 0.1 * max(1.0, np.abs(wanted).max())


def test_stored_in_int8_every_linear_weight_is_rounded_and_windows_stay_apart(whisper, probe):
    network, graph = whisper
    stored = stored_int8(graph)
    tensors = onnx.load_from_string(stored).graph.initializer
    narrow = [tensor for tensor in tensors if tensor.data_type == onnx.TensorProto.INT8]
    assert len(narrow) == 12
    assert all(np.abs(numpy_helper.to_array(tensor)).max() == 127 for tensor in narrow)
    check_graph(stored)
    batch, wanted = run(stored, network, probe), run(graph, network, probe)
    for given, want in zip(batch, wanted, strict=True):
        assert 0 < np.abs(given - want).max() < 0.05 * max(1.0, np.abs(want).max())
    for place in range(len(probe)):
        alone = run(stored, network, probe[place : place + 1])
        np.testing.assert_allclose(alone[0], batch[0][place : place + 1], atol=1e-5)


def test_weights_in_int8_are_the_same_whatever_is_in_float16(whisper, probe):
    network, graph = whisper
    small = ssl_graph_bytes(network, window_samples=WINDOW, probe=probe, weights="int8")
    by_name = {t.name: t for t in onnx.load_from_string(small).graph.initializer}
    for tensor in onnx.load_from_string(stored_int8(graph)).graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            np.testing.assert_array_equal(
                numpy_helper.to_array(by_name[tensor.name]), numpy_helper.to_array(tensor)
            )


@pytest.mark.parametrize("rounded", [to_int8, stored_int8])
def test_convolutions_have_nothing_to_round(rounded):
    graph = ssl_graph_bytes(network_of("convolutions", hidden=6), window_samples=WINDOW)
    with pytest.raises(ModelError, match="no linear layer"):
        rounded(graph)


def quantised(graph):
    """Name of each convolution that computes in int8, and the values of its weights."""
    proto = onnx.load_from_string(graph).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.initializer}
    restored = {n.output[0]: n.input[0] for n in proto.node if n.op_type == "DequantizeLinear"}
    return {
        node.name: arrays[restored[node.input[1]]]
        for node in proto.node
        if node.op_type == "Conv" and node.input[1] in restored
    }


@pytest.fixture(scope="module")
def convolutions(probe):
    network = network_of("convolutions", hidden=6)
    return network, ssl_graph_bytes(network, window_samples=WINDOW, probe=probe)


def test_static_int8_rounds_wide_convolutions_and_scores_nearly_alike(convolutions, probe):
    network, graph = convolutions
    rounded = static_int8(graph, probe)
    found = quantised(rounded)
    # All six of DistillMOS's but the first, which hears two channels.
    assert len(found) == 5
    assert all(array.shape[1] >= LEAST_CHANNELS for array in found.values())
    # Seven bits, each output by its own scale.
    for array in found.values():
        assert array.dtype == np.int8
        assert np.all(np.abs(array.astype(int)).max(axis=(1, 2, 3)) == 64)
    check_graph(rounded)
    for given, want in zip(run(rounded, network, probe), run(graph, network, probe), strict=True):
        assert 0 < np.abs(given - want).max() < 0.1 * max(1.0, np.abs(want).max())


def test_scales_are_fixed_so_that_windows_stay_apart(convolutions, probe):
    network, graph = convolutions
    rounded = static_int8(graph, probe)
    together = run(rounded, network, probe)
    for place in range(len(probe)):
        alone = run(rounded, network, probe[place : place + 1])
        np.testing.assert_allclose(alone[0], together[0][place : place + 1], atol=1e-5)


def test_ranges_come_from_the_windows(convolutions, probe):
    """What the first rounded convolution hears spans eight bits from its least to its greatest."""
    _, graph = convolutions
    proto = onnx.load_from_string(graph)
    computed = static_int8(graph, probe)
    rounded, first = onnx.load_from_string(computed).graph, min(quantised(computed))
    heard = next(n.input[0] for n in proto.graph.node if n.name == first)
    proto.graph.output.append(onnx.ValueInfoProto(name=heard))
    values = ort.InferenceSession(proto.SerializeToString()).run([heard], {"waveform": probe})[0]
    arrays = {t.name: numpy_helper.to_array(t) for t in rounded.initializer}
    step = next(n for n in rounded.node if n.op_type == "QuantizeLinear" and n.input[0] == heard)
    span = max(values.max(), 0.0) - min(values.min(), 0.0)
    assert float(arrays[step.input[1]]) == pytest.approx(span / 255, rel=1e-3)


def test_static_int8_needs_windows_and_wide_convolutions(whisper, convolutions, probe):
    with pytest.raises(ModelError, match="no two-dimensional convolution"):
        static_int8(whisper[1], probe)
    for windows in (probe[:0], probe[0], probe[:, 1:]):
        with pytest.raises(ParameterError, match=rf"must have shape \(n, {WINDOW}\)"):
            static_int8(convolutions[1], windows)
    with pytest.raises(ParameterError, match="'calibration' parameter of ssl_graph_bytes"):
        ssl_graph_bytes(convolutions[0], window_samples=WINDOW, weights="static-int8")


def test_an_ensemble_in_static_int8_stores_its_linear_layers_so_too(probe):
    ensemble = SSLEnsemble(
        [network_of("convolutions", hidden=4), network_of("whisper", hidden=0, layers=2)],
        (0.7, 1.5),
    ).eval()
    kinds = {
        weights: ssl_graph_bytes(
            ensemble, window_samples=WINDOW, probe=probe, weights=weights, calibration=probe
        )
        for weights in ("int8", "static-int8")
    }
    stored, computed = kinds.values()
    assert len(computed) < 0.8 * len(stored)
    assert len(quantised(computed)) == 5 and not quantised(stored)
    casts = [n.name for n in onnx.load_from_string(computed).graph.node if n.op_type == "Cast"]
    assert any(name.endswith("_cast") for name in casts)
    given, want = (run(graph, ensemble, probe)[0] for graph in (computed, stored))
    np.testing.assert_allclose(given, want, atol=0.1 * max(1.0, np.abs(want).max()))


def test_a_graph_in_float16_is_half_as_large_and_scores_alike(probe):
    """The spectrum's basis keeps its digits, so that the convolutions see no floor."""
    network = network_of("convolutions", hidden=6)
    full, halved = (
        ssl_graph_bytes(network, window_samples=WINDOW, probe=probe, weights=weights)
        for weights in ("float32", "float16")
    )
    assert len(halved) < 0.6 * len(full)
    for given, want in zip(run(halved, network, probe), run(full, network, probe), strict=True):
        limit = FLOAT16_TOLERANCE * max(1.0, np.abs(want).max())
        assert 0 < np.abs(given - want).max() < limit
    # What is large and in float32 is no weight: the basis, which the graph makes of one period.
    tensors = onnx.load_from_string(halved).graph.initializer
    floats = [tensor for tensor in tensors if tensor.data_type == onnx.TensorProto.FLOAT]
    assert all(np.prod(tensor.dims) < LEAST_VALUES for tensor in floats)
    assert [tuple(t.dims) for t in floats if t.name.endswith("_wave")] == [(640,)]


@pytest.mark.parametrize("weights", ["float32", "float16", "int8", "dynamic-int8"])
def test_a_detector_scores_with_the_bundle(whisper, probe, tmp_path, weights):
    network, graph = whisper
    manifest = Manifest(
        id="toy-ssl",
        version="0",
        licence="MIT",
        description="toy",
        sample_rate=16_000,
        window_samples=WINDOW,
        hop_samples=WINDOW // 2,
    )
    folder = export_ssl_bundle(
        network,
        tmp_path / "toy-ssl",
        manifest=manifest,
        card="# toy\n",
        weights=weights,
    )
    detector = Detector.load(folder, policy=GatePolicy.open())
    assert detector.manifest.embedding_dim == 6
    result = detector.score((probe[0], 16_000))
    same = to_int8(graph) if weights == "dynamic-int8" else graph
    wanted = run(same, network, probe[:1])[0][0]
    allowed = 1e-5 if weights in ("float32", "dynamic-int8") else FLOAT16_TOLERANCE
    assert result.score == pytest.approx(float(wanted), abs=allowed)


def test_another_format_is_refused():
    with pytest.raises(ParameterError, match="'weights' parameter of ssl_graph_bytes"):
        ssl_graph_bytes(network_of("convolutions"), window_samples=WINDOW, weights="int4")


def test_the_wav2vec_family_exports_too(probe):
    from dataclasses import replace

    config = replace(
        WAVE_CONFIGS["wav2vec2-base"], conv_dims=(16,) * 7, dim=16, depth=1, heads=2, feedforward=16
    )
    torch.manual_seed(1)
    encoder = WaveEncoder(config, layers=(1,))
    head = frame_network("mlp", dim=16, n_layers=1, frames=encoder.frames(WINDOW), hidden=4)
    network = SSLNetwork(encoder, head, back_end="mlp").eval()
    graph = ssl_graph_bytes(network, window_samples=WINDOW, probe=probe)
    assert run(graph, network, probe)[0].shape == (3,)


def test_an_ensemble_is_one_graph_and_its_linear_layers_can_be_rounded(probe):
    ensemble = SSLEnsemble(
        [network_of("convolutions", hidden=4), network_of("whisper", hidden=0, layers=2)],
        (0.7, 1.5),
    ).eval()
    graph = ssl_graph_bytes(ensemble, window_samples=WINDOW, probe=probe)
    score, embedding = run(graph, ensemble, probe)
    with torch.no_grad():
        output = ensemble(torch.from_numpy(probe))
        expected = ensemble.score(output)
    np.testing.assert_allclose(score, expected.numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(embedding, output.embedding.numpy(), atol=TOLERANCE)
    rounded, _ = run(to_int8(graph), ensemble, probe)
    assert np.any(rounded != score)
    np.testing.assert_allclose(rounded, score, atol=0.2)
