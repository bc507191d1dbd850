"""From a trained network to the graph and the bundle that the scoring floor runs.

The front end goes into the graph, the window length is fixed and the batch is free. The length has
to be fixed: the graph pools' top-k sizes follow from it, and with another length they would be
wrong without an error; as it is, ONNX Runtime refuses the input.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from voiceguard.errors import ModelError, ParameterError
from voiceguard.export_float16 import Weights, check_weights, checked_float16, fixed_arrays

if TYPE_CHECKING:
    from voiceguard.detect.bundle import Manifest
    from voiceguard.models import Network
    from voiceguard.models.ssl_ensemble import SSLEnsemble
    from voiceguard.models.ssl_network import SSLNetwork

OPSET = 17
"""ONNX operator set of exported graphs."""

CONFIG_NAME = "config.json"
"""File of a bundle that holds the network's configuration."""

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime that an export lets pass."""


class _Graph(nn.Module):
    """The network as the scoring floor sees it: waveform to score and embedding."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(waveform)
        return self.model.score(output), output.embedding


def export_onnx(
    model: Network,
    path: str | Path,
    *,
    window_samples: int,
    probe: NDArray[np.float32] | None = None,
    weights: Weights = "float32",
) -> Path:
    """Write a network as one ONNX file and check that it computes the same.

    Input ``waveform`` (batch, window_samples) float32, outputs ``score`` (batch,) and ``embedding``
    (batch, d). Batch norms behind convolutions are folded into them. The model itself is left as
    it is.

    Parameters
    ----------
    model : Network
        Any network of :mod:`voiceguard.models`.
    path : str or Path
        File to write.
    window_samples : int
        Length that the graph takes.
    probe : np.ndarray [shape=(batch, window_samples)], optional
        Real audio to check parity on, besides noise.
    weights : {"float32", "float16"}
        How weights are stored; sums are in float32 either way. With float16 the file halves and
        scores move by some thousandths, see :func:`voiceguard.export_float16.to_float16`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ParameterError
        If the window is too short for the network, the probe has another shape, or `weights` is
        unknown.
    ModelError
        If the front end cannot go into a graph, ONNX Runtime differs by more than
        :data:`TOLERANCE`, or float16 moves an output by more than
        :data:`voiceguard.export_float16.FLOAT16_TOLERANCE`; nothing is written then.
    """
    target = Path(path)
    target.write_bytes(
        graph_bytes(model, window_samples=window_samples, probe=probe, weights=weights)
    )
    return target


def graph_bytes(
    model: Network | SSLNetwork | SSLEnsemble,
    *,
    window_samples: int,
    probe: NDArray[np.float32] | None = None,
    tolerance: float | None = None,
    reference: nn.Module | None = None,
    weights: Weights = "float32",
) -> bytes:
    """Like :func:`export_onnx`, in memory.

    Parameters
    ----------
    model, window_samples, probe, weights
        As for :func:`export_onnx`.
    tolerance : float, optional
        Largest difference from torch that is let pass, in float32; :data:`TOLERANCE` by default.
    reference : Module, optional
        Network that the graph has to agree with, where `model` stands for one that cannot be
        traced; by default `model` itself.

    Returns
    -------
    bytes
        The ONNX file.

    Raises
    ------
    ParameterError, ModelError
        As :func:`export_onnx`.
    """
    check_weights(weights, "graph_bytes")
    if not model.front_end.exportable:
        raise ModelError(
            f"Front end {type(model.front_end).__name__} runs outside torch and cannot go into an "
            "ONNX graph; train with another one to export."
        )
    if probe is not None and (probe.ndim != 2 or probe.shape[1] != window_samples):
        raise ParameterError(
            f"The 'probe' parameter of export_onnx must have shape (batch, {window_samples}). "
            f"Got {probe.shape} instead."
        )
    graph = _Graph(copy.deepcopy(model).cpu().float()).eval()
    raw = _trace(graph, window_samples)
    if reference is not None:
        graph = _Graph(copy.deepcopy(reference).cpu().float()).eval()
    allowed = TOLERANCE if tolerance is None else tolerance
    probes = probe_windows(window_samples, probe)
    _check_parity(graph, raw, probes, allowed)
    if weights == "float32":
        return raw
    return checked_float16(raw, exact=fixed_arrays(model), probes=probes)


