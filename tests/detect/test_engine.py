"""The engine: known scores, batch invariance, threads, and a refusal for every broken graph."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from voiceguard.detect.engine import OnnxEngine
from voiceguard.errors import BundleError, ModelError, ParameterError

N = 64


@pytest.fixture
def engine(make_graph):
    return OnnxEngine(make_graph(window=N, scale=0.5), window_samples=N, embedding_dim=3)


def test_scores_and_embeddings_are_the_graphs(engine, rng):
    windows = rng.normal(size=(5, N)).astype(np.float32)
    scores, embeddings = engine.run(windows)
    np.testing.assert_allclose(scores, 0.5 * windows.sum(axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(embeddings, windows[:, :3])


@pytest.mark.parametrize("max_batch", [1, 2, 7, 64])
def test_any_batch_gives_the_same_scores(make_graph, rng, max_batch):
    windows = rng.normal(size=(23, N)).astype(np.float32)
    engine = OnnxEngine(
        make_graph(window=N), window_samples=N, embedding_dim=3, max_batch=max_batch
    )
    together = engine.run(windows)[0]
    alone = np.concatenate([engine.run(row[None])[0] for row in windows])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_windows_give_no_scores(engine):
    scores, embeddings = engine.run(np.zeros((0, N), np.float32))
    assert scores.shape == (0,)
    assert embeddings.shape == (0, 3)


def test_threads_get_the_serial_scores(engine, rng):
    windows = [rng.normal(size=(3, N)).astype(np.float32) for _ in range(64)]
    with ThreadPoolExecutor(16) as pool:
        parallel = list(pool.map(lambda w: engine.run(w)[0].tobytes(), windows))
    assert parallel == [engine.run(w)[0].tobytes() for w in windows]


@pytest.mark.parametrize("shape", [(N,), (1, N - 1), (1, N + 1), (1, 1, N)])
def test_another_length_is_refused(engine, shape):
    with pytest.raises(ParameterError, match="'windows' parameter of run"):
        engine.run(np.zeros(shape, np.float32))


@pytest.mark.parametrize("name", ["window_samples", "embedding_dim", "threads", "max_batch"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True])
def test_bad_numbers_are_refused(name, value):
    arguments = {"window_samples": 1, "embedding_dim": 1, name: value}
    with pytest.raises(ParameterError, match=f"'{name}' parameter of OnnxEngine"):
        OnnxEngine(b"", **arguments)


def test_an_unknown_provider_is_refused(make_graph):
    engine = OnnxEngine(
        make_graph(window=N), window_samples=N, embedding_dim=3, providers=["Abacus"]
    )
    with pytest.raises(ParameterError, match="CPUExecutionProvider"):
        engine.run(np.zeros((1, N), np.float32))


@pytest.mark.parametrize(
    ("graph", "window", "width"),
    [
        ({"window": N + 1}, N, 3),
        ({"window": N, "outputs": ("score", "vector")}, N, 3),
        ({"window": N, "outputs": ("logit", "embedding")}, N, 3),
        ({"window": N, "width": 4}, N, 3),
    ],
    ids=["length", "embedding", "score", "width"],
)
def test_a_graph_of_another_form_is_refused(make_graph, graph, window, width):
    engine = OnnxEngine(make_graph(**graph), window_samples=window, embedding_dim=width)
    with pytest.raises(BundleError, match="The graph must"):
        engine.run(np.zeros((1, window), np.float32))


def test_bytes_that_are_no_graph_are_refused():
    engine = OnnxEngine(b"no graph", window_samples=N, embedding_dim=3)
    with pytest.raises(BundleError, match="cannot be loaded"):
        engine.run(np.zeros((1, N), np.float32))


def test_numbers_that_are_not_finite_are_refused(make_graph):
    engine = OnnxEngine(make_graph(window=N, scale=float("inf")), window_samples=N, embedding_dim=3)
    with pytest.raises(ModelError, match="not finite"):
        engine.run(np.ones((1, N), np.float32))
