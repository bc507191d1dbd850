"""Tiny models for the detect floor: graphs of a few operators whose scores are known by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voiceguard.detect.bundle import Manifest, write_bundle

WINDOW = 16_000


def graph_bytes(
    *,
    window: int = WINDOW,
    scale: float = 1.0,
    domain: str = "",
    width: int = 3,
    outputs: tuple[str, str] = ("score", "embedding"),
) -> bytes:
    """Score = scale * sum of the window; embedding = the first `width` samples."""
    onnx = pytest.importorskip("onnx", reason="the onnx package builds the test graphs")
    helper, tensor = onnx.helper, onnx.TensorProto

    def constant(name: str, values: list[float], kind: int) -> object:
        return helper.make_tensor(name, kind, [len(values)], values)

    nodes = [
        helper.make_node("ReduceSum", ["waveform", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scale"], [outputs[0]]),
        helper.make_node("Slice", ["waveform", "zero", "width", "axis"], [outputs[1]]),
    ]
    if domain:
        nodes.append(helper.make_node("Odd", ["waveform"], ["unused"], domain=domain))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("waveform", tensor.FLOAT, ["batch", window])],
        [
            helper.make_tensor_value_info(outputs[0], tensor.FLOAT, ["batch"]),
            helper.make_tensor_value_info(outputs[1], tensor.FLOAT, ["batch", width]),
        ],
        [
            constant("axis", [1], tensor.INT64),
            constant("zero", [0], tensor.INT64),
            constant("width", [width], tensor.INT64),
            constant("scale", [scale], tensor.FLOAT),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


BASE = Manifest(
    id="tiny",
    version="1",
    licence="Apache-2.0",
    description="Sum of the window.",
    sample_rate=16_000,
    window_samples=WINDOW,
    hop_samples=WINDOW // 2,
    embedding_dim=3,
)


@pytest.fixture
def manifest() -> Manifest:
    return BASE


@pytest.fixture
def make_graph() -> Callable[..., bytes]:
    return graph_bytes


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny bundle; keywords replace fields of the manifest."""

    def make(name: str = "bundle", *, graph: bytes | None = None, **fields: object) -> Path:
        manifest = replace(BASE, **fields)  # type: ignore[arg-type]
        content = graph_bytes(window=manifest.window_samples) if graph is None else graph
        return write_bundle(tmp_path / name, graph=content, manifest=manifest, card="# tiny\n")

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