def export_bundle(
    model: Network,
    folder: str | Path,
    *,
    manifest: Manifest,
    card: str,
    probe: NDArray[np.float32] | None = None,
    extra_files: Mapping[str, bytes] | None = None,
    weights: Weights = "float32",
) -> Path:
    """Write a network as a bundle; its configuration goes along as ``config.json``.

    Parameters
    ----------
    model : Network
        Any network of :mod:`voiceguard.models`.
    folder : str or Path
        Folder to write.
    manifest : Manifest
        What the bundle says of itself; its ``window_samples`` fixes the graph's length, and its
        ``embedding_dim`` and file hashes are filled in here.
    card : str
        The model card, Markdown.
    probe : np.ndarray [shape=(batch, window_samples)], optional
        Real audio to check parity on, besides noise.
    extra_files : mapping of str to bytes, optional
        More files for the bundle, by plain name.
    weights : {"float32", "float16"}
        As for :func:`export_onnx`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ParameterError, ModelError
        As :func:`export_onnx`.
    BundleError
        If the manifest does not hold together.
    """
    from voiceguard.detect.bundle import write_bundle

    graph = graph_bytes(model, window_samples=manifest.window_samples, probe=probe, weights=weights)
    complete = replace(manifest, embedding_dim=model.embedding_dim)
    files = {CONFIG_NAME: config_bytes(model), **(extra_files or {})}
    return write_bundle(folder, graph=graph, manifest=complete, card=card, extra_files=files)


def config_bytes(model: Network | SSLNetwork | SSLEnsemble) -> bytes:
    """The network's class and sizes, as ``config.json`` of a bundle.

    Parameters
    ----------
    model : Network or SSLNetwork or SSLEnsemble

    Returns
    -------
    bytes
        JSON.
    """
    plain = {"network": type(model).__name__, **model.config.to_dict()}
    return (json.dumps(plain, indent=2) + "\n").encode()


def _trace(graph: _Graph, window_samples: int) -> bytes:
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm1d) and not module.affine:
            # ONNX has no norm without scale and shift, and tracing loses the width to make them.
            module.weight = nn.Parameter(torch.ones(module.num_features))
            module.bias = nn.Parameter(torch.zeros(module.num_features))
    with TemporaryDirectory() as scratch, torch.no_grad(), _quiet_tracer():
        path = Path(scratch, "model.onnx")
        torch.onnx.export(
            graph,
            (torch.zeros(2, window_samples),),
            path,
            # Same speed in ONNX Runtime as the newer exporter's graph, in a tenth of the time.
            dynamo=False,
            opset_version=OPSET,
            input_names=["waveform"],
            output_names=["score", "embedding"],
            dynamic_axes={name: {0: "batch"} for name in ("waveform", "score", "embedding")},
        )
        raw = path.read_bytes()
    return _with_static_width(raw, graph.model.embedding_dim)


@contextmanager
def _quiet_tracer() -> Iterator[None]:
    """Hide what the tracer says about baked-in sizes (they are meant to be) and missed folds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding")
        # Recurrent layers: parity is checked below at other batch sizes.
        warnings.filterwarnings("ignore", message="Exporting a model to ONNX with a batch_size")
        yield


def _with_static_width(raw: bytes, width: int) -> bytes:
    """State the embedding's width, which tracing leaves as a symbol."""
    import onnx

    proto = onnx.load_from_string(raw)
    proto.graph.output[1].type.tensor_type.shape.dim[1].dim_value = width
    onnx.checker.check_model(proto)
    serialised: bytes = proto.SerializeToString()
    return serialised


def probe_windows(
    window_samples: int, probe: NDArray[np.float32] | None
) -> list[NDArray[np.float32]]:
    """Windows that exports are compared on: noise, one and two at once, and the caller's audio."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, (3, window_samples)).astype(np.float32)
    probes = [noise[:1], noise[1:]]
    if probe is not None:
        probes.append(np.ascontiguousarray(probe, dtype=np.float32))
    return probes


def _check_parity(
    graph: _Graph, raw: bytes, probes: list[NDArray[np.float32]], tolerance: float
) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    for probe in probes:
        with torch.no_grad():
            expected = graph(torch.from_numpy(probe))
        given = session.run(["score", "embedding"], {"waveform": probe})
        for name, want, got in zip(("score", "embedding"), expected, given, strict=True):
            difference = float(np.max(np.abs(want.numpy() - got)))
            if not difference <= tolerance:
                raise ModelError(
                    f"The exported graph's {name} differs from torch by {difference:.3g} on "
                    f"{len(probe)} windows; at most {tolerance:g} is allowed. Nothing was written."
                )
