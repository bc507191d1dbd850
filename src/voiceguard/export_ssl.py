"""Encoder and back end as one graph: the spectrum by convolution, linear layers in int8 if wanted.

What an encoder computes with complex numbers or with torch's fused attention has no ONNX operator;
such parts are replaced by equal ones, and the graph is compared with the network as it was trained.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voiceguard.errors import ModelError
from voiceguard.export import CONFIG_NAME, config_bytes, graph_bytes, probe_windows
from voiceguard.export_float16 import (
    Weights,
    check_weights,
    checked_float16,
    fixed_arrays,
    to_float16,
)
from voiceguard.features.spectrum import PowerSpectrum
from voiceguard.features.ssl.contract import SSLEncoder
from voiceguard.features.ssl.distillmos import DistillMOSEncoder
from voiceguard.features.ssl.whisper import WhisperEncoder, WhisperLogMel
from voiceguard.models.ssl_ensemble import SSLEnsemble
from voiceguard.models.ssl_network import SSLNetwork

if TYPE_CHECKING:
    from voiceguard.detect.bundle import Manifest

TOLERANCE = 1e-3
"""Largest difference between torch and the float32 graph that an export lets pass."""

StoredWeights: TypeAlias = Weights | Literal["int8", "dynamic-int8"]
"""How a graph may keep its weights."""

_ENCODER_NODES = "/front_end/encoder/"
_LINEAR = ("MatMul", "Gemm")


def ssl_graph_bytes(
    network: SSLNetwork | SSLEnsemble,
    *,
    window_samples: int,
    probe: NDArray[np.float32] | None = None,
    weights: StoredWeights = "float32",
) -> bytes:
    """Encoder and back end as one ONNX file, in memory; the batch is free.

    Parameters
    ----------
    network : SSLNetwork or SSLEnsemble
        Left as it is.
    window_samples : int
        Length that the graph takes.
    probe : np.ndarray [shape=(batch, window_samples)], optional
        Real audio to check parity on, besides noise.
    weights : {"float32", "float16", "int8", "dynamic-int8"}
        How weights are stored, as for :func:`voiceguard.export.export_onnx`; with int8 those of the
        encoder's linear layers in int8, see :func:`stored_int8`, and all others in float16; with
        dynamic-int8 the former compute in int8 too, see :func:`to_int8`, and all others stay in
        float32.

    Returns
    -------
    bytes

    Raises
    ------
    ParameterError
        If the window is too short or too long for the encoder, the probe has another shape, or
        `weights` is unknown.
    ModelError
        If ONNX Runtime differs from torch by more than :data:`TOLERANCE` (in float32, before any
        rounding), int8 finds no linear layer, or float16 moves an output by more than
        :data:`voiceguard.export_float16.FLOAT16_TOLERANCE`.
    """
    if weights != "int8" and weights != "dynamic-int8":
        check_weights(weights, "ssl_graph_bytes")
    twin = traceable(network)
    raw = graph_bytes(
        twin,
        window_samples=window_samples,
        probe=probe,
        tolerance=TOLERANCE,
        reference=network,
    )
    if weights == "float32":
        return raw
    if weights == "dynamic-int8":
        return to_int8(raw)
    exact = fixed_arrays(twin)
    # Float16 is checked by itself: what it moves by thousandths, int8 may round the other way.
    halved = checked_float16(raw, exact=exact, probes=probe_windows(window_samples, probe))
    return to_float16(stored_int8(raw), exact=exact) if weights == "int8" else halved


def export_ssl_bundle(
    network: SSLNetwork | SSLEnsemble,
    folder: str | Path,
    *,
    manifest: Manifest,
    card: str,
    probe: NDArray[np.float32] | None = None,
    weights: StoredWeights = "float32",
) -> Path:
    """Write encoder and back end as a bundle that :meth:`voiceguard.Detector.load` reads.

    Parameters
    ----------
    network : SSLNetwork or SSLEnsemble
    folder : str or Path
        Folder to write.
    manifest : Manifest
        What the bundle says of itself; its ``window_samples`` fixes the graph's length, and its
        ``embedding_dim`` and file hashes are filled in here.
    card : str
        The model card, Markdown.
    probe, weights
        As for :func:`ssl_graph_bytes`. Fit the calibration on scores of the graph that is written:
        int8 moves them.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ParameterError, ModelError
        As :func:`ssl_graph_bytes`.
    BundleError
        If the manifest does not hold together.
    """
    from voiceguard.detect.bundle import write_bundle

    graph = ssl_graph_bytes(
        network,
        window_samples=manifest.window_samples,
        probe=probe,
        weights=weights,
    )
    return write_bundle(
        folder,
        graph=graph,
        manifest=replace(manifest, embedding_dim=network.embedding_dim),
        card=card,
        extra_files={CONFIG_NAME: config_bytes(network)},
    )


def to_int8(graph: bytes) -> bytes:
    """Round the weights of the encoder's linear layers to int8; their inputs are, as they come.

    Dynamic quantisation of ONNX Runtime, a scale for each output. The inputs of a batch share one
    scale, so that a window's score moves by some hundredths with the windows beside it: for one
    window at a time, or where speed is worth that. A bundle for everybody takes
    :func:`stored_int8`. Seven bits of the eight are used:
    processors without VNNI add pairs of products in 16 bits, which eight would overflow.
    Convolutions, attention and the back end stay in float32.

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

    linear = _linear_nodes(onnx.load_from_string(graph))
    return _quantised(graph, [node.name for node in linear])


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
    from onnx import helper, numpy_helper

    proto = onnx.load_from_string(graph)
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = []
    # By name: several nodes may share a weight.
    for name, transposed in {n.input[1]: _transposed(n) for n in _linear_nodes(proto)}.items():
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
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *rest])
    serialised: bytes = proto.SerializeToString()
    return serialised


