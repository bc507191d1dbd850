"""Round a graph's weights to int8: stored so alone, or computed with.

A bundle for everybody stores its linear layers in int8 (:func:`stored_int8`) and lets its
convolutions compute in int8 with scales that are fixed beforehand (:func:`static_int8`): a window's
score is then the same whatever stands beside it. Seven bits of the eight are used where products
are summed: processors without VNNI add pairs of them in 16 bits, which eight would overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import ModelError, ParameterError
from voiceguard.export_float16 import put_first

LEAST_CHANNELS = 16
"""Convolutions of fewer input channels cost too little to be worth rounding what they hear."""

QUANTISED, RESTORED = "_quantized", "_DequantizeLinear_Output"
"""What ONNX Runtime's quantiser puts behind the name of a weight, and of what it stands for."""

_ENCODER_NODES = "/front_end/encoder/"
_LINEAR = ("MatMul", "Gemm")
_ACTIVATIONS = ("Relu", "LeakyRelu")


def to_int8(graph: bytes) -> bytes:
    """Round the weights of the encoder's linear layers to int8; their inputs are, as they come.

    Dynamic quantisation of ONNX Runtime, a scale for each output. The inputs of a batch share one
    scale, so that a window's score moves by some hundredths with the windows beside it: for one
    window at a time, or where speed is worth that. A bundle for everybody takes
    :func:`stored_int8`. Convolutions, attention and the back end stay in float32.

    Parameters
    ----------
    graph : bytes
        Of :func:`ssl_graph_bytes`.

    Returns
    -------
    bytes

    Raises
    ------
    ModelError
        If the encoder has no linear layer, as DistillMOS has none below its first block.
    """
    import onnx

    proto = onnx.load_from_string(graph)
    linear = _some(_linear_nodes(proto))
    return _quantised(proto, [node.name for node in linear])


def stored_int8(graph: bytes) -> bytes:
    """Store the weights of the encoder's linear layers in int8; everything is computed in float32.

    A scale for each output. The file shrinks, the speed stays, and a window's score is the same
    whatever stands beside it.

    Parameters
    ----------
    graph : bytes
        Of :func:`ssl_graph_bytes`.

    Returns
    -------
    bytes

    Raises
    ------
    ModelError
        If the encoder has no linear layer.
    """
    import onnx

    proto = onnx.load_from_string(graph)
    return _stored(proto, _some(_linear_nodes(proto)))


def _stored(proto: Any, linear: list[Any]) -> bytes:
    import onnx
    from onnx import helper, numpy_helper

    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = []
    # By name: several nodes may share a weight.
    for name, transposed in {n.input[1]: _transposed(n) for n in linear}.items():
        weight = numpy_helper.to_array(arrays[name])
        scale = np.abs(weight).max(axis=1 if transposed else 0, keepdims=True) / 127.0
        scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
        rounded = np.round(weight / scale).astype(np.int8)
        proto.graph.initializer.remove(arrays[name])
        for part, values in (("int8", rounded), ("scale", scale)):
            proto.graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
        wide = f"{name}_wide"
        nodes.append(helper.make_node("Cast", [f"{name}_int8"], [wide], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [wide, f"{name}_scale"], [name]))
    put_first(proto.graph, nodes)
    serialised: bytes = proto.SerializeToString()
    return serialised


def static_int8(graph: bytes, windows: NDArray[np.float32]) -> bytes:
    """Let the two-dimensional convolutions compute in int8, by scales that some windows give.

    Weights are rounded with a scale for each output, what a convolution hears and gives with one
    scale for all, from the least to the greatest value that it takes on `windows`; beyond these it
    is clipped. Those of fewer than :data:`LEAST_CHANNELS` input channels, and everything else,
    compute in float32; linear layers of an encoder are stored as by :func:`stored_int8`. A window
    takes half the time on processors with VNNI.

    Parameters
    ----------
    graph : bytes
        Of :func:`voiceguard.export_ssl.ssl_graph_bytes`, in float32.
    windows : np.ndarray [shape=(n, window_samples)]
        Audio of many kinds and channels.

    Returns
    -------
    bytes

    Raises
    ------
    ModelError
        If there is no such convolution.
    ParameterError
        If there is no window, or they have another length than the graph takes.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    proto = onnx.load_from_string(graph)
    nodes = _convolutions(proto)
    samples = proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    heard = np.asarray(windows, np.float32)
    if heard.ndim != 2 or heard.shape[1] != samples or not len(heard):
        raise ParameterError(
            f"The 'windows' parameter of static_int8 must have shape (n, {samples}), n at least 1. "
            f"Got {heard.shape} instead."
        )

    class Windows(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[NDArray[np.float32]] = iter(heard)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            window = next(self.rest, None)
            return None if window is None else {"waveform": window[None]}

    def quantise(before: Path, after: Path) -> None:
        quantize_static(
            before,
            after,
            Windows(),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )

    rounded = onnx.load_from_string(_rewritten(proto, quantise))
    return _stored(rounded, _linear_nodes(rounded))


def _convolutions(proto: Any) -> list[str]:
    """Names of the convolutions worth rounding, and of activations between two of them."""
    shapes = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    found = [
        node
        for node in proto.graph.node
        if node.op_type == "Conv"
        and len(shape := shapes.get(node.input[1], ())) == 4
        and shape[1] >= LEAST_CHANNELS
    ]
    if not found:
        raise ModelError(
            f"The graph has no two-dimensional convolution of {LEAST_CHANNELS} input channels to "
            "compute in int8; export it in float32."
        )
    heard, given = ({getattr(node, side)[0] for node in found} for side in ("input", "output"))
    between = [
        node
        for node in proto.graph.node
        if node.op_type in _ACTIVATIONS and node.input[0] in given and node.output[0] in heard
    ]
    return [node.name for node in [*found, *between]]


def _transposed(node: Any) -> bool:
    """Whether a linear node's weight has its outputs first."""
    return any(each.name == "transB" and each.i for each in node.attribute)


def _linear_nodes(proto: Any) -> list[Any]:
    """Nodes of the encoder's linear layers; what it multiplies with and did not learn is none."""
    weights = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.name.endswith(".weight") or not tensor.name.startswith("model.")
    }
    return [
        node
        for node in proto.graph.node
        if node.op_type in _LINEAR
        and _ENCODER_NODES in node.name
        and node.input[1] in weights
        and "/analysis/" not in node.name
    ]


def _some(linear: list[Any]) -> list[Any]:
    if not linear:
        raise ModelError("The encoder has no linear layer to round to int8; export it in float32.")
    return linear


def _quantised(proto: Any, nodes: list[str]) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def quantise(before: Path, after: Path) -> None:
        quantize_dynamic(
            before,
            after,
            op_types_to_quantize=list(_LINEAR),
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )

    return _rewritten(proto, quantise)


def _rewritten(proto: Any, quantise: Callable[[Path, Path], None]) -> bytes:
    """What a quantiser of files makes of a graph."""
    import onnx

    with TemporaryDirectory() as scratch:
        before, after = Path(scratch, "float32.onnx"), Path(scratch, "int8.onnx")
        # Tracing has folded and inferred what the quantiser else asks for, on the root logger.
        proto.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        onnx.save(proto, before)
        quantise(before, after)
        proto = onnx.load(after)
    del proto.metadata_props[:]
    # Named by the quantiser in any case; bundles with operators of other domains are refused.
    used = {node.domain for node in proto.graph.node}
    kept = [each for each in proto.opset_import if each.domain in used | {""}]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    serialised: bytes = proto.SerializeToString()
    return serialised
