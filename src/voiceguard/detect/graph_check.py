"""Look through an ONNX file, before ONNX Runtime parses it, for what must not be in it.

A graph may name files beside it that hold its weights ("external data"), and ONNX Runtime resolves
such names even for a graph that it is given as bytes: relative to the working directory. It may
also call operators of other domains than ONNX's own, which need a shared library. Both are refused
here. The wire format is that of Protocol Buffers (protobuf.dev, "Encoding"); the field numbers are
those of ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator

from voiceguard.errors import BundleError

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Operator domains that the ONNX standard itself defines."""

_MAX_DEPTH = 32
_MAX_MESSAGES = 1_000_000
_EXTERNAL = 1

# Message -> field number -> the message inside it. Fields that are not named here are skipped.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}  # fmt: skip
_DOMAIN_FIELD = {"node": 7, "opset": 1, "function": 10}

_Value = int | memoryview


def check_graph(graph: bytes) -> None:
    """Refuse a graph that reads other files or needs custom operators.

    Parameters
    ----------
    graph : bytes
        An ONNX model.

    Raises
    ------
    BundleError
        If the bytes are no protobuf message, or hold external data or a foreign operator domain.
    """
    pending: list[tuple[str, memoryview, int]] = [("model", memoryview(graph), 0)]
    seen = 0
    while pending:
        kind, message, depth = pending.pop()
        seen += 1
        if depth > _MAX_DEPTH or seen > _MAX_MESSAGES:
            raise BundleError("The graph is nested too deeply or has too many parts to be a model.")
        for number, value in _fields(message):
            _check_field(kind, number, value)
            child = _CHILDREN[kind].get(number)
            if child is not None and isinstance(value, memoryview):
                pending.append((child, value, depth + 1))


def _check_field(kind: str, number: int, value: _Value) -> None:
    if kind == "tensor" and (number == 13 or (number == 14 and value == _EXTERNAL)):
        raise BundleError(
            "The graph keeps weights in another file (ONNX external data), which is refused. "
            "Save it as one file."
        )
    if number == _DOMAIN_FIELD.get(kind) and isinstance(value, memoryview):
        domain = bytes(value).decode("utf-8", "replace")
        if domain not in ALLOWED_DOMAINS:
            raise BundleError(
                f"The graph uses operators of the domain {domain!r}, which is refused. Expected "
                "standard ONNX operators only."
            )


def _fields(message: memoryview) -> Iterator[tuple[int, _Value]]:
    """Field numbers and values of a message; a memoryview where the value is a run of bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            integer, at = _varint(message, at)
            yield number, integer
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _malformed()
        if length > len(message) - at:
            raise _malformed()
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Little-endian base-128 integer at a position, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _malformed()
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _malformed()


def _malformed() -> BundleError:
    return BundleError("The graph is no ONNX model, or is cut short. Export or fetch it again.")