def _transposed(node: Any) -> bool:
    """Whether a linear node's weight has its outputs first."""
    return any(each.name == "transB" and each.i for each in node.attribute)


def _linear_nodes(proto: Any) -> list[Any]:
    """Nodes of the encoder's linear layers; there is at least one."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    linear = [
        node
        for node in proto.graph.node
        if node.op_type in _LINEAR
        and _ENCODER_NODES in node.name
        and node.input[1] in weights
        and "/analysis/" not in node.name
    ]
    if not linear:
        raise ModelError("The encoder has no linear layer to round to int8; export it in float32.")
    return linear


def _quantised(graph: bytes, nodes: list[str]) -> bytes:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as scratch:
        before, after = Path(scratch, "float32.onnx"), Path(scratch, "int8.onnx")
        proto = onnx.load_from_string(graph)
        # Tracing has folded and inferred what the quantiser else asks for, on the root logger.
        proto.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        onnx.save(proto, before)
        quantize_dynamic(
            before,
            after,
            op_types_to_quantize=list(_LINEAR),
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        proto = onnx.load(after)
    del proto.metadata_props[:]
    # Named by the quantiser in any case; bundles with operators of other domains are refused.
    used = {node.domain for node in proto.graph.node}
    kept = [each for each in proto.opset_import if each.domain in used | {""}]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    serialised: bytes = proto.SerializeToString()
    return serialised


def traceable(network: SSLNetwork | SSLEnsemble) -> SSLNetwork | SSLEnsemble:
    """The same network of operations that ONNX has; the network itself is left as it is."""
    twin = copy.deepcopy(network).cpu().float().eval()
    for one in twin.networks if isinstance(twin, SSLEnsemble) else (twin,):
        one.front_end.encoder = _plain(one.encoder)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm1d) and not module.affine:
            # ONNX has no norm without scale and shift, and tracing loses the width to make them.
            module.weight = nn.Parameter(torch.ones(module.num_features))
            module.bias = nn.Parameter(torch.zeros(module.num_features))
    return twin


def _plain(encoder: SSLEncoder) -> SSLEncoder:
    if isinstance(encoder, WhisperEncoder):
        return _PlainWhisper(encoder)
    if isinstance(encoder, DistillMOSEncoder):
        return _PlainDistillMOS(encoder)
    return encoder


class _LogMel(nn.Module):
    """:class:`WhisperLogMel` with its spectrum by convolution."""

    def __init__(self, published: WhisperLogMel) -> None:
        super().__init__()
        self.analysis = PowerSpectrum(n_fft=400, frame=400, hop=160, padding="reflect")
        self.register_buffer("bands", published.get_buffer("bands").float().T.unsqueeze(2))

    def forward(self, waveform: Tensor) -> Tensor:
        power = self.analysis(waveform)[..., :-1]
        log = F.conv1d(power, self.get_buffer("bands")).clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
        return (log + 4.0) / 4.0


class _PlainWhisper(WhisperEncoder):
    """Whisper's encoder with its spectrum by convolution."""

    def __init__(self, published: WhisperEncoder) -> None:
        plain = published.config
        super().__init__(
            published.whisper_config, layers=published.layers, context_s=plain["context_s"]
        )
        self.load_state_dict(published.state_dict())
        self.log_mel = _LogMel(published.log_mel)  # type: ignore[assignment]
        self.eval()

    def frames(self, samples: int) -> int:
        # A number, not a traced size: a graph's division rounds towards zero.
        return super().frames(int(samples))


class _PlainDistillMOS(DistillMOSEncoder):
    """DistillMOS with its spectrum by convolution and its attention written out."""

    def __init__(self, published: DistillMOSEncoder) -> None:
        super().__init__(layers=published.layers)
        self.load_state_dict(published.state_dict())
        self.basis = PowerSpectrum(n_fft=320, frame=320, hop=160)
        self.provenance = published.provenance
        self.eval()

    def frames(self, samples: int) -> int:
        return super().frames(int(samples))

    def _convolved(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (80, 80), mode="reflect").unsqueeze(1)
        x = F.conv1d(padded, self.basis.basis, stride=self.basis.hop)
        x = torch.stack([x[:, : self.basis.bins], x[:, self.basis.bins :]], dim=1)
        magnitude = x.square().sum(1, keepdim=True).clamp(min=1e-24).sqrt()
        x = x * magnitude**-0.7
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.1)
        return x.flatten(1, 2).transpose(1, 2)

    def _run(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return _block(block, *args)


def _block(block: Any, x: Tensor) -> Tensor:
    """``nn.TransformerEncoderLayer``, norms last, in evaluation."""
    attention = block.self_attn
    batch, frames, dim = x.shape
    parts = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    shape = (batch, frames, attention.num_heads, dim // attention.num_heads)
    q, k, v = (part.reshape(shape).transpose(1, 2) for part in parts.chunk(3, dim=-1))
    heard = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, frames, dim)
    x = block.norm1(x + attention.out_proj(heard))
    y: Tensor = block.norm2(x + block.linear2(F.relu(block.linear1(x))))
    return y
