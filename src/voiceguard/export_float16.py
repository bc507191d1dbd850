"""Halve a graph on disk: weights in float16, cast back when it is loaded, all sums in float32.

A runtime computes what depends on constants alone once, when it loads a graph. ONNX Runtime does so
with the casts that stand behind the weights here, so that a window costs what it cost before. What
is fixed by design and not learned, a Fourier basis above all, keeps its digits: rounded to float16
it puts a noise floor some 80 dB below the loudest partial, which a compressed spectrum shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from voiceguard.errors import ModelError, ParameterError

if TYPE_CHECKING:
    from torch import nn

Weights = Literal["float32", "float16"]
"""How an export stores what the network learned."""

FLOAT16_TOLERANCE = 0.01
"""Largest change that float16 weights may make to a score or an embedding's value.

Absolute up to a magnitude of one, above it relative to the largest value.
"""

LEAST_VALUES = 1024
"""Smaller tensors (biases, norms, constants) stay as they are: halving them saves nothing."""

_LARGEST = float(np.finfo(np.float16).max)
_SUFFIX = "_float16"


def to_float16(graph: bytes, *, exact: Iterable[NDArray[np.float32]] = ()) -> bytes:
    """Store a graph's large float32 tensors in float16, each behind a cast to float32.

    Parameters
    ----------
    graph : bytes
        An ONNX model.
    exact : iterable of np.ndarray
        Values that must not be rounded; transposed or reshaped they are known too. A windowed
        Fourier basis among them (:func:`voiceguard.features.compressed.windowed_basis`,
        :class:`voiceguard.features.spectrum.PowerSpectrum`) is stored as one period and its window,
        from which the graph makes it.

    Returns
    -------
    bytes
        The ONNX model. Tensors below :data:`LEAST_VALUES` or out of float16's range stay.
    """
    import onnx

    proto = onnx.load_from_string(graph)
    _hoist(proto.graph)
    kept = {_fingerprint(values) for values in exact}
    made: list[Any] = []
    for tensor in list(proto.graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or _size(tensor) < LEAST_VALUES:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if _fingerprint(values) not in kept:
            made += _halved(tensor, values)
        elif (parts := _fourier_parts(values)) is not None:
            proto.graph.initializer.remove(tensor)
            made += _fourier_nodes(proto.graph, tensor.name, parts)
    put_first(proto.graph, made)
    onnx.checker.check_model(proto)
    serialised: bytes = proto.SerializeToString()
    return serialised


def checked_float16(
    graph: bytes,
    *,
    exact: Iterable[NDArray[np.float32]],
    probes: Sequence[NDArray[np.float32]],
) -> bytes:
    """:func:`to_float16`, refused where it moves what the graph gives.

    Parameters
    ----------
    graph, exact
        As for :func:`to_float16`.
    probes : sequence of np.ndarray [shape=(batch, window_samples)]
        Windows to compare on.

    Returns
    -------
    bytes

    Raises
    ------
    ModelError
        If an output moves by more than :data:`FLOAT16_TOLERANCE`.
    """
    halved = to_float16(graph, exact=exact)
    before, after = _session(graph), _session(halved)
    for probe in probes:
        pairs = zip(*(each.run(None, {"waveform": probe}) for each in (before, after)), strict=True)
        for output, (want, got) in zip(before.get_outputs(), pairs, strict=True):
            moved = float(np.max(np.abs(want - got))) / max(1.0, float(np.max(np.abs(want))))
            if not moved <= FLOAT16_TOLERANCE:
                raise ModelError(
                    f"With weights in float16 the graph's {output.name} moves by {moved:.3g}; at "
                    f"most {FLOAT16_TOLERANCE:g} is allowed. Export with weights='float32'."
                )
    return halved


def check_weights(weights: Weights, function: str) -> None:
    """Refuse a name that is no way to store weights.

    Raises
    ------
    ParameterError
        If it is neither ``float32`` nor ``float16``.
    """
    if weights not in ("float32", "float16"):
        raise ParameterError(
            f"The 'weights' parameter of {function} must be 'float32' or 'float16'. "
            f"Got {weights!r} instead."
        )


def fixed_arrays(model: nn.Module) -> list[NDArray[np.float32]]:
    """What a network computes for itself and does not keep in its state: bases, filter banks."""
    learned = model.state_dict().keys()
    return [
        buffer.detach().cpu().float().numpy()
        for name, buffer in model.named_buffers()
        if name not in learned and buffer.is_floating_point()
    ]


def put_first(graph: Any, nodes: Sequence[Any]) -> None:
    """Put nodes before those of a graph, which take what they give."""
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _session(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _hoist(graph: Any) -> None:
    """Make initialisers of large constants, which tracing leaves as nodes."""
    for node in list(graph.node):
        if node.op_type != "Constant" or node.attribute[0].name != "value":
            continue
        tensor = node.attribute[0].t
        if _size(tensor) >= LEAST_VALUES:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def _fingerprint(values: NDArray[np.float32]) -> bytes:
    """Equal for a tensor and its transposes and reshapes."""
    # Adding zero makes one of both zeros, whose order a sort leaves open.
    return (np.sort(values, axis=None) + np.float32(0)).tobytes()


def _halved(tensor: Any, values: NDArray[np.float32]) -> list[Any]:
    """Round a tensor in place; give the cast that takes its name, or nothing out of range."""
    import onnx

    if not np.abs(values).max() <= _LARGEST:
        return []
    name = tensor.name
    rounded = values.astype(np.float16)
    tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, name + _SUFFIX))
    back = onnx.TensorProto.FLOAT
    return [onnx.helper.make_node("Cast", [name + _SUFFIX], [name], name=f"{name}_cast", to=back)]


def _fourier_parts(values: NDArray[np.float32]) -> dict[str, NDArray[Any]] | None:
    """Constants of window * wave[n k % period + shift], broadcast to a basis' shape, if it is one.

    The wave is one period of the cosine, then one of minus the sine. Known are the layouts of
    :func:`~voiceguard.features.compressed.windowed_basis` and of
    :class:`~voiceguard.features.spectrum.PowerSpectrum`.
    """
    size = len(values)
    if size < 4 or size % 2:
        return None
    if values.shape == (size, size):
        bins = np.arange(1, size // 2 + 1)
        # The cosine of half the sample rate shows the window bare but for its sign.
        window = np.abs(values[:, size // 2 - 1])
        periods: tuple[int, ...] = (size,)
        over_time: tuple[int, ...] = (-1, 1)
        over_bins: tuple[int, ...] = (1, -1)
    elif values.ndim == 3 and values.shape[1] == 1:
        bins = np.arange(size // 2)
        window = values[0, 0]
        periods = (size - 2, size - 1)
        over_time, over_bins = (1, 1, -1), (-1, 1, 1)
    else:
        return None
    for period in periods:
        turn = 2.0 * np.pi * np.arange(period) / period
        parts = {
            "n": np.arange(len(window)).reshape(over_time),
            "k": np.tile(bins, 2).reshape(over_bins),
            "shift": np.repeat([0, period], len(bins)).reshape(over_bins),
            "period": np.array([period]),
            "wave": np.concatenate([np.cos(turn), -np.sin(turn)]).astype(np.float32),
            "window": window.reshape(over_time),
        }
        place = parts["n"] * parts["k"] % period + parts["shift"]
        made = parts["wave"][place] * parts["window"]
        if np.abs(made - values).max() <= 1e-6 * np.abs(values).max():
            return parts
    return None


def _fourier_nodes(graph: Any, name: str, parts: dict[str, NDArray[Any]]) -> list[Any]:
    """Nodes that make the basis of its constants, which are put into the graph."""
    import onnx

    for part, constant in parts.items():
        graph.initializer.append(onnx.numpy_helper.from_array(constant, f"{name}_{part}"))
    steps = [
        ("Mul", "n", "k", "product"),
        ("Mod", "product", "period", "turned"),
        ("Add", "turned", "shift", "place"),
        ("Gather", "wave", "place", "waves"),
        ("Mul", "waves", "window", None),
    ]
    return [
        onnx.helper.make_node(
            kind,
            [f"{name}_{first}", f"{name}_{second}"],
            [name if result is None else f"{name}_{result}"],
            name=f"{name}_{result or 'basis'}_node",
        )
        for kind, first, second, result in steps
    ]
