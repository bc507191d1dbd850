"""Graphs that read other files or call foreign operators are refused before they are parsed."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceguard.detect.graph_check import check_graph
from voiceguard.errors import BundleError

onnx = pytest.importorskip("onnx", reason="the onnx package builds the test graphs")
helper = onnx.helper


def model(nodes, *, initializers=(), opsets=(("", 17),), functions=()):
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", 1, [4])], [info("y", 1, [4])], list(initializers)
    )
    imports = [helper.make_opsetid(*pair) for pair in opsets]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)


def external(name: str = "w"):
    tensor = onnx.numpy_helper.from_array(np.ones(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, location="weights.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    return tensor


def constant(tensor):
    return helper.make_node("Constant", [], ["w"], value=tensor)


def nested(node):
    """A node inside the branch of an If."""
    info = helper.make_tensor_value_info
    branch = helper.make_graph([node], "branch", [], [info("w", 1, [4])])
    return helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)


def test_a_plain_graph_passes(make_graph):
    check_graph(make_graph())
    check_graph(model([nested(constant(onnx.numpy_helper.from_array(np.ones(4, np.float32))))])
                .SerializeToString())  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        lambda: model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[external()]),
        lambda: model([constant(external())]),
        lambda: model([nested(constant(external()))]),
    ],
    ids=["initializer", "attribute", "subgraph"],
)
def test_external_data_is_refused(bad):
    with pytest.raises(BundleError, match="external data"):
        check_graph(bad().SerializeToString())


def foreign():
    return helper.make_node("Odd", ["x"], ["y"], domain="evil.ops")


@pytest.mark.parametrize(
    "bad",
    [
        lambda: model([foreign()]),
        lambda: model([nested(foreign())]),
        lambda: model([], opsets=(("", 17), ("evil.ops", 1))),
        lambda: model([helper.make_node("FusedGelu", ["x"], ["y"], domain="com.microsoft")]),
        lambda: model(
            [],
            functions=[
                helper.make_function(
                    "evil.ops", "F", ["a"], ["b"], [], [helper.make_opsetid("", 17)]
                )
            ],
        ),
    ],
    ids=["node", "subgraph", "import", "vendor", "function"],
)
def test_foreign_domains_are_refused(bad):
    with pytest.raises(BundleError, match="domain"):
        check_graph(bad().SerializeToString())


@given(st.binary(max_size=300))
def test_noise_never_breaks_the_walk(data):
    with contextlib.suppress(BundleError):
        check_graph(data)


@given(cut=st.floats(0.0, 1.0), flip=st.integers(0, 7))
def test_damaged_graphs_never_break_the_walk(make_graph_once, cut, flip):
    raw = bytearray(make_graph_once)
    at = int(cut * (len(raw) - 1))
    raw[at] ^= 1 << flip
    for damaged in (bytes(raw), make_graph_once[:at]):
        with contextlib.suppress(BundleError):
            check_graph(damaged)


@pytest.fixture(scope="module")
def make_graph_once():
    add = helper.make_node("Add", ["x", "w"], ["y"])
    tensor = onnx.numpy_helper.from_array(np.ones(4, np.float32), "w")
    return model([add, nested(constant(tensor))], initializers=[tensor]).SerializeToString()


def test_bottomless_nesting_is_refused():
    message = b""
    for _ in range(40):
        node = b"\x2a" + varint(len(message)) + message  # node.attribute
        graph = b"\x0a" + varint(len(node)) + node  # graph.node
        message = b"\x32" + varint(len(graph)) + graph  # attribute.g
    node = b"\x2a" + varint(len(message)) + message
    graph = b"\x0a" + varint(len(node)) + node
    with pytest.raises(BundleError, match="nested too deeply"):
        check_graph(b"\x3a" + varint(len(graph)) + graph)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
